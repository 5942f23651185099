// <llava-chat>: choose a model, attach a picture, ask. For this project's page and for any other site.
//
//   <script type="module" src="llava-chat.js"></script>
//   <llava-chat model="hf:…/model.gguf" mmproj="hf:…/mmproj.gguf" prompt="Describe this image"></llava-chat>
//
// attributes (and properties): model, mmproj, device, system, prompt, image-detail, autoload; lang: the language of its words (en, de), else the
// one around it, else the browser’s; property: models, those to choose from
// events: llava-ready { info }, llava-progress { stage, … }, llava-message { role, content, … }, llava-error { code, message, error }
// methods: load(options), ask(text, image), stop(), reset()
// slots: brand (in the bar at the top), intro (beside the model panel), note (in the model panel, above its button)
// parts: bar model card input load known more stored progress cancel chat log offer offer-load exchange image turn asked answer example composer question picture ask stop
//   error remark status context button dialog alt-texts word heat heat-legend live live-open live-camera live-screen live-video live-keep video
// properties: --llava-background --llava-surface --llava-text --llava-muted --llava-line --llava-accent --llava-on-accent
//   --llava-danger --llava-radius --llava-font
//
// This file is the element as a page has it. What it does is in state.js, view.js, loading.js, answering.js, watching.js and keeping.js.

import { Language, languageOf } from "../strings/language.js";
import { Answering } from "./answering.js";
import { ChatAttributes, takeEarlierProperties } from "./attributes.js";
import { listenForDrops } from "./base/drops.js";
import { styles } from "./base/styles.js";
import { sayAgain } from "./base/dom.js";
import { Keeping } from "./keeping.js";
import { Loading } from "./loading.js";
import { ModelPanel } from "./model/panel.js";
import { ChatState } from "./state.js";
import { isComposing } from "./talk/composer.js";
import { messagesOf } from "./talk/messages.js";
import { filesIn } from "./talk/pictures.js";
import { showExport } from "./tools/export.js";
import { detailOf, loadSettings, showSettings } from "./tools/settings.js";
import { View } from "./view.js";
import { Watching } from "./watching.js";

/** @typedef {import("./tools/settings.js").Settings} Settings */
/**
 * What the parts of the element know of each other.
 * @typedef {{ host: LlavaChat, words: Language, state: ChatState, view: View, loading: Loading, answering: Answering, keeping: Keeping, watching: Watching,
 *   readonly settings: Settings, readonly detail: import("../llava-web.js").ImageDetail, settingsChangedElsewhere: () => void, emit: (name: string, detail: object) => void }} Chat
 */

