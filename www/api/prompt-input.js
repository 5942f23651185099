// What a page gives the Prompt API to say → the engine's messages.

import { exception } from "./dom-exception.js";

/** @typedef {import("../llava-web.js").Message} Message */

/** Messages whose last is to be gone on with. @type {WeakSet<Message>} */
const begun = new WeakSet();
/** @param {Message | undefined} message */
export const isBegun = (message) => message !== undefined && begun.has(message);

/**
 * What a page gives, as the engine takes it.
 * @param {any} input
 * @param {{ isInitial?: boolean, follows?: Message[] }} where
 * @returns {Message[]}
 */
export function toMessages(input, { isInitial = false, follows = [] }) {
  if (typeof input === "string") return [{ role: "user", content: input }];
  if (!Array.isArray(input)) throw new TypeError("A prompt is a string or an array of messages.");
  return input.map((given, i) => {
    const { role = "user", content, prefix = false } = typeof given === "object" && given !== null ? given : {};
    if (!["system", "user", "assistant"].includes(role)) throw new TypeError(`messages[${i}].role must be "system", "user" or "assistant".`);
    if (role === "system" && !(i === 0 && (isInitial || follows.length === 0))) throw new TypeError("The system's message must be the first of all: give it in initialPrompts.");
    if (prefix && !(role === "assistant" && i === input.length - 1)) throw new DOMException("Only the last message can be a prefix, and only the assistant's.", "SyntaxError");
    /** @type {Message} */
    const message = { role, content: typeof content === "string" ? content : toParts(content, i, role) };
    if (prefix) begun.add(message);
    return message;
  });
}

/**
 * @param {any} parts
 * @param {number} i
 * @param {string} role
 * @returns {import("../llava-web.js").ContentPart[]}
 */
function toParts(parts, i, role) {
  if (!Array.isArray(parts)) throw new TypeError(`messages[${i}].content must be a string or an array of parts.`);
  return parts.map(({ type, value }) => {
    if (type === "text") {
      if (typeof value !== "string") throw new TypeError(`messages[${i}]: the value of a text must be a string.`);
      return { type: "text", text: value };
    }
    if (type === "image" && role !== "user") throw exception(`messages[${i}]: only a user's message can show pictures.`, "NotSupportedError");
    if (type === "image") return { type: "image", image: value };
    if (type === "audio") throw exception("Audio is not understood by this model.", "NotSupportedError");
    if (type === "tool-call" || type === "tool-response") {
      throw exception(`messages[${i}]: a part of the type "${type}" is not supported. Give the tools to create: the session calls them itself.`, "NotSupportedError");
    }
    throw new TypeError(`messages[${i}]: the type of a part must be "text" or "image".`);
  });
}

/**
 * Puts a schema behind the last text that is asked.
 * @param {Message[]} messages
 * @param {object} schema
 */
export function tell(messages, schema) {
  const at = messages.findLastIndex(({ role }) => role === "user");
  const message = messages[at];
  if (!message) return;
  const text = `\n\nAnswer in JSON of this schema: ${JSON.stringify(schema)}`;
  const { content } = message;
  messages[at] = { role: "user", content: typeof content === "string" ? content + text : [...content ?? [], { type: "text", text }] };
}
