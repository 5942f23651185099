// How workers are started, from the page and from the engine's own thread.

/**
 * @param {URL} url  a module's
 * @returns {Worker}
 */
export function startWorker(url) {
  if (url.origin === globalThis.location.origin) return new Worker(url, { type: "module" });
  // A worker's script must be of the page's own origin; what that script imports need not be.
  const shim = URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" }));
  return new Worker(shim, { type: "module" });
}
