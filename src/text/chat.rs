//! Conversations to prompts, through the chat template that a model comes with or one of ours.

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind};

use super::bounded::{self, Budget};
use super::date::Date;
use super::escape::Escaper;
use super::guard::{Guard, Rendered};
use super::prompt::IMAGE;
use super::to_json::to_json;
use super::tokenizer::Tokenizer;
use super::tools::{self, CallForm, Support, Tool, ToolCall, message_value};
use crate::error::{Error, Result, shown};
use crate::gguf::metadata::Metadata;

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What somebody wrote.
    Text(String),
    /// An image. Images are numbered through the conversation, in the order of their parts.
    Image,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text alone.
    Text(String),
    /// Text and images.
    Parts(Vec<Part>),
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What it says.
    pub content: Content,
    /// What the assistant calls behind it.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool's message is the result of.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of text alone.
    pub fn text(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Content::Text(text.into()), tool_calls: Vec::new(), tool_call_id: None }
    }

    /// A message of parts.
    pub fn parts(role: impl Into<String>, parts: Vec<Part>) -> Self {
        Self { content: Content::Parts(parts), ..Self::text(role, "") }
    }

    /// A message of the assistant's that calls tools behind a text, which may be empty.
    pub fn calls(text: impl Into<String>, tool_calls: Vec<ToolCall>) -> Self {
        Self { tool_calls, ..Self::text("assistant", text) }
    }

    /// The result of a call.
    pub fn result(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { tool_call_id: Some(id.into()), ..Self::text("tool", text) }
    }

    fn n_images(&self) -> usize {
        match &self.content {
            Content::Text(_) => 0,
            Content::Parts(parts) => parts.iter().filter(|part| **part == Part::Image).count(),
        }
    }
}

/// Where a prompt ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// Behind the last message.
    Messages,
    /// Where the model's answer begins.
    #[default]
    Answer,
    /// Within the last message, which is the model's own and is to be gone on with: its turn is not closed.
    LastMessage,
}

/// A template's own variables, as `chat_template_kwargs` gives them: `enable_thinking` of Qwen3, for one.
pub type Variables = serde_json::Map<String, serde_json::Value>;

/// The most bytes of [`Variables`] as JSON: templates take switches and short texts.
const MAX_VARIABLES: usize = 1 << 16;

/// The built-in templates, as LLaVA uses them.
const BUILT_IN: [(&str, &str); 6] = [
    ("vicuna", include_str!("templates/vicuna.jinja")),
    ("llama-2", include_str!("templates/llama-2.jinja")),
    ("mistral", include_str!("templates/mistral.jinja")),
    ("chatml", include_str!("templates/chatml.jinja")),
    ("phi-3", include_str!("templates/phi-3.jinja")),
    ("llama-3", include_str!("templates/llama-3.jinja")),
];

/// The most bytes of a template; published ones have up to twenty thousand.
const MAX_TEMPLATE: usize = 1 << 20;

/// What templates that know images write for one.
const IMAGE_TEXTS: [&str; 7] =
    [IMAGE, "<start_of_image>", "<|image_pad|>", "<|image|>", "<image_soft_token>", "[IMG]", "<|image_1|>"];

/// A chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    name: String,
    source: String,
    bos: String,
    eos: String,
    date: Option<Date>,
    /// Whether a message of text alone may be a string; if not it must be a list of parts.
    takes_strings: bool,
    /// What the template writes for an image part; `None` where it knows no parts or no images.
    image_text: Option<String>,
    /// What it does with tools.
    tools: Support,
    escaper: Escaper,
    warning: Option<String>,
}

