// Every message between the page and the worker. Nothing but data crosses; each request has an id that its answers carry.
//
//   page → worker   Request { id, method, … }        one after another, in the order in which they were sent
//                   Abort   { abort: id }            seen between two steps of that request; a generation then ends with what it has, all else
//                                                    with an error
//                   End     { end: true }            the worker is about to be ended: what it stores comes to an end
//                   Drawn   { drawn, … }             the answer to Draw
//   worker → page   Answer  { id, kind, … }          progress* (started event*)? then one result or error
//                   Draw    { kind: "draw", … }      a picture that only a document can decode
//                   Ended   { kind: "ended" }        nothing more is written

/**
 * A file as it is sent to the worker. Bytes in memory travel as a `Blob` too. `headers`: what its host is sent, and
 * nobody else. `pieces`: what a manifest said, once the worker has read it.
 * @typedef {{ kind: "url", url: string, name: string, headers?: import("../fetching/ask.js").RequestHeaders, pieces?: import("../fetching/pieces.js").Pieces } | { kind: "blob", blob: Blob, name: string }} SourceSpec
 */

/**
 * A picture as it is sent to the worker. Encoded files stay encoded: decoding is the engine's.
 * @typedef {{ kind: "url", url: string } | { kind: "blob", blob: Blob } | { kind: "bitmap", bitmap: ImageBitmap } |
 *   { kind: "pixels", width: number, height: number, data: Uint8ClampedArray }} ImageSpec
 */

/**
 * What the engine itself is told when it loads; the rest of `createEngine`'s options is settled before.
 * @typedef {{ device: "auto" | "webgpu" | "cpu", threads?: number, contextSize?: number, chatTemplate?: string, quantizeMmproj?: string, kvFormat?: string }} EngineOptions
 */

/**
 * @typedef {{ id: number } & (
 *   { method: "load", model: SourceSpec[], mmproj: SourceSpec[] | null, sha256: { model: string[], mmproj: string[] },
 *     cache: "opfs" | "none" | undefined, assets: import("../assets.js").Assets,
 *     options: EngineOptions } |
 *   { method: "startChat" | "startCompletion", request: object, images: ImageSpec[] } |
 *   { method: "tokenize", text: string, special: boolean, bos: boolean } |
 *   { method: "detokenize", ids: Uint32Array } |
 *   { method: "applyChatTemplate", messages: object[], addGenerationPrompt: boolean, tools?: object[] } |
 *   { method: "countTokens", messages: object[], images: ImageSpec[], tools?: object[] } |
 *   { method: "embedImage" | "preprocessImage", image: ImageSpec } |
 *   { method: "evaluate", request: object, images: ImageSpec[] } |
 *   { method: "benchmark", options: object } |
 *   { method: "lookedAt", request: { position: number, token?: number } } |
 *   { method: "saveSession" } |
 *   { method: "restoreSession", bytes: Uint8Array } |
 *   { method: "reset" }
 * )} Request
 */

/** @typedef {{ abort: number }} Abort */

/**
 * @typedef {{ kind: "draw", drawing: number, blob: Blob }} Draw
 * @typedef {{ drawn: number, bitmap?: ImageBitmap, why?: string }} Drawn  `why`: a sentence's end, where it could not be drawn
 */

/**
 * @typedef {{ stage: "header" | "model" | "mmproj" | "recovering" | "ready", file: string, loaded: number, total: number,
 *   bytesPerSecond: number, cached: boolean }} LoadProgress
 */

/**
 * @typedef {{ token: string, logprob: number, bytes: number[],
 *   top_logprobs?: { token: string, logprob: number, bytes: number[] }[] }} TokenLogprob
 */

/**
 * @typedef {{ prompt_tokens: number, completion_tokens: number, total_tokens: number, image_tokens: number,
 *   image_tiles: number, cached_tokens: number, image_ms: number, prefill_ms: number, decode_ms: number, prefill_tokens_per_second: number,
 *   decode_tokens_per_second: number }} Usage
 */

/**
 * One step of a generation.
 * @typedef {{ type: "progress", stage: "image" | "prefill" | "recovering", done: number, total: number } |
 *   { type: "token", text: string, tool_calls?: CallPiece[], token_ids: number[], logprobs: TokenLogprob[] | null } |
 *   { type: "done", text: string, tool_calls?: CallPiece[], finish_reason: "stop" | "tool_calls" | "length" | "abort", usage: Usage }} GenerationEvent
 */

/**
 * A part of a tool's call: which of the answer's calls, in its first part the tool's name, and what comes next of the arguments' JSON.
 * @typedef {{ index: number, name?: string, arguments: string }} CallPiece
 */

/**
 * `started` says that the request was accepted; `info` comes with whatever may have changed the memory in use.
 * @typedef {{ id: number } & (
 *   { kind: "progress", progress: LoadProgress } |
 *   { kind: "started" } |
 *   { kind: "event", event: GenerationEvent } |
 *   { kind: "result", value?: any, info?: object } |
 *   { kind: "error", code: import("../api/errors.js").ErrorCode, message: string, cause?: string }
 * )} Answer
 */

/** The usage of a generation that was stopped before it began. @returns {Usage} */
export function noUsage() {
  return {
    prompt_tokens: 0, completion_tokens: 0, total_tokens: 0, image_tokens: 0, image_tiles: 0, cached_tokens: 0, image_ms: 0,
    prefill_ms: 0, decode_ms: 0, prefill_tokens_per_second: 0, decode_tokens_per_second: 0,
  };
}
