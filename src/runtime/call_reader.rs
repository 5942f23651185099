//! Reads an answer that may call tools as it is written: text before, then each call's name and pieces of its arguments.
//!
//! What is read was held by the grammar of [`super::grammar::Calling`], which writes the frame in one way only, so nothing is checked here. An
//! answer that was stopped ends somewhere within.

use serde::Serialize;

use crate::runtime::grammar::PARAMETER_END;
use crate::text::CallForm;

/// A piece of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallPiece {
    /// Which call of the answer it belongs to.
    pub index: usize,
    /// The tool's name, in the first piece of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The next part of the arguments' JSON.
    pub arguments: String,
}

/// What a piece of an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReadPiece {
    /// Text for whoever asked.
    pub text: String,
    /// Parts of calls.
    pub calls: Vec<CallPiece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first call, if there is any.
    Text,
    /// In a text that no call follows.
    FreeText,
    /// Before a call's arguments, or behind the last call.
    Frame,
    /// In the arguments of a call, as JSON writes them.
    Json,
    /// In Python's arguments: before a name, or the end.
    Names,
    /// In the value of one of Python's arguments.
    Value,
    /// Between tags: before an argument, or the end.
    Tags,
    /// In an argument between tags that is JSON.
    TaggedJson,
    /// In one that is a text.
    TaggedText,
}

/// The reader of one answer.
#[derive(Debug)]
pub struct CallReader {
    form: CallForm,
    at: At,
    /// What is not decided on.
    held: String,
    n_calls: usize,
    /// Of a JSON value: what is open, whether within quotes, and whether behind a backslash there.
    depth: usize,
    in_quotes: bool,
    escaped: bool,
    /// Whether one of the arguments that stand one by one was there.
    has_argument: bool,
    /// Arguments between tags that are texts: the tools' names and theirs.
    plain: Vec<(String, String)>,
    /// The tool that is called.
    name: String,
}

impl CallReader {
    /// Before an answer.
    pub fn new(form: CallForm) -> Self {
        Self {
            form,
            at: At::Text,
            held: String::new(),
            n_calls: 0,
            depth: 0,
            in_quotes: false,
            escaped: false,
            has_argument: false,
            plain: Vec::new(),
            name: String::new(),
        }
    }

    /// With the arguments that stand as they are where they stand between tags: the tools' names and theirs.
    pub fn with_plain(self, plain: Vec<(String, String)>) -> Self {
        Self { plain, ..self }
    }

    /// Whether the answer has calls, the last of which is written to its end.
    pub fn has_called(&self) -> bool {
        self.n_calls > 0 && self.at == At::Frame
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, piece: &str) -> ReadPiece {
        let mut read = ReadPiece::default();
        self.held.push_str(piece);
        while !self.held.is_empty() && self.advance(&mut read) {}
        read
    }

    /// The text that was held back, where nothing more comes.
    pub fn flush(&mut self) -> String {
        match self.at {
            At::Text | At::FreeText => std::mem::take(&mut self.held),
            _ => String::new(),
        }
    }

    /// Goes on as far as can be decided; `false` where more must come.
    fn advance(&mut self, read: &mut ReadPiece) -> bool {
        match self.at {
            At::FreeText => {
                read.text.push_str(&std::mem::take(&mut self.held));
                false
            }
            At::Text => self.text(read),
            At::Frame => self.frame(read),
            At::Json => self.json(read),
            At::Names => self.names(read),
            At::Value => self.value(read),
            At::Tags => self.tags(read),
            At::TaggedJson | At::TaggedText => self.tagged(read),
        }
    }