/// A template's own refusal of a conversation, kept apart from its faults.
#[derive(Debug)]
struct Refusal(String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// `{% generation %}` marks what to train on. To write a prompt it means nothing, so it becomes a condition that always holds.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // Behind the two characters that open it: "{%}" is not a tag that ends at once.
        let Some(len) = rest[start + 2..].find("%}").map(|at| at + 2) else { break };
        let tag = &rest[start + 2..start + len];
        let (open, close) = (tag.starts_with(['-', '+']), tag.ends_with(['-', '+']) && tag.len() > 1);
        let (head, tail) = (&tag[..usize::from(open)], &tag[tag.len() - usize::from(close)..]);
        let word = tag[head.len()..tag.len() - tail.len()].trim();
        out.push_str(&rest[..start]);
        match word {
            "generation" => out += &format!("{{%{head} if true {tail}%}}"),
            "endgeneration" => out += &format!("{{%{head} endif {tail}%}}"),
            _ => out += &rest[start..start + len + 2],
        }
        rest = &rest[start + len + 2..];
    }
    out + rest
}

impl ChatTemplate {
    /// The template of a model: the caller's `choice` (a built-in's name or Jinja text) if there is one, else the file's own, else
    /// the built-in that its vocabulary or name speaks for.
    ///
    /// # Errors
    /// `invalid_request` where the choice is neither a name nor a sound template.
    pub fn from_gguf_or_builtin(choice: Option<&str>, metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self> {
        let built_in = |name: &str| BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
        if let Some(choice) = choice {
            return match built_in(choice) {
                Some((name, source)) => Self::new(name, source, tokenizer),
                None if choice.contains("{{") || choice.contains("{%") => Self::new("custom", choice, tokenizer),
                None => Err(Error::invalid_request(format!(
                    "'{}' is neither Jinja text nor a built-in chat template. Those are: {}.",
                    shown(choice),
                    BUILT_IN.map(|(name, _)| name).join(", ")
                ))),
            };
        }
        let mut warning = None;
        if let Some(source) = metadata.str("tokenizer.chat_template").filter(|source| !source.trim().is_empty()) {
            match Self::new("file", source, tokenizer) {
                Ok(template) => return Ok(template),
                // A model with an unreadable template still talks; how well depends on the guess, so say it.
                Err(error) => warning = Some(error.message().to_owned()),
            }
        }
        let has = |text: &str| tokenizer.find_token(text).is_some();
        let says = |word: &str| {
            ["general.name", "general.basename", "general.finetune"]
                .iter()
                .any(|key| metadata.str(key).is_some_and(|value| value.to_ascii_lowercase().contains(word)))
        };
        let guess = if has("<|im_start|>") {
            "chatml"
        } else if has("<|start_header_id|>") {
            "llama-3"
        } else if has("<|end|>") && has("<|user|>") {
            "phi-3"
        } else if says("mistral") {
            "mistral"
        } else {
            "vicuna"
        };
        let source = built_in(guess).map_or("", |(_, source)| source);
        let mut template = Self::new(guess, source, tokenizer)?;
        template.warning = warning.map(|fault| format!("{fault} Using the built-in template '{guess}' instead."));
        Ok(template)
    }

    /// A template from Jinja text.
    ///
    /// # Errors
    /// `invalid_request` saying what is wrong with the text and where.
    pub fn new(name: &str, source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        if source.len() > MAX_TEMPLATE {
            return Err(Error::invalid_request(format!(
                "The chat template has {} bytes, more than the {MAX_TEMPLATE} that make sense. Choose another.",
                source.len()
            )));
        }
        let text_of = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or("").to_owned();
        let mut template = Self {
            name: name.into(),
            source: without_generation_tags(source),
            bos: text_of(tokenizer.bos()),
            eos: text_of(tokenizer.eos()),
            date: None,
            takes_strings: true,
            image_text: None,
            tools: Support::None { takes_system: true },
            escaper: Escaper::new(tokenizer.markers().chain(IMAGE_TEXTS))?,
            warning: None,
        };
        bounded::check(&template.source).map_err(|error| {
            Error::invalid_request(format!(
                "The chat template cannot be read: {}. Choose a built-in one by name or correct it.",
                shown(&error.to_string())
            ))
        })?;
        template.probe()?;
        template.tools = Support::found(
            |messages, tools| template.try_run(messages.into_iter().collect(), tools, true, &Variables::new()).ok(),
            |text| tokenizer.find_token(text).is_some(),
        );
        // What the template writes for an image need not be one of the usual texts.
        if let Some(text) = template.image_text.as_deref().filter(|text| !IMAGE_TEXTS.contains(text)) {
            template.escaper = Escaper::new(tokenizer.markers().chain(IMAGE_TEXTS).chain([text]))?;
        }
        Ok(template)
    }

    /// Where the template is from: a built-in's name, `file` or `custom`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Jinja text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A doubt that the person should hear of.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// How the model writes calls of tools: as the template does, or else as it is told.
    pub fn call_form(&self) -> CallForm {
        self.tools.form()
    }

    /// Tells the template what day it is. Without it, templates that ask use the day written in them.
    pub fn set_date(&mut self, date: Option<Date>) {
        self.date = date;
    }

    /// What transformers gives to templates beside Jinja2's own.
    fn environment(&self) -> Environment<'_> {
        let mut environment = Environment::new();
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(message)))
        });
        // Models that can think aloud before they answer are asked to answer at once, where their template knows how.
        environment.add_global("enable_thinking", false);
        if let Some(date) = self.date {
            environment.add_function("strftime_now", move |format: &str| date.format(format));
        }
        environment
    }

    fn run(&self, messages: Value, tools: Value, add_generation_prompt: bool, variables: &Variables) -> Result<String> {
        self.try_run(messages, tools, add_generation_prompt, variables).map_err(|error| {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(inner) = cause {
                if let Some(Refusal(message)) = inner.downcast_ref() {
                    return Error::invalid_request(format!(
                        "The model's chat template refuses this conversation: {}",
                        shown(message)
                    ));
                }
                cause = inner.source();
            }
            Error::invalid_request(format!(
                "The model's chat template fails on this conversation: {}. Choose another template by name.",
                shown(&error.to_string())
            ))
        })
    }

    fn try_run(
        &self,
        messages: Value,
        tools: Value,
        add_generation_prompt: bool,
        variables: &Variables,
    ) -> std::result::Result<String, minijinja::Error> {
        // What every template has stands before a caller's variable of the same name.
        let context = minijinja::context! {
            messages,
            add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
            tools,
            documents => Value::from(()),
            ..Value::from_serialize(variables)
        };
        let with_budget = |environment: &mut Environment<'_>, budget: &Budget| {
            let budget = budget.clone();
            environment.add_filter("tojson", move |value: &Value, options: Kwargs| to_json(value, &options, &budget));
        };
        bounded::render(self.environment(), &self.source, context, with_budget)
    }

    /// What the template makes of exactly these messages: text content as a string, parts as a list. That is what transformers
    /// prints; unlike [`Self::render`] it adapts nothing to the template, and nothing is guarded.
    ///
    /// # Errors
    /// `invalid_request` where the template refuses or fails.
    pub fn render_verbatim(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.run(verbatim(messages), Value::from(()), add_generation_prompt, &Variables::new())
    }

    /// Finds out by trial what kinds of content the template takes, as it does not say.
    ///
    /// # Errors
    /// `invalid_request` where it takes too many steps or too much memory for either.
    fn probe(&mut self) -> Result<()> {
        const NEEDLE: &str = "needle";
        let text = || Part::Text(NEEDLE.into());
        let mut too_much = None;
        let mut run = |content| match self.try_run(
            verbatim(&[Message { content, ..Message::text("user", "") }]),
            Value::from(()),
            true,
            &Variables::new(),
        ) {
            Ok(text) => Some(text),
            Err(error) => {
                too_much = too_much.take().or(Some(error).filter(bounded::is_too_much));
                None
            }
        };
        // A list printed as such, or joined to text, is not understood.
        let understood = |out: &String| out.contains(NEEDLE) && !out.contains("'type'") && !out.contains("\"type\"");
        let string = run(Content::Text(NEEDLE.into())).filter(understood);
        let list = run(Content::Parts(vec![text()])).filter(understood);
        let image = run(Content::Parts(vec![Part::Image, text()])).filter(understood);
        let image_text = match (&list, image) {
            (Some(without), Some(with)) if *without != with => image_text(without, &with),
            _ => None,
        };
        if let (None, None, Some(error)) = (&string, &list, too_much) {
            return Err(Error::invalid_request(format!(
                "The chat template cannot be used: {error}. Choose a built-in one by name or correct it."
            )));
        }
        self.takes_strings = string.is_some() || list.is_none();
        self.image_text = image_text;
        Ok(())
    }

    /// The prompt for a conversation.
    ///
    /// Image parts go to templates that know them as they stand. For others, and for the built-in ones, a message becomes one
    /// string: an image is followed by a line break; a single image comes first, as LLaVA was trained, wherever its part stands;
    /// several keep their places among the text.
    ///
    /// Nothing in a message can become a special token or an image, whatever it spells.
    ///
    /// # Errors
    /// `invalid_request` for an unknown role, and where the template refuses the conversation or loses an image.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Rendered> {
        let ending = if add_generation_prompt { Ending::Answer } else { Ending::Messages };
        self.render_with(messages, &[], ending, &Variables::new())
    }

    /// [`Self::render`] with tools, another end, or variables for the template.
    ///
    /// Tools, calls and results go to templates that know them. For others they are told and written as text.
    ///
    /// # Errors
    /// As [`Self::render`]; `invalid_request` also where a result is of no call, there is no message of the model's to go on with, the template
    /// closes it in a way that leaves nothing to go on with, or the variables are more than 64 KiB of JSON.
    pub fn render_with(&self, messages: &[Message], tools: &[Tool], ending: Ending, variables: &Variables) -> Result<Rendered> {
        if !variables.is_empty() && serde_json::to_string(variables).map_or(usize::MAX, |json| json.len()) > MAX_VARIABLES {
            return Err(Error::invalid_request(format!(
                "chat_template_kwargs has more than {MAX_VARIABLES} bytes of JSON. Give the template less, or say it in a message."
            )));
        }
        if ending == Ending::LastMessage && messages.last().is_none_or(|message| message.role != "assistant") {
            return Err(Error::invalid_request(
                "continue_final_message goes on in the last message, which must be of the role 'assistant'. Add the beginning of the answer \
                 as such a message, or leave it out.",
            ));
        }
        if let Some(message) = messages.iter().find(|message| !matches!(&*message.role, "system" | "user" | "assistant" | "tool"))
        {
            return Err(Error::invalid_request(format!(
                "A message's role is '{}'; it must be 'system', 'user', 'assistant' or 'tool'.",
                shown(&message.role)
            )));
        }
        tools::check_results(messages)?;
        let n_images: usize = messages.iter().map(Message::n_images).sum();
        let guard = Guard::new(&self.source, messages, tools, &self.escaper);
        let (messages, tools) = self.tools.adapted(messages, tools, &|text| guard.text(text));
        let messages = &*messages;
        let run = |contents: &mut dyn Iterator<Item = Value>| {
            let values = messages.iter().zip(contents).map(|(message, content)| {
                message_value(&message.role, content, self.tools.members(message, messages, &|text| guard.text(text)))
            });
            self.run(values.collect(), tools.clone(), ending == Ending::Answer, variables)
        };
        // The message that is gone on with, which ends in a mark; what the template writes behind it closes the turn.
        let marked = (ending == Ending::LastMessage).then(|| messages.len() - 1);
        let marked_text = |i: usize, mut text: String| {
            text += &self.tools.behind(&messages[i], &|text| guard.text(text));
            if marked == Some(i) {
                text.push(guard.end);
            }
            text
        };
        let cut = |mut text: String| {
            if marked.is_some() {
                let end = text.rfind(guard.end).ok_or_else(|| {
                    Error::invalid_request(
                        "The model's chat template does not show the message that is to be gone on with. Leave continue_final_message out, or \
                         choose another template by name.",
                    )
                })?;
                text.truncate(end);
                // Templates that look at a message in several places may have shown it before.
                text = text.replace(guard.end, "");
            }
            Ok::<String, Error>(text)
        };
        if n_images > 0
            && let Some(image_text) = &self.image_text
        {
            let mut contents = messages.iter().enumerate().map(|(i, message)| match &message.content {
                // The model's own messages are text, as every template takes it.
                _ if marked == Some(i) || !message.tool_calls.is_empty() => {
                    let text = marked_text(i, guard.flatten(&message.content));
                    if self.takes_strings { Value::from(text) } else { parts_value(std::iter::once(Some(text))) }
                }
                Content::Text(text) if self.takes_strings => Value::from(guard.text(text)),
                Content::Text(text) => parts_value(std::iter::once(Some(guard.text(text)))),
                Content::Parts(parts) => parts_value(parts.iter().map(|part| match part {
                    Part::Text(text) => Some(guard.text(text)),
                    Part::Image => None,
                })),
            });
            let text = cut(run(&mut contents)?)?;
            if text.matches(image_text.as_str()).count() == n_images {
                return Ok(guard.rendered(text.replace(image_text.as_str(), &guard.image.to_string())));
            }
            // It numbers its images or leaves some out: say where they stand ourselves.
        }
        let mut contents = messages.iter().enumerate().map(|(i, message)| {
            let text = marked_text(i, guard.flatten(&message.content));
            if self.takes_strings { Value::from(text) } else { parts_value(std::iter::once(Some(text))) }
        });
        let text = cut(run(&mut contents)?)?;
        if text.matches(guard.image).count() != n_images {
            return Err(Error::invalid_request(format!(
                "The chat template loses images of this conversation: {n_images} were given. Choose another template by name."
            )));
        }
        Ok(guard.rendered(text))
    }
}

