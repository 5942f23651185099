// The addresses of the engine's files: the workers and the builds of the module in WebAssembly. They are named here and nowhere else, relative
// to this file, which stays at the top of what is published. Each is written out in full, for so bundlers find it and bring the file along.
// The page alone reads this; the workers are told.

/**
 * @typedef {"pkg" | "pkg-relaxed" | "pkg-threads" | "pkg-relaxed-threads"} Build
 * @typedef {{ script: string, module: string }} BuildFiles  a build's JavaScript, and its module
 * @typedef {{ worker: string, thread: string, builds: Record<Build, BuildFiles> }} Assets  the engine's thread, a helper of it, and what they run
 */

/** @type {Assets} */
const BESIDE = {
  worker: new URL("./worker/worker.js", import.meta.url).href,
  thread: new URL("./worker/thread.js", import.meta.url).href,
  builds: {
    pkg: {
      script: new URL("./pkg/llava_web.js", import.meta.url).href,
      module: new URL("./pkg/llava_web_bg.wasm", import.meta.url).href,
    },
    "pkg-relaxed": {
      script: new URL("./pkg-relaxed/llava_web.js", import.meta.url).href,
      module: new URL("./pkg-relaxed/llava_web_bg.wasm", import.meta.url).href,
    },
    "pkg-threads": {
      script: new URL("./pkg-threads/llava_web.js", import.meta.url).href,
      module: new URL("./pkg-threads/llava_web_bg.wasm", import.meta.url).href,
    },
    "pkg-relaxed-threads": {
      script: new URL("./pkg-relaxed-threads/llava_web.js", import.meta.url).href,
      module: new URL("./pkg-relaxed-threads/llava_web_bg.wasm", import.meta.url).href,
    },
  },
};

/**
 * The same with whole addresses: Next.js has them begin with the path, for the page's own host.
 * @param {Assets} assets
 * @returns {Assets}
 */
function absolute({ worker, thread, builds }) {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  const whole = (/** @type {string} */ address) => new URL(address, base).href;
  const files = Object.entries(builds).map(([build, { script, module }]) => [build, { script: whole(script), module: whole(module) }]);
  return { worker: whole(worker), thread: whole(thread), builds: Object.fromEntries(files) };
}

/**
 * The engine's files beside this one, or in another folder that has them as they are published.
 * @param {URL} [folder]
 * @returns {Assets}
 */
export function assetsIn(folder) {
  if (folder === undefined) return absolute(BESIDE);
  const base = folder.href.endsWith("/") ? folder.href : `${folder.href}/`;
  const file = (/** @type {string} */ path) => new URL(path, base).href;
  const build = (/** @type {Build} */ name) => ({ script: file(`${name}/llava_web.js`), module: file(`${name}/llava_web_bg.wasm`) });
  return {
    worker: file("worker/worker.js"),
    thread: file("worker/thread.js"),
    builds: { pkg: build("pkg"), "pkg-relaxed": build("pkg-relaxed"), "pkg-threads": build("pkg-threads"), "pkg-relaxed-threads": build("pkg-relaxed-threads") },
  };
}
