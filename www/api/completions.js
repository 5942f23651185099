// OpenAI's shapes: a caller's request → what the engine is asked; the engine's events → chunks and replies.

import { LlavaError } from "./errors.js";
import { ImageList } from "./images.js";

/** @typedef {import("../wire/protocol.js").GenerationEvent} GenerationEvent */
/** @typedef {import("../wire/protocol.js").TokenLogprob} TokenLogprob */

/** What the engine understands beside the messages or the prompt; it checks the values. */
const SAMPLING_FIELDS = [
  "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
  "logit_bias", "seed", "stop", "logprobs", "top_logprobs",
];
/** What is settled on this side of the wire. */
const CALL_FIELDS = ["stream", "signal", "onProgress"];
/** What OpenAI's clients send along and what changes nothing here. */
const IGNORED_FIELDS = ["model", "stream_options", "user"];

/** @param {any} request */
export async function chatRequest(request) {
  const fields = commonFields(request, "chat.completions.create", ["messages"]);
  const images = new ImageList();
  fields.messages = await engineMessages(request.messages, images);
  return { fields, images };
}

/** @param {any} request */
export async function completionRequest(request) {
  const fields = commonFields(request, "completions.create", ["prompt", "images"]);
  // The older API's number of alternatives.
  if (typeof fields.logprobs === "number") {
    fields.top_logprobs = fields.logprobs;
    fields.logprobs = true;
  }
  fields.prompt = promptText(request.prompt);
  return { fields, images: await imageList(request.images) };
}

/** @param {unknown} prompt */
export function promptText(prompt) {
  if (typeof prompt !== "string") throw new LlavaError("invalid_request", "prompt must be a string.");
  return prompt;
}

/**
 * @param {unknown} images
 * @returns {Promise<ImageList>}
 */
export async function imageList(images) {
  const list = new ImageList();
  if (images === undefined || images === null) return list;
  if (!Array.isArray(images)) throw new LlavaError("invalid_request", "images must be an array of pictures.");
  for (const [i, image] of images.entries()) await list.add(image, `images[${i}]`);
  return list;
}

/**
 * @param {any} request
 * @param {string} method
 * @param {string[]} ownFields
 * @returns {Record<string, any>}
 */
function commonFields(request, method, ownFields) {
  if (typeof request !== "object" || request === null) throw new LlavaError("invalid_request", `${method} takes an object.`);
  /** @type {Record<string, any>} */
  const fields = {};
  for (const [name, value] of Object.entries(request)) {
    if (value === undefined || value === null) continue;
    if (SAMPLING_FIELDS.includes(name)) fields[name] = value;
    else if (name === "max_completion_tokens") fields.max_tokens = value;
    else if (name === "response_format") fields.response_format = responseFormat(value);
    else if (name === "n" ? value !== 1 : ![...ownFields, ...CALL_FIELDS, ...IGNORED_FIELDS].includes(name)) {
      throw new LlavaError("invalid_request", `${method} does not support ${name}${name === "n" ? ` = ${value}; only 1` : ""}. Leave it out.`);
    }
  }
  if (request.signal !== undefined && request.signal !== null && !(request.signal instanceof AbortSignal)) {
    throw new LlavaError("invalid_request", "signal must be an AbortSignal.");
  }
  return fields;
}

/**
 * What can go to the engine of a response format; the engine checks the schema.
 * @param {any} format
 */
function responseFormat(format) {
  switch (format?.type) {
    case "text":
    case "json_object":
      return { type: format.type };
    case "json_schema": {
      const schema = format.json_schema?.schema;
      if (typeof schema !== "object" && typeof schema !== "boolean") {
        throw new LlavaError("invalid_request", "response_format.json_schema.schema must be a JSON schema.");
      }
      try {
        // Schemas are often built by libraries: what is not JSON about them stays here.
        return { type: "json_schema", json_schema: { schema: JSON.parse(JSON.stringify(schema)) } };
      } catch (cause) {
        throw new LlavaError("invalid_request",
          "response_format.json_schema.schema cannot be written as JSON: it contains itself, or is too deep. Refer to a part of it with $ref.", { cause });
      }
    }
    default:
      throw new LlavaError("invalid_request", 'response_format.type must be "text", "json_object" or "json_schema".');
  }
}

/**
 * The messages with each picture replaced by its place in the list.
 * @param {unknown} messages
 * @param {ImageList} images
 */