/// Messages as they stand: text content as a string, parts as a list.
fn verbatim(messages: &[Message]) -> Value {
    messages
        .iter()
        .map(|message| {
            let content = match &message.content {
                Content::Text(text) => Value::from(text.as_str()),
                Content::Parts(parts) => parts_value(parts.iter().map(|part| match part {
                    Part::Text(text) => Some(text.clone()),
                    Part::Image => None,
                })),
            };
            message_value(&message.role, content, Vec::new())
        })
        .collect()
}

/// A list of parts as templates know it; `None` is an image.
fn parts_value(parts: impl Iterator<Item = Option<String>>) -> Value {
    parts
        .map(|part| match part {
            Some(text) => Value::from_iter([("type", Value::from("text")), ("text", Value::from(text))]),
            None => Value::from_iter([("type", "image")]),
        })
        .collect()
}

/// What a template wrote for an image, from what it printed without and with one.
fn image_text(without: &str, with: &str) -> Option<String> {
    let start: usize = with.chars().zip(without.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let tail = |text: &str| text[start..].to_owned();
    let (with_tail, without_tail) = (tail(with), tail(without));
    let same: usize =
        with_tail.chars().rev().zip(without_tail.chars().rev()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let middle = &with_tail[..with_tail.len() - same];
    // The difference may begin inside the mark where what follows begins alike, so look for known marks in the whole.
    let known = IMAGE_TEXTS.iter().find(|text| with.matches(**text).count() == without.matches(**text).count() + 1);
    known.map(|text| text.to_string()).or_else(|| Some(middle.trim().to_owned()).filter(|text| text.len() > 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_conditions() {
        assert_eq!(
            without_generation_tags("a{%- generation -%}b{% endgeneration %}{% if x %}{%"),
            "a{%- if true -%}b{% endif %}{% if x %}{%"
        );
    }
}
