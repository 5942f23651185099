// <llava-chat>: choose a model, attach a picture, ask. For this project's page and for any other site.
//
//   <script type="module" src="llava-chat.js"></script>
//   <llava-chat model="hf:…/model.gguf" mmproj="hf:…/mmproj.gguf" prompt="Describe this image"></llava-chat>
//
// attributes (and properties): model, mmproj, device, system, prompt, autoload
// events: llava-ready { info }, llava-progress { stage, … }, llava-message { role, content, … }, llava-error { code, message, error }
// methods: load({ model, mmproj }), ask(text, image), stop(), reset()
// slots: brand (in the bar at the top), intro (beside the model panel)
// parts: bar model card input load stored progress cancel chat log exchange image turn asked answer composer question picture ask stop error status button
// properties: --llava-background --llava-surface --llava-text --llava-muted --llava-line --llava-accent --llava-on-accent
//   --llava-danger --llava-radius --llava-font

import { createEngine, LlavaError } from "./llava-web.js";
import { Composer } from "./ui/composer.js";
import { Conversation, statusText } from "./ui/conversation.js";
import { button, element } from "./ui/dom.js";
import { bytes } from "./ui/format.js";
import { ModelPanel } from "./ui/model-panel.js";
import { styles } from "./ui/styles.js";

/** @typedef {import("./ui/composer.js").Picture} Picture */
/** @typedef {import("./ui/conversation.js").Turn} Turn */
/** @typedef {{ model: import("./llava-web.js").Source, mmproj?: import("./llava-web.js").Source }} Sources */

/** After these the engine cannot go on. */
const FATAL = ["internal", "out_of_memory", "device_lost"];

export class LlavaChat extends HTMLElement {
  static observedAttributes = ["model", "mmproj", "device", "system", "prompt", "autoload"];

