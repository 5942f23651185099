// What a <llava-chat> shows: built once, and brought into line with the state by `render`, the one place that shows and hides its parts.

import { Alert } from "./base/alert.js";
import { button, element } from "./base/dom.js";
import { bytes } from "./base/format.js";
import { ImageUrls } from "./base/image-urls.js";
import { Undo } from "./base/undo.js";
import { ModelPanel } from "./model/panel.js";
import { Composer } from "./talk/composer.js";
import { Conversation, statusText } from "./talk/conversation.js";
import { LookedAt } from "./talk/looked-at.js";
import { AltTexts } from "./tools/alt-texts.js";

/** @typedef {import("./state.js").ChatState} ChatState */
/** @typedef {import("./talk/pictures.js").Picture} Picture */
/** @typedef {import("./talk/turn.js").Turn} Turn */

/**
 * What the parts of the view lead to.
 * @typedef {object} Actions
 * @property {(sources: { model: any, mmproj: any }) => void} load
 * @property {() => void} changeModel
 * @property {() => void} back
 * @property {() => void} stop
 * @property {() => void} reset
 * @property {() => void} save
 * @property {() => void} settings
 * @property {(text: string, pictures: Picture[]) => boolean} submit
 * @property {() => void} endEdit
 * @property {(example: import("./model/catalogue.js").Example) => void} example
 * @property {(file: File, prompt: string, options: { maxTokens: number, signal: AbortSignal }) => Promise<{ text: string, finish: string }>} describe
 * @property {(turn: Turn, index: number) => Promise<any>} look
 */

export class View {
  #root;
  #state;
  #act;
  /** The state that is shown. @type {import("./state.js").State | null} */
  #shown = null;
  /** The engine that is shown. @type {import("../llava-web.js").Engine | null} */
  #engine = null;
  /** Whether many pictures are described, instead of a conversation. */
  #isDescribing = false;
  urls = new ImageUrls();
  alert = new Alert();
  undo = new Undo();
  modelName = element("div", { class: "model-name" });
  status = element("p", { class: "status", part: "status" });
  announcer = element("div", { class: "visually-hidden", "aria-live": "polite" });

