// Asks for a picture's URL, and fetches the picture.

import { button, dialog, element } from "../base/dom.js";
import { openPicture } from "./pictures.js";

/** Of a URL's picture: more bytes than any camera's file has. */
const MAX_BYTES = 100e6;

/**
 * Asks for a picture's URL and fetches it.
 * @param {ShadowRoot} root
 * @returns {Promise<File | null>}  null where the person changed their mind
 */
export function askForAddress(root) {
  return new Promise((resolve) => {
    const input = element("input", { type: "url", class: "field", id: "picture-url", autocomplete: "off", placeholder: "https://…", "aria-describedby": "picture-url-hint" });
    const problem = element("p", { class: "problem", role: "alert" });
    const get = button({ text: "Add picture", class: "primary", type: "submit" });
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
        problem.textContent = /** @type {Error} */ (error).message;
        input.focus();
      }
      get.disabled = false;
    } },
      element("label", { for: "picture-url" }, "Picture URL"), input,
      element("p", { class: "hint", id: "picture-url-hint" }, "Your browser downloads it directly from that site. Some sites don’t allow this."),
      problem, element("div", { class: "card-actions" }, get));
    const box = dialog({ root, title: "Picture from a URL", onclose: () => {
      controller.abort();
      resolve(file);
    } }, form);
  });
}

/**
 * @param {string} address
 * @param {AbortSignal} [signal]
 * @returns {Promise<File>}  fails with a sentence for the person
 */
export async function fetchPicture(address, signal) {
  let url;
  try {
    url = new URL(address, document.baseURI);
  } catch {
    throw new Error("That isn’t a valid URL. URLs start with https://");
  }
  if (!["http:", "https:", "data:"].includes(url.protocol)) throw new Error("That isn’t a valid URL. URLs start with https://");
  let response;
  try {
    response = await fetch(url, { signal, referrerPolicy: "no-referrer", credentials: "omit" });
  } catch {
    throw new Error("Couldn’t download the picture. You may be offline, or the site doesn’t allow it. Save the picture and choose the file instead.");
  }
  if (!response.ok) throw new Error(`The site answered with status ${response.status}. Check the URL.`);
  const blob = await response.blob();
  if (blob.size > MAX_BYTES) throw new Error("The picture is larger than 100 MB. Choose a smaller one.");
  const name = url.protocol === "data:" ? "picture" : url.pathname.split("/").pop() || url.hostname;
  // What hosts call a file may be wrong: whether it is a picture is seen when it is opened.
  const file = new File([blob], name, { type: blob.type });
  await openPicture(file);
  return file;
}
