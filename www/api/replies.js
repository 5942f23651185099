// The engine's events → OpenAI's chunks and replies.

import { LlavaError } from "./errors.js";

/** @typedef {import("../wire/protocol.js").GenerationEvent} GenerationEvent */
/** @typedef {import("../wire/protocol.js").TokenLogprob} TokenLogprob */
/** @typedef {import("../wire/protocol.js").CallPiece} CallPiece */
/** @typedef {{ id: string, type: "function", function: { name: string, arguments: string } }} ToolCall */
/** @typedef {"chat" | "text"} Kind */

/**
 * One reply in the making, streamed or whole.
 */
class Reply {
  #kind;
  #created = Math.floor(Date.now() / 1000);
  #id;
  #model;
  #textOffset = 0;

  /**
   * @param {Kind} kind
   * @param {string} model
   */
  constructor(kind, model) {
    this.#kind = kind;
    this.#id = `${kind === "chat" ? "chatcmpl" : "cmpl"}-${randomId()}`;
    this.#model = model;
  }

  /**
   * @param {{ text: string, calls?: object[], tokenIds: number[], logprobs: TokenLogprob[] | null, finishReason: string | null,
   *   usage?: object, first?: boolean, whole?: boolean }} part
   */
  shape({ text, calls = [], tokenIds, logprobs, finishReason, usage, first = false, whole = false }) {
    const chat = this.#kind === "chat";
    const tool_calls = calls.length > 0 && { tool_calls: calls };
    const content = !chat ? { text } :
      whole ? { message: { role: "assistant", content: tool_calls && text === "" ? null : text, refusal: null, ...tool_calls } } :
      // A string in every chunk, the last one too: callers add them up.
      { delta: { ...(first && { role: "assistant" }), content: text, ...tool_calls } };
    return {
      ...this.#head(whole),
      choices: [{
        index: 0,
        ...content,
        finish_reason: finishReason,
        logprobs: logprobs && (chat ? { content: logprobs, refusal: null } : this.#textLogprobs(logprobs)),
        token_ids: tokenIds,
      }],
      ...(usage && { usage }),
    };
  }

  /**
   * The chunk that says what the answer took, where that was asked for apart.
   * @param {object} usage
   */
  usageChunk(usage) {
    return { ...this.#head(false), choices: [], usage };
  }

  /**
   * What each part of it says of the whole.
   * @param {boolean} whole  whether it is all that there is
   */
  #head(whole) {
    const object = this.#kind !== "chat" ? "text_completion" : whole ? "chat.completion" : "chat.completion.chunk";
    return { id: this.#id, object, created: this.#created, model: this.#model };
  }

  /**
   * The older API's columns, and the newer one's rows beside them.
   * @param {TokenLogprob[]} logprobs
   */
  #textLogprobs(logprobs) {
    const text_offset = logprobs.map(({ token }) => {
      const at = this.#textOffset;
      this.#textOffset += token.length;
      return at;
    });
    return {
      tokens: logprobs.map(({ token }) => token),
      token_logprobs: logprobs.map(({ logprob }) => logprob),
      top_logprobs: logprobs.map(({ top_logprobs = [] }) => Object.fromEntries(top_logprobs.map(({ token, logprob }) => [token, logprob]))),
      text_offset,
      content: logprobs,
    };
  }
}

/**
 * The chunks of a streamed reply. Leaving the loop early stops the generation.
 */
class ChunkStream {
  #events;
  #reply;
  #onProgress;
  #usageApart;
  #first = true;
  /** What is told after the last part of the answer. @type {object | null} */
  #rest = null;
  /** The chunk that was asked for last: the next one is looked for when it is there, so that each goes to whoever asked for it. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /**
   * @param {AsyncIterableIterator<GenerationEvent>} events
   * @param {Reply} reply
   * @param {((progress: object) => void) | undefined} onProgress
   * @param {boolean} usageApart
   */
  constructor(events, reply, onProgress, usageApart) {
    this.#usageApart = usageApart;
    this.#events = events;
    this.#reply = reply;
    this.#onProgress = onProgress;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  next() {
    const result = this.#last.then(() => this.#next());
    this.#last = result.catch(() => {});
    return result;
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  async #next() {
    if (this.#rest !== null) {
      const value = this.#reply.usageChunk(this.#rest);
      this.#rest = null;
      return { done: false, value };
    }
    for (;;) {
      const { done, value: event } = await this.#events.next();
      if (done) return { done: true, value: undefined };
      if (event.type === "progress") {
        this.#onProgress?.({ stage: event.stage, done: event.done, total: event.total });
        continue;
      }
      const first = this.#first;
      this.#first = false;
      const usage = event.type === "done" ? withDetails(event.usage) : undefined;
      if (usage && this.#usageApart) this.#rest = usage;
      const calls = event.tool_calls?.map(callDelta) ?? [];
      const value = event.type === "token" ?
        this.#reply.shape({ text: event.text, calls, tokenIds: event.token_ids, logprobs: withAlternatives(event.logprobs), finishReason: null, first }) :
        this.#reply.shape({ text: event.text, calls, tokenIds: [], logprobs: null, finishReason: event.finish_reason, ...(!this.#usageApart && usage && { usage }), first });
      return { done: false, value };
    }
  }

  /** @returns {Promise<IteratorResult<any, undefined>>} */
  async return() {
    this.#rest = null;
    await this.#events.return?.();
    return { done: true, value: undefined };
  }
}

/**
 * A part of a call as a chunk has it: the first with all that is known of the call.
 * @param {CallPiece} piece
 */
function callDelta({ index, name, arguments: json }) {
  return { index, ...(name === undefined ? { function: { arguments: json } } : newCall(name, json)) };
}

/**
 * @param {string} name
 * @param {string} json  of its arguments
 * @returns {ToolCall}
 */
function newCall(name, json) {
  return { id: `call_${randomId()}`, type: "function", function: { name, arguments: json } };
}

/**
 * Adds parts of calls to the calls.
 * @param {ToolCall[]} calls
 * @param {CallPiece[] | undefined} pieces
 */
function addCalls(calls, pieces = []) {
  for (const { index, name, arguments: json } of pieces) {
    const call = calls[index];
    if (call) call.function.arguments += json;
    else calls[index] = newCall(name ?? "", json);
  }
}

/**
 * A generation's usage with OpenAI's way to say how much of the prompt was known.
 * @param {import("../wire/protocol.js").Usage} usage
 */
function withDetails(usage) {
  return { ...usage, prompt_tokens_details: { cached_tokens: usage.cached_tokens } };
}

/**
 * Every token with its list of alternatives, empty where none were asked for.
 * @param {TokenLogprob[] | null} logprobs
 */
function withAlternatives(logprobs) {
  return logprobs && logprobs.map((entry) => ({ ...entry, top_logprobs: entry.top_logprobs ?? [] }));
}

/**
 * @param {Kind} kind
 * @param {AsyncIterableIterator<GenerationEvent>} events
 * @param {import("./requests.js").Asked} asked
 * @param {string} model
 * @returns {any}  typed where it is handed out
 */
export function respond(kind, events, { stream, onProgress, usageApart }, model) {
  const reply = new Reply(kind, model);
  return stream ? new ChunkStream(events, reply, onProgress, usageApart) : wholeReply(events, reply, onProgress);
}

/**
 * @param {AsyncIterableIterator<GenerationEvent>} events
 * @param {Reply} reply
 * @param {((progress: object) => void) | undefined} onProgress
 */
async function wholeReply(events, reply, onProgress) {
  let text = "";
  /** @type {ToolCall[]} */
  const calls = [];
  /** @type {number[]} */
  const tokenIds = [];
  /** @type {TokenLogprob[]} */
  const logprobs = [];
  for await (const event of events) {
    if (event.type === "progress") {
      onProgress?.({ stage: event.stage, done: event.done, total: event.total });
      continue;
    }
    text += event.text;
    addCalls(calls, event.tool_calls);
    if (event.type === "token") {
      tokenIds.push(...event.token_ids);
      logprobs.push(...withAlternatives(event.logprobs) ?? []);
    } else {
      return reply.shape({
        text, calls, tokenIds, logprobs: logprobs.length > 0 ? logprobs : null, finishReason: event.finish_reason, usage: withDetails(event.usage), whole: true,
      });
    }
  }
  throw new LlavaError("internal", "The generation ended without saying why. Ask again; if it happens again, please report it.");
}

/** 24 hexadecimal digits. `crypto.randomUUID` is missing on pages that were not served over https. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