  /** @type {import("./llava-web.js").Engine | null} */
  #engine = null;
  /** What was loaded last, to load it again. @type {Sources | null} */
  #sources = null;
  /** @type {import("./llava-web.js").Message[]} */
  #messages = [];
  /** Ends the load or the generation that is going on. @type {AbortController | null} */
  #running = null;
  /** Whether the GPU went away and another one is awaited. */
  #isRecovering = false;
  #panel;
  #composer;
  #conversation;
  #shell;
  #chat;
  #modelName = element("div", { class: "model-name" });
  #newButton;
  #changeButton;
  #bar;
  #status = element("p", { class: "status", part: "status" });
  #alert = element("div", { class: "alert", part: "error", role: "alert", hidden: true });
  #announcer = element("div", { class: "visually-hidden", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [styles];
    this.#panel = new ModelPanel({
      onLoad: (sources) => this.load(sources).catch(() => {}),
      onCancel: () => this.stop(),
      onError: (message) => this.#showAlert(message),
      onTell: (message) => this.#announce(message),
    });
    this.#composer = new Composer({
      onAsk: (text, picture) => this.#ask(text, picture).catch(() => {}),
      onStop: () => this.stop(),
      onError: (message) => this.#showAlert(message),
      onPicture: () => this.#invite(),
    });
    this.#conversation = new Conversation({ onChoosePicture: () => this.#composer.choose() });
    this.#newButton = button({ text: "New conversation", icon: "plus", onclick: () => this.reset() });
    this.#newButton.title = "New conversation";
    this.#changeButton = button({ text: "Change model", icon: "file", onclick: () => this.#changeModel() });
    this.#changeButton.title = "Change model";
    const brand = element("slot", { name: "brand" });
    this.#bar = element("header", { class: "bar-top", part: "bar" }, brand, this.#modelName, this.#newButton, this.#changeButton);
    brand.addEventListener("slotchange", () => this.#showBar());
    this.#chat = element("section", { class: "chat", part: "chat", "aria-label": "Chat", hidden: true },
      this.#conversation.element,
      element("div", { class: "foot" }, this.#composer.element),
      this.#status);
    this.#panel.card.prepend(this.#alert);
    this.#shell = element("div", { class: "shell", part: "shell" }, this.#bar, this.#panel.element, this.#chat, this.#announcer);
    root.append(this.#shell);
    this.#showBar();
    this.#listen();
  }

  connectedCallback() {
    // Properties that a page set before this class was known hide the accessors of the same name.
    for (const name of LlavaChat.observedAttributes) {
      if (!Object.hasOwn(this, name)) continue;
      const self = /** @type {Record<string, any>} */ (/** @type {unknown} */ (this));
      const value = self[name];
      delete self[name];
      self[name] = value;
    }
    this.#panel.refresh();
    // Once the parser or the script has set every attribute.
    queueMicrotask(() => {
      if (this.isConnected && this.autoload && this.model && !this.#engine && !this.#running) this.load().catch(() => {});
    });
  }

  disconnectedCallback() {
    // An element that only moves is connected again by now.
    queueMicrotask(() => {
      if (!this.isConnected) this.#unload();
    });
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} now
   */
  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === "model" || name === "mmproj") this.#panel.setAddresses({ model: this.model, mmproj: this.mmproj });
    if (name === "prompt") this.#composer.setText(this.prompt);
  }

  get model() {
    return this.getAttribute("model") ?? "";
  }

  set model(value) {
    this.#reflect("model", value);
  }

  get mmproj() {
    return this.getAttribute("mmproj") ?? "";
  }

  set mmproj(value) {
    this.#reflect("mmproj", value);
  }

  get device() {
    return this.getAttribute("device") ?? "";
  }

  set device(value) {
    this.#reflect("device", value);
  }

  get system() {
    return this.getAttribute("system") ?? "";
  }

  set system(value) {
    this.#reflect("system", value);
  }

  get prompt() {
    return this.getAttribute("prompt") ?? "";
  }

  set prompt(value) {
    this.#reflect("prompt", value);
  }

  get autoload() {
    return this.hasAttribute("autoload");
  }

  set autoload(value) {
    this.toggleAttribute("autoload", Boolean(value));
  }

  /**
   * @param {string} name
   * @param {string | null | undefined} value
   */
  #reflect(name, value) {
    if (value === null || value === undefined) this.removeAttribute(name);
    else this.setAttribute(name, value);
  }

  /** The loaded engine, to do more with than this element does. */
  get engine() {
    return this.#engine;
  }

  /** The conversation so far, as it would be sent. */
  get messages() {
    return structuredClone(this.#messages);
  }

  /**
   * Loads a model: these files, or those of the attributes.
   * @param {Partial<Sources>} [sources]
   */
  async load({ model = this.model, mmproj = this.mmproj || undefined } = {}) {
    return this.#load({ model, mmproj });
  }

  /**
   * @param {Sources} sources
   * @param {{ device?: "auto" | "webgpu" | "cpu", keep?: boolean }} [options]  `keep`: the conversation goes on
   */
  async #load({ model, mmproj }, { device = /** @type {any} */ (this.device || "auto"), keep = false } = {}) {
    this.#unload();
    this.#hideAlert();
    this.#sources = { model, mmproj };
    const running = new AbortController();
    this.#running = running;
    this.#showPanel();
    this.#panel.showProgress();
    this.#panel.focus();
    this.#announce("Loading the model");
    try {
      const engine = await createEngine({
        model, mmproj,
        device,
        signal: running.signal,
        onProgress: (progress) => {
          this.#panel.update(progress);
          this.#emit("llava-progress", progress);
        },
      });
      this.#engine = engine;
      this.#running = null;
      this.#showChat(engine.info, { keep });
      this.#emit("llava-ready", { info: engine.info });
    } catch (error) {
      if (this.#running === running) {
        this.#running = null;
        this.#panel.showForm();
        this.#panel.focus();
        this.#failed(error, { loading: true, keep });
      }
      throw error;
    }
  }

  /**
   * Asks, as if the person had; resolves to the answer.
   * @param {string} text
   * @param {Blob} [image]
   * @returns {Promise<string>}
   */
  async ask(text, image) {
    if (image) await this.#composer.attach(image);
    const { picture } = this.#composer.take();
    return this.#ask(text, picture);
  }

  /** Stops what is going on; what was generated stays. */
  stop() {
    this.#running?.abort();
  }

  /** Begins a new conversation with the same model. */
  reset() {
    this.stop();
    this.#messages = [];
    this.#conversation.clear();
    this.#hideAlert();
    this.#composer.setText(this.prompt);
    this.#invite();
    this.#showStatus();
    this.#composer.focus();
    this.#engine?.reset().catch(() => {});
  }

  /**
   * @param {string} text
   * @param {Picture | null} picture
   */
  async #ask(text, picture) {
    if (!this.#engine) throw new LlavaError("invalid_request", "No model is loaded yet.");
    if (this.#running) throw new LlavaError("invalid_request", "An answer is still being written. Stop it first.");
    const message = /** @type {import("./llava-web.js").Message} */ ({
      role: "user",
      content: picture ? [{ type: "image", image: picture.image }, { type: "text", text }] : text,
    });
    const turn = this.#conversation.add(text, picture, { onAgain: () => this.#again(turn).catch(() => {}) });
    const before = this.#messages;
    this.#messages = [...before, message];
    this.#emit("llava-message", { role: "user", content: text });
    try {
      return await this.#generate(turn);
    } catch (error) {
      // As if it had not been asked: nothing that was written is lost.
      this.#messages = before;
      this.#conversation.remove(turn);
      this.#composer.restore(text, picture);
      this.#invite();
      throw error;
    }
  }

  /** Answers the last question once more. @param {Turn} turn */
  async #again(turn) {
    if (this.#running || !this.#engine) return;
    const before = this.#messages;
    this.#messages = before.slice(0, -1);
    const text = turn.text;
    this.#composer.focus();
    try {
      await this.#generate(turn);
    } catch (error) {
      this.#messages = before;
      turn.begin();
      turn.add(text);
      turn.end("stop", undefined);
      throw error;
    }
  }

  /**
   * Writes the answer to `#messages` into a turn.
   * @param {Turn} turn
   * @returns {Promise<string>}
   */
  async #generate(turn) {
    const engine = /** @type {import("./llava-web.js").Engine} */ (this.#engine);
    const running = new AbortController();
    this.#running = running;
    this.#hideAlert();
    turn.begin();
    this.#busy(true);
    this.#announce("Working on the answer");
    const askedAt = performance.now();
    /** @type {number | undefined} */
    let firstTokenSeconds;
    try {
      const system = this.system ? [{ role: /** @type {const} */ ("system"), content: this.system }] : [];
      const stream = await engine.chat.completions.create({
        messages: [...system, ...this.#messages],
        stream: true,
        signal: running.signal,
        onProgress: (progress) => {
          turn.progress(progress);
          this.#recovering(progress);
          this.#conversation.scrollAlong();
          this.#emit("llava-progress", progress);
        },
      });
      /** @type {string} */
      let finish = "stop";
      /** @type {import("./llava-web.js").Usage | undefined} */
      let usage;
      for await (const chunk of stream) {
        const [{ delta, finish_reason }] = chunk.choices;
        this.#recovering(null);
        if (delta.content !== "") firstTokenSeconds ??= (performance.now() - askedAt) / 1000;
        turn.add(delta.content);
        this.#conversation.scrollAlong();
        if (finish_reason) {
          finish = finish_reason;
          usage = chunk.usage;
        }
      }
      turn.end(finish, usage);
      this.#conversation.scrollAlong();
      // A reset while this was going on has taken the conversation away.
      if (this.#running === running) this.#messages = [...this.#messages, { role: "assistant", content: turn.text }];
      this.#announce(turn.text === "" ? "Stopped before the first word" : `Answer: ${turn.text}`);
      this.#showStatus({ usage, firstTokenSeconds });
      this.#emit("llava-message", { role: "assistant", content: turn.text, finish_reason: finish, usage });
      return turn.text;
    } catch (error) {
      this.#failed(error);
      throw error;
    } finally {
      if (this.#running === running) {
        this.#running = null;
        this.#busy(false);
      }
    }
  }

  /**
   * Says that the GPU went away, and that the answer goes on.
   * @param {import("./llava-web.js").GenerationProgress | null} progress  null: there is a word again
   */
  #recovering(progress) {
    const now = progress ? progress.stage === "recovering" : false;
    // The prompt's own stages may follow: they are a part of it.
    if (progress && !now) return;
    if (now && !this.#isRecovering) this.#announce("The GPU went away. The model is being loaded again, then the answer goes on.");
    if (!now && this.#isRecovering) this.#announce("The answer goes on");
    if (now || this.#isRecovering) this.#showStatus({ note: now ? "The GPU went away; loading the model again" : undefined });
    this.#isRecovering = now;
  }

  /**
   * @param {import("./llava-web.js").EngineInfo} info
   * @param {{ keep: boolean }} options
   */
  #showChat(info, { keep }) {
    this.#panel.element.hidden = true;
    this.#chat.hidden = false;
    this.#composer.element.before(this.#alert);
    if (!keep) {
      this.#messages = [];
      this.#conversation.clear();
    }
    this.#modelName.replaceChildren(
      element("bdi", { class: "name" }, info.name || "Model"),
      element("span", { class: "size" }, [info.quantization, `${info.contextSize} tokens of context`].filter(Boolean).join(" · ")));
    this.#composer.setVision(info.vision !== null);
    this.#composer.setText(this.#composer.text.value || this.prompt);
    this.#busy(false);
    this.#showBar();
    this.#showStatus();
    this.#announce("The model is ready");
    if (info.warnings?.length) this.#showAlert(info.warnings.join(" "), { notice: true });
    this.#composer.focus();
  }

  #changeModel() {
    this.#unload();
    this.#showPanel();
    this.#hideAlert();
    this.#panel.showForm();
    this.#panel.focus();
  }

  #unload() {
    this.stop();
    this.#running = null;
    this.#engine?.unload();
    this.#engine = null;
  }

  #showPanel() {
    this.#chat.hidden = true;
    this.#panel.element.hidden = false;
    this.#panel.card.prepend(this.#alert);
    this.#showBar();
  }

  /** The bar has a model's name and buttons while there is one, and the page's brand if it gives one. */
  #showBar() {
    const chatting = !this.#chat.hidden;
    const brand = /** @type {HTMLSlotElement} */ (this.#bar.querySelector("slot"));
    this.#bar.hidden = !chatting && brand.assignedElements().length === 0;
    this.#modelName.hidden = !chatting;
    this.#changeButton.hidden = !chatting;
    this.#invite();
  }

  /** The big invitation is for when there is neither a picture nor a conversation. */
  #invite() {
    this.#conversation.setWaiting(this.#engine?.info.vision != null, this.#composer.picture);
    this.#composer.setFollowUp(this.#messages.length > 0 && !this.#composer.picture);
    this.#newButton.hidden = this.#chat.hidden || this.#messages.length === 0;
  }

  /** @param {boolean} busy */
  #busy(busy) {
    this.#composer.setBusy(busy);
    this.#invite();
  }

  /** @param {{ usage?: import("./llava-web.js").Usage, firstTokenSeconds?: number, note?: string }} [last] */
  #showStatus(last = {}) {
    if (!this.#engine) return;
    const { info } = this.#engine;
    const parts = [...(last.note ? [last.note] : []), ...statusText(info, last), `${bytes(Math.max(info.bytes.wasmHeap, info.bytes.weights + info.bytes.kvCache))} of memory`];
    this.#status.replaceChildren(...parts.map((part) => element("span", {}, part)));
  }

  /**
   * @param {unknown} error
   * @param {{ loading?: boolean, keep?: boolean }} [options]
   */
  #failed(error, { loading = false, keep = false } = {}) {
    const { code, message } = error instanceof LlavaError ? error : new LlavaError("internal", String(error));
    if (code === "aborted") {
      this.#announce("Stopped");
      return;
    }
    const sources = this.#sources;
    /** @type {{ text: string, onclick: () => void }[]} */
    const actions = [];
    if (loading && sources?.mmproj && ["mmproj_mismatch", "unsupported_architecture"].includes(code)) {
      actions.push({ text: "Swap the two files", onclick: () => {
        this.#hideAlert();
        this.#panel.swap();
        this.#panel.focus();
      } });
    }
    if (sources && (code === "device_lost" || (loading && code === "out_of_memory" && message.includes('device "cpu"')))) {
      const text = loading && !keep ? "Load it on the CPU" : "Continue on the CPU";
      actions.push({ text, onclick: () => this.#load(sources, { device: "cpu", keep: keep || !loading }).catch(() => {}) });
    }
    if (!loading && sources && FATAL.includes(code)) {
      // What was said stays where the model is the same.
      actions.push({ text: "Load the model again", onclick: () => this.#load(sources, { keep: true }).catch(() => {}) });
    }
    this.#showAlert(message, { actions });
    this.#emit("llava-error", { code, message, error });
  }

  /**
   * @param {string} message
   * @param {{ actions?: { text: string, onclick: () => void }[], notice?: boolean }} [options]  `notice`: no failure
   */
  #showAlert(message, { actions = [], notice = false } = {}) {
    this.#alert.classList.toggle("notice", notice);
    this.#alert.replaceChildren(
      element("p", { dir: "auto" }, message),
      ...actions.map((action) => button({ ...action, class: "plain" })),
      button({ label: "Close this message", icon: "close", class: "quiet round", onclick: () => this.#hideAlert() }));
    this.#alert.hidden = false;
  }

  #hideAlert() {
    this.#alert.hidden = true;
    this.#alert.replaceChildren();
  }

  /** @param {string} text */
  #announce(text) {
    this.#announcer.textContent = text;
  }

  /**
   * @param {string} name
   * @param {object} detail
   */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  #listen() {
    this.#shell.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#running) return;
      event.preventDefault();
      this.stop();
    });
    this.#shell.addEventListener("paste", (event) => {
      const file = imageFile(event.clipboardData);
      if (!file || !this.#engine) return;
      event.preventDefault();
      this.#attach(file);
    });
    // Entering a child leaves its parent: only the depth says whether the pointer is still inside.
    let depth = 0;
    const mark = (/** @type {number} */ now) => {
      depth = Math.max(0, now);
      this.#shell.classList.toggle("dropping", depth > 0);
    };
    this.#shell.addEventListener("dragenter", (event) => {
      if (event.dataTransfer?.types.includes("Files")) mark(depth + 1);
    });
    this.#shell.addEventListener("dragleave", () => mark(depth - 1));
    this.#shell.addEventListener("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
    this.#shell.addEventListener("drop", (event) => {
      mark(0);
      const files = [...(event.dataTransfer?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      this.#drop(files);
    });
  }

  /** @param {File[]} files */
  #drop(files) {
    if (!this.#engine) {
      if (!this.#running) {
        this.#hideAlert();
        this.#panel.drop(files);
      }
    } else if (files.some((file) => ModelPanel.accepts(file))) {
      this.#showAlert("A model is loaded already. Press “Change model” first, then drop the other one.");
    } else {
      this.#attach(files[0]);
    }
  }

  /** @param {File} file */
  #attach(file) {
    this.#hideAlert();
    this.#composer.attach(file);
  }
}

/** @param {DataTransfer | null} data */
function imageFile(data) {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/")) ?? null;
}

if (!customElements.get("llava-chat")) customElements.define("llava-chat", LlavaChat);
