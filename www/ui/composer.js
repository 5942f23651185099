// Where a question is written and a picture attached.

import { button, element } from "./dom.js";
import { bytes } from "./format.js";

/** What the engine decodes itself; anything else the browser can show is handed over as pixels. */
const DECODED_BY_ENGINE = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];

/**
 * A picture somebody attached.
 * @typedef {{ file: Blob, name: string, url: string, image: Blob | HTMLImageElement }} Picture
 */

export class Composer {
  /** @type {Picture | null} */
  #picture = null;
  #handlers;
  #busy = false;
  #vision = true;

  /**
   * @param {{ onAsk: (text: string, picture: Picture | null) => void, onStop: () => void, onError: (message: string) => void,
   *   onPicture: () => void }} handlers
   */
  constructor(handlers) {
    this.#handlers = handlers;
    this.text = element("textarea", {
      class: "question-field", part: "question", rows: "1", dir: "auto", "aria-label": "Your question", enterkeyhint: "send",
      oninput: () => this.#update(),
      onkeydown: (event) => this.#key(event),
    });
    this.picker = element("input", {
      type: "file", accept: "image/*", class: "visually-hidden", tabindex: "-1", "aria-label": "Choose a picture",
      onchange: () => {
        const [file] = this.picker.files ?? [];
        if (file) this.attach(file);
        this.picker.value = "";
      },
    });
    this.attachButton = button({ text: "Picture", icon: "picture", class: "plain", part: "picture", onclick: () => this.choose() });
    this.send = button({ text: "Ask", icon: "send", class: "primary", type: "submit", part: "ask" });
    this.stop = button({ text: "Stop", icon: "stop", class: "plain", part: "stop", onclick: handlers.onStop });
    this.stop.hidden = true;
    this.thumb = element("div", { class: "thumb", hidden: true });
    this.element = element("form", { class: "composer", part: "composer", "aria-label": "Ask", onsubmit: (event) => this.#submit(event) },
      this.thumb,
      this.text,
      element("div", { class: "composer-actions" }, this.attachButton, this.picker, this.send, this.stop));
    this.#update();
  }

  get picture() {
    return this.#picture;
  }

  /** @param {string} text */
  setText(text) {
    this.text.value = text;
    this.#update();
  }

  /** @param {boolean} vision  whether the model sees pictures */
  setVision(vision) {
    this.#vision = vision;
    this.attachButton.hidden = !vision;
    if (!vision) this.detach();
    this.#update();
  }

  /** @param {boolean} hasConversation */
  setFollowUp(hasConversation) {
    this.text.placeholder = hasConversation ? "Ask something else" : this.#vision ? "Ask about the picture" : "Ask something";
    this.#update();
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    const hadFocus = /** @type {ShadowRoot} */ (this.element.getRootNode()).activeElement;
    this.#busy = busy;
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    // The focused button went away; what comes next is the next question.
    if (hadFocus === this.send || hadFocus === this.stop) this.focus();
    this.#update();
  }

  focus() {
    this.text.focus({ preventScroll: true });
  }

  choose() {
    this.picker.click();
  }

  /**
   * @param {Blob} file
   */
  async attach(file) {
    if (!this.#vision) return this.#handlers.onError("This model has no vision file, so it cannot see pictures. Load it together with its mmproj file.");
    const name = file instanceof File ? file.name : "picture";
    const url = URL.createObjectURL(file);
    const preview = element("img", { alt: "" });
    preview.src = url;
    try {
      await preview.decode();
    } catch {
      URL.revokeObjectURL(url);
      return this.#handlers.onError(`“${name}” could not be opened as a picture. Choose a PNG, JPEG, WebP, GIF or BMP file.`);
    }
    this.#set({ file, name, url, image: DECODED_BY_ENGINE.includes(file.type) ? file : preview });
    this.focus();
  }

  /** Takes the picture off, and forgets it unless it went into the conversation. */
  detach() {
    if (this.#picture) URL.revokeObjectURL(this.#picture.url);
    this.#set(null);
  }

  /**
   * Puts back what could not be asked.
   * @param {string} text
   * @param {Picture | null} picture
   */
  restore(text, picture) {
    if (this.text.value === "") this.text.value = text;
    if (!this.#picture && picture) this.#set(picture);
    this.#update();
  }

  /** Gives the question and the picture away. */
  take() {
    const taken = { text: this.text.value.trim(), picture: this.#picture };
    this.text.value = "";
    this.#set(null);
    return taken;
  }

  /** @param {Picture | null} picture */
  #set(picture) {
    this.#picture = picture;
    this.thumb.hidden = !picture;
    this.thumb.replaceChildren();
    if (picture) {
      const image = element("img", { alt: "" });
      image.src = picture.url;
      this.thumb.append(image,
        element("span", { class: "thumb-text" }, element("bdi", { class: "name" }, picture.name), element("span", { class: "size" }, bytes(picture.file.size))),
        button({ label: "Remove the picture", icon: "close", class: "quiet round", onclick: () => {
          this.detach();
          this.focus();
        } }));
    }
    this.#update();
    this.#handlers.onPicture();
  }

  #update() {
    this.send.disabled = this.#busy || this.text.value.trim() === "";
    // Grows with its text up to what the style allows; not every browser has field-sizing.
    this.text.style.blockSize = "auto";
    this.text.style.blockSize = `${this.text.scrollHeight}px`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // While an input method composes, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.element.requestSubmit();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    if (this.send.disabled) return;
    const { text, picture } = this.take();
    this.#handlers.onAsk(text, picture);
  }
}
