//! What the engine tells: how far it is, what is loaded, what was generated, what it cost. All of it goes to JavaScript as JSON.

use serde::Serialize;

use crate::runtime::call_reader::CallPiece;

/// How far loading is.
#[derive(Debug, Clone, Serialize)]
pub struct LoadProgress<'a> {
    /// `header`, `model`, `mmproj` or `ready`.
    pub stage: &'static str,
    /// The file's name.
    pub file: &'a str,
    /// Bytes of its tensors that are read.
    pub loaded: u64,
    /// Bytes of its tensors in all.
    pub total: u64,
}

/// What `engine.info` tells of the vision model.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VisionInfo {
    /// The projector's name, as in the file.
    pub projector: &'static str,
    /// Pixels of a side of a tile.
    pub image_size: usize,
    /// Pixels of a side of a patch.
    pub patch_size: usize,
    /// Rows that a tile becomes in the context.
    pub tokens_per_image: usize,
    /// Elements of a feature, as the tower gives them.
    pub feature_size: usize,
}

/// Bytes taken.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BytesInfo {
    /// By weights.
    pub weights: u64,
    /// By keys and values.
    pub kv_cache: u64,
    /// By everything, where the platform tells.
    pub wasm_heap: u64,
}

/// What `engine.info` tells, but for the device.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: String,
    /// The format that most of the weights are stored in.
    pub quantization: String,
    /// Elements of all tensors, both files.
    pub parameters: u64,
    /// Positions.
    pub context_size: usize,
    /// Tokens.
    pub vocabulary_size: usize,
    /// The vision model.
    pub vision: Option<VisionInfo>,
    /// Memory.
    pub bytes: BytesInfo,
    /// What the person may want to know though it is no error.
    pub warnings: Vec<String>,
}

/// A token's alternatives and how likely they were.
#[derive(Debug, Clone, Serialize)]
pub struct TokenLogprob {
    /// The token's text.
    pub token: String,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The token's bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// The likeliest tokens at its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<Vec<TokenLogprob>>,
}

/// What a request cost. Times are wall-clock milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[allow(missing_docs, reason = "the names of the JavaScript contract say it")]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub total_tokens: usize,
    pub image_tokens: usize,
    pub image_tiles: usize,
    pub cached_tokens: usize,
    pub image_ms: f64,
    pub prefill_ms: f64,
    pub decode_ms: f64,
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its answer, or a stop string came.
    Stop,
    /// The same, the answer being calls of tools.
    ToolCalls,
    /// `max_tokens` or the end of the context.
    Length,
    /// The caller stopped it.
    Abort,
}

/// What a step did.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// A piece of the way to the first token.
    Progress {
        /// `image` (done and total count blocks of the tower), `prefill` (positions of the prompt), or, amid an answer whose device was
        /// lost, `recovering` (what is being computed again, first blocks, then positions).
        stage: &'static str,
        /// Done.
        done: usize,
        /// In all.
        total: usize,
    },
    /// A token was generated.
    Token {
        /// The text that is now certain; may be empty while a character or a stop string is incomplete.
        text: String,
        /// Parts of the tools' calls.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<CallPiece>,
        /// The generated id.
        token_ids: [u32; 1],
        /// Where they were asked for.
        logprobs: Option<[TokenLogprob; 1]>,
    },
    /// The generation ended.
    Done {
        /// Text that was held back.
        text: String,
        /// The last parts of calls, where one was cut short.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<CallPiece>,
        /// Why.
        finish_reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
}
/// What `benchmark` measures; medians.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct BenchmarkReport {
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    #[serde(rename = "bytesPerSecond")]
    pub bytes_per_second: f64,
    #[serde(rename = "dispatchesPerToken")]
    pub dispatches_per_token: f64,
    #[serde(rename = "submitsPerToken")]
    pub submits_per_token: f64,
}