export class LlavaChat extends ChatAttributes {
  #settings = loadSettings();
  #words = new Language();
  /** Notices that the page changes its language. */
  #languageObserver = new MutationObserver(() => this.#speak());
  #chat;
  /** Whether it was suspended, having been taken out of the document. */
  #isSuspended = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [styles()];
    /** @type {View | undefined} */
    let view;
    const state = new ChatState(() => view?.render());
    const settings = () => this.#settings;
    const detail = () => this.#settings.detail ?? detailOf(this.imageDetail);
    const chat = /** @type {Chat} */ (/** @type {unknown} */ ({
      host: this, words: this.#words, state,
      get detail() {
        return detail();
      },
      get settings() {
        return settings();
      },
      settingsChangedElsewhere: () => {
        this.#settings = loadSettings();
        chat.keeping.forgottenElsewhere();
      },
      emit: (/** @type {string} */ name, /** @type {object} */ detail) => this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true })),
    }));
    this.#chat = chat;
    chat.loading = new Loading(chat);
    chat.answering = new Answering(chat);
    chat.keeping = new Keeping(chat);
    chat.watching = new Watching(chat);
    const { loading, answering, watching } = chat;
    chat.view = view = new View(root, this.#words, state, {
      load: ({ model, mmproj }) => loading.begin({ model, mmproj }, { focus: true }),
      others: (files) => loading.takeOthers(files),
      changeModel: () => loading.change(),
      back: () => loading.back(),
      stop: () => this.stop(),
      reset: () => this.reset(),
      save: () => showExport(root, this.#words, answering.forExport),
      settings: () => showSettings(root, this.#words, {
        settings: this.#settings, system: this.system, device: this.device, detail: detailOf(this.imageDetail), onChange: (settings) => this.#changeSettings(settings),
      }),
      submit: (text, pictures) => answering.submit(text, pictures),
      endEdit: () => answering.endEdit(),
      example: (example) => answering.example(example),
      describe: (file, prompt, options) => answering.describe(file, prompt, options),
      look: (turn, index) => answering.whereItLooked(turn, index),
      live: watching,
    });
    this.#listen();
  }

  connectedCallback() {
    takeEarlierProperties(this, [...LlavaChat.observedAttributes, "models"]);
    const { state, view, keeping, loading } = this.#chat;
    this.#speak();
    // Of what is around the element, the document is what may change its language.
    this.#languageObserver.observe(this.ownerDocument.documentElement, { attributeFilter: ["lang"] });
    view.urls.resume();
    keeping.connect();
    view.panel.refresh();
    const suspended = this.#isSuspended ? state.resume() : null;
    this.#isSuspended = false;
    if (suspended) loading.begin(suspended.plan, { turn: suspended.turn });
    else loading.autoload();
  }

  disconnectedCallback() {
    // An element that only moves is connected again by now.
    queueMicrotask(() => {
      if (this.isConnected || this.#isSuspended) return;
      const { state, view, keeping } = this.#chat;
      this.#isSuspended = true;
      this.#languageObserver.disconnect();
      view.altTexts.stop();
      view.lookedAt.close();
      view.undo.end();
      state.suspend();
      view.urls.suspend();
      keeping.disconnect();
    });
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} now
   */
  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    const { view, loading } = this.#chat;
    if (name === "lang") this.#speak();
    if (name === "model" || name === "mmproj") view.panel.setAddresses({ model: this.model, mmproj: this.mmproj });
    if (name === "prompt") view.composer.setPrompt(this.prompt);
    if (name === "autoload" && now !== null && this.isConnected) loading.autoload();
  }

  /** Speaks the language of what is around it. */
  async #speak() {
    if (!this.isConnected) return;
    const { view } = this.#chat;
    const wished = languageOf(this);
    // What nobody has read yet is not shown in another language first.
    if (!view.isRead && this.#words.isElsewhere(wished)) view.shell.classList.add("unread");
    if (await this.#words.use(wished)) {
      view.shell.lang = this.#words.tag;
      sayAgain(view.shell);
      view.altTexts.propose();
    }
    view.isRead = true;
    view.shell.classList.remove("unread");
  }

  get models() {
    return this.#chat.view.panel.known.models;
  }

  set models(value) {
    this.#chat.view.panel.known.set(value);
  }

  /** The loaded engine, to do more with than this element does. */
  get engine() {
    return this.#chat.state.engine;
  }

  /** The conversation so far, as it would be sent; its pictures are Blobs. */
  get messages() {
    return messagesOf(this.#chat.view.conversation.turns, this.#chat.detail);
  }

  /**
   * Loads a model: these files, or those of the attributes. Takes all options of `createEngine`.
   * @param {Partial<import("../llava-web.js").EngineOptions>} [options]
   */
  async load({ model = this.model, mmproj = this.mmproj || undefined, signal, onProgress, ...others } = {}) {
    return this.#chat.loading.load({ model, mmproj, ...others }, { signal: signal ?? undefined, onProgress });
  }

  /**
   * Asks, beside whatever the person is writing; resolves to the answer.
   * @param {string} text
   * @param {Blob | Blob[]} [images]
   * @returns {Promise<string>}
   */
  async ask(text, images = []) {
    return this.#chat.answering.ask(text, images);
  }

  /** Stops what is going on; what was generated stays. */
  stop() {
    this.#chat.state.stop();
  }

  /** Begins a new conversation with the same model; the person can undo that for a while. */
  reset() {
    this.#chat.answering.reset();
  }

  /** Where the person goes on: the question, or the model panel. @override @param {FocusOptions} [options] */
  focus(options) {
    if (this.#chat.state.isChatting) this.#chat.view.focus();
    else super.focus(options);
  }

  /** @param {Settings} settings */
  #changeSettings(settings) {
    const { keep } = this.#settings;
    this.#settings = settings;
    if (Boolean(keep) !== Boolean(settings.keep)) this.#chat.keeping.changed(settings.keep === true);
  }

  #listen() {
    const { view, state, answering } = this.#chat;
    view.shell.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || isComposing(event)) return;
      if (["loading", "answering", "watching"].includes(state.now.is)) this.stop();
      else if (view.isDescribing) view.altTexts.stop();
      else if (answering.isEditing) answering.endEdit();
      else if (view.lookedAt.isOpen) view.lookedAt.close({ focus: true });
      else return;
      event.preventDefault();
    });
    view.shell.addEventListener("paste", (event) => {
      // Office programs put a picture of the text beside the text: whoever pastes that wants the text.
      if (event.clipboardData?.types.includes("text/plain")) return;
      const files = filesIn(event.clipboardData);
      if (files.length === 0) return;
      event.preventDefault();
      this.#take(files);
    });
    listenForDrops(view.shell, (files) => this.#take(files));
  }

  /** Files that were dropped or pasted. @param {File[]} files */
  #take(files) {
    const { view, state, loading, watching, words } = this.#chat;
    const video = files.find(({ type }) => type.startsWith("video/"));
    if (!state.isChatting) {
      loading.take(files);
    } else if (view.isLive) {
      if (video) watching.begin("video", video);
      else view.alert.show(words.say("live.noVideo"), { notice: true });
    } else if (files.some((file) => ModelPanel.accepts(file))) {
      view.alert.show(words.say("model.isLoaded"));
    } else if (view.isDescribing) {
      view.altTexts.add(files);
    } else {
      view.alert.hide();
      view.composer.attachAll(files);
    }
  }
}

if (globalThis.customElements && !customElements.get("llava-chat")) customElements.define("llava-chat", LlavaChat);
