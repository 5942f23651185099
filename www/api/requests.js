// OpenAI's shape of a caller's request → what the engine is asked.

import { checkListener, checkSignal } from "./checks.js";
import { LlavaError, shown, shownJson } from "./errors.js";
import { ImageList } from "./images.js";

/** What the engine understands beside the messages or the prompt; it checks the values. */
const SAMPLING_FIELDS = [
  "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
  "logit_bias", "seed", "stop", "logprobs", "top_logprobs",
];
/** What is settled on this side of the wire. */
const CALL_FIELDS = ["stream", "signal", "onProgress"];
/** What OpenAI's clients send along and what changes nothing here. */
const IGNORED_FIELDS = ["model", "stream_options", "user"];

/**
 * What a generation is asked for, and how the caller wants to be answered.
 * @typedef {{ fields: Record<string, any>, stream: boolean, signal: AbortSignal | undefined, onProgress: ((progress: any) => void) | undefined }} Asked
 */

/**
 * @param {any} request
 * @param {any} options  the second argument, where OpenAI's clients have the signal
 * @returns {Asked}
 */
export function chatRequest(request, options) {
  return asked(request, options, "chat.completions.create", ["messages"]);
}

/**
 * @param {any} request
 * @param {any} options
 * @returns {Asked}
 */
export function completionRequest(request, options) {
  const result = asked(request, options, "completions.create", ["prompt", "images"]);
  const { fields } = result;
  // The older API's number of alternatives.
  if (typeof fields.logprobs === "number") {
    fields.top_logprobs = fields.logprobs;
    fields.logprobs = true;
  }
  fields.prompt = promptText(request.prompt);
  return result;
}

/** @param {unknown} prompt */
export function promptText(prompt) {
  if (typeof prompt !== "string") throw new LlavaError("invalid_request", "prompt must be a string.");
  return prompt;
}

/**
 * Adds a request's pictures to the list.
 * @param {unknown} pictures
 * @param {ImageList} images
 */
export async function addImages(pictures, images) {
  if (pictures === undefined || pictures === null) return;
  if (!Array.isArray(pictures)) throw new LlavaError("invalid_request", "images must be an array of pictures.");
  for (const [i, image] of pictures.entries()) await images.add(image, `images[${i}]`);
}

/**
 * @param {any} request
 * @param {any} options
 * @param {string} method
 * @param {string[]} ownFields
 * @returns {Asked}
 */
function asked(request, options, method, ownFields) {
  if (typeof request !== "object" || request === null) throw new LlavaError("invalid_request", `${method} takes an object.`);
  /** @type {Record<string, any>} */
  const fields = {};
  for (const [name, value] of Object.entries(request)) {
    if (value === undefined || value === null) continue;
    if (SAMPLING_FIELDS.includes(name)) fields[name] = value;
    else if (name === "max_completion_tokens") fields.max_tokens = value;
    else if (name === "response_format") fields.response_format = responseFormat(value);
    else if (name === "n" ? value !== 1 : ![...ownFields, ...CALL_FIELDS, ...IGNORED_FIELDS].includes(name)) {
      throw new LlavaError("invalid_request", `${method} does not support ${shown(name)}${name === "n" ? ` = ${shownJson(value)}; only 1` : ""}. Leave it out.`);
    }
  }
  return {
    fields,
    stream: Boolean(request.stream),
    signal: checkSignal(request.signal ?? options?.signal),
    onProgress: checkListener(request.onProgress ?? options?.onProgress),
  };
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
        const isObject = typeof part.image_url === "object";
        const url = isObject ? part.image_url?.url : part.image_url;
        const detail = detailOf(isObject ? part.image_url?.detail : undefined, `${where}.image_url.detail`);
        result.push({ type: "image", image: images.addUrl(url, `${where}.image_url.url`), detail });
        break;
      }
      case "image":
        result.push({
          type: "image",
          image: await images.add(part.image, `${where}.image`),
          detail: detailOf(part.detail, `${where}.detail`),
        });
        break;
      default:
        throw new LlavaError("invalid_request",
          `${where} has the type ${shownJson(part?.type)}. It must be "text", "image_url" or "image".`);
    }
  }
  return result;
}

/** How finely a picture may be looked at. @type {readonly unknown[]} */
const DETAILS = ["high", "low", "auto"];

/**
 * @param {unknown} detail
 * @param {string} where
 */
function detailOf(detail, where) {
  if (detail === undefined || detail === null) return "high";
  if (DETAILS.includes(detail)) return detail;
  throw new LlavaError("invalid_request", `${where} is ${shownJson(detail)}. It must be "high", "low" or "auto".`);
}
