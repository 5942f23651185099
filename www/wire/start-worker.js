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
  try {
    policy ??= trustedTypes.createPolicy("llava-web", { createScriptURL: (/** @type {string} */ url) => url });
  } catch {
    // The page lists other policies, or another copy of this module has taken the name. Where it insists, starting the worker fails and says so.
    return url;
  }
  return policy.createScriptURL(url);
}

/**
 * @param {URL} url  a module's
 * @returns {Worker}
 */
export function startWorker(url) {
  if (url.origin === globalThis.location.origin) return new Worker(trusted(url.href), { type: "module" });
  // A worker's script must be of the page's own origin; what that script imports need not be. What is imported has run before the rest of
  // it, which gives the address of the script back.
  const shim = URL.createObjectURL(new Blob([`import ${JSON.stringify(url.href)};\nURL.revokeObjectURL(self.location.href);`], { type: "text/javascript" }));
  try {
    const worker = new Worker(trusted(shim), { type: "module" });
    worker.addEventListener("error", () => URL.revokeObjectURL(shim), { once: true });
    return worker;
  } catch (error) {
    URL.revokeObjectURL(shim);
    throw error;
  }
}
