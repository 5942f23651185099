// What a <llava-chat> shows: built once, and brought into line with the state by `render`, the one place that shows and hides its parts.

import { Alert } from "./base/alert.js";
import { button, element, setAttribute, setText } from "./base/dom.js";
import { ImageUrls } from "./base/image-urls.js";
import { Undo } from "./base/undo.js";
import { ModelPanel } from "./model/panel.js";
import { Composer } from "./talk/composer.js";
import { MAX_PICTURES } from "./talk/pictures.js";
import { ALMOST_FULL, usedTokens } from "./talk/context.js";
import { Conversation, statusText } from "./talk/conversation.js";
import { Live } from "./talk/live.js";
import { LookedAt } from "./talk/looked-at.js";
import { AltTexts } from "./tools/alt-texts.js";

/** @typedef {import("./state.js").ChatState} ChatState */
/** @typedef {import("./base/dom.js").Text} Text */
/** @typedef {import("../strings/language.js").Language} Language */
/** @typedef {import("./talk/pictures.js").Picture} Picture */
/** @typedef {import("./talk/turn.js").Turn} Turn */

/**
 * What the parts of the view lead to.
 * @typedef {object} Actions
 * @property {(sources: { model: any, mmproj: any }) => void} load
 * @property {(files: Promise<File[]>) => void} others
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
 * @property {{ open: () => void, close: () => void, begin: (kind: import("./talk/live.js").Kind, file?: File) => void, other: () => void, keep: () => void, ask: (text: string) => void }} live
 */

export class View {
  #root;
  #words;
  #state;
  #act;
  /** The state that is shown. @type {import("./state.js").State | null} */
  #shown = null;
  /** The engine that is shown. @type {import("../llava-web.js").Engine | null} */
  #engine = null;
  /** Whether many pictures are described, instead of a conversation. */
  #isDescribing = false;
  /** Whether something is watched, or what to watch is chosen, instead. */
  #isLive = false;
  /** Whether the element has spoken already. */
  isRead = false;
  urls = new ImageUrls();
  modelName = element("div", { class: "model-name" });
  status = element("p", { class: "status", part: "status" });
  announcer = element("div", { class: "visually-hidden", "aria-live": "polite" });

