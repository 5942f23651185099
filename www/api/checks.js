// What the public functions ask of their arguments, each with an error that names the argument.

import { LlavaError, shownJson } from "./errors.js";

/**
 * What kind of object this is, by the name of its class: an object of another frame has another class of that name.
 * @param {any} value
 * @returns {string}
 */
export function kindOf(value) {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}

/**
 * @param {unknown} value
 * @param {string} option
 */
export function checkCount(value, option) {
  if (value !== undefined && !(Number.isInteger(value) && /** @type {number} */ (value) > 0)) throw invalid(`${option} must be a whole number above 0.`);
}

/**
 * @param {unknown} value
 * @param {string[]} choices
 * @param {string} option
 */
export function checkChoice(value, choices, option) {
  if (value !== undefined && !choices.includes(/** @type {string} */ (value))) {
    throw invalid(`${option} is ${shownJson(value)}; it must be one of ${choices.map((choice) => `"${choice}"`).join(", ")}.`);
  }
}

/** What browsers let no page set (Fetch standard, "forbidden request-header"), and what the loader sets by itself. */
const NOT_SETTABLE = new Set([
  "accept-charset", "accept-encoding", "access-control-request-headers", "access-control-request-method", "connection", "content-length", "cookie", "cookie2", "date",
  "dnt", "expect", "host", "keep-alive", "origin", "referer", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "via", "range", "if-range", "if-none-match",
]);

/**
 * Headers of a request, by their names in small letters. No message shows what they hold.
 * @param {any} headers  as `fetch` takes them
 * @param {string} what  for messages
 * @returns {Record<string, string>}
 */
export function checkHeaders(headers, what) {
  /** @type {Record<string, string>} */
  const checked = {};
  const isList = typeof headers === "object" && headers !== null && typeof headers[Symbol.iterator] === "function";
  if (typeof headers !== "object" || headers === null) throw invalid(`${what} must be an object of names and values: { Authorization: "Bearer …" }.`);
  for (const [name, value] of isList ? headers : Object.entries(headers)) {
    if (typeof name !== "string" || typeof value !== "string") throw invalid(`${what} must have texts for values: ${shownJson(name)} has ${typeof value}.`);
    const lower = name.toLowerCase();
    if (NOT_SETTABLE.has(lower) || /^(proxy|sec)-/.test(lower)) throw invalid(`${what} cannot set ${shownJson(name)}: ${lower.includes("range") ? "which bytes are asked for is the loader's to say" : "browsers let no page do so"}.`);
    try {
      new Headers([[name, value]]);
    } catch {
      throw invalid(`${what} has ${shownJson(name)}, whose name or value no request can have. A line break at the end of a token that was read from a file is one reason.`);
    }
    checked[lower] = value.trim();
  }
  return checked;
}

/** @param {string} message */
export function invalid(message) {
  return new LlavaError("invalid_request", message);
}

/**
 * @param {unknown} value
 * @param {string} name
 */
export function checkIndex(value, name) {
  if (!Number.isInteger(value) || /** @type {number} */ (value) < 0 || /** @type {number} */ (value) > 0xffff_ffff) {
    throw invalid(`lookedAt: ${name} must be a whole number from 0 on.`);
  }
}

/**
 * @param {any} ids
 * @param {string} method
 * @returns {number[]}
 */
export function tokenIds(ids, method) {
  if (typeof ids?.[Symbol.iterator] !== "function" || typeof ids === "string") throw invalid(`${method} takes an array of token ids.`);
  const list = Array.from(ids);
  for (const id of list) {
    if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff) throw invalid(`${method}: ${shownJson(id)} is not a token id.`);
  }
  return list;
}

/**
 * The signal that was given, if any. One of another frame, or of a library that stands in for a missing browser, is one by what it does.
 * @param {any} signal
 * @returns {AbortSignal | undefined}
 */
export function checkSignal(signal) {
  if (signal === undefined || signal === null) return undefined;
  const isSignal = typeof signal === "object" && typeof signal.aborted === "boolean" && typeof signal.addEventListener === "function" &&
    typeof signal.removeEventListener === "function";
  if (!isSignal) throw invalid("signal must be an AbortSignal.");
  return signal;
}

/**
 * The options of a call, where there are any.
 * @param {any} options
 * @param {string} method
 * @returns {Record<string, any>}
 */
export function checkOptions(options, method) {
  if (options === undefined || options === null) return {};
  if (typeof options !== "object") throw invalid(`${method} takes its options as an object.`);
  return options;
}

/**
 * @param {any} listener
 * @param {string} [name]
 * @returns {((told: any) => void) | undefined}
 */
export function checkListener(listener, name = "onProgress") {
  if (listener === undefined || listener === null) return undefined;
  if (typeof listener !== "function") throw invalid(`${name} must be a function.`);
  return guarded(listener);
}

/**
 * A caller's listener that cannot break what calls it: what it throws is reported as that of an event's listener is.
 * @param {(value: any) => void} listener
 */
function guarded(listener) {
  return (/** @type {any} */ value) => {
    try {
      listener(value);
    } catch (error) {
      if (typeof reportError === "function") reportError(error);
      else console.error(error);
    }
  };
}
