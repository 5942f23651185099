//! What a caller may ask for, as it arrives from JavaScript: OpenAI's field names, in JSON.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result, shown};
use crate::runtime::grammar::{Grammar, Json, ResponseFormat};
use crate::runtime::pictures::Detail;
use crate::runtime::sampler::SamplerConfig;
use crate::runtime::tools::{RequestCall, Tools};
use crate::text::{Content, Ending, Message, Part, Variables};

/// The most alternatives that may be asked for per token.
pub const MAX_TOP_LOGPROBS: usize = 20;

/// A chat completion.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ChatRequest {
    /// The conversation.
    pub messages: Vec<RequestMessage>,
    /// Whether the last message, the model's own, is gone on with instead of a new one begun.
    #[serde(default)]
    pub continue_final_message: bool,
    /// Whether the prompt ends where an answer begins; default: yes, unless the last message is gone on with.
    pub add_generation_prompt: Option<bool>,
    /// Variables for the chat template.
    #[serde(default)]
    pub chat_template_kwargs: Variables,
    /// Functions that the model may call, as OpenAI's requests have them.
    pub tools: Option<Json>,
    /// Whether it may or must call them, and which.
    pub tool_choice: Option<Json>,
    /// Whether one answer may have several calls; default: yes.
    pub parallel_tool_calls: Option<bool>,
    /// How to generate.
    #[serde(flatten)]
    pub options: GenerationOptions,
}

impl ChatRequest {
    /// Its tools, where one may be called.
    ///
    /// # Errors
    /// As [`Tools::new`].
    pub fn tools(&self) -> Result<Option<Tools>> {
        Tools::new(self.tools.as_ref(), self.tool_choice.as_ref(), self.parallel_tool_calls)
    }

    /// Where its prompt ends.
    ///
    /// # Errors
    /// `invalid_request` where it asks for two ends at once.
    pub fn ending(&self) -> Result<Ending> {
        match (self.continue_final_message, self.add_generation_prompt) {
            (true, Some(true)) => Err(Error::invalid_request(
                "continue_final_message and add_generation_prompt are both true, but a prompt has one end. Leave add_generation_prompt out.",
            )),
            (true, _) => Ok(Ending::LastMessage),
            (false, Some(false)) => Ok(Ending::Messages),
            (false, _) => Ok(Ending::Answer),
        }
    }
}

/// A raw completion.
#[derive(Debug, Clone, Deserialize)]
pub struct CompletionRequest {
    /// The prompt, `<image>` where each picture stands.
    pub prompt: String,
    /// How to generate.
    #[serde(flatten)]
    pub options: GenerationOptions,
}

/// What is to be run through the model by `evaluate`.
#[derive(Debug, Clone, Deserialize)]
pub struct EvaluateRequest {
    /// Ids, run as they are.
    pub tokens: Option<Vec<u32>>,
    /// Or a raw prompt.
    pub prompt: Option<String>,
}

/// A token that was written, to see where the model looked before it.
#[derive(Debug, Clone, Deserialize)]
pub struct LookedAtRequest {
    /// Its position in the context: `prompt_tokens`, and how many tokens of the answer come before it.
    pub position: usize,
    /// Its id, where it should be checked that it is there.
    pub token: Option<u32>,
}

/// One message of a conversation.
#[derive(Debug, Clone, Deserialize)]
pub struct RequestMessage {
    /// `system` (or `developer`, which is the same), `user`, `assistant` or `tool`.
    pub role: String,
    /// Text, or parts.
    pub content: RequestContent,
    /// What the assistant called.
    #[serde(default)]
    pub tool_calls: Vec<RequestCall>,
    /// The call that a tool's message is the result of.
    pub tool_call_id: Option<String>,
}

/// The content of a message.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum RequestContent {
    /// Plain text.
    Text(String),
    /// Text and pictures.
    Parts(Vec<RequestPart>),
}

