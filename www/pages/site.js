// What the pages have in common: the language that they speak, which is the person's or the one they chose, and the words in the pages' own
// markup. It runs before everything else of a page, so that the language is known before anything is said.

import { sayAgain, setAttribute, setText } from "../chat/base/dom.js";
import { LANGUAGES, preferred } from "../strings/language.js";
import { words } from "./words.js";

/** @typedef {keyof typeof LANGUAGES} Tag */
/** @typedef {import("../strings/language.js").Key} Key */

const KEY = "llava-web language";
/** Which attribute of a node says which of its own attributes is said. */
const SAID = { say: "", sayLabel: "aria-label", sayPlaceholder: "placeholder" };

/** @param {string | null} tag @returns {tag is Tag} */
const isThere = (tag) => tag !== null && tag in LANGUAGES;

/** The one that a link names, or that was chosen before, or the person's own. @returns {string} */
function wished() {
  const named = new URLSearchParams(location.search).get("lang");
  if (isThere(named)) return named;
  try {
    const chosen = localStorage.getItem(KEY);
    if (isThere(chosen)) return chosen;
  } catch {
    // Storage is blocked here.
  }
  return preferred();
}

/** @param {string} tag */
async function speak(tag) {
  const [name = "en"] = tag.split("-");
  document.documentElement.lang = name;
  await words.use(tag);
  sayAgain(document.documentElement);
  // What the page says within the element: names and descriptions of models.
  for (const { shadowRoot } of document.querySelectorAll("llava-chat")) if (shadowRoot) sayAgain(shadowRoot);
  const tags = /** @type {Tag[]} */ (Object.keys(LANGUAGES));
  const other = tags[(tags.indexOf(/** @type {Tag} */ (name)) + 1) % tags.length] ?? "en";
  for (const link of /** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("a.language"))) {
    link.lang = link.hreflang = other;
    link.href = `?lang=${other}`;
    link.textContent = LANGUAGES[other];
  }
}

for (const [name, attribute] of Object.entries(SAID)) {
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`[data-${name.replace("L", "-l").replace("P", "-p")}]`))) {
    const phrase = words.say(/** @type {Key} */ (node.dataset[name]));
    if (attribute) setAttribute(node, attribute, phrase);
    else setText(node, phrase);
  }
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a.language") : null;
  if (!(link instanceof HTMLAnchorElement)) return;
  // Without leaving the page, and what is being done on it.
  event.preventDefault();
  try {
    localStorage.setItem(KEY, link.hreflang);
  } catch {
    // It holds until the page is left.
  }
  speak(link.hreflang);
});

speak(wished());
