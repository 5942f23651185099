// Where a question is written and pictures are attached.

import { button, element, nameButton, setAttribute } from "../base/dom.js";
import { isFile } from "../base/files.js";
import { askForAddress } from "./address-dialog.js";
import { hasCamera, takePhoto } from "./camera.js";
import { looksLikePicture, MAX_PICTURES, openPicture } from "./pictures.js";

/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("../base/dom.js").Text} Text */
/** @typedef {import("../base/image-urls.js").ImageUrls} ImageUrls */

export class Composer {
  /** @type {Picture[]} */
  #pictures = [];
  /** What is shown of each. @type {Map<Picture, HTMLElement>} */
  #thumbs = new Map();
  #words;
  #handlers;
  #urls;
  #busy = false;
  /** Whether the model sees pictures; null: there is no model yet. @type {boolean | null} */
  #vision = null;
  #most = MAX_PICTURES;
  /** Whether the question is about what is watched: it stays where it is. */
  #isLive = false;
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
   * @param {import("../../strings/language.js").Language} words
   * @param {ImageUrls} urls
   * @param {{ onAsk: (text: string, pictures: Picture[]) => boolean, onStop: () => void, onError: (message: Text, action?: { text: Text, onclick: () => void }) => void,
   *   onPicture: () => void, onCancelEdit: () => void, onTell: (message: Text) => void, onMany: (files: File[]) => void,
   *   onOpenLive: () => void, onAskLive: (text: string) => void }} handlers
   *   `onAsk`: says whether the question was taken; `onTell`: for screen readers; `onMany`: describes more pictures than a question can have; `onAskLive`: about
   *   what is watched
   */
  constructor(words, urls, handlers) {
    this.#words = words;
    this.#urls = urls;
    this.#handlers = handlers;
    this.text = element("textarea", {
      class: "question-field", part: "question", rows: "1", dir: "auto", "aria-label": words.say("ask.field"), enterkeyhint: "send",
      oninput: () => {
        this.#sendWhenOpened = false;
        this.#update();
      },
      onkeydown: (event) => this.#key(event),
    });
    this.picker = element("input", {
      type: "file", accept: "image/*", multiple: true, class: "visually-hidden", tabindex: "-1", "aria-label": words.say("ask.pick"),
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
    this.attachButton = button({ text: words.say("ask.picture"), icon: "picture", class: "plain", part: "picture", onclick: () => this.choose() });
    this.cameraButton = button({ label: words.say("ask.camera"), icon: "camera", class: "quiet round", onclick: () => attach(takePhoto(root(), words)) });
    this.addressButton = button({ label: words.say("ask.url"), icon: "link", class: "quiet round", onclick: () => attach(askForAddress(root(), words)) });
    this.liveButton = button({ label: words.say("ask.live"), icon: "live", class: "quiet round", part: "live-open", onclick: handlers.onOpenLive });
    this.send = button({ text: words.say("ask.send"), icon: "send", class: "primary", type: "submit", part: "ask" });
    this.stop = button({ text: words.say("do.stop"), icon: "stop", class: "plain", part: "stop", onclick: handlers.onStop });
    this.stop.hidden = true;
    this.thumbs = element("ul", { class: "thumbs", "aria-label": words.say("ask.attached"), hidden: true });
    this.editing = element("div", { class: "editing", hidden: true },
      element("p", {}, words.say("ask.editing")),
      button({ text: words.say("do.cancel"), class: "quiet", onclick: handlers.onCancelEdit }));
    this.element = element("form", { class: "composer", part: "composer", "aria-label": words.say("ask.form"), onsubmit: (event) => this.#submit(event) },
      this.editing, this.thumbs, this.text,
      element("div", { class: "composer-actions" }, this.attachButton, this.cameraButton, this.liveButton, this.addressButton, this.picker, this.send, this.stop));
    this.#update();
    // Turned on its side, a phone has longer lines.
    let width = 0;
    new ResizeObserver(([entry]) => {
      const now = entry?.contentRect.width ?? 0;
      if (now !== width) requestAnimationFrame(() => this.#grow());
      width = now;
    }).observe(this.text);
  }

  get pictures() {
    return this.#pictures;
  }

  /** What stands in the field. */
  get question() {
    return this.text.value.trim();
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

  /**
   * @param {boolean | null} vision  whether the model sees pictures; null: there is no model yet
   * @param {number} [most]  pictures that one question may have
   * @param {boolean} [isLive]  whether the question is about what is watched
   */
  setVision(vision, most = MAX_PICTURES, isLive = false) {
    this.#vision = vision;
    this.#most = most;
    this.#isLive = isLive;
    this.attachButton.hidden = this.addressButton.hidden = vision === false || isLive;
    this.cameraButton.hidden = vision === false || isLive || !hasCamera();
    this.liveButton.hidden = vision !== true || isLive;
    this.thumbs.hidden = isLive || this.#pictures.length === 0;
    this.#update();
  }

  /** @param {boolean} hasConversation */
  setFollowUp(hasConversation) {
    const what = this.#pictures.length > 1 ? "ask.aboutPictures" : "ask.aboutPicture";
    setAttribute(this.text, "placeholder", this.#words.say(this.#isLive ? "ask.aboutLive" : hasConversation ? "ask.followUp" : this.#vision ? what : "ask.something"));
    this.#update();
  }

  /**
   * @param {boolean} busy  whether an answer is being written
   * @param {boolean} [isWatching]  whether something is watched: another question can be asked, and it can be stopped
   */
  setBusy(busy, isWatching = false) {
    this.#busy = busy;
    this.send.hidden = busy;
    this.stop.hidden = !busy && !isWatching;
    this.liveButton.disabled = busy;
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
   * Opens files and puts those that are pictures to the question, in this order. What is none is said. A question that is asked meanwhile waits
   * for them, also where it is not known yet which they are.
   * @param {Blob[] | Promise<Blob[]>} files
   */
  async attachAll(files) {
    if (Array.isArray(files)) {
      if (files.length === 0) return;
      if (this.#vision === false) return this.#handlers.onError(this.#words.say("ask.noVision"));
    }
    this.#opening += 1;
    this.#update();
    const mine = this.#attaching.then(async () => this.#open(await files));
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
    const fail = (/** @type {Text} */ message, /** @type {{ text: Text, onclick: () => void } | undefined} */ action) => {
      failed = true;
      this.#handlers.onError(message, action);
    };
    for (const [i, file] of files.entries()) {
      const name = isFile(file) ? file.name : String(this.#words.say("picture.unnamed"));
      try {
        if (!await looksLikePicture(file)) {
          fail(this.#words.say("picture.none", { name }), undefined);
          continue;
        }
        const picture = await openPicture(file, name);
        if (this.#pictures.length >= this.#most) {
          const left = files.slice(i).filter(isFile);
          const all = [...this.#pictures.map(({ file, name }) => new File([file], name, { type: file.type })), ...left];
          fail(this.#words.say("ask.tooMany", { count: this.#most }), { text: this.#words.say("ask.describeAll"), onclick: () => this.#handlers.onMany(all) });
          break;
        }
        this.#set([...this.#pictures, picture]);
      } catch (error) {
        fail(this.#words.explain(error), undefined);
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

  /** Takes all pictures away. */
  clearPictures() {
    this.#set([]);
  }

  /** @param {Picture} picture */
  #thumb(picture) {
    const image = element("img", { alt: "" });
    this.#urls.show(image, picture.file);
    return element("li", { class: "thumb" }, image,
      element("span", { class: "thumb-text" }, element("bdi", { class: "name", lang: "" }, picture.name), element("span", { class: "size" }, this.#words.bytes(picture.file.size))),
      button({ label: this.#words.say("ask.remove"), icon: "close", class: "quiet round", onclick: () => {
        this.#set(this.#pictures.filter((other) => other !== picture));
        this.focus();
      } }));
  }

  /** @param {Picture[]} pictures */
  #set(pictures) {
    this.#pictures = pictures;
    this.thumbs.hidden = this.#isLive || pictures.length === 0;
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
      const label = pictures.length === 1 ? this.#words.say("ask.remove") : this.#words.say("ask.removeNamed", { name });
      nameButton(/** @type {HTMLElement} */ (thumb.lastElementChild), label);
    }
    this.#update();
    this.#handlers.onPicture();
  }

  #update() {
    this.send.disabled = this.#busy || this.text.value.trim() === "";
    this.element.classList.toggle("opening", this.#opening > 0);
    this.attachButton.setAttribute("aria-busy", String(this.#opening > 0));
    this.#grow();
  }

  /** Grows with its text up to what the style allows; not every browser has field-sizing. */
  #grow() {
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
    if (this.#isLive) return this.#handlers.onAskLive(this.question);
    if (this.#opening > 0) {
      this.#sendWhenOpened = true;
      this.#handlers.onTell(this.#words.say("ask.sentLater"));
      return;
    }
    this.#sendWhenOpened = false;
    const [text, pictures] = [this.question, this.#pictures];
    if (pictures.length > 0 && this.#vision === false) {
      return this.#handlers.onError(this.#words.say("ask.cannotSee"));
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
