//! Tools in a conversation: what a chat template makes of them, and how calls are written where it knows none.
//!
//! | [`CallForm`] | what a call looks like | of |
//! | --- | --- | --- |
//! | `Tagged` | `<tool_call>⏎{"name": "f", "arguments": {…}}⏎</tool_call>` | Hermes, Qwen; ours, where the template has no form |
//! | `Bare` | `{"name": "f", "parameters": {…}}` | Llama 3.1 |
//! | `List` | `[TOOL_CALLS] [{"name": "f", "arguments": {…}}]` | Mistral |
//! | `Named` | `[TOOL_CALLS]f[ARGS]{…}` | Mistral, since the end of 2025 |
//! | `NamedWithId` | `[TOOL_CALLS]f[CALL_ID]abc123XYZ[ARGS]{…}` | Mistral, in the middle of 2025 |
//! | `Xml` | `<tool_call>⏎<function=f>⏎<parameter=a>⏎1⏎</parameter>⏎</function>⏎</tool_call>` | Qwen 3 Coder, Qwen 3.5 |
//! | `Python` | `<\|tool_call_start\|>[f(a=1, b="x")]<\|tool_call_end\|>` | LFM2 |
//!
//! A template does not say what it can do, so it is tried on a conversation with a call ([`Support::found`]). One that shows the tools and the
//! results and writes calls in a form known here is given them as they are. For all others the tools are told in the system message, calls
//! are text of the model's, and results are text of the user's.

use std::borrow::Cow;

use minijinja::value::Value;
use serde_json::Value as Json;

use super::chat::{Content, Message, Part};
use crate::error::{Error, Result, shown};

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub parameters: Option<Json>,
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// What its result refers to.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// A JSON object.
    pub arguments: serde_json::Map<String, Json>,
}

/// How a model writes its calls; see the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallForm {
    /// Each between tags.
    Tagged,
    /// An object alone, which is the whole answer.
    Bare,
    /// A list behind a mark.
    List,
    /// Each behind a mark, and its arguments behind another.
    Named,
    /// The same with an id between.
    NamedWithId,
    /// Each between tags, and each of its arguments too: texts as they are, other values as JSON.
    Xml,
    /// Python's calls in a list between marks; the arguments' values are JSON.
    Python,
}

impl CallForm {
    /// The text that a call begins with, where it has one that is nothing else.
    pub fn mark(self) -> Option<&'static str> {
        match self {
            Self::Tagged | Self::Xml => Some("<tool_call>"),
            Self::Bare => None,
            Self::List | Self::Named | Self::NamedWithId => Some("[TOOL_CALLS]"),
            Self::Python => Some("<|tool_call_start|>"),
        }
    }

    /// All texts of it that may be tokens of their own.
    pub fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Tagged | Self::Xml => &["<tool_call>", "</tool_call>"],
            Self::Bare => &[],
            Self::List => &["[TOOL_CALLS]"],
            Self::Named => &["[TOOL_CALLS]", "[ARGS]"],
            Self::NamedWithId => &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
            Self::Python => &["<|tool_call_start|>", "<|tool_call_end|>"],
        }
    }

    /// The member that has the arguments.
    pub fn arguments(self) -> &'static str {
        if self == Self::Bare { "parameters" } else { "arguments" }
    }

    /// Whether one answer may have several calls.
    pub fn takes_several(self) -> bool {
        self != Self::Bare
    }

    /// The calls as the model would have written them; `text` is applied to what is not of the form itself.
    fn write(self, calls: &[ToolCall], text: &dyn Fn(&str) -> String) -> String {
        let object = |call: &ToolCall| {
            let arguments = text(&python_json(&Json::Object(call.arguments.clone())));
            format!(r#"{{"name": "{}", "{}": {arguments}}}"#, text(&call.name), self.arguments())
        };
        let joined = |each: &dyn Fn(&ToolCall) -> String, between: &str| calls.iter().map(each).collect::<Vec<_>>().join(between);
        match self {
            Self::Tagged => joined(&|call| format!("<tool_call>\n{}\n</tool_call>", object(call)), "\n"),
            Self::Bare => joined(&object, "\n"),
            Self::List => format!("[TOOL_CALLS] [{}]", joined(&object, ", ")),
            Self::Named | Self::NamedWithId => {
                let call = |call: &ToolCall| {
                    let id = if self == Self::NamedWithId { format!("[CALL_ID]{}", text(&call.id)) } else { String::new() };
                    format!(
                        "[TOOL_CALLS]{}{id}[ARGS]{}",
                        text(&call.name),
                        text(&python_json(&Json::Object(call.arguments.clone())))
                    )
                };
                joined(&call, "")
            }
            Self::Xml => {
                let argument = |(name, value): (&String, &Json)| {
                    let value = if let Json::String(value) = value { text(value) } else { text(&python_json(value)) };
                    format!("<parameter={}>\n{value}\n</parameter>\n", text(name))
                };
                let call = |call: &ToolCall| {
                    let arguments: String = call.arguments.iter().map(argument).collect();
                    format!("<tool_call>\n<function={}>\n{arguments}</function>\n</tool_call>", text(&call.name))
                };
                joined(&call, "\n")
            }
            Self::Python => {
                let call = |call: &ToolCall| {
                    let argument = |(name, value): (&String, &Json)| text(&format!("{name}={}", python_json(value)));
                    let arguments: Vec<_> = call.arguments.iter().map(argument).collect();
                    format!("{}({})", text(&call.name), arguments.join(", "))
                };
                format!("<|tool_call_start|>[{}]<|tool_call_end|>", joined(&call, ", "))
            }
        }
    }
}

