// `responseConstraint` of the Prompt API → the engine's form of an answer, and the text of an answer in that form as it comes.

import { exception } from "./dom-exception.js";

/** @param {unknown} constraint */
export function constraintOf(constraint) {
  if (constraint === undefined || constraint === null) return {};
  if (Object.prototype.toString.call(constraint) === "[object RegExp]") {
    const { source, flags } = /** @type {RegExp} */ (constraint);
    if (/[ims]/.test(flags)) throw exception(`responseConstraint: the flags "${flags}" of a regular expression are not supported.`, "NotSupportedError");
    // The whole answer has to match, whereas a schema's pattern may match a part.
    const schema = { type: "string", pattern: `^(?:${source})$` };
    return { isPattern: true, format: /** @type {const} */ ({ type: "json_schema", json_schema: { name: "answer", schema } }) };
  }
  if (typeof constraint !== "object") throw new TypeError("responseConstraint must be a JSON schema or a regular expression.");
  return { schema: constraint, format: /** @type {const} */ ({ type: "json_schema", json_schema: { name: "answer", schema: constraint } }) };
}

/** An answer as it comes. */
export class PlainText {
  whole = "";

  /** @param {string} piece */
  push(piece) {
    this.whole += piece;
    return piece;
  }
}

/** The most characters of a JSON string that may still mean something else, as a pair of escapes does: `\\ud83d\\ude0`. */
const LONGEST_BEGINNING = 12;

/** The text of a JSON string that comes in pieces. */
export class JsonString {
  whole = "";
  #json = "";

  /** @param {string} piece */
  push(piece) {
    this.#json += piece;
    const text = this.#text();
    const more = text.slice(this.whole.length);
    this.whole = text;
    return more;
  }

  /** As much of it as is certain. */
  #text() {
    const json = this.#json.trimStart();
    const read = (/** @type {string} */ text) => {
      try {
        return String(JSON.parse(text));
      } catch {
        return null;
      }
    };
    const whole = read(json);
    if (whole !== null) return whole;
    for (let cut = 0; cut < LONGEST_BEGINNING && cut < json.length; cut++) {
      // A pair of surrogates is one character, which comes at once.
      const text = read(`${json.slice(0, json.length - cut)}"`)?.replace(/[\ud800-\udbff]$/, "");
      if (text !== undefined && text.length >= this.whole.length) return text;
    }
    return this.whole;
  }
}
