// What the model writes, as Markdown, while it is being written. It is text from somebody nobody knows: it becomes paragraphs, lists,
// tables and code, and nothing that fetches, runs, or looks like a part of the page. Pictures in it stay words, HTML in it stays text.
//
// Two kept libraries do it: marked turns the text into HTML, DOMPurify takes out of that whatever is not on the list below. They come
// when a model is loaded, not before; without them, or before they are there, the text is shown as it is.

import { element } from "../base/dom.js";

/** What Markdown needs. No style, no class, no identifier: nothing that reaches the element's own look. */
const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h3", "hr", "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th",
  "thead", "tr", "ul",
];
const ATTRIBUTES = ["href", "start", "align"];
const FENCE = "`".repeat(80);
/** Longer answers would be parsed anew too often; no model that runs here writes them. */
const MAX_LENGTH = 200_000;

/** @type {Promise<void> | null} */
let loading = null;
/** Markdown → its blocks, each as source text. @type {((text: string) => string[]) | null} */
let split = null;
/** One block → nodes that are safe to show. @type {((block: string) => DocumentFragment) | null} */
let toNodes = null;

/** Fetches the libraries, once. */
export function prepareMarkdown() {
  loading ??= load().catch(() => {});
  return loading;
}

async function load() {
  const [{ Marked }, { default: DOMPurify }] = await Promise.all([
    // Both are there once build.sh has run.
    import("../../vendor/marked.js"), import("../../vendor/dompurify.js"),
  ]);
  const marked = new Marked({ gfm: true, breaks: true, async: false });
  marked.use({
    renderer: /** @type {Record<string, (this: any, token: any) => string>} */ ({
      html: ({ text }) => escaped(text),
      image: ({ href, text }) => escaped(text || href),
      // Under the question, which is a heading of the second level; a model's own levels often leave some out.
      heading({ tokens }) {
        return `<h3>${this.parser.parseInline(tokens)}</h3>`;
      },
      checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    }),
  });
  const purify = DOMPurify();
  purify.addHook("afterSanitizeAttributes", (/** @type {any} */ node) => {
    // What is wider than the answer is scrolled, with the keyboard too.
    if (node.tagName === "PRE" || node.tagName === "TABLE") node.setAttribute("tabindex", "0");
    if (node.tagName !== "A") return;
    // Only what leads somewhere else, in a tab of its own that does not know where it was opened.
    const href = node.getAttribute("href") ?? "";
    if (!/^https?:\/\//i.test(href) || !host(href)) node.removeAttribute("href");
    // Its words may name another place than it leads to.
    else node.title = host(href);
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  });
  split = (text) => marked.lexer(text).map((/** @type {{ raw: string }} */ { raw }) => raw);
  toNodes = (block) => purify.sanitize(/** @type {string} */ (marked.parse(block)), {
    ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ATTRIBUTES, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false, RETURN_DOM_FRAGMENT: true,
  });
}

/** @param {string} href */
function host(href) {
  try {
    return new URL(href).host;
  } catch {
    return "";
  }
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** A text that grows, shown in an element. Blocks that are finished are not touched again. */
export class MarkdownText {
  #text = "";
  /** The source of each block that is shown. @type {string[]} */
  #blocks = [];
  #plain = document.createTextNode("");
  #pending = 0;
  #isCode = false;
  #host;

  /** @param {HTMLElement} host */
  constructor(host) {
    this.#host = host;
    host.append(this.#plain);
  }

  get text() {
    return this.#text;
  }

  /** @param {{ code?: boolean }} [options]  `code`: what will be added is to be shown as it is, as code */
  clear({ code = false } = {}) {
    this.#isCode = code;
    cancelAnimationFrame(this.#pending);
    this.#pending = 0;
    this.#text = "";
    this.#blocks = [];
    this.#plain.data = "";
    this.#host.classList.remove("markdown");
    this.#host.replaceChildren(this.#plain);
  }

  /** @param {string} text */
  add(text) {
    this.#text += text;
    // Several tokens may come between two frames.
    if (split && !document.hidden) this.#pending ||= requestAnimationFrame(() => this.flush());
    else this.flush();
  }

  /** Shows all that has come. */
  flush() {
    cancelAnimationFrame(this.#pending);
    this.#pending = 0;
    if (!split || !toNodes || this.#text.length > MAX_LENGTH) {
      if (this.#plain.isConnected || this.#blocks.length === 0) this.#plain.data = this.#text;
      else this.#showPlain();
      return;
    }
    try {
      // No fence that is within the text is as long.
      this.#show(this.#isCode ? [`${FENCE}\n${this.#text}\n${FENCE}`] : split(this.#text), toNodes);
    } catch {
      this.#showPlain();
    }
  }

  #showPlain() {
    this.#blocks = [];
    this.#plain.data = this.#text;
    this.#host.classList.remove("markdown");
    this.#host.replaceChildren(this.#plain);
  }

  /**
   * @param {string[]} blocks
   * @param {(block: string) => DocumentFragment} toNodes
   */
  #show(blocks, toNodes) {
    let same = 0;
    while (same < blocks.length && blocks[same] === this.#blocks[same]) same += 1;
    if (this.#plain.parentNode === this.#host) this.#host.replaceChildren();
    this.#host.classList.add("markdown");
    while (this.#host.children.length > same) this.#host.lastElementChild?.remove();
    for (const block of blocks.slice(same)) {
      const holder = element("div", { class: "block" });
      holder.append(toNodes(block));
      this.#host.append(holder);
    }
    this.#blocks = blocks;
  }
}