/// What a template does with tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// It tells them and shows their results.
    Template {
        /// How its model writes calls.
        form: CallForm,
        /// Whether it writes those of a conversation, too.
        writes_calls: bool,
    },
    /// Nothing of use.
    None {
        /// Whether it has a place for what the system says.
        takes_system: bool,
    },
}

/// Names that no template has.
const NEEDLE: &str = "needle_function";
const DESCRIPTION: &str = "needle description";
const ARGUMENT: &str = "needle_argument";
const RESULT: &str = "needle result";

impl Support {
    /// Finds out by trial. `run` gives what the template makes of messages and tools, where it makes anything; `has_token` says whether a text
    /// is a token of the model's.
    pub(super) fn found(run: impl Fn(Vec<Value>, Value) -> Option<String>, has_token: impl Fn(&str) -> bool) -> Self {
        let said = |role: &str, content: &str| message_value(role, Value::from(content), Vec::new());
        let arguments = serde_json::Map::from_iter([(ARGUMENT.to_owned(), Json::from(7))]);
        // Mistral's templates take ids of nine letters and digits alone.
        let call = ToolCall { id: "needle001".to_owned(), name: NEEDLE.to_owned(), arguments };
        let tool = Tool {
            name: NEEDLE.to_owned(),
            description: Some(DESCRIPTION.to_owned()),
            parameters: Some(serde_json::json!({ "type": "object", "properties": { ARGUMENT: { "type": "integer" } } })),
        };
        let same = |text: &str| text.to_owned();
        let conversation = |calls: Vec<(&'static str, Value)>| {
            let result = vec![("tool_call_id", Value::from("needle001")), ("name", Value::from(NEEDLE))];
            let answer = message_value("assistant", Value::from(""), calls);
            vec![said("user", "needle question"), answer, message_value("tool", Value::from(RESULT), result)]
        };
        let tools = || tools_value(std::slice::from_ref(&tool), &same);
        let called = run(conversation(vec![("tool_calls", calls_value(std::slice::from_ref(&call), &same))]), tools());
        if let Some(text) = called.filter(|text| text.contains(DESCRIPTION) && text.contains(RESULT)) {
            let forms =
                [CallForm::Tagged, CallForm::Xml, CallForm::Named, CallForm::NamedWithId, CallForm::Bare, CallForm::Python];
            let written = forms.into_iter().find(|form| text.contains(&form.write(std::slice::from_ref(&call), &same)));
            // It writes an id behind the arguments.
            let is_list = || {
                let call = format!(r#"[{{"name": "{NEEDLE}", "arguments": {{"{ARGUMENT}": 7}}"#);
                text.split("[TOOL_CALLS]").skip(1).any(|rest| rest.trim_start().starts_with(&call))
            };
            if let Some(form) = written.or_else(|| is_list().then_some(CallForm::List)) {
                return Self::Template { form, writes_calls: true };
            }
            // LFM2's first templates tell tools and results, and leave it to the caller to write the calls.
            if !text.contains(NEEDLE_CALL_SIGN) && CallForm::Python.marks().iter().all(|mark| has_token(mark)) {
                return Self::Template { form: CallForm::Python, writes_calls: false };
            }
        }
        let system = run(vec![said("system", "needle rule"), said("user", "needle question")], Value::from(()));
        Self::None { takes_system: system.is_some_and(|text| text.contains("needle rule")) }
    }

    /// How calls are written.
    pub(super) fn form(self) -> CallForm {
        match self {
            Self::Template { form, .. } => form,
            Self::None { .. } => CallForm::Tagged,
        }
    }

    /// A conversation and the tools as the template takes them; `text` is applied to everything that is written in the tools.
    pub(super) fn adapted<'a>(
        self,
        messages: &'a [Message],
        tools: &[Tool],
        text: &dyn Fn(&str) -> String,
    ) -> (Cow<'a, [Message]>, Value) {
        let has_calls = messages.iter().any(|message| message.role == "tool" || !message.tool_calls.is_empty());
        match self {
            Self::None { takes_system } if has_calls || !tools.is_empty() => {
                (Cow::Owned(plain(messages, tools, takes_system)), Value::from(()))
            }
            Self::Template { form: CallForm::Bare, .. } if has_calls => {
                (Cow::Owned(one_by_one(messages)), tools_value(tools, text))
            }
            _ => (Cow::Borrowed(messages), tools_value(tools, text)),
        }
    }

