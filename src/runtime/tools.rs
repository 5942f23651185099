//! The tools of a request: which the model is told, which it may or must call, and the calls and results that come with a conversation.

use serde::Deserialize;

use crate::error::{Error, Result, shown};
use crate::runtime::call_reader::CallReader;
use crate::runtime::grammar::{Callable, Calling, Grammar, Json, ResponseFormat, plain_members};
use crate::text::{CallForm, Tool, ToolCall};

/// The most tools of a request.
const MAX_TOOLS: usize = 128;
/// The longest name of one.
const MAX_NAME: usize = 128;

/// A call in a conversation, as OpenAI's messages have it.
#[derive(Debug, Clone, Deserialize)]
pub struct RequestCall {
    /// What its result refers to.
    pub id: String,
    /// What was called.
    pub function: RequestedFunction,
}

/// The function of a call.
#[derive(Debug, Clone, Deserialize)]
pub struct RequestedFunction {
    /// Its name.
    pub name: String,
    /// A JSON object as text; nothing is an empty one.
    #[serde(default)]
    pub arguments: String,
}

impl RequestCall {
    /// As the chat template takes it; `place` is where it stands.
    ///
    /// # Errors
    /// `invalid_request` where the arguments are no JSON object.
    pub fn call(&self, place: &str) -> Result<ToolCall> {
        let text = if self.function.arguments.trim().is_empty() { "{}" } else { &self.function.arguments };
        let arguments = serde_json::from_str(text).map_err(|_| {
            invalid(format!(
                "{place}.function.arguments must be the text of a JSON object. An answer with the finish_reason \"length\" or \"abort\" has a call \
                 that is not whole: leave it out."
            ))
        })?;
        Ok(ToolCall { id: self.id.clone(), name: self.function.name.clone(), arguments })
    }
}

/// What a request says of tools.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Those that the model is told.
    pub told: Vec<Tool>,
    /// Those that it may call.
    callable: Vec<Callable>,
    calling: Calling,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid_request(message)
}

fn text(value: Option<&Json>) -> Option<&str> {
    match value {
        Some(Json::String(text)) => Some(text),
        _ => None,
    }
}

impl Tools {
    /// `tools`, `tool_choice` and `parallel_tool_calls` of a request; `None` where nothing may be called, and then nothing is told.
    ///
    /// # Errors
    /// `invalid_request` that names the field, for tools that are none, two of one name, or a choice of what there is not.
    pub fn new(tools: Option<&Json>, choice: Option<&Json>, parallel: Option<bool>) -> Result<Option<Self>> {
        let tools = match tools {
            None | Some(Json::Null) => &[],
            Some(Json::Array(tools)) => tools.as_slice(),
            Some(_) => return Err(invalid("tools must be an array.")),
        };
        if tools.len() > MAX_TOOLS {
            return Err(invalid(format!("There are {} tools; at most {MAX_TOOLS} can be given.", tools.len())));
        }
        let mut all: Vec<(Tool, Callable)> = Vec::with_capacity(tools.len());
        for (i, tool) in tools.iter().enumerate() {
            let tool = tool_of(tool, i)?;
            if all.iter().any(|(other, _)| other.name == tool.0.name) {
                return Err(invalid(format!("tools[{i}] has the name '{}', which another has. Give each its own.", tool.0.name)));
            }
            all.push(tool);
        }
        let (is_free, chosen) = match choice {
            None | Some(Json::Null) => (true, None),
            Some(Json::String(mode)) => match mode.as_str() {
                // Tools that cannot be called would lead a small model astray.
                "none" => return Ok(None),
                "auto" => (true, None),
                "required" => (false, None),
                other => {
                    return Err(invalid(format!(
                        "tool_choice is \"{}\"; it must be \"none\", \"auto\", \"required\", or name a function.",
                        shown(other)
                    )));
                }
            },
            Some(choice) => choice_of(choice)?,
        };
        let several = parallel.unwrap_or(true);
        let (told, mut callable): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        if let Some(Chosen { names, is_one }) = &chosen {
            if let Some(name) = names.iter().find(|name| !callable.iter().any(|tool| tool.name == **name)) {
                return Err(invalid(format!("tool_choice names '{}', but there is no tool of that name.", shown(name))));
            }
            callable.retain(|tool| names.contains(&tool.name));
            if *is_one {
                return Ok(Some(Self { told, callable, calling: Calling { is_free, several: false } }));
            }
        }
        match (callable.is_empty(), is_free) {
            (true, true) => Ok(None),
            (true, false) => {
                Err(invalid("tool_choice asks for a call, but there are no tools to call. Give some, or leave it out."))
            }
            (false, is_free) => Ok(Some(Self { told, callable, calling: Calling { is_free, several } })),
        }
    }

