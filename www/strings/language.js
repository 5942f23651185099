// The words of the element and of the pages in a person's language. Every text is named by its key in en.js; the other languages have the same
// keys, and are fetched when somebody reads them.
//
// What is shown is a Phrase: it says itself in the language that is read now. Nodes that were made with one (chat/base/dom.js) remember it, so
// that they can be said anew when the language changes, or has just arrived.

import { strings as english } from "./en.js";

/** A text, or its forms by the number `count`, as Intl.PluralRules tells them apart. @typedef {string | Partial<Record<Intl.LDMLPluralRule, string>>} Message */
/** @typedef {Record<keyof typeof english, Message>} Strings */
/** @typedef {keyof typeof english} Key */
/** What stands in a text's place: numbers are written as the language writes them. @typedef {string | number | Phrase | Node} Value */

/** The languages beside English. @type {Record<string, () => Promise<{ strings: Strings }>>} */
const OTHERS = { de: () => import("./de.js") };

/** Tags of the languages that there are, as readers name them. */
export const LANGUAGES = /** @type {const} */ ({ en: "English", de: "Deutsch" });

const BYTE_UNITS = ["byte", "kilobyte", "megabyte", "gigabyte"];

/** A text that is said when it is needed. */
export class Phrase {
  #parts;

  /** @param {() => (string | Node)[]} parts */
  constructor(parts) {
    this.#parts = parts;
  }

  /** Texts, and what stands among them. @returns {(string | Node)[]} */
  get parts() {
    return this.#parts();
  }

  toString() {
    return this.parts.map((part) => (typeof part === "string" ? part : part.textContent ?? "")).join("");
  }
}

/** A failure that is told to the person: its message is English, its phrase in their language. */
export class Complaint extends Error {
  /**
   * @param {Key} key
   * @param {Record<string, Value>} [values]
   * @param {{ cause?: unknown }} [options]
   */
  constructor(key, values = {}, options) {
    super(String(new Language().say(key, values)), options);
    this.name = "Complaint";
    this.code = "invalid_request";
    this.key = key;
    this.values = values;
  }
}

export class Language {
  /** The tag of the texts that are shown, for `lang` attributes. */
  tag = "en";
  /** @type {Strings} */
  #strings = english;
  /** How numbers and dates are written: the wished tag where its language is shown. */
  #locale = "en";
  /** @type {Intl.PluralRules} */
  #plural = new Intl.PluralRules("en");
  /** The last wish, so that a slow language does not undo a later one. */
  #wish = 0;

