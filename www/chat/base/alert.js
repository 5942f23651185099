// What went wrong or is worth knowing, in a sentence, with what can be done about it.

import { button, element } from "./dom.js";

export class Alert {
  element;
  /** Told when the message goes, whoever took it away. @type {(() => void) | null} */
  #onGone = null;

  /** @param {{ role?: "alert" | "note", part?: string, label?: string }} [options]  a note is not read out by itself */
  constructor({ role = "alert", part = "error", label } = {}) {
    this.element = element("div", { class: "alert", part, role, "aria-label": label ?? null, tabindex: "-1", hidden: true });
  }

  /**
   * @param {string} message
   * @param {{ actions?: { text: string, onclick: () => void, quiet?: boolean }[], notice?: boolean, closable?: boolean, onGone?: () => void }} [options]
   *   `notice`: no failure; `closable`: whether the person can take it away; `onGone`: told when it goes
   */
  show(message, { actions = [], notice = false, closable = true, onGone } = {}) {
    this.hide();
    this.#onGone = onGone ?? null;
    this.element.classList.toggle("notice", notice);
    this.element.replaceChildren(
      element("p", { dir: "auto" }, message),
      ...actions.map(({ quiet, ...action }) => button({ ...action, class: quiet ? "quiet" : "plain" })),
      ...(closable ? [button({ label: "Close this message", icon: "close", class: "quiet round", onclick: () => this.hide() })] : []));
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
