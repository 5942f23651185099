// The page: one element, and what it needs from this page's address.

// The language first: the element asks for it when it is there.
import "./site.js";
import "../llava-chat.js";
import { setText } from "../chat/base/dom.js";
import { MODELS } from "../models.js";
import { words } from "./words.js";

/** How long after its beginning the page may load itself anew, in milliseconds, where it does not load a model: later somebody reads it. */
const RELOAD_WITHIN = 8000;

// The page opens with the first of its models, which is small and comes with it. A link may name another one,
// …/?model=hf:…&mmproj=hf:…, which is filled in, not loaded; …/?model= opens with the choice.
const chat = /** @type {import("../llava-chat.js").LlavaChat} */ (document.querySelector("llava-chat"));
chat.models = MODELS;
const query = new URLSearchParams(location.search);
for (const name of /** @type {const} */ (["model", "mmproj", "prompt"])) {
  const value = query.get(name);
  if (value) chat[name] = value;
}
sayWhereFrom();
// To the other pages: in a tab of their own where there is a conversation that would be lost.
for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll(".site nav a:not(.language)"))) {
  link.addEventListener("click", () => (link.target = chat.messages.length > 0 ? "_blank" : ""));
}
if (!query.has("model")) {
  ({ model: chat.model = "", mmproj: chat.mmproj = "" } = MODELS[0] ?? {});
  chat.autoload = true;
  // On this page there is nothing else: whoever has not gone anywhere goes on with the question.
  chat.addEventListener("llava-ready", () => {
    if (document.activeElement === document.body) chat.focus();
  }, { once: true });
}

// A packaged page names its service worker: see sw.js.
const script = document.querySelector('meta[name="llava-service-worker"]')?.getAttribute("content");
if (script && "serviceWorker" in navigator) {
  let touched = false;
  for (const type of ["pointerdown", "touchstart", "wheel", "keydown", "input", "paste", "drop"]) addEventListener(type, () => (touched = true), { once: true, capture: true, passive: true });
  let isOpening = chat.autoload;
  /** Until the model with which the page opens is there, or cannot be loaded. */
  const opened = new Promise((resolve) => {
    if (!isOpening) resolve(undefined);
    for (const type of ["llava-ready", "llava-error"]) chat.addEventListener(type, resolve, { once: true });
  }).then(() => (isOpening = false));
  // What the person sees and does comes first.
  if (document.readyState === "complete") start(script);
  else addEventListener("load", () => start(script), { once: true });

  /** @param {string} script */
  async function start(script) {
    try {
      await navigator.serviceWorker.register(trusted(script));
      await controlled();
      // Only an answer that came through the worker makes the page isolated. Once, soon, never in the middle of a load, and never away from
      // somebody who has begun; the model is kept.
      if (!script.includes("?isolate") || crossOriginIsolated || sessionStorage.getItem("llava-reloaded")) return;
      if (!isOpening && performance.now() > RELOAD_WITHIN) return;
      await opened;
      if (touched || chat.messages.length > 0) return;
      sessionStorage.setItem("llava-reloaded", "yes");
    } catch {
      // Not over plain http:, not in every private window, not where storage is blocked: then there is no offline use, and one thread.
      return;
    }
    location.reload();
  }

  /** @returns {Promise<unknown>} */
  async function controlled() {
    await navigator.serviceWorker.ready;
    return navigator.serviceWorker.controller ?? new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  }
}

/** Somebody else may have chosen what a link fills in: it is said beside it, with the hosts that the model would come from. */
function sayWhereFrom() {
  const given = ["model", "mmproj"].flatMap((name) => query.get(name) || []);
  if (given.length === 0) return;
  const hosts = new Set(given.flatMap((address) => address.trim().split(/\s+/)).map(hostOf));
  const note = document.createElement("p");
  note.slot = "note";
  note.className = "note";
  setText(note, words.say("home.fromLink", { hosts: words.list([...hosts].map((host) => host ?? String(words.say("home.badHost")))) }));
  chat.append(note);
  chat.addEventListener("llava-ready", () => note.remove(), { once: true });
}

/** @param {string} address @returns {string | null}  null where it is not valid */
function hostOf(address) {
  if (/^hf:/i.test(address)) return "huggingface.co";
  try {
    return new URL(address, document.baseURI).host;
  } catch {
    return null;
  }
}

/**
 * For browsers that want to know which scripts are meant: see the page's policy.
 * @param {string} url
 * @returns {string}
 */
function trusted(url) {
  const { trustedTypes } = /** @type {any} */ (globalThis);
  if (!trustedTypes) return url;
  return trustedTypes.createPolicy("llava-web-page", { createScriptURL: (/** @type {string} */ url) => url }).createScriptURL(url);
}
