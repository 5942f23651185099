// The addresses of the engine's files: the workers and the builds of the module in WebAssembly. They are named here and nowhere else,
// relative to this file, which stays at the top of what is published.

/** The engine's thread. */
export const WORKER = new URL("./worker/worker.js", import.meta.url);
/** A helper of the engine's thread. */
export const THREAD = new URL("./worker/thread.js", import.meta.url);

/**
 * The files of a build of the module: its JavaScript, and the module itself.
 * @param {"pkg" | "pkg-relaxed" | "pkg-threads" | "pkg-relaxed-threads"} build
 */
export function engineFiles(build) {
  return { script: new URL(`./${build}/llava_web.js`, import.meta.url), module: new URL(`./${build}/llava_web_bg.wasm`, import.meta.url) };
}
