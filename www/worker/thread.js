// A helper of the engine's thread: a worker that runs the same module on the same memory. It computes parts of what the engine computes,
// and sleeps where there is nothing to do.

/** @param {{ data: { script: string, module: WebAssembly.Module, memory: WebAssembly.Memory, helper: number } }} message */
self.onmessage = async ({ data: { script, module, memory, helper } }) => {
  const pkg = await import(script);
  const wasm = pkg.initSync({ module, memory });
  self.postMessage("ready");
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
};
