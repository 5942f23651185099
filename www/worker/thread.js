// A helper of the engine's thread: a worker that runs the same module on the same memory. It computes parts of what the engine computes,
// and sleeps where there is nothing to do.
//
//   engine → helper   { script, module, memory, helper }, then "go"
//   helper → engine   "ready" once it could begin, or { failed } where it cannot
//
// It begins only when told to: one that comes too late is given up by then, and must not have taken part in anything.

/** @typedef {{ script: string, module: WebAssembly.Module, memory: WebAssembly.Memory, helper: number }} Start */

/** @type {{ pkg: any, wasm: any, helper: number } | null} */
let prepared = null;

self.onmessage = async (/** @type {MessageEvent<Start | "go">} */ { data }) => {
  if (data === "go") return work();
  try {
    const pkg = await import(data.script);
    prepared = { pkg, wasm: pkg.initSync({ module: data.module, memory: data.memory }), helper: data.helper };
    self.postMessage("ready");
  } catch (error) {
    // A rejection here would reach nobody: it is no error of the worker.
    self.postMessage({ failed: String(error) });
    self.close();
  }
};

function work() {
  if (!prepared) return;
  const { pkg, wasm, helper } = prepared;
  try {
    // Comes back when the engine is gone.
    pkg.help(helper);
  } catch (trap) {
    // The engine's thread must not wait for it.
    pkg.thread_is_lost();
    throw trap;
  }
  wasm.__wbindgen_thread_destroy();
  self.close();
}
