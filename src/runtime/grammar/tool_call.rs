//! Calls of tools: the frame that a model writes them in, with the arguments of each by the schema of its tool.
//!
//! ```text
//! free text, or an answer's form ─▶ end
//!     └─ the mark ─▶ name ─▶ arguments ─┬─▶ end
//!                     ▲                 │
//!                     └── between two ◀─┘
//! ```
//!
//! Free text is all bytes, followed by an automaton that looks for the form's mark; from the mark on only a call is possible. The frame is
//! written in one way only, that of the models' templates, so that whoever reads it needs no parser, and an answer that comes back in a
//! conversation is the same text again. The automata of the schemas are built apart, and put in the frame's place of each when it is finished.

use std::rc::Rc;

use super::automaton::{Automata, Builder, Mark, Rule, State};
use super::json::Json;
use super::pattern::CharDfa;
use super::{Grammar, ResponseFormat, automata, schema};
use crate::error::{Error, Result, shown};
use crate::text::CallForm;

/// States of all schemas together.
const MAX_STATES: usize = 400_000;
/// Calls of one answer: a model that was not trained for tools would not end.
const MAX_CALLS: u32 = 16;

/// A tool that may be called.
#[derive(Debug, Clone)]
pub struct Callable {
    /// Its name: letters, digits and a few signs that need no escape.
    pub name: String,
    /// The schema of its arguments; none where there are none.
    pub parameters: Option<Json>,
}

/// What an answer may be, where tools are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calling {
    /// Whether it may also be an answer without calls.
    pub is_free: bool,
    /// Whether there may be several calls.
    pub several: bool,
}

impl Grammar {
    /// The grammar of an answer that calls tools, or may: then it is otherwise of the form `otherwise`, or any text.
    ///
    /// # Errors
    /// `invalid_request` that names the tool, the keyword and where it is, for a schema that cannot be held.
    pub fn of_calls(form: CallForm, tools: &[Callable], calling: Calling, otherwise: Option<&ResponseFormat>) -> Result<Self> {
        let mut frame = Frame { builder: Builder::default(), parts: Vec::new() };
        let start = frame.builder.state()?;
        let root = frame.builder.rule(start);
        let calls = frame.calls(form, tools, calling.several)?;
        let form_of_text = otherwise.map_or(Ok(None), automata)?;
        match form_of_text {
            Some(_) if calling.is_free && form.mark().is_none() => {
                return Err(Error::invalid_request(
                    "response_format and tools are given together, but this model's calls are JSON objects, too, which cannot be told from such an \
                     answer. Leave one of them out, or set tool_choice to \"required\".",
                ));
            }
            Some(automata) if calling.is_free => {
                let text = frame.part(automata)?;
                let end = frame.builder.call(start, text)?;
                frame.builder.at(end).is_end = true;
                frame.begin(form, start, calls)?;
            }
            None if calling.is_free => frame.text_or_call(form, start, calls)?,
            _ => {
                // Models of SentencePiece begin with a space.
                let begun = frame.builder.optional_blank(start)?;
                frame.begin(form, begun, calls)?;
            }
        }
        frame.finish(root).map(|automata| Self(Rc::new(automata)))
    }
}

/// A frame in the making.
struct Frame {
    builder: Builder,
    /// Rules that stand for others, and those.
    parts: Vec<(Rule, Automata)>,
}

impl Frame {
    /// A rule for a grammar that is put in later.
    fn part(&mut self, automata: Automata) -> Result<Rule> {
        let start = self.builder.state()?;
        let end = self.builder.end()?;
        self.builder.range(start, 0, 0, end);
        let rule = self.builder.rule(start);
        self.parts.push((rule, automata));
        Ok(rule)
    }

    /// The beginning of a call leads to what is behind it.
    fn begin(&mut self, form: CallForm, from: State, calls: State) -> Result<()> {
        self.builder.text_to(from, beginning(form), calls)
    }

    /// Any text up to the beginning of a call, which leads to what is behind it.
    fn text_or_call(&mut self, form: CallForm, start: State, calls: State) -> Result<()> {
        let beginning = beginning(form).as_bytes();
        // Behind so many bytes of it.
        let mut behind = vec![start];
        for _ in 1..beginning.len() {
            behind.push(self.builder.state()?);
        }
        behind.push(calls);
        let free = self.builder.end()?;
        self.builder.range(free, 0, 255, free);
        for n in 0..beginning.len() {
            self.builder.at(behind[n]).is_end = true;
            let to = |byte: u8| match form.mark() {
                // Anywhere in the text: behind the longest end of it that begins so.
                Some(_) => {
                    let text: Vec<u8> = beginning[..n].iter().copied().chain([byte]).collect();
                    let cut = (0..text.len()).find(|&cut| beginning.starts_with(&text[cut..])).unwrap_or(text.len());
                    behind[text.len() - cut]
                }
                // At the start of it alone, behind white space.
                None if beginning[n] == byte => behind[n + 1],
                None if n == 0 && matches!(byte, b' ' | b'\n') => behind[0],
                None => free,
            };
            let mut low = 0;
            for byte in 0..=255 {
                if byte == 255 || to(byte + 1) != to(low) {
                    self.builder.range(behind[n], low, byte, to(low));
                    low = byte.wrapping_add(1);
                }
            }
        }
        Ok(())
    }

