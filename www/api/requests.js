// OpenAI's shape of a caller's request → what the engine is asked.

import { checkListener, checkSignal } from "./checks.js";
import { LlavaError, shownJson } from "./errors.js";
import { CHAT_FIELDS, COMPLETION_FIELDS, readFields } from "./fields.js";
import { ImageList } from "./images.js";

/**
 * What a generation is asked for, and how the caller wants to be answered; `usageApart`: in a chunk of its own.
 * @typedef {{ fields: Record<string, any>, stream: boolean, usageApart: boolean, signal: AbortSignal | undefined, onProgress: ((progress: any) => void) | undefined }} Asked
 */

/**
 * @param {any} request
 * @param {any} options  the second argument, where OpenAI's clients have the signal
 * @returns {Asked}
 */
export function chatRequest(request, options) {
  return asked(request, options, "chat.completions.create", CHAT_FIELDS);
}

/**
 * @param {any} request
 * @param {any} options
 * @returns {Asked}
 */
export function completionRequest(request, options) {
  const result = asked(request, options, "completions.create", COMPLETION_FIELDS);
  const { fields } = result;
  // The older API's number of alternatives.
  if (typeof fields.logprobs === "number") {
    fields.top_logprobs = fields.logprobs;
    fields.logprobs = true;
  }
  fields.prompt = promptText(request.prompt);
  return result;
}

/**
 * The tools that a prompt tells, as a request has them.
 * @param {unknown} tools
 */
export function toolsToTell(tools) {
  return /** @type {{ tools?: object[] }} */ (readFields({ tools }, CHAT_FIELDS, "tools"));
}

/** @param {unknown} given */
export function promptText(given) {
  // Clients of the older API send a list of one.
  const prompt = Array.isArray(given) && given.length === 1 ? given[0] : given;
  if (typeof prompt !== "string") throw new LlavaError("invalid_request", "prompt must be one string. For token ids see evaluate; several prompts are several calls.");
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
 * @param {Record<string, import("./fields.js").Field>} table
 * @returns {Asked}
 */
function asked(request, options, method, table) {
  if (typeof request !== "object" || request === null) throw new LlavaError("invalid_request", `${method} takes an object.`);
  return {
    fields: readFields(request, table, method),
    stream: Boolean(request.stream),
    usageApart: request.stream_options?.include_usage === true,
    signal: checkSignal(request.signal ?? options?.signal),
    onProgress: checkListener(request.onProgress ?? options?.onProgress),
  };
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
    const { role } = message;
    // An answer that was stopped at once has none; OpenAI's clients send it back so.
    const content = message.content ?? (role === "user" ? undefined : "");
    if (typeof role !== "string") throw new LlavaError("invalid_request", `${where}.role must be "system", "developer", "user", "assistant" or "tool".`);
    if (role === "function" || !isNothing(message.function_call)) {
      throw new LlavaError("invalid_request", `${where} is of OpenAI's older form of tools. Give tool_calls, and results in messages of the role "tool".`);
    }
    if (typeof content !== "string" && !Array.isArray(content)) {
      throw new LlavaError("invalid_request", `${where}.content must be a string or an array of parts.`);
    }
    if (role === "tool" && Array.isArray(content) && content.some((part) => part?.type !== "text")) {
      throw new LlavaError("invalid_request", `${where}.content can only have parts of the type "text", for it is a tool's result. Show pictures in a user's message.`);
    }
    result.push({
      role,
      content: Array.isArray(content) ? await engineParts(content, images, where) : content,
      ...(!isNothing(message.tool_calls) && { tool_calls: engineCalls(message.tool_calls, `${where}.tool_calls`) }),
      ...(role === "tool" && { tool_call_id: callId(message.tool_call_id, `${where}.tool_call_id`) }),
    });
  }
  return result;
}

/**
 * @param {unknown} calls  what an assistant's message called
 * @param {string} field
 */
function engineCalls(calls, field) {
  if (!Array.isArray(calls)) throw new LlavaError("invalid_request", `${field} must be an array.`);
  return calls.map((call, i) => {
    const where = `${field}[${i}]`;
    const { name, arguments: given } = call?.function ?? {};
    if (typeof name !== "string") throw new LlavaError("invalid_request", `${where}.function.name must be a string.`);
    // A text of JSON; what is parsed already is no less clear.
    const json = typeof given === "object" && given !== null ? JSON.stringify(given) : given ?? "";
    if (typeof json !== "string") throw new LlavaError("invalid_request", `${where}.function.arguments must be a text of JSON.`);
    return { id: callId(call.id, `${where}.id`), function: { name, arguments: json } };
  });
}

/**
 * @param {unknown} id
 * @param {string} field
 */
function callId(id, field) {
  if (typeof id === "string" && id !== "") return id;
  throw new LlavaError("invalid_request", `${field} must be the id of a tool call.`);
}

/** @param {unknown} value  of a field that may be there and empty */
const isNothing = (value) => value === undefined || value === null || (Array.isArray(value) && value.length === 0);

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
      case "refusal":
        if (typeof part.refusal !== "string") throw new LlavaError("invalid_request", `${where}.refusal must be a string.`);
        result.push({ type: "text", text: part.refusal });
        break;
      case "image_url": {
        const isObject = typeof part.image_url === "object";
        const url = isObject ? part.image_url?.url : part.image_url;
        const detail = checkDetail(isObject ? part.image_url?.detail : undefined, `${where}.image_url.detail`);
        result.push({ type: "image", image: images.addUrl(url, `${where}.image_url.url`), detail });
        break;
      }
      case "image":
        result.push({
          type: "image",
          image: await images.add(part.image, `${where}.image`),
          detail: checkDetail(part.detail, `${where}.detail`),
        });
        break;
      default:
        throw new LlavaError("invalid_request",
          `${where} has the type ${shownJson(part?.type)}. It must be "text", "image_url", "image" or "refusal".`);
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
export function checkDetail(detail, where) {
  if (detail === undefined || detail === null) return "high";
  if (DETAILS.includes(detail)) return detail;
  throw new LlavaError("invalid_request", `${where} is ${shownJson(detail)}. It must be "high", "low" or "auto".`);
}
