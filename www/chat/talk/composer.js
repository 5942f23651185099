// Where a question is written and pictures are attached.

import { button, element } from "../base/dom.js";
import { bytes } from "../base/format.js";
import { askForAddress } from "./address-dialog.js";
import { hasCamera, takePhoto } from "./camera.js";
import { looksLikePicture, MAX_PICTURES, openPicture } from "./pictures.js";

/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("../base/image-urls.js").ImageUrls} ImageUrls */

export class Composer {
  /** @type {Picture[]} */
  #pictures = [];
  /** What is shown of each. @type {Map<Picture, HTMLElement>} */
  #thumbs = new Map();
  #handlers;
  #urls;
  #busy = false;
  /** Whether the model sees pictures; null: there is no model yet. @type {boolean | null} */
  #vision = null;
  /** How many pictures are still being opened, and whether the question is to be sent when none is. */
  #opening = 0;
  #sendWhenOpened = false;
  /** Ends when the files that came so far are attached: one after another, so that they stay in order. @type {Promise<unknown>} */
  #attaching = Promise.resolve();
  /** What the page put into the field, which is no draft of anybody's. */
  #prompt = "";
  /** What stood here before an earlier question was taken in to be edited. @type {{ text: string, pictures: Picture[] } | null} */
  #draft = null;