    /// A state from which calls are written, their beginning being there.
    fn calls(&mut self, form: CallForm, tools: &[Callable], several: bool) -> Result<State> {
        let first = self.builder.state()?;
        let end = self.builder.end()?;
        let one = self.one_call(form, tools)?;
        // From the beginning to the first call, between two, and behind the last.
        let (open, between, close) = match form {
            CallForm::Tagged | CallForm::Xml => ("\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
            CallForm::Bare => ("", "", ""),
            CallForm::List => ("[", ", ", "]"),
            CallForm::Named | CallForm::NamedWithId => ("", "[TOOL_CALLS]", ""),
            CallForm::Python => ("[", ", ", "]<|tool_call_end|>"),
        };
        let from = if form == CallForm::List { self.builder.optional_blank(first)? } else { first };
        let from = self.builder.text(from, open)?;
        let called = self.builder.call(from, one)?;
        self.builder.text_to(called, close, end)?;
        if several && form.takes_several() {
            let more = self.builder.state()?;
            let next = self.builder.text(more, between)?;
            let last = self.builder.call(next, one)?;
            self.builder.at(last).is_end = true;
            let body = self.builder.rule(more);
            let repeat = self.builder.repeat(body, 1, MAX_CALLS - 1)?;
            self.builder.at(called).skips.push(repeat);
            let done = self.builder.state()?;
            self.builder.at(repeat).skips.push(done);
            self.builder.text_to(done, close, end)?;
        }
        Ok(first)
    }

    /// The rule of one call of any of the tools.
    fn one_call(&mut self, form: CallForm, tools: &[Callable]) -> Result<Rule> {
        let start = self.builder.state()?;
        let end = self.builder.end()?;
        let named = match form {
            CallForm::Tagged | CallForm::List | CallForm::Xml => self.builder.text(start, r#"{"name": ""#)?,
            CallForm::Bare => self.builder.text(start, r#": ""#)?,
            CallForm::Python | CallForm::Named | CallForm::NamedWithId => start,
        };
        let tagged = if form == CallForm::Xml { self.builder.text(start, "<function=")? } else { start };
        for tool in tools {
            let schema = arguments_schema(tool)?;
            if form == CallForm::Xml
                && let Some(members) = members_apart(&schema)
            {
                let behind = self.builder.text(tagged, &tool.name)?;
                self.xml_arguments(tool, members, behind, end)?;
                continue;
            }
            let behind = self.builder.text(named, &tool.name)?;
            if form == CallForm::Python {
                self.python_arguments(tool, behind, end)?;
                continue;
            }
            let arguments = self.part(compile(tool, &schema)?)?;
            let (value, close) = match form {
                CallForm::Named => (self.builder.text(behind, "[ARGS]")?, ""),
                CallForm::NamedWithId => (self.call_id(behind)?, ""),
                _ => (self.builder.text(behind, &format!(r#"", "{}":"#, form.arguments()))?, "}"),
            };
            let called = self.builder.call(value, arguments)?;
            self.builder.text_to(called, close, end)?;
        }
        Ok(self.builder.rule(start))
    }

    /// A new state behind an id of nine letters and digits, and the mark of the arguments.
    fn call_id(&mut self, from: State) -> Result<State> {
        let mut at = self.builder.text(from, "[CALL_ID]")?;
        for _ in 0..9 {
            let next = self.builder.state()?;
            for (low, high) in [(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')] {
                self.builder.range(at, low, high, next);
            }
            at = next;
        }
        self.builder.text(at, "[ARGS]")
    }

    /// Each argument between tags, the members of the schema in their order.
    fn xml_arguments(&mut self, tool: &Callable, members: Vec<Member>, from: State, end: State) -> Result<()> {
        let mut before = self.builder.text(from, ">\n")?;
        for Member { name, schema, is_required } in members {
            let opened = self.builder.text(before, &format!("<parameter={name}>\n"))?;
            let value = match texts(tool, &schema)? {
                Some(texts) => self.plain_texts(&texts)?,
                None => self.part(compile(tool, &schema)?)?,
            };
            let written = self.builder.call(opened, value)?;
            let after = self.builder.text(written, &format!("{PARAMETER_END}\n"))?;
            if !is_required {
                self.builder.at(before).skips.push(after);
            }
            before = after;
        }
        self.builder.text_to(before, "</function>", end)
    }

    /// The rule of the texts of an automaton, as they are.
    fn plain_texts(&mut self, dfa: &CharDfa) -> Result<Rule> {
        let states = dfa.edges.iter().map(|_| self.builder.state()).collect::<Result<Vec<_>>>()?;
        for (i, edges) in dfa.edges.iter().enumerate() {
            for (set, to) in edges {
                let class = self.builder.plain_class(set)?;
                self.builder.at(states[i]).calls.push((class, states[*to]));
            }
            self.builder.at(states[i]).is_end = dfa.ends[i].is_some();
        }
        Ok(self.builder.rule(states[0]))
    }

    /// `(a=1, b="x")`: the members of the schema in their order, each by its own; what cannot be taken apart so is written `(**{…})`.
    fn python_arguments(&mut self, tool: &Callable, from: State, end: State) -> Result<()> {
        let schema = arguments_schema(tool)?;
        let Some(members) = members_apart(&schema) else {
            let arguments = self.part(compile(tool, &schema)?)?;
            let open = self.builder.text(from, "(**")?;
            let value = self.builder.call(open, arguments)?;
            return self.builder.text_to(value, ")", end);
        };
        let open = self.builder.text(from, "(")?;
        // Before each member: where none was written, and behind others.
        let mut before = (open, self.builder.state()?);
        for Member { name, schema, is_required } in members {
            let value = self.part(compile(tool, &schema)?)?;
            let after = (self.builder.state()?, self.builder.state()?);
            for (from, named) in [(before.0, format!("{name}=")), (before.1, format!(", {name}="))] {
                let named = self.builder.text(from, &named)?;
                self.builder.at(named).calls.push((value, after.1));
            }
            if !is_required {
                self.builder.at(before.0).skips.push(after.0);
                self.builder.at(before.1).skips.push(after.1);
            }
            before = after;
        }
        for state in [before.0, before.1] {
            self.builder.range(state, b')', b')', end);
        }
        Ok(())
    }

    /// Finishes the frame and puts the parts in it.
    fn finish(self, root: Rule) -> Result<Automata> {
        // All of a frame can be written, and its parts have been finished.
        let mut all = self.builder.finish(root)?.ok_or_else(|| Error::internal("The tools have no grammar."))?;
        for (rule, part) in self.parts {
            let (n_states, n_rules) = (all.ways.len() as State, all.rules.len() as u32);
            let n_orders = all.orders.len() as u32;
            if all.ways.len() + part.ways.len() > MAX_STATES {
                return Err(Error::invalid_request(
                    "The schemas of the tools are too large together. Give fewer tools, or smaller schemas.",
                ));
            }
            all.rules[rule.0 as usize].state = part.start + n_states;
            all.rules.extend(part.rules.into_iter().map(|mut start| {
                start.state += n_states;
                start
            }));
            all.ways.extend(part.ways.into_iter().map(|mut ways| {
                let moved = |rule: Rule| Rule(rule.0 + n_rules);
                ways.bytes.iter_mut().for_each(|(.., to)| *to += n_states);
                ways.skips.iter_mut().for_each(|to| *to += n_states);
                if let Some((_, to)) = &mut ways.space {
                    *to += n_states;
                }
                if let Some((mark, to)) = &mut ways.mark {
                    *to += n_states;
                    if let Mark::Done(order) | Mark::Opened(order) = mark {
                        *order += n_orders;
                    }
                }
                ways.calls.iter_mut().for_each(|(rule, to)| (*rule, *to) = (moved(*rule), *to + n_states));
                if let Some(repeat) = &mut ways.repeat {
                    repeat.body = moved(repeat.body);
                }
                ways
            }));
            all.orders.extend(part.orders);
            // They were looked at when the part was made; that there are some is what counts.
            all.places.extend(part.places);
            // Bytes are of one class where they are in both.
            let mut class = 0;
            let before = all.class_of;
            for byte in 1..256 {
                class += u8::from(before[byte] != before[byte - 1] || part.class_of[byte] != part.class_of[byte - 1]);
                all.class_of[byte] = class;
            }
            all.n_classes = usize::from(class) + 1;
        }
        Ok(all)
    }
}

/// What a value between tags ends with.
pub(crate) const PARAMETER_END: &str = "\n</parameter>";

/// The texts of a member that is written as it is; `None` where it is written as JSON.
fn texts(tool: &Callable, schema: &Json) -> Result<Option<CharDfa>> {
    schema::texts(schema, PARAMETER_END).map_err(|error| of_tool(tool, &error))
}

/// The members of tools that a call between tags has as they are, not as JSON: each by its tool's name and its own.
///
/// # Errors
/// As [`Grammar::of_calls`].
pub fn plain_members(tools: &[Callable]) -> Result<Vec<(String, String)>> {
    let mut plain = Vec::new();
    for tool in tools {
        for member in members_apart(&arguments_schema(tool)?).unwrap_or_default() {
            if texts(tool, &member.schema)?.is_some() {
                plain.push((tool.name.clone(), member.name));
            }
        }
    }
    Ok(plain)
}

/// What every answer that is a call begins with.
fn beginning(form: CallForm) -> &'static str {
    form.mark().unwrap_or(r#"{"name""#)
}

/// The schema of a tool's arguments, which are an object.
fn arguments_schema(tool: &Callable) -> Result<Json> {
    let is = |name: &str| Json::String(name.to_owned());
    let object = || ("type".to_owned(), is("object"));
    match &tool.parameters {
        None => Ok(Json::Object(vec![object(), ("properties".to_owned(), Json::Object(Vec::new()))])),
        Some(schema @ Json::Object(members)) => match schema.get("type") {
            None => Ok(Json::Object(std::iter::once(object()).chain(members.iter().cloned()).collect())),
            Some(Json::String(kind)) if kind == "object" => Ok(schema.clone()),
            Some(_) => Err(refused(tool, "the parameters' 'type' must be \"object\" (at #/type). Change the schema there.")),
        },
        Some(_) => Err(refused(tool, "the parameters must be a JSON schema of an object.")),
    }
}

fn refused(tool: &Callable, what: &str) -> Error {
    Error::invalid_request(format!("The tool '{}': {what}", shown(&tool.name)))
}

/// A schema's automata; what is refused is told of the tool.
fn compile(tool: &Callable, schema: &Json) -> Result<Automata> {
    schema::compile(schema).map_err(|error| of_tool(tool, &error))
}

fn of_tool(tool: &Callable, error: &Error) -> Error {
    let what = error.message();
    refused(tool, what.strip_prefix("response_format: ").unwrap_or(what))
}

/// A member of an object with a schema of its own.
struct Member {
    name: String,
    schema: Json,
    is_required: bool,
}

/// The members of an object's schema, where nothing but names, what is required and definitions is said of it, and all names can be Python's.
fn members_apart(schema: &Json) -> Option<Vec<Member>> {
    let Json::Object(keywords) = schema else { return None };
    let mut definitions = Vec::new();
    let (mut properties, mut required): (&[_], Vec<&str>) = (&[], Vec::new());
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("properties", Json::Object(all)) => properties = all,
            ("required", Json::Array(names)) => {
                required = names
                    .iter()
                    .map(|name| if let Json::String(name) = name { Some(name.as_str()) } else { None })
                    .collect::<Option<_>>()?;
            }
            ("$defs" | "definitions", Json::Object(_)) => definitions.push((keyword.clone(), value.clone())),
            ("type" | "title" | "description" | "$schema" | "$id" | "strict", _)
            | ("additionalProperties", Json::Bool(false)) => {}
            _ => return None,
        }
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    let known = |name: &&str| properties.iter().any(|(known, _)| known == name);
    if properties.is_empty() && keywords.iter().all(|(keyword, _)| keyword != "properties") || !required.iter().all(known) {
        return None;
    }
    let member = |(name, schema): &(String, Json)| {
        let own = match schema {
            Json::Object(own) if definitions.is_empty() => own.clone(),
            Json::Object(own) if definitions.iter().all(|(keyword, _)| schema.get(keyword).is_none()) => {
                own.iter().chain(&definitions).cloned().collect()
            }
            _ => return None,
        };
        let is_apart = refers_to_definitions_alone(schema) && definitions.iter().all(|(_, all)| refers_to_definitions_alone(all));
        (is_apart && is_name(name)).then(|| Member {
            name: name.clone(),
            schema: Json::Object(own),
            is_required: required.contains(&name.as_str()),
        })
    };
    properties.iter().map(member).collect()
}

/// Whether all references within are to `$defs` or `definitions` of the whole.
fn refers_to_definitions_alone(schema: &Json) -> bool {
    match schema {
        Json::Array(items) => items.iter().all(refers_to_definitions_alone),
        Json::Object(members) => members.iter().all(|(name, value)| match (name.as_str(), value) {
            ("$ref", Json::String(to)) => to.starts_with("#/$defs/") || to.starts_with("#/definitions/"),
            ("$dynamicRef" | "$recursiveRef" | "$anchor", _) => false,
            _ => refers_to_definitions_alone(value),
        }),
        _ => true,
    }
}