    /// What a message has besides its role and content.
    pub(super) fn members(self, message: &Message, all: &[Message], text: &dyn Fn(&str) -> String) -> Vec<(&'static str, Value)> {
        let Self::Template { form, .. } = self else { return Vec::new() };
        let id = |id: &str| text(&fitting_id(form, id));
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter().map(|call| ToolCall { id: fitting_id(form, &call.id), ..call.clone() });
            return vec![("tool_calls", calls_value(&calls.collect::<Vec<_>>(), text))];
        }
        match &message.tool_call_id {
            Some(of) => {
                let call = all.iter().flat_map(|message| &message.tool_calls).rfind(|call| call.id == *of);
                let name = call.map_or("", |call| call.name.as_str());
                vec![("tool_call_id", Value::from(id(of))), ("name", Value::from(text(name)))]
            }
            None => Vec::new(),
        }
    }

    /// The calls as text behind what a message says, where the template does not write them.
    pub(super) fn behind(self, message: &Message, text: &dyn Fn(&str) -> String) -> String {
        match self {
            Self::Template { form, writes_calls: false } if !message.tool_calls.is_empty() => {
                form.write(&message.tool_calls, text)
            }
            _ => String::new(),
        }
    }
}

/// The trial call's argument where a template writes it in whatever form.
const NEEDLE_CALL_SIGN: &str = "needle_argument=";

