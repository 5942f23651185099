// How workers are started, from the page and from the engine's own thread.

/** What a page with trusted types wants to see; it allows the policy `llava-web`. @type {any} */
let policy = null;

/**
 * @param {string} url  of this module's own making
 * @returns {string}
 */
function trusted(url) {
  const { trustedTypes } = /** @type {any} */ (globalThis);
  if (!trustedTypes) return url;
  policy ??= trustedTypes.createPolicy("llava-web", { createScriptURL: (/** @type {string} */ url) => url });
  return policy.createScriptURL(url);
}

/**
 * @param {URL} url  a module's
 * @returns {Worker}
 */
export function startWorker(url) {
  if (url.origin === globalThis.location.origin) return new Worker(trusted(url.href), { type: "module" });
  // A worker's script must be of the page's own origin; what that script imports need not be.
  const shim = URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" }));
  return new Worker(trusted(shim), { type: "module" });
}
