// The context as bytes, on its way out of the engine.

import { LlavaError } from "../api/errors.js";

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