/// A message as templates take it.
pub(super) fn message_value(role: &str, content: Value, more: Vec<(&'static str, Value)>) -> Value {
    Value::from_iter([("role", Value::from(role)), ("content", content)].into_iter().chain(more))
}

/// Tools as templates take them, or none; `text` is applied to everything that is written in them.
fn tools_value(tools: &[Tool], text: &dyn Fn(&str) -> String) -> Value {
    if tools.is_empty() {
        return Value::from(());
    }
    tools.iter().map(|tool| with_texts(&tool.json(), text)).collect()
}

/// Calls as templates take them, the arguments being objects.
fn calls_value(calls: &[ToolCall], text: &dyn Fn(&str) -> String) -> Value {
    let call = |call: &ToolCall| {
        let arguments = with_texts(&Json::Object(call.arguments.clone()), text);
        let function = Value::from_iter([("name", Value::from(text(&call.name))), ("arguments", arguments)]);
        Value::from_iter([("id", Value::from(text(&call.id))), ("type", Value::from("function")), ("function", function)])
    };
    calls.iter().map(call).collect()
}

impl Tool {
    /// As OpenAI's requests and Hugging Face's templates have it.
    fn json(&self) -> Json {
        let mut function = serde_json::Map::new();
        function.insert("name".to_owned(), Json::from(self.name.as_str()));
        if let Some(description) = &self.description {
            function.insert("description".to_owned(), Json::from(description.as_str()));
        }
        function.insert("parameters".to_owned(), self.parameters.clone().unwrap_or_else(no_parameters));
        Json::Object(serde_json::Map::from_iter([
            ("type".to_owned(), Json::from("function")),
            ("function".to_owned(), Json::Object(function)),
        ]))
    }
}

/// The schema of a function without parameters.
fn no_parameters() -> Json {
    serde_json::json!({ "type": "object", "properties": {} })
}

/// A value in which `text` is applied to all names and texts.
fn with_texts(value: &Json, text: &dyn Fn(&str) -> String) -> Value {
    match value {
        Json::String(value) => Value::from(text(value)),
        Json::Array(items) => items.iter().map(|item| with_texts(item, text)).collect(),
        Json::Object(members) => Value::from_iter(members.iter().map(|(name, value)| (text(name), with_texts(value, text)))),
        other => Value::from_serialize(other),
    }
}

/// Every text that calls and tools have.
pub(super) fn each_text(messages: &[Message], tools: &[Tool], note: &mut dyn FnMut(&str)) {
    for call in messages.iter().flat_map(|message| &message.tool_calls) {
        note(&call.id);
        note(&call.name);
        call.arguments.iter().for_each(|(name, value)| {
            note(name);
            each_text_of(value, note);
        });
    }
    tools.iter().for_each(|tool| each_text_of(&tool.json(), note));
}

fn each_text_of(value: &Json, note: &mut dyn FnMut(&str)) {
    match value {
        Json::String(text) => note(text),
        Json::Array(items) => items.iter().for_each(|item| each_text_of(item, note)),
        Json::Object(members) => members.iter().for_each(|(name, value)| {
            note(name);
            each_text_of(value, note);
        }),
        _ => {}
    }
}

/// JSON as Python prints it, which is what templates write and models learn: `", "` and `": "` between.
fn python_json(value: &Json) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Json::Array(items) => format!("[{}]", list(items.iter().map(python_json).collect())),
        Json::Object(members) => {
            let member = |(name, value): (&String, &Json)| format!("{}: {}", Json::from(name.as_str()), python_json(value));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
        scalar => scalar.to_string(),
    }
}

/// Checks that every result is that of a call which stands before it with nothing but other results between, and that none is given twice.
///
/// # Errors
/// `invalid_request`.
pub(super) fn check_results(messages: &[Message]) -> Result<()> {
    let mut open: Vec<&str> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        if message.role != "tool" {
            open = message.tool_calls.iter().map(|call| call.id.as_str()).collect();
            continue;
        }
        let id = message.tool_call_id.as_deref().unwrap_or("");
        let Some(at) = open.iter().position(|open| *open == id) else {
            return Err(Error::invalid_request(format!(
                "Message {i} is the result of the tool call '{}', but no message of the assistant's before it made that call, or its result is there \
                 already. Put it behind the assistant's message whose tool_calls have that id.",
                shown(id)
            )));
        };
        open.remove(at);
    }
    Ok(())
}

