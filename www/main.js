// The page: one element, and what it needs from this page's address.

import "./llava-chat.js";
import { MODELS } from "./models.js";

// A link to this page may name the model: …/?model=hf:…&mmproj=hf:…  It is filled in, not loaded.
const chat = /** @type {import("./llava-chat.js").LlavaChat} */ (document.querySelector("llava-chat"));
chat.models = MODELS;
const query = new URLSearchParams(location.search);
for (const name of /** @type {const} */ (["model", "mmproj", "prompt"])) {
  const value = query.get(name);
  if (value) chat[name] = value;
}

// A packaged page names its service worker: see sw.js.
const script = document.querySelector('meta[name="llava-service-worker"]')?.getAttribute("content");
if (script && "serviceWorker" in navigator) {
  let touched = false;
  for (const type of ["pointerdown", "keydown", "drop"]) addEventListener(type, () => (touched = true), { once: true, capture: true });
  // What the person sees and does comes first.
  if (document.readyState === "complete") start(script);
  else addEventListener("load", () => start(script), { once: true });

  /** @param {string} script */
  async function start(script) {
    try {
      await navigator.serviceWorker.register(script);
      await controlled();
    } catch {
      // Not over plain http:, not in every private window: then there is no offline use, and one thread.
      return;
    }
    // Only an answer that came through the worker makes the page isolated. Once, and never away from somebody who has begun.
    if (!script.includes("?isolate") || crossOriginIsolated || touched || chat.engine || sessionStorage.getItem("llava-reloaded")) return;
    sessionStorage.setItem("llava-reloaded", "yes");
    location.reload();
  }

  /** @returns {Promise<unknown>} */
  async function controlled() {
    await navigator.serviceWorker.ready;
    return navigator.serviceWorker.controller ?? new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  }
}
