// The engine's errors as the browser's own APIs tell theirs: a `DOMException` with a name of the specification.

import { toLlavaError } from "./errors.js";

/** Errors by the names that the specification gives them. @param {string} message @param {string} name @param {unknown} [cause] */
export function exception(message, name, cause) {
  const error = new DOMException(message, name);
  if (cause !== undefined) Object.defineProperty(error, "cause", { value: cause });
  return error;
}

/** What an engine's error is called in this API. @type {Partial<Record<import("./errors.js").ErrorCode, string>>} */
const NAMES = {
  invalid_request: "NotSupportedError", invalid_image: "EncodingError", context_overflow: "QuotaExceededError", network: "NetworkError",
  aborted: "AbortError", storage: "QuotaExceededError", unsupported_browser: "NotSupportedError", unsupported_architecture: "NotSupportedError",
};

/** @param {unknown} thrown */
export function asException(thrown) {
  if (thrown instanceof DOMException || thrown instanceof TypeError || !(thrown instanceof Error)) return thrown;
  const error = toLlavaError(thrown);
  return exception(error.message, NAMES[error.code] ?? "OperationError", error);
}
