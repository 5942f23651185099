// Elements without markup: what a model or a file says only ever becomes text. Those that are made with a Phrase can be said anew in another
// language.

import { Phrase } from "../../strings/language.js";

/** @typedef {import("../../strings/language.js").Language} Language */
/** @typedef {string | Phrase} Text */

/** The phrases that a node shows, by attribute; "" is its text. @type {WeakMap<Node, Map<string, Phrase>>} */
const phrases = new WeakMap();

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Text | boolean | number | null | ((event: any) => void)>} [attributes]  functions are listeners: `onclick`
 * @param {...(Node | Text | null)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice("on".length), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) setAttribute(node, name, value instanceof Phrase ? value : String(value));
  }
  node.append(...children.filter((child) => child !== null).map((child) => (child instanceof Phrase ? nodeOf(child) : child)));
  return node;
}

/** @param {Phrase} phrase */
function nodeOf(phrase) {
  const isText = phrase.parts.every((part) => typeof part === "string");
  const node = isText ? document.createTextNode("") : document.createElement("span");
  setText(node, phrase);
  return node;
}

/**
 * @param {Node} node
 * @param {Text} text
 */
export function setText(node, text) {
  remember(node, "", text);
  if (text instanceof Phrase && node instanceof Element) node.replaceChildren(...text.parts);
  else node.textContent = String(text);
}

/**
 * @param {Element} node
 * @param {string} name
 * @param {Text} text
 */
export function setAttribute(node, name, text) {
  remember(node, name, text);
  node.setAttribute(name, String(text));
}

/** @param {Node} node @param {string} name @param {Text} text */
function remember(node, name, text) {
  const own = phrases.get(node) ?? new Map();
  if (text instanceof Phrase) phrases.set(node, own.set(name, text));
  else own.delete(name);
}

/** Says everything under a node anew, in the language that is read now. @param {Node} root */
export function sayAgain(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  /** @type {Node[]} */
  const all = [root];
  while (walker.nextNode()) all.push(walker.currentNode);
  for (const node of all) {
    for (const [name, phrase] of phrases.get(node) ?? []) {
      if (name === "") setText(node, phrase);
      else if (node instanceof Element) setAttribute(node, name, phrase);
    }
  }
}

/** Drawn here, in one stroke width, on a grid of 24. */
const ICONS = {
  picture: "M4 5.5h16v13H4z M4 16l4.5-4.5 4 4 2.5-2.5 5 5 M15.5 9.25h.01",
  send: "M12 19V5.5 M6 11.5l6-6 6 6",
  stop: "M7 7h10v10H7z",
  close: "M6.5 6.5l11 11 M17.5 6.5l-11 11",
  copy: "M9 9h10.5v10.5H9z M5.5 15H4.5V4.5H15v1",
  again: "M19 12a7 7 0 1 1-2.2-5.1 M19.5 3.5v4h-4",
  plus: "M12 5v14 M5 12h14",
  file: "M6 3.5h8l4 4v13H6z M14 3.5v4h4",
  done: "M5 12.5l4.5 4.5L19 7.5",
  camera: "M4 8h3.5l1.5-2.5h6L16.5 8H20v11H4z M15 13a3 3 0 1 1-6 0 3 3 0 0 1 6 0",
  link: "M10 13.5a3.5 3.5 0 0 0 5 0l3-3a3.5 3.5 0 0 0-5-5l-.75.75 M14 10.5a3.5 3.5 0 0 0-5 0l-3 3a3.5 3.5 0 0 0 5 5l.75-.75",
  edit: "M4.5 19.5l1-4L16 5l3 3L8.5 18.5z M14 7l3 3",
  save: "M12 4v10.5 M7.5 10.5L12 15l4.5-4.5 M5 19.5h14",
  settings: "M4 7h9 M17 7h3 M15 5v4 M4 12h3 M11 12h9 M9 10v4 M4 17h9 M17 17h3 M15 15v4",
  eye: "M2.75 12c2.5-4.25 5.6-6.25 9.25-6.25S18.75 7.75 21.25 12c-2.5 4.25-5.6 6.25-9.25 6.25S5.25 16.25 2.75 12z M15 12a3 3 0 1 1-6 0 3 3 0 0 1 6 0",
  folder: "M3.5 6h6l2 2.5h9v10h-17z",
  live: "M3.5 7h11v10h-11z M14.5 11l6-3.5v9l-6-3.5",
  screen: "M3.5 5h17v11.5h-17z M9 20h6 M12 16.5V20",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button with words, an icon, or both; `label` is its name where it has no words.
 * @param {{ text?: Text, label?: Text, icon?: keyof typeof ICONS, class?: string, part?: string, type?: string, onclick?: (event: MouseEvent) => void }} options
 */
export function button({ text, label, icon: name, class: kind = "quiet", part, type = "button", onclick }) {
  const node = element("button", { type, class: `button ${kind}`, part: part ? `button ${part}` : "button" });
  if (name) node.append(icon(name));
  if (text) node.append(element("span", {}, text));
  if (label) nameButton(node, label);
  if (onclick) node.addEventListener("click", onclick);
  return node;
}

/** Names a button that has no words, for screen readers and for the pointer. @param {HTMLElement} node @param {Text} label */
export function nameButton(node, label) {
  setAttribute(node, "aria-label", label);
  setAttribute(node, "title", label);
}

/** Changes the words of a button. @param {HTMLElement} node @param {Text} text */
export function setButtonText(node, text) {
  setText(/** @type {HTMLElement} */ (node.querySelector("span")), text);
}

/**
 * A dialog over everything, which takes the focus and gives it back; Escape closes it. It is gone when it is closed.
 * @param {{ root: ShadowRoot, words: Language, title: Text, onclose?: () => void }} options
 * @param {...Node} children
 */
export function dialog({ root, words, title, onclose }, ...children) {
  const before = /** @type {HTMLElement | null} */ (root.activeElement);
  const close = button({ label: words.say("do.close"), icon: "close", class: "quiet round", onclick: () => box.close() });
  const box = element("dialog", { class: "dialog", part: "dialog", "aria-label": title },
    element("div", { class: "dialog-head" }, element("h2", {}, title), close), ...children);
  box.addEventListener("close", () => {
    box.remove();
    if (before?.isConnected) before.focus({ preventScroll: true });
    onclose?.();
  });
  // A click beside it: on the dialog itself, whose content fills it.
  box.addEventListener("pointerdown", (event) => {
    if (event.target === box) box.close();
  });
  // Escape is the dialog's while it is open, not the generation's.
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.stopPropagation();
  });
  (root.querySelector(".shell") ?? root).append(box);
  box.showModal();
  return box;
}

/**
 * Hands the person a file.
 * @param {string} name
 * @param {string} text
 * @param {string} type
 */
export function saveFile(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: url, download: name });
  link.click();
  // Not at once: some browsers begin to read it a little later.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