    fn text(&mut self, read: &mut ReadPiece) -> bool {
        let Some(mark) = self.form.mark() else {
            // The object of a call is all of the answer.
            const BEGINNING: &str = r#"{"name""#;
            let begun = self.held.trim_start_matches([' ', '\n']);
            if begun.len() < BEGINNING.len() && BEGINNING.starts_with(begun) {
                return false;
            }
            self.at = if begun.starts_with(BEGINNING) { At::Frame } else { At::FreeText };
            return true;
        };
        if let Some(found) = self.held.find(mark) {
            read.text.push_str(self.held[..found].trim_end());
            self.held.drain(..found + mark.len());
            self.at = At::Frame;
            return true;
        }
        // White space before a call is the call's.
        let cut = (1..mark.len()).rev().find(|&n| self.held.ends_with(&mark[..n])).unwrap_or(0);
        let certain = self.held[..self.held.len() - cut].trim_end().len();
        read.text.extend(self.held.drain(..certain));
        false
    }

    /// From behind the mark, or behind a call, up to the next one's arguments.
    fn frame(&mut self, read: &mut ReadPiece) -> bool {
        const FUNCTION: &str = "<function=";
        // Not one in the arguments of a call that is JSON.
        let json = self.held.find(r#"{"name""#).unwrap_or(self.held.len());
        let tag = if self.form == CallForm::Xml { self.held[..json].find(FUNCTION) } else { None };
        let is_tagged = tag.is_some();
        let (name, end) = if let Some(tag) = tag {
            let start = tag + FUNCTION.len();
            let Some(length) = self.held[start..].find('>') else { return false };
            (self.held[start..start + length].to_owned(), start + length + 1)
        } else if matches!(self.form, CallForm::Named | CallForm::NamedWithId) {
            const ARGUMENTS: &str = "[ARGS]";
            let Some(end) = self.held.find(ARGUMENTS) else { return false };
            let frame = &self.held[..end];
            let name = frame.rsplit_once("[TOOL_CALLS]").map_or(frame, |(_, name)| name);
            (name.split("[CALL_ID]").next().unwrap_or(name).to_owned(), end + ARGUMENTS.len())
        } else if self.form == CallForm::Python {
            let Some(end) = self.held.find('(') else { return false };
            let name = self.held[..end].trim_start_matches([')', ',', ' ', '[']);
            if self.held[end..].starts_with("(*") && !self.held[end..].starts_with("(**") {
                return false;
            }
            let is_spread = self.held[end..].starts_with("(**");
            if !is_spread && self.held.len() == end + 1 {
                // What follows says which it is.
                return false;
            }
            (name.to_owned(), end + if is_spread { "(**".len() } else { "(".len() })
        } else {
            let behind = format!(r#"", "{}":"#, self.form.arguments());
            let Some(end) = self.held.find(&behind) else { return false };
            let start = self.held[..end].rfind('"').map_or(0, |quote| quote + 1);
            (self.held[start..end].to_owned(), end + behind.len())
        };
        let is_python = self.form == CallForm::Python && self.held[..end].ends_with('(');
        self.held.drain(..end);
        self.name.clone_from(&name);
        read.calls.push(CallPiece { index: self.n_calls, name: Some(name), arguments: String::new() });
        self.n_calls += 1;
        self.depth = 0;
        self.has_argument = false;
        self.at = match (is_tagged, is_python) {
            (true, _) => At::Tags,
            (_, true) => At::Names,
            _ => At::Json,
        };
        true
    }

    /// Adds to the last call's arguments.
    fn add(&self, read: &mut ReadPiece, text: &str) {
        let index = self.n_calls - 1;
        match read.calls.last_mut().filter(|call| call.index == index) {
            Some(call) => call.arguments.push_str(text),
            None => read.calls.push(CallPiece { index, name: None, arguments: text.to_owned() }),
        }
    }

    fn json(&mut self, read: &mut ReadPiece) -> bool {
        if self.depth == 0 {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
        }
        let end = (0..self.held.len()).find(|&i| self.take(self.held.as_bytes()[i]) && self.depth == 0).map(|i| i + 1);
        let value: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
        if !value.is_empty() {
            self.add(read, &value);
        }
        if end.is_some() {
            self.at = At::Frame;
        }
        end.is_some()
    }

    /// Notes a byte of JSON; whether it closes an object or a list.
    fn take(&mut self, byte: u8) -> bool {
        if self.in_quotes {
            self.in_quotes = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => self.in_quotes = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return true;
            }
            _ => {}
        }
        false
    }

    fn names(&mut self, read: &mut ReadPiece) -> bool {
        if self.held.starts_with(')') {
            self.add(read, if self.has_argument { "}" } else { "{}" });
            self.at = At::Frame;
            return true;
        }
        let Some(end) = self.held.find('=') else { return false };
        let name = self.held[..end].trim_start_matches([',', ' ']).to_owned();
        self.held.drain(..=end);
        self.add_name(read, &name);
        self.at = At::Value;
        true
    }

    fn add_name(&mut self, read: &mut ReadPiece, name: &str) {
        self.add(read, &format!("{}\"{name}\": ", if self.has_argument { ", " } else { "{" }));
        self.has_argument = true;
    }

    /// Between tags: an argument's name, or the end.
    fn tags(&mut self, read: &mut ReadPiece) -> bool {
        const PARAMETER: &str = "<parameter=";
        const END: &str = "</function>";
        self.held.drain(..self.held.len() - self.held.trim_start_matches('\n').len());
        if self.held.starts_with(END) {
            self.held.drain(..END.len());
            self.add(read, if self.has_argument { "}" } else { "{}" });
            self.at = At::Frame;
            return true;
        }
        // The line break behind the name is not the value's.
        let Some((name, _)) = self.held.strip_prefix(PARAMETER).and_then(|rest| rest.split_once(">\n")) else { return false };
        let name = name.to_owned();
        self.held.drain(..PARAMETER.len() + name.len() + ">\n".len());
        self.add_name(read, &name);
        let is_plain = self.plain.iter().any(|(tool, member)| (tool, member) == (&self.name, &name));
        if is_plain {
            self.add(read, "\"");
        }
        self.at = if is_plain { At::TaggedText } else { At::TaggedJson };
        true
    }

    /// A value between tags, up to its end.
    fn tagged(&mut self, read: &mut ReadPiece) -> bool {
        let end = self.held.find(PARAMETER_END);
        let sure = end.unwrap_or_else(|| {
            let begun = (1..PARAMETER_END.len()).rev().find(|&n| self.held.ends_with(&PARAMETER_END[..n]));
            self.held.len() - begun.unwrap_or(0)
        });
        let value: String = self.held.drain(..sure).collect();
        let value = if self.at == At::TaggedText {
            let quoted = serde_json::Value::from(value).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        } else {
            value
        };
        if !value.is_empty() {
            self.add(read, &value);
        }
        if end.is_none() {
            return false;
        }
        self.held.drain(..PARAMETER_END.len());
        if self.at == At::TaggedText {
            self.add(read, "\"");
        }
        self.at = At::Tags;
        true
    }

    fn value(&mut self, read: &mut ReadPiece) -> bool {
        let end = (0..self.held.len()).find(|&i| {
            let byte = self.held.as_bytes()[i];
            let is_behind = self.depth == 0 && !self.in_quotes && matches!(byte, b',' | b')');
            if !is_behind {
                self.take(byte);
            }
            is_behind
        });
        let value: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
        if !value.is_empty() {
            self.add(read, &value);
        }
        if end.is_some() {
            self.at = At::Names;
        }
        end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text, and each call's name and arguments, of an answer in pieces of so many bytes.
    fn read(form: CallForm, answer: &str, n: usize) -> (String, Vec<(String, String)>, bool) {
        let mut reader = CallReader::new(form).with_plain(vec![("f".to_owned(), "a".to_owned())]);
        let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
        let pieces = answer.as_bytes().chunks(n).map(|piece| std::str::from_utf8(piece).unwrap());
        for piece in pieces {
            let read = reader.push(piece);
            text += &read.text;
            for call in read.calls {
                if let Some(name) = call.name {
                    assert_eq!(call.index, calls.len());
                    calls.push((name, String::new()));
                }
                calls[call.index].1 += &call.arguments;
            }
        }
        text += &reader.flush();
        (text, calls, reader.has_called())
    }

    const FORMS: [CallForm; 7] = [
        CallForm::Tagged,
        CallForm::Bare,
        CallForm::List,
        CallForm::Named,
        CallForm::NamedWithId,
        CallForm::Xml,
        CallForm::Python,
    ];

    #[test]
    fn calls_are_read_however_they_are_cut() {
        let two = [("f", r#"{"a": "}\"{", "b": [1, {}]}"#), ("g", "{}")];
        let json = [("h", r#"{"x": "<function=f>"}"#)];
        let answers = [
            (
                CallForm::Tagged,
                "Let me see.\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"{\", \"b\": [1, {}]}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\":{}}\n</tool_call>",
                "Let me see.",
                &two[..],
            ),
            (CallForm::Bare, "\n{\"name\": \"g\", \"parameters\": {}}", "", &two[1..]),
            (
                CallForm::Xml,
                "Let me see.\n\n<tool_call>\n<function=f>\n<parameter=a>\n}\"{\n</parameter>\n<parameter=b>\n[1, {}]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>",
                "Let me see.",
                &two[..],
            ),
            // One whose arguments do not stand one by one.
            (
                CallForm::Xml,
                "<tool_call>\n{\"name\": \"h\", \"arguments\": {\"x\": \"<function=f>\"}}\n</tool_call>",
                "",
                &json[..],
            ),
            (CallForm::Named, r#"Well[TOOL_CALLS]f[ARGS]{"a": "}\"{", "b": [1, {}]}[TOOL_CALLS]g[ARGS]{}"#, "Well", &two[..]),
            (
                CallForm::NamedWithId,
                r#"[TOOL_CALLS]f[CALL_ID]abcABC123[ARGS]{"a": "}\"{", "b": [1, {}]}[TOOL_CALLS]g[CALL_ID]000000000[ARGS] {}"#,
                "",
                &two[..],
            ),
            (
                CallForm::List,
                r#"[TOOL_CALLS] [{"name": "f", "arguments": {"a": "}\"{", "b": [1, {}]}}, {"name": "g", "arguments": {}}]"#,
                "",
                &two[..],
            ),
            (CallForm::Python, r#"Yes <|tool_call_start|>[f(a="}\"{", b=[1, {}]), g()]<|tool_call_end|>"#, "Yes", &two[..]),
            (
                CallForm::Python,
                r#"<|tool_call_start|>[f(**{"a": "}\"{", "b": [1, {}]}), g(**{})]<|tool_call_end|>"#,
                "",
                &two[..],
            ),
        ];
        for (form, answer, text, calls) in answers {
            let calls: Vec<_> = calls.iter().map(|(name, arguments)| (name.to_string(), arguments.to_string())).collect();
            for n in 1..=answer.len() {
                assert_eq!(read(form, answer, n), (text.to_owned(), calls.clone(), true), "{form:?} by {n}");
            }
        }
    }

    #[test]
    fn an_answer_without_calls_is_its_text() {
        for form in FORMS {
            for answer in ["", "No <tool, no [TOOL. \n", "{\"nam", " {\"a\": 1}", "<tool_cal", "  "] {
                for n in 1..=answer.len().max(1) {
                    assert_eq!(read(form, answer, n), (answer.to_owned(), Vec::new(), false), "{form:?}: {answer:?} by {n}");
                }
            }
        }
    }

    #[test]
    fn a_call_that_is_cut_short_is_not_whole() {
        let (_, calls, is_whole) = read(CallForm::Tagged, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1", 3);
        assert_eq!((calls, is_whole), (vec![("f".to_owned(), "{\"a\": [1".to_owned())], false));
    }
}
