// Where a question is written and pictures are attached.

import { button, element } from "../base/dom.js";
import { bytes } from "../base/format.js";
import { askForAddress, hasCamera, MAX_PICTURES, openPicture, samePicture, takePhoto } from "./pictures.js";

/** @typedef {import("./pictures.js").Picture} Picture */

export class Composer {
  /** @type {Picture[]} */
  #pictures = [];
  #handlers;
  #busy = false;
  #vision = true;

  /**
   * @param {{ onAsk: (text: string, pictures: Picture[]) => void, onStop: () => void, onError: (message: string) => void,
   *   onPicture: () => void, onCancelEdit: () => void }} handlers
   */
  constructor(handlers) {
    this.#handlers = handlers;
    this.text = element("textarea", {
      class: "question-field", part: "question", rows: "1", dir: "auto", "aria-label": "Your question", enterkeyhint: "send",
      oninput: () => this.#update(),
      onkeydown: (event) => this.#key(event),
    });
    this.picker = element("input", {
      type: "file", accept: "image/*", multiple: true, class: "visually-hidden", tabindex: "-1", "aria-label": "Choose pictures",
      onchange: () => {
        this.attachAll([...(this.picker.files ?? [])]);
        this.picker.value = "";
      },
    });
    const root = () => /** @type {ShadowRoot} */ (this.element.getRootNode());
    const attach = async (/** @type {Promise<File | null>} */ asked) => {
      const file = await asked;
      if (file) await this.attach(file);
    };
    this.attachButton = button({ text: "Picture", icon: "picture", class: "plain", part: "picture", onclick: () => this.choose() });
    this.cameraButton = button({ label: "Take a picture with the camera", icon: "camera", class: "quiet round", onclick: () => attach(takePhoto(root())) });
    this.addressButton = button({ label: "Picture from an address", icon: "link", class: "quiet round", onclick: () => attach(askForAddress(root())) });
    this.send = button({ text: "Ask", icon: "send", class: "primary", type: "submit", part: "ask" });
    this.stop = button({ text: "Stop", icon: "stop", class: "plain", part: "stop", onclick: handlers.onStop });
    this.stop.hidden = true;
    this.thumbs = element("ul", { class: "thumbs", "aria-label": "Pictures to ask about", hidden: true });
    this.editing = element("div", { class: "editing", hidden: true },
      element("p", {}, "An earlier question. Asking it replaces it, and what came after."),
      button({ text: "Cancel", class: "quiet", onclick: handlers.onCancelEdit }));
    this.element = element("form", { class: "composer", part: "composer", "aria-label": "Ask", onsubmit: (event) => this.#submit(event) },
      this.editing, this.thumbs, this.text,
      element("div", { class: "composer-actions" }, this.attachButton, this.cameraButton, this.addressButton, this.picker, this.send, this.stop));
    this.#update();
  }

  get pictures() {
    return this.#pictures;
  }

  /** @param {string} text */
  setText(text) {
    this.text.value = text;
    this.#update();
  }

  /** @param {boolean} vision  whether the model sees pictures */
  setVision(vision) {
    this.#vision = vision;
    this.attachButton.hidden = this.addressButton.hidden = !vision;
    this.cameraButton.hidden = !vision || !hasCamera();
    if (!vision) this.detachAll();
    this.#update();
  }

  /** @param {boolean} hasConversation */
  setFollowUp(hasConversation) {
    const what = this.#pictures.length > 1 ? "Ask about the pictures" : "Ask about the picture";
    this.text.placeholder = hasConversation ? "Ask something else" : this.#vision ? what : "Ask something";
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

  /** @param {Blob[]} files */
  async attachAll(files) {
    for (const file of files) await this.attach(file);
  }

  /** @param {Blob} file */
  async attach(file) {
    if (!this.#vision) return this.#handlers.onError("This model has no vision file, so it cannot see pictures. Load it together with its mmproj file.");
    if (this.#pictures.length >= MAX_PICTURES) return this.#handlers.onError(`A question can be about ${MAX_PICTURES} pictures at most.`);
    try {
      this.#set([...this.#pictures, await openPicture(file)]);
    } catch (error) {
      return this.#handlers.onError(/** @type {Error} */ (error).message);
    }
    this.focus();
  }

  /** Takes the pictures off, and forgets them unless they went into the conversation. */
  detachAll() {
    for (const { url } of this.#pictures) URL.revokeObjectURL(url);
    this.#set([]);
  }

  /**
   * Puts back what could not be asked.
   * @param {string} text
   * @param {Picture[]} pictures
   */
  restore(text, pictures) {
    if (this.text.value === "") this.text.value = text;
    if (this.#pictures.length === 0 && pictures.length > 0) this.#set(pictures);
    this.#update();
  }

  /**
   * Takes in a question that was asked before.
   * @param {string} text
   * @param {Picture[]} pictures
   */
  edit(text, pictures) {
    this.detachAll();
    this.text.value = text;
    this.editing.hidden = false;
    this.#set(pictures.map(samePicture));
    this.focus();
    this.text.setSelectionRange(text.length, text.length);
  }

  endEdit() {
    if (this.editing.hidden) return;
    this.editing.hidden = true;
    this.text.value = "";
    this.detachAll();
    this.focus();
  }

  /** Gives the question and the pictures away. */
  take() {
    const taken = { text: this.text.value.trim(), pictures: this.#pictures };
    this.text.value = "";
    this.editing.hidden = true;
    this.#set([]);
    return taken;
  }

  /** @param {Picture[]} pictures */
  #set(pictures) {
    this.#pictures = pictures;
    this.thumbs.hidden = pictures.length === 0;
    this.thumbs.replaceChildren(...pictures.map((picture) => {
      const image = element("img", { alt: "" });
      image.src = picture.url;
      return element("li", { class: "thumb" }, image,
        element("span", { class: "thumb-text" }, element("bdi", { class: "name" }, picture.name), element("span", { class: "size" }, bytes(picture.file.size))),
        button({ label: pictures.length === 1 ? "Remove the picture" : `Remove the picture ${picture.name}`, icon: "close", class: "quiet round", onclick: () => {
          URL.revokeObjectURL(picture.url);
          this.#set(this.#pictures.filter((other) => other !== picture));
          this.focus();
        } }));
    }));
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
    const { text, pictures } = this.take();
    this.#handlers.onAsk(text, pictures);
  }
}