export async function engineMessages(messages, images) {
  if (!Array.isArray(messages)) throw new LlavaError("invalid_request", "messages must be an array.");
  const result = [];
  for (const [i, message] of messages.entries()) {
    const where = `messages[${i}]`;
    if (typeof message !== "object" || message === null) throw new LlavaError("invalid_request", `${where} must be an object with role and content.`);
    const { role, content } = message;
    if (typeof role !== "string") throw new LlavaError("invalid_request", `${where}.role must be "system", "user" or "assistant".`);
    if (typeof content !== "string" && !Array.isArray(content)) {
      throw new LlavaError("invalid_request", `${where}.content must be a string or an array of parts.`);
    }
    result.push({ role, content: Array.isArray(content) ? await engineParts(content, images, where) : content });
  }
  return result;
}

/**
 * @param {any[]} parts
 * @param {ImageList} images
 * @param {string} message
 */
async function engineParts(parts, images, message) {
  const result = [];
  for (const [i, part] of parts.entries()) {
    const where = `${message}.content[${i}]`;
    switch (part?.type) {
      case "text":
        if (typeof part.text !== "string") throw new LlavaError("invalid_request", `${where}.text must be a string.`);
        result.push({ type: "text", text: part.text });
        break;
      case "image_url": {
        const url = typeof part.image_url === "object" ? part.image_url?.url : part.image_url;
        result.push({ type: "image", image: images.addUrl(url, `${where}.image_url.url`) });
        break;
      }
      case "image":
        result.push({ type: "image", image: await images.add(part.image, `${where}.image`) });
        break;
      default:
        throw new LlavaError("invalid_request",
          `${where} has the type ${JSON.stringify(part?.type)}. It must be "text", "image_url" or "image".`);
    }
  }
  return result;
}

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
   * @param {{ text: string, tokenIds: number[], logprobs: TokenLogprob[] | null, finishReason: string | null,
   *   usage?: object, first?: boolean, whole?: boolean }} part
   */
  shape({ text, tokenIds, logprobs, finishReason, usage, first = false, whole = false }) {
    const chat = this.#kind === "chat";
    const object = chat ? (whole ? "chat.completion" : "chat.completion.chunk") : "text_completion";
    const content = !chat ? { text } :
      whole ? { message: { role: "assistant", content: text, refusal: null } } :
      // A string in every chunk, the last one too: callers add them up.
      { delta: first ? { role: "assistant", content: text } : { content: text } };
    return {
      id: this.#id, object, created: this.#created, model: this.#model,
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
  #first = true;

  /**
   * @param {AsyncIterableIterator<GenerationEvent>} events
   * @param {Reply} reply
   * @param {((progress: object) => void) | undefined} onProgress
   */
  constructor(events, reply, onProgress) {
    this.#events = events;
    this.#reply = reply;
    this.#onProgress = onProgress;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async next() {
    for (;;) {
      const { done, value: event } = await this.#events.next();
      if (done) return { done: true, value: undefined };
      if (event.type === "progress") {
        this.#onProgress?.({ stage: event.stage, done: event.done, total: event.total });
        continue;
      }
      const first = this.#first;
      this.#first = false;
      const value = event.type === "token" ?
        this.#reply.shape({ text: event.text, tokenIds: event.token_ids, logprobs: withAlternatives(event.logprobs), finishReason: null, first }) :
        this.#reply.shape({ text: event.text, tokenIds: [], logprobs: null, finishReason: event.finish_reason, usage: event.usage, first });
      return { done: false, value };
    }
  }

  async return() {
    await this.#events.return?.();
    return { done: true, value: undefined };
  }
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
 * @param {{ stream?: boolean, onProgress?: (progress: object) => void }} request
 * @param {string} model
 */
export function respond(kind, events, request, model) {
  const reply = new Reply(kind, model);
  return request.stream ? new ChunkStream(events, reply, request.onProgress) : wholeReply(events, reply, request.onProgress);
}

/**
 * @param {AsyncIterableIterator<GenerationEvent>} events
 * @param {Reply} reply
 * @param {((progress: object) => void) | undefined} onProgress
 */
async function wholeReply(events, reply, onProgress) {
  let text = "";
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
    if (event.type === "token") {
      tokenIds.push(...event.token_ids);
      logprobs.push(...withAlternatives(event.logprobs) ?? []);
    } else {
      return reply.shape({
        text, tokenIds, logprobs: logprobs.length > 0 ? logprobs : null, finishReason: event.finish_reason, usage: event.usage, whole: true,
      });
    }
  }
  throw new LlavaError("internal", "The generation ended without saying why. Ask again; if it happens again, please report it.");
}

/** 24 hexadecimal digits. `crypto.randomUUID` is missing on pages that were not served over https. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