  /**
   * @param {ImageUrls} urls
   * @param {{ onAsk: (text: string, pictures: Picture[]) => boolean, onStop: () => void, onError: (message: string) => void,
   *   onPicture: () => void, onCancelEdit: () => void, onTell: (message: string) => void }} handlers  `onAsk`: says whether the question was taken;
   *   `onTell`: for screen readers
   */
  constructor(urls, handlers) {
    this.#urls = urls;
    this.#handlers = handlers;
    this.text = element("textarea", {
      class: "question-field", part: "question", rows: "1", dir: "auto", "aria-label": "Your question", enterkeyhint: "send",
      oninput: () => {
        this.#sendWhenOpened = false;
        this.#update();
      },
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
      if (file) await this.attachAll([file]);
    };
    this.attachButton = button({ text: "Picture", icon: "picture", class: "plain", part: "picture", onclick: () => this.choose() });
    this.cameraButton = button({ label: "Take a photo with the camera", icon: "camera", class: "quiet round", onclick: () => attach(takePhoto(root())) });
    this.addressButton = button({ label: "Picture from a URL", icon: "link", class: "quiet round", onclick: () => attach(askForAddress(root())) });
    this.send = button({ text: "Ask", icon: "send", class: "primary", type: "submit", part: "ask" });
    this.stop = button({ text: "Stop", icon: "stop", class: "plain", part: "stop", onclick: handlers.onStop });
    this.stop.hidden = true;
    this.thumbs = element("ul", { class: "thumbs", "aria-label": "Pictures to ask about", hidden: true });
    this.editing = element("div", { class: "editing", hidden: true },
      element("p", {}, "Editing an earlier question. Sending it replaces that question and everything after it."),
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

  /** What the page proposes to ask: it stands in the field as long as nobody has written something else there. @param {string} text */
  setPrompt(text) {
    if (this.text.value !== "" && this.text.value !== this.#prompt) return;
    this.#prompt = text;
    this.setText(text);
  }

  /** @param {boolean | null} vision  whether the model sees pictures; null: there is no model yet */
  setVision(vision) {
    this.#vision = vision;
    this.attachButton.hidden = this.addressButton.hidden = vision === false;
    this.cameraButton.hidden = vision === false || !hasCamera();
    this.#update();
  }

  /** @param {boolean} hasConversation */
  setFollowUp(hasConversation) {
    const what = this.#pictures.length > 1 ? "Ask about the pictures" : "Ask about the picture";
    this.text.placeholder = hasConversation ? "Ask a follow-up" : this.#vision ? what : "Ask something";
    this.#update();
  }

  /** @param {boolean} busy  whether an answer is being written */
  setBusy(busy) {
    this.#busy = busy;
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    this.#update();
  }

  /** Asks this about the pictures that are attached; what is being written stays. @param {string} text */
  ask(text) {
    if (this.#busy || this.#opening > 0) return;
    const draft = this.text.value;
    this.setText(text);
    this.element.requestSubmit();
    this.setText(draft);
  }

  focus() {
    this.text.focus({ preventScroll: true });
  }

  choose() {
    this.picker.click();
  }

  /**
   * Opens files and puts those that are pictures to the question, in this order. What is none is said.
   * @param {Blob[]} files
   */
  async attachAll(files) {
    if (files.length === 0) return;
    if (this.#vision === false) return this.#handlers.onError("This model has no vision file, so it can’t see pictures. Load it together with its mmproj file.");
    this.#opening += 1;
    this.#update();
    const mine = this.#attaching.then(() => this.#open(files));
    this.#attaching = mine.catch(() => false);
    const opened = await mine.finally(() => (this.#opening -= 1));
    // Without a picture that belongs to it, the question is not what was meant.
    if (!opened) this.#sendWhenOpened = false;
    this.#update();
    if (this.#sendWhenOpened && this.#opening === 0) this.element.requestSubmit();
  }

  /**
   * @param {Blob[]} files
   * @returns {Promise<boolean>}  whether all of them are attached
   */
  async #open(files) {
    let failed = false;
    const fail = (/** @type {string} */ message) => {
      failed = true;
      this.#handlers.onError(message);
    };
    for (const file of files) {
      const name = file instanceof File ? file.name : "picture";
      try {
        if (!await looksLikePicture(file)) {
          fail(`“${name}” is not a picture.`);
          continue;
        }
        const picture = await openPicture(file, name);
        if (this.#pictures.length >= MAX_PICTURES) {
          fail(`You can attach up to ${MAX_PICTURES} pictures.`);
          break;
        }
        this.#set([...this.#pictures, picture]);
      } catch (error) {
        fail(/** @type {Error} */ (error).message);
      }
    }
    return !failed;
  }

  /**
   * Takes in a question that was asked before. What stands here comes back afterwards.
   * @param {string} text
   * @param {Picture[]} pictures
   */
  edit(text, pictures) {
    this.#draft ??= { text: this.text.value, pictures: this.#pictures };
    this.text.value = text;
    this.editing.hidden = false;
    this.#set([...pictures]);
    this.focus();
    this.text.setSelectionRange(text.length, text.length);
  }

  /** Gives up editing: what stood here before is here again. */
  endEdit() {
    if (this.editing.hidden) return;
    this.#giveBack();
    this.focus();
  }

  /** The question being edited is not there any more: its text becomes the draft, unless there was one before. */
  keepEdited() {
    if (this.editing.hidden) return;
    const { text = "", pictures = [] } = this.#draft ?? {};
    if (text !== "" || pictures.length > 0) return this.#giveBack();
    this.#draft = null;
    this.editing.hidden = true;
  }

  #giveBack() {
    const { text = "", pictures = [] } = this.#draft ?? {};
    this.#draft = null;
    this.editing.hidden = true;
    this.text.value = text;
    this.#set(pictures);
  }

  /** @param {Picture} picture */
  #thumb(picture) {
    const image = element("img", { alt: "" });
    this.#urls.show(image, picture.file);
    return element("li", { class: "thumb" }, image,
      element("span", { class: "thumb-text" }, element("bdi", { class: "name", lang: "" }, picture.name), element("span", { class: "size" }, bytes(picture.file.size))),
      button({ label: "Remove the picture", icon: "close", class: "quiet round", onclick: () => {
        this.#set(this.#pictures.filter((other) => other !== picture));
        this.focus();
      } }));
  }

  /** @param {Picture[]} pictures */
  #set(pictures) {
    this.#pictures = pictures;
    this.thumbs.hidden = pictures.length === 0;
    for (const [picture, node] of this.#thumbs) {
      if (pictures.includes(picture)) continue;
      this.#urls.release(node);
      this.#thumbs.delete(picture);
    }
    this.thumbs.replaceChildren(...pictures.map((picture) => {
      const thumb = this.#thumbs.get(picture) ?? this.#thumb(picture);
      this.#thumbs.set(picture, thumb);
      return thumb;
    }));
    for (const [{ name }, thumb] of this.#thumbs) {
      const label = pictures.length === 1 ? "Remove the picture" : `Remove the picture ${name}`;
      const remove = /** @type {HTMLElement} */ (thumb.lastElementChild);
      remove.setAttribute("aria-label", label);
      remove.title = label;
    }
    this.#update();
    this.#handlers.onPicture();
  }

  #update() {
    this.send.disabled = this.#busy || this.text.value.trim() === "";
    this.element.classList.toggle("opening", this.#opening > 0);
    this.attachButton.setAttribute("aria-busy", String(this.#opening > 0));
    // Grows with its text up to what the style allows; not every browser has field-sizing.
    this.text.style.blockSize = "auto";
    this.text.style.blockSize = `${this.text.scrollHeight}px`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
    event.preventDefault();
    this.element.requestSubmit();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    if (this.send.disabled) return;
    if (this.#opening > 0) {
      this.#sendWhenOpened = true;
      this.#handlers.onTell("The question is sent when its pictures are attached");
      return;
    }
    this.#sendWhenOpened = false;
    const [text, pictures] = [this.text.value.trim(), this.#pictures];
    if (pictures.length > 0 && this.#vision === false) {
      return this.#handlers.onError("This model can’t see pictures. Remove them, or load a model together with its vision file (mmproj).");
    }
    if (!this.#handlers.onAsk(text, pictures)) return;
    this.#prompt = "";
    this.#giveBack();
  }
}

/** Whether a key belongs to an input method. Safari says 229 for the Enter that ends a composition, and nothing else. @param {KeyboardEvent} event */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}
