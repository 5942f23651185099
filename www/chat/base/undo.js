// Something that was taken away and can be put back for a while, before it is gone for good.

import { Alert } from "./alert.js";
import { element } from "./dom.js";

/** Long enough to read the sentence, find the button and press it. */
const MILLISECONDS = 12_000;

export class Undo {
  element = element("div", { class: "undo" });
  /** @type {Alert | null} */
  #alert = null;
  #timer = 0;
  #words;

  /** @param {import("../../strings/language.js").Language} words */
  constructor(words) {
    this.#words = words;
  }

  /**
   * @param {import("./dom.js").Text} message
   * @param {{ putBack: () => void, letGo: () => void }} what  exactly one of them is called
   */
  offer(message, { putBack, letGo }) {
    this.end();
    let undone = false;
    // A new one each time: browsers may go on to say of one that was hidden that the pointer is over it.
    const alert = this.#alert = new Alert(this.#words);
    this.element.replaceChildren(alert.element);
    alert.show(message, {
      notice: true,
      actions: [{ text: this.#words.say("do.undo"), onclick: () => {
        undone = true;
        this.end();
        putBack();
      } }],
      onGone: () => {
        clearTimeout(this.#timer);
        this.#alert = null;
        this.element.replaceChildren();
        if (!undone) letGo();
      },
    });
    this.#wait();
  }

  /** It cannot be undone any more. */
  end() {
    this.#alert?.hide();
  }

  #wait() {
    this.#timer = setTimeout(() => {
      // Not from under the pointer or the focus of somebody who is about to press the button.
      if (this.element.matches(":hover, :focus-within")) this.#wait();
      else this.end();
    }, MILLISECONDS);
  }
}