  /**
   * @param {ShadowRoot} root
   * @param {ChatState} state
   * @param {Actions} act
   */
  constructor(root, state, act) {
    this.#root = root;
    this.#state = state;
    this.#act = act;
    const onError = (/** @type {string} */ message) => this.alert.show(message);
    const onTell = (/** @type {string} */ message) => this.announce(message);
    this.panel = new ModelPanel({ onLoad: act.load, onCancel: act.stop, onBack: act.back, onSettings: act.settings, onError, onTell, onKnown: () => this.#showOffer() });
    this.composer = new Composer(this.urls, {
      onAsk: act.submit, onStop: act.stop, onError, onTell, onPicture: () => this.#showStart(), onCancelEdit: act.endEdit,
    });
    this.conversation = new Conversation(this.urls, {
      onChoosePicture: () => this.composer.choose(),
      onQuestion: (text) => this.composer.ask(text),
      onExample: act.example,
      onDescribeFolder: () => this.showAltTexts(true),
      onChangeModel: act.changeModel,
      onLoadKnown: (model) => this.panel.load(model),
      onMoreModels: () => this.showMoreModels(),
    });
    this.altTexts = new AltTexts(this.urls, {
      onDescribe: act.describe, onBack: () => this.showAltTexts(false), onTell, onError, onUndoable: (message, what) => this.undo.offer(message, what),
    });
    this.lookedAt = new LookedAt({
      onAsk: act.look, onTell, onError: (error) => this.alert.show(error instanceof Error ? error.message : String(error), { notice: true }),
    });
    this.newButton = button({ text: "New conversation", icon: "plus", onclick: act.reset });
    this.newButton.title = "New conversation";
    this.saveButton = button({ label: "Save the conversation", icon: "save", onclick: act.save });
    this.settingsButton = button({ label: "Settings", icon: "settings", onclick: act.settings });
    this.changeButton = button({ text: "Change model", icon: "file", onclick: act.changeModel });
    this.changeButton.title = "Change model";
    this.brand = element("slot", { name: "brand", class: "brand-slot", onslotchange: () => this.render() });
    this.bar = element("header", { class: "bar-top", part: "bar" },
      this.brand, this.modelName, this.newButton, this.saveButton, this.changeButton, this.settingsButton);
    this.chat = element("section", { class: "chat", part: "chat", "aria-label": "Chat", hidden: true },
      this.conversation.element,
      element("div", { class: "foot" }, this.undo.element, this.composer.element),
      this.status,
      this.altTexts.element);
    // The words in here are English, whatever the page's are; models' and people's words are of no known language.
    this.shell = element("div", { class: "shell", part: "shell", lang: "en" }, this.bar, this.panel.element, this.chat, this.announcer);
    root.append(this.shell);
    this.render();
  }

  /** Brings everything into line with the state. */
  render() {
    const { now, engine, isChatting, last } = this.#state;
    const isNew = now !== this.#shown;
    this.#shown = now;
    const focused = /** @type {HTMLElement | null} */ (this.#root.activeElement);
    this.panel.element.hidden = isChatting;
    this.chat.hidden = !isChatting;
    this.panel.setBack(now.is !== "choosing" || !last ? "" : engine ? "Back to the chat" : `Back to ${last.name}`);
    if (isNew && now.is === "loading") this.panel.showProgress();
    if (isNew && now.is === "choosing") this.panel.showForm();
    if (!isChatting) {
      if (this.alert.element.parentElement !== this.panel.card) this.panel.card.prepend(this.alert.element);
    } else if (this.alert.element.nextElementSibling !== this.composer.element) {
      this.composer.element.before(this.alert.element);
    }
    this.bar.hidden = !isChatting && this.brand.assignedElements().length === 0;
    this.modelName.hidden = this.changeButton.hidden = this.settingsButton.hidden = !isChatting;
    this.composer.setVision(isChatting && engine ? engine.info.vision !== null : null);
    this.composer.setBusy(now.is !== "ready");
    this.altTexts.element.hidden = !this.#isDescribing;
    this.conversation.element.hidden = this.composer.element.hidden = this.#isDescribing;
    if (isChatting && engine && engine !== this.#engine) this.#showEngine(engine);
    this.#showStart();
    // Whoever was in here goes on where it goes on; whoever was elsewhere on the page stays there.
    const isLost = focused !== null && focused.getClientRects().length === 0;
    if (isLost || (isNew && now.is === "loading" && now.focus)) this.focus();
  }

  /** Puts the focus where the person goes on. */
  focus() {
    if (!this.#state.isChatting) this.panel.focus();
    else if (this.#isDescribing) this.altTexts.focus();
    else this.composer.focus();
  }

  /** @param {boolean} shown */
  showAltTexts(shown) {
    this.alert.hide();
    this.#isDescribing = shown;
    if (shown) this.altTexts.open();
    this.render();
    this.focus();
  }

  /** The choice of a model, with all that the page offers. */
  showMoreModels() {
    this.#act.changeModel();
    this.panel.known.showMore();
  }

  get isDescribing() {
    return this.#isDescribing;
  }

  /** @param {import("../llava-web.js").Engine} engine */
  #showEngine(engine) {
    this.#engine = engine;
    const { info } = engine;
    this.modelName.replaceChildren(
      element("bdi", { class: "name", lang: "" }, info.name || "Model"),
      element("span", { class: "size" }, [info.quantization, `${info.contextSize} tokens of context`].filter(Boolean).join(" · ")));
    this.conversation.setModel(this.known);
    this.showStatus();
  }

  /** What the page says of the model that was loaded last, where it is one that the page offers. */
  get known() {
    const plan = this.#state.last?.plan;
    return plan ? this.panel.known.find(plan.model, plan.mmproj ?? undefined) : undefined;
  }

  /** The model for photographs that a conversation with another one begins beside. */
  #showOffer() {
    const { known } = this.panel;
    const [model] = known.photographs;
    this.conversation.offer.show(model, model ? known.line(model) : "");
  }

  /** The big invitation is for when there is neither a picture nor a conversation. */
  #showStart() {
    const { isChatting, engine } = this.#state;
    const { pictures } = this.composer;
    const { length } = this.conversation.turns;
    this.conversation.setWaiting(engine?.info.vision != null, pictures);
    this.composer.setFollowUp(length > 0 && pictures.length === 0);
    this.newButton.hidden = this.saveButton.hidden = !isChatting || length === 0 || this.#isDescribing;
  }

  /** @param {{ usage?: import("../llava-web.js").Usage, firstTokenSeconds?: number, note?: string }} [last] */
  showStatus(last = {}) {
    const { engine } = this.#state;
    if (!engine) return;
    const { info } = engine;
    const parts = [...(last.note ? [last.note] : []), ...statusText(info, last), `${bytes(Math.max(info.bytes.wasmHeap, info.bytes.weights + info.bytes.kvCache))} of memory`];
    this.status.replaceChildren(...parts.map((part) => element("span", {}, part)));
  }

  /** For screen readers. @param {string} text */
  announce(text) {
    this.announcer.textContent = text;
  }
}
