// A saved context, on its way back into an engine.

import { kindOf } from "./checks.js";
import { LlavaError } from "./errors.js";

/**
 * A copy of somebody's bytes that can be handed to the engine's thread: of these alone, whatever buffer they are a part of.
 * @param {unknown} bytes
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function sessionToRestore(bytes) {
  if (kindOf(bytes) === "ArrayBuffer") return new Uint8Array(/** @type {ArrayBuffer} */ (bytes).slice(0));
  if (!ArrayBuffer.isView(bytes)) {
    throw new LlavaError("invalid_request", "restoreSession takes the bytes that saveSession returned, as a Uint8Array.");
  }
  const copy = new Uint8Array(bytes.byteLength);
  copy.set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  return copy;
}