    /// What may be written: calls, or, where they are free, text of the given form.
    ///
    /// # Errors
    /// As [`Grammar::of_calls`].
    pub fn grammar(&self, form: CallForm, otherwise: Option<&ResponseFormat>) -> Result<Grammar> {
        Grammar::of_calls(form, &self.callable, self.calling, otherwise)
    }

    /// What reads an answer that may call them.
    ///
    /// # Errors
    /// As [`Self::grammar`].
    pub fn reader(&self, form: CallForm) -> Result<CallReader> {
        let plain = if form == CallForm::Xml { plain_members(&self.callable)? } else { Vec::new() };
        Ok(CallReader::new(form).with_plain(plain))
    }
}

/// Functions that a request picks.
struct Chosen {
    names: Vec<String>,
    /// Whether it is one, to be called once.
    is_one: bool,
}

/// A `tool_choice` that is an object: whether the answer may be without calls, and the functions.
fn choice_of(choice: &Json) -> Result<(bool, Option<Chosen>)> {
    let wrong = || {
        invalid(
            "tool_choice must be \"none\", \"auto\", \"required\", { type: \"function\", function: { name } }, or { type: \"allowed_tools\", \
             allowed_tools: { mode, tools } }.",
        )
    };
    let name_of = |choice: &Json| text(choice.get("function").and_then(|function| function.get("name"))).map(str::to_owned);
    match text(choice.get("type")) {
        Some("function") => {
            let name = name_of(choice).ok_or_else(wrong)?;
            Ok((false, Some(Chosen { names: vec![name], is_one: true })))
        }
        Some("allowed_tools") => {
            let allowed = choice.get("allowed_tools").ok_or_else(wrong)?;
            let is_free = match text(allowed.get("mode")) {
                Some("auto") => true,
                Some("required") => false,
                _ => return Err(invalid("tool_choice.allowed_tools.mode must be \"auto\" or \"required\".")),
            };
            let Some(Json::Array(tools)) = allowed.get("tools") else { return Err(wrong()) };
            let names = tools.iter().map(name_of).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
            Ok((is_free, Some(Chosen { names, is_one: false })))
        }
        _ => Err(wrong()),
    }
}

/// A tool as the model is told of it, and as it may be called.
fn tool_of(tool: &Json, i: usize) -> Result<(Tool, Callable)> {
    if text(tool.get("type")).is_none_or(|kind| kind != "function") {
        return Err(invalid(format!("tools[{i}].type must be \"function\": other kinds of tools cannot be called.")));
    }
    let function = tool.get("function").filter(|function| matches!(function, Json::Object(_)));
    let function = function.ok_or_else(|| invalid(format!("tools[{i}].function must be an object with a name.")))?;
    let is_name = |name: &&str| {
        !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:/".contains(&b))
    };
    let name = text(function.get("name")).filter(is_name).ok_or_else(|| {
        invalid(format!("tools[{i}].function.name must be 1 to {MAX_NAME} letters, digits, or of the signs _ - . : /"))
    })?;
    let description = match function.get("description") {
        None | Some(Json::Null) => None,
        Some(Json::String(description)) => Some(description.clone()),
        Some(_) => return Err(invalid(format!("tools[{i}].function.description must be a text."))),
    };
    let parameters = function.get("parameters").filter(|parameters| !matches!(parameters, Json::Null));
    let tool = Tool { name: name.to_owned(), description, parameters: parameters.map(plain) };
    Ok((tool, Callable { name: name.to_owned(), parameters: parameters.cloned() }))
}

/// The same value for templates.
fn plain(json: &Json) -> serde_json::Value {
    match json {
        Json::Null => serde_json::Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => serde_json::Value::Number(number.clone()),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(plain).collect(),
        Json::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
    }
}
