// What went wrong or is worth knowing, in a sentence, with what can be done about it.

import { button, element } from "./dom.js";

export class Alert {
  element = element("div", { class: "alert", part: "error", role: "alert", hidden: true });

  /**
   * @param {string} message
   * @param {{ actions?: { text: string, onclick: () => void }[], notice?: boolean }} [options]  `notice`: no failure
   */
  show(message, { actions = [], notice = false } = {}) {
    this.element.classList.toggle("notice", notice);
    this.element.replaceChildren(
      element("p", { dir: "auto" }, message),
      ...actions.map((action) => button({ ...action, class: "plain" })),
      button({ label: "Close this message", icon: "close", class: "quiet round", onclick: () => this.hide() }));
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
    this.element.replaceChildren();
  }
}
