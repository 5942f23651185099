// The context as bytes, on its way out of the engine.

import { LlavaError } from "./errors.js";

/**
 * One buffer, as large as the session and no larger, which the engine fills piece by piece.
 * @param {{ sessionBytes: () => number, saveSession: (out: Uint8Array) => Promise<void> }} engine
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function savedSession(engine) {
  const count = engine.sessionBytes();
  let bytes;
  try {
    bytes = new Uint8Array(count);
  } catch (cause) {
    throw new LlavaError("out_of_memory",
      `The browser has no buffer of ${count} bytes for the session. Keep the messages and send them again, or close other tabs.`, { cause });
  }
  await engine.saveSession(bytes);
  return bytes;
}

/**
 * A copy of somebody's bytes that can be handed to the engine's thread: of these alone, whatever buffer they are a part of.
 * @param {unknown} bytes
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function sessionToRestore(bytes) {
  if (bytes instanceof ArrayBuffer) return new Uint8Array(bytes.slice(0));
  if (!ArrayBuffer.isView(bytes)) {
    throw new LlavaError("invalid_request", "restoreSession takes the bytes that saveSession returned, as a Uint8Array.");
  }
  const copy = new Uint8Array(bytes.byteLength);
  copy.set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  return copy;
}