/// A part of a message.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RequestPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// Its index among the pictures that came with the request.
        image: usize,
        /// How finely it is looked at.
        #[serde(default)]
        detail: Detail,
    },
}

/// A picture that messages show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedImage {
    /// Its index among the pictures that came with the request.
    pub image: usize,
    /// How finely it is looked at.
    pub detail: Detail,
}

/// How to generate. What is absent has the default given.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct GenerationOptions {
    /// Tokens at most; default: until the context is full.
    pub max_tokens: Option<u64>,
    /// 0 is greedy; default 0.7.
    pub temperature: Option<f32>,
    /// Smallest set of tokens with this probability in sum; default 1 (off).
    pub top_p: Option<f32>,
    /// The most likely tokens alone; default 0 (off).
    pub top_k: Option<u64>,
    /// Tokens at least this likely, relative to the likeliest; default 0 (off).
    pub min_p: Option<f32>,
    /// Divides the logits of recent tokens; default 1 (off).
    pub repetition_penalty: Option<f32>,
    /// Subtracted from a token's logit for each time it was generated; default 0.
    pub frequency_penalty: Option<f32>,
    /// Subtracted once from the logit of each generated token; default 0.
    pub presence_penalty: Option<f32>,
    /// Added to the logits of the tokens with these ids.
    pub logit_bias: Option<BTreeMap<String, f32>>,
    /// The draw's seed; default: a fresh one.
    pub seed: Option<i64>,
    /// Texts that end the answer, themselves left out.
    pub stop: Option<Stop>,
    /// Whether to report log-probabilities.
    pub logprobs: Option<bool>,
    /// How many alternatives to report per token; at most 20.
    pub top_logprobs: Option<u64>,
    /// The form of the answer; default: any text.
    pub response_format: Option<ResponseFormat>,
}

/// One stop string or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// The default temperature: lively, without the nonsense of 1 in small quantized models.
const DEFAULT_TEMPERATURE: f32 = 0.7;

impl GenerationOptions {
    /// The sampler's part; `fresh_seed` serves where the caller gave none. The sampler checks the ranges.
    ///
    /// # Errors
    /// `invalid_request` for a bias whose key is no token id.
    pub fn sampler(&self, fresh_seed: u64) -> Result<SamplerConfig> {
        let mut logit_bias = Vec::new();
        for (id, bias) in self.logit_bias.iter().flatten() {
            let id: u32 = id.parse().map_err(|_| {
                Error::invalid_request(format!("logit_bias names the token '{}'; the keys must be token ids.", shown(id)))
            })?;
            logit_bias.push((id, *bias));
        }
        Ok(SamplerConfig {
            temperature: self.temperature.unwrap_or(DEFAULT_TEMPERATURE),
            top_k: usize::try_from(self.top_k.unwrap_or(0)).unwrap_or(usize::MAX),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            logit_bias,
            seed: self.seed.map_or(fresh_seed, i64::cast_unsigned),
            logprobs: self.logprobs.unwrap_or(false),
        })
    }

    /// Tokens at most, where the caller gave a limit.
    ///
    /// # Errors
    /// `invalid_request` for a limit of 0.
    pub fn max_tokens(&self) -> Result<Option<usize>> {
        match self.max_tokens {
            Some(0) => Err(Error::invalid_request("max_tokens is 0; give at least 1, or leave it out.")),
            Some(n) => Ok(Some(usize::try_from(n).unwrap_or(usize::MAX))),
            None => Ok(None),
        }
    }

