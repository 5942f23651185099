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
    `The engine failed unexpectedly: ${error.message}. Load the model again; if it happens again, please report it.`,
    { cause: error });
}

/**
 * Whether the wasm instance is in an unknown state after this error: a trap leaves half-written memory behind.
 * @param {unknown} thrown
 */
export function isFault(thrown) {
  return thrown instanceof WebAssembly.RuntimeError || (thrown instanceof Error && isOutOfMemory(thrown)) ||
    // wasm-bindgen's own guard: an object still borrowed by a call that trapped.
    (thrown instanceof Error && thrown.message.includes("recursive use of an object"));
}

/** @param {Error} error */
function isOutOfMemory(error) {
  if (!(error instanceof WebAssembly.RuntimeError || error instanceof RangeError)) return false;
  return /out of memory|memory allocation|allocation failed|memory\.grow|grow memory|oom/i.test(error.message);
}
