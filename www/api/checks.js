// What the public functions ask of their arguments, each with an error that names the argument.

import { LlavaError, shownJson } from "./errors.js";

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
 * @param {any} onProgress
 * @returns {((progress: any) => void) | undefined}
 */
export function checkListener(onProgress) {
  if (onProgress === undefined || onProgress === null) return undefined;
  if (typeof onProgress !== "function") throw invalid("onProgress must be a function.");
  return guarded(onProgress);
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
