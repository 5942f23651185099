// Asks for a picture's URL, and fetches the picture.

import { Complaint, Language } from "../../strings/language.js";
import { button, dialog, element, setText } from "../base/dom.js";
import { openPicture } from "./pictures.js";

/** Of a URL's picture: more bytes than any camera's file has. */
const MAX_BYTES = 100e6;

/**
 * Asks for a picture's URL and fetches it.
 * @param {ShadowRoot} root
 * @param {import("../../strings/language.js").Language} words
 * @returns {Promise<File | null>}  null where the person changed their mind
 */
export function askForAddress(root, words) {
  return new Promise((resolve) => {
    const input = element("input", { type: "url", class: "field", id: "picture-url", autocomplete: "off", placeholder: "https://…", "aria-describedby": "picture-url-hint" });
    const problem = element("p", { class: "problem", role: "alert" });
    const get = button({ text: words.say("url.add"), class: "primary", type: "submit" });
    /** @type {File | null} */
    let file = null;
    const controller = new AbortController();
    const form = element("form", { class: "dialog-body", novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      problem.textContent = "";
      get.disabled = true;
      try {
        file = await fetchPicture(input.value.trim(), controller.signal);
        box.close();
      } catch (error) {
        setText(problem, words.explain(error));
        input.focus();
      }
      get.disabled = false;
    } },
      element("label", { for: "picture-url" }, words.say("url.label")), input,
      element("p", { class: "hint", id: "picture-url-hint" }, words.say("url.hint")),
      problem, element("div", { class: "card-actions" }, get));
    const box = dialog({ root, words, title: words.say("ask.url"), onclose: () => {
      controller.abort();
      resolve(file);
    } }, form);
  });
}

/**
 * @param {string} address
 * @param {AbortSignal} [signal]
 * @returns {Promise<File>}  fails with a Complaint
 */
export async function fetchPicture(address, signal) {
  let url;
  try {
    url = new URL(address, document.baseURI);
  } catch {
    throw new Complaint("url.invalid");
  }
  if (!["http:", "https:", "data:"].includes(url.protocol)) throw new Complaint("url.invalid");
  let response;
  try {
    response = await fetch(url, { signal, referrerPolicy: "no-referrer", credentials: "omit" });
  } catch (cause) {
    throw new Complaint("url.unreachable", {}, { cause });
  }
  if (!response.ok) throw new Complaint("url.status", { status: response.status });
  const blob = await response.blob();
  if (blob.size > MAX_BYTES) throw new Complaint("url.tooLarge", { size: new Language().bytes(MAX_BYTES) });
  const name = url.protocol === "data:" ? "picture" : url.pathname.split("/").pop() || url.hostname;
  // What hosts call a file may be wrong: whether it is a picture is seen when it is opened.
  const file = new File([blob], name, { type: blob.type });
  await openPicture(file);
  return file;
}