  /**
   * @param {ShadowRoot} root
   * @param {Language} words
   * @param {ChatState} state
   * @param {Actions} act
   */
  constructor(root, words, state, act) {
    this.#root = root;
    this.#words = words;
    this.alert = new Alert(words);
    this.undo = new Undo(words);
    this.#state = state;
    this.#act = act;
    const onError = (/** @type {Text} */ message, /** @type {{ text: Text, onclick: () => void } | undefined} */ action = undefined) =>
      this.alert.show(message, { actions: action ? [action] : [] });
    const onTell = (/** @type {Text} */ message) => this.announce(message);
    this.panel = new ModelPanel(words, { onLoad: act.load, onCancel: act.stop, onBack: act.back, onSettings: act.settings, onOthers: act.others, onError, onTell,
      onKnown: () => this.#showOffer() });
    this.composer = new Composer(words, this.urls, {
      onAsk: act.submit, onStop: act.stop, onError, onTell, onPicture: () => this.#showStart(), onCancelEdit: act.endEdit,
      onMany: (files) => {
        this.composer.clearPictures();
        this.showAltTexts(true);
        this.altTexts.add(files);
      },
      onOpenLive: () => act.live.open(), onAskLive: (text) => act.live.ask(text),
    });
    this.conversation = new Conversation(words, this.urls, {
      onChoosePicture: () => this.composer.choose(),
      onQuestion: (text) => this.composer.ask(text),
      onExample: act.example,
      onDescribeFolder: () => this.showAltTexts(true),
      onLive: () => act.live.open(),
      onChangeModel: act.changeModel,
      onLoadKnown: (model) => this.panel.load(model),
      onMoreModels: () => this.showMoreModels(),
    });
    this.altTexts = new AltTexts(words, this.urls, {
      onDescribe: act.describe, onBack: () => this.showAltTexts(false), onTell, onError, onUndoable: (message, what) => this.undo.offer(message, what),
    });
    this.live = new Live(words, {
      onStart: (kind, file) => act.live.begin(kind, file), onSwitch: () => act.live.other(), onKeep: () => act.live.keep(), onBack: () => act.live.close(), onTell,
    });
    this.lookedAt = new LookedAt(words, {
      onAsk: act.look, onTell, onError: (error) => this.alert.show(words.explain(error), { notice: true }),
    });
    this.newButton = button({ text: words.say("bar.newConversation"), icon: "plus", onclick: act.reset });
    setAttribute(this.newButton, "title", words.say("bar.newConversation"));
    this.saveButton = button({ label: words.say("bar.save"), icon: "save", onclick: act.save });
    this.settingsButton = button({ label: words.say("bar.settings"), icon: "settings", onclick: act.settings });
    this.changeButton = button({ text: words.say("bar.changeModel"), icon: "file", onclick: act.changeModel });
    setAttribute(this.changeButton, "title", words.say("bar.changeModel"));
    this.brand = element("slot", { name: "brand", class: "brand-slot", onslotchange: () => this.render() });
    this.tools = element("div", { class: "bar-tools" }, this.modelName, this.newButton, this.saveButton, this.changeButton, this.settingsButton);
    this.bar = element("header", { class: "bar-top", part: "bar" },
      this.brand, this.tools);
    this.chat = element("section", { class: "chat", part: "chat", "aria-label": words.say("chat.title"), hidden: true },
      this.conversation.element,
      element("div", { class: "foot" }, this.undo.element, this.composer.element),
      this.status,
      this.altTexts.element, this.live.element);
    // The words in here may be of another language than the page's; models' and people's words are of no known one.
    this.shell = element("div", { class: "shell", part: "shell", lang: words.tag }, this.bar, this.panel.element, this.chat, this.announcer);
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
    const words = this.#words;
    this.panel.setBack(now.is !== "choosing" || !last ? null : engine ? words.say("model.backToChat") : words.say("model.backTo", { model: this.known?.name ?? (last.name || words.say("model.lastModel")) }));
    if (isNew && now.is === "loading") this.panel.showProgress();
    if (isNew && now.is === "choosing") this.panel.showForm();
    if (!isChatting) {
      if (this.alert.element.parentElement !== this.panel.card) this.panel.card.prepend(this.alert.element);
    } else if (this.alert.element.nextElementSibling !== this.composer.element) {
      this.composer.element.before(this.alert.element);
    }
    this.bar.hidden = !isChatting && this.brand.assignedElements().length === 0;
    this.tools.hidden = !isChatting;
    this.composer.setVision(isChatting && engine ? engine.info.vision !== null : null, isChatting && engine ? mostPictures(engine.info) : undefined, this.#isLive);
    this.composer.setBusy(now.is !== "ready" && now.is !== "watching", now.is === "watching");
    this.altTexts.element.hidden = !this.#isDescribing;
    this.live.element.hidden = !this.#isLive;
    this.conversation.element.hidden = this.#isDescribing || this.#isLive;
    this.composer.element.hidden = this.#isDescribing;
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
    else if (this.#isLive && !this.live.isWatching) this.live.focus();
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

  /** @param {boolean} shown */
  showLive(shown) {
    this.alert.hide();
    this.#isLive = shown;
    if (shown) this.#isDescribing = false;
    this.live.end();
    this.render();
    this.focus();
  }

  get isLive() {
    return this.#isLive;
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
      element("bdi", { class: "name", lang: "" }, this.known?.name ?? (info.name || this.#words.say("bar.model"))),
      element("span", { class: "size" }, this.#words.join([info.quantization, this.#words.say("bar.context", { count: info.contextSize })])));
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
    this.newButton.hidden = this.saveButton.hidden = !isChatting || length === 0 || this.#isDescribing || this.#isLive;
    this.bar.classList.toggle("talking", !this.newButton.hidden);
  }

  /** @param {{ usage?: import("../llava-web.js").Usage, firstTokenSeconds?: number, note?: Text }} [last] */
  showStatus(last = {}) {
    const { engine } = this.#state;
    if (!engine) return;
    const { info } = engine;
    const words = this.#words;
    const memory = Math.max(info.bytes.wasmHeap, info.bytes.weights + info.bytes.kvCache);
    const parts = [...(last.note ? [last.note] : []), ...statusText(words, info, last), words.say("status.memory", { size: words.bytes(memory) })];
    const meter = this.#meter(info.contextSize);
    this.status.replaceChildren(...parts.map((part) => element("span", {}, part)), ...(meter ? [meter] : []));
  }

  /**
   * How much of the context the conversation fills; null before there is one.
   * @param {number} total  in tokens
   */
  #meter(total) {
    const used = Math.min(total, usedTokens(this.conversation.turns));
    if (used === 0) return null;
    const words = this.#words;
    const share = used / total;
    const text = words.say("context.used", { used, total });
    const filled = element("span", { class: "meter-filled" });
    filled.style.inlineSize = `${100 * share}%`;
    return element("span", { class: share >= ALMOST_FULL ? "context almost-full" : "context", part: "context" },
      element("span", { class: "meter", role: "meter", "aria-label": words.say("context.label"), "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": used, "aria-valuetext": text }, filled), text);
  }

  /** For screen readers. @param {Text} text */
  announce(text) {
    // Said twice, it is to be heard twice: only what changes is read out.
    setText(this.announcer, String(text) === this.announcer.textContent ? this.#words.join([text, "\u00a0"], "") : text);
  }
}

/** Tokens that are left for the question and its answer, beside its pictures; of a small context half. */
const TOKENS_BESIDE_PICTURES = 512;

/** How many pictures one question may have, so that it fits into the context. @param {import("../llava-web.js").EngineInfo} info */
function mostPictures({ contextSize, vision }) {
  if (!vision) return undefined;
  const room = contextSize - Math.min(TOKENS_BESIDE_PICTURES, contextSize / 2);
  return Math.max(1, Math.min(MAX_PICTURES, Math.floor(room / vision.tokensPerImage)));
}
