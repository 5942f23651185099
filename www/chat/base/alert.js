// What went wrong or is worth knowing, in a sentence, with what can be done about it.

import { button, element } from "./dom.js";

/** @typedef {import("./dom.js").Text} Text */
/** @typedef {import("../../strings/language.js").Language} Language */

export class Alert {
  element;
  #words;
  /** Told when the message goes, whoever took it away. @type {(() => void) | null} */
  #onGone = null;

  /**
   * @param {Language} words
   * @param {{ role?: "alert" | "note", part?: string, label?: Text }} [options]  a note is not read out by itself
   */
  constructor(words, { role = "alert", part = "error", label } = {}) {
    this.#words = words;
    this.element = element("div", { class: "alert", part, role, "aria-label": label ?? null, tabindex: "-1", hidden: true });
  }

  /**
   * @param {Text} message
   * @param {{ actions?: { text: Text, onclick: () => void, quiet?: boolean }[], notice?: boolean, closable?: boolean, onGone?: () => void }} [options]
   *   `notice`: no failure; `closable`: whether the person can take it away; `onGone`: told when it goes
   */
  show(message, { actions = [], notice = false, closable = true, onGone } = {}) {
    this.hide();
    this.#onGone = onGone ?? null;
    this.element.classList.toggle("notice", notice);
    this.element.replaceChildren(
      element("p", { dir: "auto" }, message),
      ...actions.map(({ quiet, ...action }) => button({ ...action, class: quiet ? "quiet" : "plain" })),
      ...(closable ? [button({ label: this.#words.say("do.closeMessage"), icon: "close", class: "quiet round", onclick: () => this.hide() })] : []));
    this.element.hidden = false;
  }

  /** Puts the focus before what can be done, not on it: a key that is held down must not choose. */
  focus() {
    this.element.focus();
  }

  hide() {
    this.element.hidden = true;
    this.element.replaceChildren();
    const onGone = this.#onGone;
    this.#onGone = null;
    onGone?.();
  }
}