/// A conversation for a template that shows no tools: they are told in what the system says, calls are text, and results come from the user,
/// in one message with what the user says next, as many templates take only turns.
fn plain(messages: &[Message], tools: &[Tool], takes_system: bool) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len() + 1);
    let mut told = (!tools.is_empty()).then(|| told(tools));
    for message in messages {
        let mut parts = match &message.content {
            Content::Text(text) if text.is_empty() => Vec::new(),
            Content::Text(text) => vec![Part::Text(text.clone())],
            Content::Parts(parts) => parts.clone(),
        };
        let is_result = message.role == "tool";
        if is_result {
            let result = text_of(&message.content);
            parts = vec![Part::Text(format!("<tool_response>\n{result}\n</tool_response>"))];
        }
        if !message.tool_calls.is_empty() {
            parts.push(Part::Text(CallForm::Tagged.write(&message.tool_calls, &|text| text.to_owned())));
        }
        let role = if is_result { "user" } else { &*message.role };
        if takes_system && role != "system" && out.is_empty() {
            out.extend(told.take().map(|told| Message::text("system", told)));
        }
        if let Some(told) = told.take_if(|_| role == if takes_system { "system" } else { "user" }) {
            let at = if takes_system { parts.len() } else { 0 };
            parts.insert(at, Part::Text(if takes_system { format!("\n{told}") } else { told + "\n" }));
        }
        // What follows a result is in its message.
        match out.last_mut().filter(|last| role == "user" && last.role == "user" && last.tool_call_id.is_some()) {
            Some(last) => {
                if let Content::Parts(all) = &mut last.content {
                    all.extend(parts);
                }
            }
            None => {
                let only_text = matches!(message.content, Content::Text(_)) && parts.len() < 2 && !is_result;
                let content = match (only_text, parts.pop()) {
                    (true, None) => Content::Text(String::new()),
                    (true, Some(Part::Text(text))) => Content::Text(text),
                    (_, last) => Content::Parts(parts.into_iter().chain(last).collect()),
                };
                out.push(Message { content, tool_call_id: message.tool_call_id.clone(), ..Message::text(role, "") });
            }
        }
    }
    // Nobody has said anything that it could stand before.
    if let Some(told) = told {
        out.insert(0, Message::text(if takes_system { "system" } else { "user" }, told));
    }
    out
}

/// What the model is told of its tools.
fn told(tools: &[Tool]) -> String {
    let mut text = String::from("You can call these functions. Each is given with the JSON schema of its arguments:\n");
    for tool in tools {
        text += &python_json(&tool.json()["function"]);
        text.push('\n');
    }
    text + "To call one, write only this, and its result will be given to you:\n<tool_call>\n{\"name\": NAME, \"arguments\": {ARGUMENTS}}\n</tool_call>"
}

/// The text of a message without its images.
fn text_of(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let texts = parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Image => None,
            });
            texts.collect::<Vec<_>>().join("\n")
        }
    }
}

/// A conversation for a template that takes one call in a message: each call is a message, with its result behind it.
fn one_by_one(messages: &[Message]) -> Vec<Message> {
    let mut out = Vec::with_capacity(messages.len());
    let mut at = 0;
    while let Some(message) = messages.get(at) {
        at += 1;
        if message.tool_calls.len() < 2 {
            out.push(message.clone());
            continue;
        }
        let n_results = messages[at..].iter().take_while(|message| message.role == "tool").count();
        let mut results = messages[at..at + n_results].to_vec();
        at += n_results;
        for (i, call) in message.tool_calls.iter().enumerate() {
            let content = if i == 0 { message.content.clone() } else { Content::Text(String::new()) };
            out.push(Message { content, tool_calls: vec![call.clone()], ..message.clone() });
            if let Some(result) = results.iter().position(|result| result.tool_call_id.as_ref() == Some(&call.id)) {
                out.push(results.remove(result));
            }
        }
        out.append(&mut results);
    }
    out
}

/// An id as the model's template takes it. Mistral's take nine letters and digits, which those of other programs are not; the same id
/// becomes the same one always.
fn fitting_id(form: CallForm, id: &str) -> String {
    const LENGTH: usize = 9;
    let is_mistral = matches!(form, CallForm::List | CallForm::Named | CallForm::NamedWithId);
    if !is_mistral || (id.len() == LENGTH && id.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return id.to_owned();
    }
    // FNV-1a, 64 bits.
    let mut hash =
        id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let digit = |n: u64| char::from_digit((n % 36) as u32, 36).unwrap_or('0');
    (0..LENGTH)
        .map(|_| {
            let c = digit(hash);
            hash /= 36;
            c
        })
        .collect()
}