    /// The alternatives to report per token; `None` where log-probabilities are not wanted.
    ///
    /// # Errors
    /// `invalid_request` for more than 20, or for alternatives without `logprobs`.
    pub fn top_logprobs(&self) -> Result<Option<usize>> {
        let n = usize::try_from(self.top_logprobs.unwrap_or(0)).unwrap_or(usize::MAX);
        match self.logprobs.unwrap_or(false) {
            _ if n > MAX_TOP_LOGPROBS => {
                Err(Error::invalid_request(format!("top_logprobs is {n}; at most {MAX_TOP_LOGPROBS} can be had.")))
            }
            true => Ok(Some(n)),
            false if n > 0 => Err(Error::invalid_request("top_logprobs is given without logprobs: true; add it.")),
            false => Ok(None),
        }
    }

    /// What may be written; `None` for any text.
    ///
    /// # Errors
    /// `invalid_request` as [`Grammar::new`].
    pub fn grammar(&self) -> Result<Option<Grammar>> {
        self.response_format.as_ref().map_or(Ok(None), Grammar::new)
    }

    /// The stop strings.
    pub fn stops(&self) -> Vec<String> {
        match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Many(stops)) => stops.clone(),
        }
    }
}

/// Parses a request; the error says where the JSON is off.
///
/// # Errors
/// `invalid_request`.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| {
        Error::invalid_request(format!("The request is not of the form that is expected: {}.", shown(&e.to_string())))
    })
}

/// The messages as the chat template takes them. Pictures are numbered as they come; the second value gives, for each, its
/// index among the request's pictures.
///
/// # Errors
/// `invalid_request` for no messages, an unknown role, questions that are all empty, or a picture that did not come with the request.
pub fn messages(messages: &[RequestMessage], n_images: usize) -> Result<(Vec<Message>, Vec<UsedImage>)> {
    if messages.is_empty() {
        return Err(Error::invalid_request("There are no messages; give at least one of the role 'user'."));
    }
    let mut used = Vec::new();
    let mut out = Vec::with_capacity(messages.len());
    for (i, message) in messages.iter().enumerate() {
        // OpenAI's newer name.
        let role = if message.role == "developer" { "system" } else { message.role.as_str() };
        if !["system", "user", "assistant", "tool"].contains(&role) {
            return Err(Error::invalid_request(format!(
                "Message {i} has the role '{}'; the roles are 'system', 'user', 'assistant' and 'tool'.",
                shown(&message.role)
            )));
        }
        let content = match &message.content {
            RequestContent::Text(text) => Content::Text(text.clone()),
            RequestContent::Parts(parts) => {
                let mut all = Vec::with_capacity(parts.len());
                for part in parts {
                    all.push(match part {
                        RequestPart::Text { text } => Part::Text(text.clone()),
                        RequestPart::Image { image, detail } if *image < n_images => {
                            used.push(UsedImage { image: *image, detail: *detail });
                            Part::Image
                        }
                        RequestPart::Image { image, .. } => {
                            return Err(Error::invalid_request(format!(
                                "Message {i} shows picture {image}, but {n_images} came with the request."
                            )));
                        }
                    });
                }
                Content::Parts(all)
            }
        };
        let calls = message.tool_calls.iter().enumerate();
        let tool_calls =
            calls.map(|(n, call)| call.call(&format!("messages[{i}].tool_calls[{n}]"))).collect::<Result<Vec<_>>>()?;
        if !tool_calls.is_empty() && role != "assistant" {
            return Err(Error::invalid_request(format!("Message {i} has tool_calls, which are the assistant's alone.")));
        }
        out.push(Message { role: role.to_string(), content, tool_calls, tool_call_id: message.tool_call_id.clone() });
    }
    // An empty turn among others asks for something: what was said before it.
    let asked = |message: &Message| match &message.content {
        Content::Text(text) => !text.trim().is_empty(),
        Content::Parts(parts) => parts.iter().any(|p| !matches!(p, Part::Text(text) if text.trim().is_empty())),
    };
    let mut questions = out.iter().filter(|message| message.role == "user").peekable();
    if questions.peek().is_some() && !questions.any(asked) {
        return Err(Error::invalid_request("The question is empty; write one or add a picture."));
    }
    Ok((out, used))
}
