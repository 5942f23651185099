// The one error class a caller sees, and the way other failures become one. Used on both sides of the worker's boundary.

/**
 * @typedef {"invalid_gguf" | "unsupported_architecture" | "unsupported_quantization" | "mmproj_mismatch" | "network" |
 *   "integrity" | "storage" | "out_of_memory" | "device_lost" | "context_overflow" | "invalid_image" | "invalid_request" |
 *   "unsupported_browser" | "aborted" | "internal"} ErrorCode
 */

/** Every code there is. Anything else that arrives as a code is a fault of ours, hence `internal`. */
export const ERROR_CODES = Object.freeze([
  "invalid_gguf", "unsupported_architecture", "unsupported_quantization", "mmproj_mismatch", "network", "integrity",
  "storage", "out_of_memory", "device_lost", "context_overflow", "invalid_image", "invalid_request",
  "unsupported_browser", "aborted", "internal",
]);

/** A failure with a stable `code`, a message that says what was wrong and what to do, and its cause where there is one. */
export class LlavaError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message
   * @param {{ cause?: unknown }} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = "LlavaError";
    /** @type {ErrorCode} */
    this.code = ERROR_CODES.includes(code) ? code : "internal";
  }
}

/** No error shows more of an address or a value. */
const MOST_SHOWN = 200;

/**
 * An address or a value as it is shown in an error: the beginning of a long one.
 * @param {unknown} value
 * @returns {string}
 */
export function shown(value) {
  let text;
  try {
    text = String(value);
  } catch {
    // An object without a prototype, or a symbol's like.
    text = typeof value;
  }
  if (text.length <= MOST_SHOWN) return text;
  return `${text.slice(0, MOST_SHOWN - 40)}… (${text.length} characters)`;
}

/**
 * The same, of a value as it would be written in JavaScript.
 * @param {unknown} value
 * @returns {string}
 */
export function shownJson(value) {
  // Before a text is quoted: it may be megabytes.
  if (typeof value === "string") return JSON.stringify(shown(value));
  // JSON has no infinities and nothing that is not a number.
  if (typeof value === "number") return String(value);
  let json;
  try {
    json = JSON.stringify(value);
  } catch {
    // It contains itself, or a BigInt.
  }
  return shown(json ?? value);
}

/**
 * What a failure of the browser's says.
 * @param {unknown} thrown
 */
export function reason(thrown) {
  return shown(thrown instanceof Error ? thrown.message : thrown);
}

/**
 * What the wasm module, the browser or this code threw, as a `LlavaError`.
 * @param {unknown} thrown
 * @returns {LlavaError}
 */
export function toLlavaError(thrown) {
  if (thrown instanceof LlavaError) return thrown;
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const code = /** @type {{ code?: unknown }} */ (error).code;
  if (typeof code === "string" && ERROR_CODES.includes(/** @type {ErrorCode} */ (code))) {
    return new LlavaError(/** @type {ErrorCode} */ (code), error.message, { cause: error });
  }
  if (isOutOfMemory(error)) {
    return new LlavaError("out_of_memory",
      "The browser ran out of memory. Close other tabs, choose a smaller model, or set a smaller context size.",
      { cause: error });
  }
  return new LlavaError("internal",
    `The engine failed unexpectedly: ${shown(error.message)}. Load the model again; if it happens again, please report it.`,
    { cause: error });
}

/**
 * Whether the wasm instance is in an unknown state after a call into it threw this: what unwinds through it leaves half-written memory
 * behind. Only for what such a call threw: a `RangeError` of the JavaScript around it leaves the instance as it was.
 * @param {unknown} thrown
 */
export function isFault(thrown) {
  return thrown instanceof WebAssembly.RuntimeError || thrown instanceof RangeError ||
    // wasm-bindgen's own guard: an object still borrowed by a call that trapped. Firefox's name for a stack that overflowed.
    (thrown instanceof Error && (thrown.message.includes("recursive use of an object") || thrown.name === "InternalError"));
}

/** @param {Error} error */
function isOutOfMemory(error) {
  if (!(error instanceof WebAssembly.RuntimeError || error instanceof RangeError)) return false;
  return /out of memory|memory allocation|allocation failed|memory\.grow|grow memory|\boom\b/i.test(error.message);
}