  /**
   * Changes to another language. One that is not there, or cannot be fetched, leaves English.
   * @param {string} wished  a language tag
   * @returns {Promise<boolean>}  whether something else is shown now
   */
  async use(wished) {
    const wish = ++this.#wish;
    const locale = Intl.NumberFormat.supportedLocalesOf([wished].filter(isTag))[0] ?? "en";
    const [name = ""] = locale.split("-");
    const fetched = await OTHERS[name]?.().catch((error) => void console.warn(error));
    if (wish !== this.#wish) return false;
    const [tag, chosen] = fetched ? [name, locale] : ["en", name === "en" ? locale : "en"];
    if (tag === this.tag && chosen === this.#locale) return false;
    this.tag = tag;
    this.#locale = chosen;
    this.#strings = fetched?.strings ?? english;
    this.#plural = new Intl.PluralRules(tag);
    return true;
  }

  /** Whether it must be fetched before it can be read. @param {string} wished */
  isElsewhere(wished) {
    const name = wished.toLowerCase().split("-")[0] ?? "";
    return name in OTHERS && name !== this.tag;
  }

  /**
   * A text of the language.
   * @param {Key} key
   * @param {Record<string, Value>} [values]  for the places in it; `count` also chooses between its forms
   */
  say(key, values = {}) {
    return new Phrase(() => this.#said(key, values));
  }

  /**
   * @param {Key} key
   * @param {Record<string, Value>} values
   */
  #said(key, values) {
    const message = this.#strings[key];
    const text = typeof message === "string" ? message : message[this.#plural.select(Number(values["count"]))] ?? message.other ?? "";
    // Every second part is a place's name.
    return text.split(/\{(\w+)\}/).flatMap((part, i) => {
      const value = i % 2 === 0 ? part : values[part] ?? "";
      if (value instanceof Phrase) return value.parts;
      return value instanceof Node_ ? [value] : typeof value === "number" ? this.#number(value) : String(value);
    });
  }

  /**
   * Several things in one line. What is empty is left out.
   * @param {(string | Phrase | null | undefined | false)[]} parts
   * @param {string} [separator]
   */
  join(parts, separator = " · ") {
    return new Phrase(() => parts.filter((part) => part && String(part) !== "").flatMap((part, i) => [...(i > 0 ? [separator] : []), ...(part instanceof Phrase ? part.parts : [String(part)])]));
  }

  /** @param {number} value @param {Intl.NumberFormatOptions} [options] */
  #number(value, options) {
    return new Intl.NumberFormat(this.#locale, options).format(value);
  }

  /** @param {number} value */
  number(value) {
    return new Phrase(() => [this.#number(value)]);
  }

  /** Three figures, and no zeros at their end. @param {number} value */
  figures(value) {
    return new Phrase(() => [this.#number(value, figures(value))]);
  }

  /** In decimal units, as model hosts and file managers show sizes. @param {number} count */
  bytes(count) {
    const power = Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
    const value = count / 1000 ** power;
    return new Phrase(() => [this.#number(value, { style: "unit", unit: BYTE_UNITS[power], unitDisplay: power === 0 ? "long" : "short", ...figures(value) })]);
  }

  /** With one decimal, as tables of scores have it. @param {number} value */
  tenths(value) {
    return new Phrase(() => [this.#number(value, { minimumFractionDigits: 1, maximumFractionDigits: 1, useGrouping: false })]);
  }

  /**
   * @param {number} share  from 0 to 1
   * @param {number} [decimals]  with none, what is little is said to be less than one percent
   */
  percent(share, decimals = 0) {
    const percent = (/** @type {number} */ value) => new Phrase(() => [this.#number(value, { style: "percent", minimumFractionDigits: decimals, maximumFractionDigits: decimals })]);
    return decimals === 0 && share > 0 && share < 0.01 ? this.say("unit.lessThan", { amount: percent(0.01) }) : percent(share);
  }

  /** @param {number} seconds */
  duration(seconds) {
    if (seconds < 0.1) return this.say("unit.milliseconds", { value: Math.max(1, Math.round(1000 * seconds)) });
    if (seconds < 10) return this.say("unit.seconds", { value: this.figures(seconds) });
    if (seconds < 90) return this.say("unit.seconds", { value: Math.round(seconds) });
    return this.say("unit.minutes", { value: Math.round(seconds / 60) });
  }

  /** How long since, in days and more. @param {number} time  milliseconds since 1970 */
  ago(time) {
    return new Phrase(() => {
      const format = new Intl.RelativeTimeFormat(this.#locale, { numeric: "auto" });
      const midnight = new Date().setHours(0, 0, 0, 0);
      const days = Math.max(0, Math.ceil((midnight - time) / 86_400_000));
      if (days < 14) return [format.format(-days, "day")];
      return [days < 60 ? format.format(-Math.round(days / 7), "week") : format.format(-Math.round(days / 30), "month")];
    });
  }

  /** Several, with “and” before the last. @param {string[]} items */
  list(items) {
    return new Phrase(() => [new Intl.ListFormat(this.#locale).format(items)]);
  }

  /** What the engine says: English, and said to be so where another language is read. @param {string} text */
  quote(text) {
    return new Phrase(() => (this.tag === "en" || !globalThis.document ? [text] : [inEnglish(text)]));
  }

  /**
   * What went wrong, for a person. The engine's own messages are English: elsewhere a sentence of the language stands before them.
   * @param {unknown} thrown
   */
  explain(thrown) {
    if (thrown instanceof Complaint) return this.say(thrown.key, thrown.values);
    const { code, message = String(thrown) } = /** @type {{ code?: unknown, message?: string }} */ (Object(thrown));
    const key = `error.${code}`;
    const summary = key in english ? /** @type {Key} */ (key) : "error.internal";
    return new Phrase(() => (this.tag === "en" ? [message] : [...this.#said(summary, {}), " ", ...this.quote(message).parts]));
  }
}

/** @param {string} text */
function inEnglish(text) {
  const node = document.createElement("span");
  node.lang = "en";
  node.textContent = text;
  return node;
}

/** On a server there are no nodes. @type {{ new (): Node }} */
const Node_ = globalThis.Node ?? /** @type {any} */ (class {});

/** @param {number} value @returns {Intl.NumberFormatOptions} */
function figures(value) {
  return { maximumFractionDigits: value >= 100 ? 0 : value >= 10 ? 1 : 2, useGrouping: false };
}

/** @param {string} tag */
function isTag(tag) {
  try {
    return Intl.getCanonicalLocales(tag).length > 0;
  } catch {
    return false;
  }
}

/**
 * The language that an element is to speak: the one that it or what is around it says, else the first of the person's that there is.
 * @param {Element} element
 * @returns {string}
 */
export function languageOf(element) {
  /** @type {Element | null} */
  let at = element;
  while (at) {
    const said = at.closest("[lang]");
    // An empty one says that it is not known.
    if (said) return said.getAttribute("lang") || preferred();
    const root = /** @type {Node} */ (at.getRootNode());
    at = root instanceof ShadowRoot ? root.host : null;
  }
  return preferred();
}

/** The first of the person's languages that there is. */
export function preferred() {
  return globalThis.navigator?.languages?.find((tag) => (tag.split("-")[0] ?? "") in LANGUAGES) ?? "en";
}
