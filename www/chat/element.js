// <llava-chat>: choose a model, attach a picture, ask. For this project's page and for any other site.
//
//   <script type="module" src="llava-chat.js"></script>
//   <llava-chat model="hf:…/model.gguf" mmproj="hf:…/mmproj.gguf" prompt="Describe this image"></llava-chat>
//
// attributes (and properties): model, mmproj, device, system, prompt, autoload; property: models, those to choose from
// events: llava-ready { info }, llava-progress { stage, … }, llava-message { role, content, … }, llava-error { code, message, error }
// methods: load({ model, mmproj }), ask(text, image), stop(), reset()
// slots: brand (in the bar at the top), intro (beside the model panel)
// parts: bar model card input load known stored progress cancel chat log exchange image turn asked answer example composer question picture ask stop
//   error status button dialog alt-texts word heat heat-legend
// properties: --llava-background --llava-surface --llava-text --llava-muted --llava-line --llava-accent --llava-on-accent
//   --llava-danger --llava-radius --llava-font

import { createEngine, listCachedModels, LlavaError } from "../llava-web.js";
import { forgetConversation, keepConversation, keepSession, keptConversation, keptSession, MAX_SESSION_BYTES } from "./conversation-store.js";
import { Alert } from "./base/alert.js";
import { AltTexts } from "./tools/alt-texts.js";
import { ChatAttributes, takeEarlierProperties } from "./attributes.js";
import { Composer } from "./talk/composer.js";
import { Conversation, statusText } from "./talk/conversation.js";
import { button, element } from "./base/dom.js";
import { listenForDrops } from "./base/drops.js";
import { showExport } from "./tools/export.js";
import { bytes } from "./base/format.js";
import { isKept } from "./model/suggested.js";
import { LookedAt } from "./talk/looked-at.js";
import { prepareMarkdown } from "./talk/markdown.js";
import { ModelPanel } from "./model/panel.js";
import { fetchPicture, openPicture, pictureFiles } from "./talk/pictures.js";
import { loadSettings, responseFormat, sampling, showSettings } from "./tools/settings.js";
import { styles } from "./base/styles.js";

/** @typedef {import("./talk/pictures.js").Picture} Picture */
/** @typedef {import("./talk/conversation.js").Turn} Turn */
/** @typedef {{ model: import("../llava-web.js").Source, mmproj?: import("../llava-web.js").Source }} Sources */

/** After these the engine cannot go on. */
const FATAL = ["internal", "out_of_memory", "device_lost"];

export class LlavaChat extends ChatAttributes {
  /** @type {import("../llava-web.js").Engine | null} */
  #engine = null;
  /** What was loaded last, to load it again. @type {Sources | null} */
  #sources = null;
  /** @type {import("../llava-web.js").Message[]} */
  #messages = [];
  /** Ends the load or the generation that is going on. @type {AbortController | null} */
  #running = null;
  /** Whether the GPU went away and another one is awaited. */
  #isRecovering = false;
  #settings = loadSettings();
  /** The earlier question that is being written anew. @type {Turn | null} */
  #editing = null;
  #panel;
  #composer;
  #conversation;
  #altTexts;
  #lookedAt = new LookedAt({
    onAsk: (turn, index) => this.#whereItLooked(turn, index),
    onTell: (message) => this.#announce(message),
    onError: (error) => this.#alert.show(error instanceof Error ? error.message : String(error), { notice: true }),
  });
  #shell;
  #chat;
  #modelName = element("div", { class: "model-name" });
  #newButton;
  #saveButton;
  #settingsButton;
  #changeButton;
  #bar;
  #status = element("p", { class: "status", part: "status" });
  #alert = new Alert();
  #announcer = element("div", { class: "visually-hidden", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [styles];
    this.#panel = new ModelPanel({
      onLoad: (sources) => this.#load(sources).catch(() => {}),
      onCancel: () => this.stop(),
      onSettings: () => this.#showSettings(),
      onError: (message) => this.#alert.show(message),
      onTell: (message) => this.#announce(message),
    });
    this.#composer = new Composer({
      onAsk: (text, pictures) => this.#submitted(text, pictures).catch(() => {}),
      onStop: () => this.stop(),
      onError: (message) => this.#alert.show(message),
      onPicture: () => this.#invite(),
      onCancelEdit: () => this.#endEdit(),
    });
    this.#conversation = new Conversation({
      onChoosePicture: () => this.#composer.choose(),
      onQuestion: (text) => {
        this.#composer.setText(text);
        this.#composer.element.requestSubmit();
      },
      onExample: (example) => this.#askExample(example),
      onDescribeFolder: () => this.#showAltTexts(true),
      onChangeModel: () => this.#changeModel(),
    });
    this.#altTexts = new AltTexts({
      onDescribe: (file, prompt, options) => this.#describe(file, prompt, options),
      onBack: () => this.#showAltTexts(false),
      onTell: (message) => this.#announce(message),
      onError: (message) => this.#alert.show(message),
    });
    this.#newButton = button({ text: "New conversation", icon: "plus", onclick: () => this.reset() });
    this.#newButton.title = "New conversation";
    this.#saveButton = button({ label: "Save the conversation", icon: "save", onclick: () => showExport(root, {
      turns: this.#conversation.turns, model: this.#engine?.info.name || "llava-web", system: this.#systemPrompt,
    }) });
    this.#settingsButton = button({ label: "Settings", icon: "settings", onclick: () => this.#showSettings() });
    this.#changeButton = button({ text: "Change model", icon: "file", onclick: () => this.#changeModel() });
    this.#changeButton.title = "Change model";
    const brand = element("slot", { name: "brand", class: "brand-slot" });
    this.#bar = element("header", { class: "bar-top", part: "bar" }, brand, this.#modelName, this.#newButton, this.#saveButton, this.#changeButton, this.#settingsButton);
    brand.addEventListener("slotchange", () => this.#showBar());
    this.#chat = element("section", { class: "chat", part: "chat", "aria-label": "Chat", hidden: true },
      this.#conversation.element,
      element("div", { class: "foot" }, this.#composer.element),
      this.#status,
      this.#altTexts.element);
    this.#panel.card.prepend(this.#alert.element);
    this.#shell = element("div", { class: "shell", part: "shell" }, this.#bar, this.#panel.element, this.#chat, this.#announcer);
    root.append(this.#shell);
    this.#showBar();
    this.#listen();
  }

  connectedCallback() {
    takeEarlierProperties(this, [...LlavaChat.observedAttributes, "models"]);
    this.#panel.refresh();
    this.#autoload();
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
    if (name === "autoload" && now !== null && this.isConnected) this.#autoload();
  }

  /** Loads by itself, where that is wished: the attributes' model, or the one with which the conversation was that is kept. */
  async #autoload() {
    // Once the parser or the script has set every attribute.
    await null;
    const isWanted = () => this.isConnected && this.autoload && this.model !== "" && !this.#engine && !this.#running;
    if (!isWanted()) return;
    const { turns, model } = this.#settings.keep ? await keptConversation().catch(() => ({ turns: [], model: undefined })) : { turns: [], model: undefined };
    if (!isWanted()) return;
    if (turns.length === 0 || !model) return void this.load().catch(() => {});
    const { name, sources } = model;
    const stored = sources ? isKept(sources, await listCachedModels().catch(() => [])) : false;
    if (!isWanted()) return;
    if (sources && stored) return void this.#load(sources).catch(() => {});
    // Gigabytes are fetched for nobody who did not ask.
    if (sources) this.#panel.setAddresses({ mmproj: "", ...sources });
    this.#alert.show(`The conversation that was kept was with “${name}”, which ${sources ? "this browser keeps no more. Load" : "came from files of this device. Choose"} it again to go on.`, { notice: true });
  }

  get models() {
    return this.#panel.known.models;
  }

  set models(value) {
    this.#panel.known.set(value);
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
  async #load({ model, mmproj }, { device, keep = false } = {}) {
    this.#unload();
    this.#alert.hide();
    this.#sources = { model, mmproj };
    const running = new AbortController();
    this.#running = running;
    this.#showPanel();
    this.#panel.showProgress();
    this.#panel.focus();
    this.#announce("Loading the model");
    // Needed with the first answer, and small beside what is loaded meanwhile.
    prepareMarkdown();
    const { device: preferred = this.device || "auto", threads, contextSize } = this.#settings;
    try {
      const engine = await createEngine({
        model, mmproj, sha256: this.#known?.sha256,
        device: /** @type {any} */ (device ?? preferred), threads, contextSize,
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

  /** What the page says of the model that was loaded last, where it is one that the page offers. */
  get #known() {
    return this.#sources ? this.#panel.known.find(this.#sources.model, this.#sources.mmproj) : undefined;
  }

  /**
   * Asks, as if the person had; resolves to the answer.
   * @param {string} text
   * @param {Blob | Blob[]} [images]
   * @returns {Promise<string>}
   */
  async ask(text, images = []) {
    await this.#composer.attachAll([images].flat());
    const { pictures } = this.#composer.take();
    return this.#ask(text, pictures);
  }

  /** Stops what is going on; what was generated stays. */
  stop() {
    this.#running?.abort();
  }

  /** Begins a new conversation with the same model. */
  reset() {
    this.stop();
    this.#messages = [];
    this.#editing = null;
    this.#lookedAt.close();
    this.#composer.endEdit();
    this.#conversation.clear();
    this.#keep();
    this.#alert.hide();
    this.#composer.setText(this.prompt);
    this.#invite();
    this.#showStatus();
    this.#composer.focus();
    this.#engine?.reset().catch(() => {});
  }

  /**
   * What stands in the composer: a new question, or an earlier one anew.
   * @param {string} text
   * @param {Picture[]} pictures
   */
  async #submitted(text, pictures) {
    const turn = this.#editing;
    if (!turn) return this.#ask(text, pictures);
    this.#editing = null;
    const before = this.#messages;
    const putBack = this.#conversation.cut(turn);
    // Each turn is a question and its answer.
    this.#messages = before.slice(0, 2 * this.#conversation.turns.length);
    try {
      return await this.#ask(text, pictures);
    } catch (error) {
      this.#messages = before;
      putBack();
      this.#edit(turn);
      throw error;
    }
  }

  /** @param {Turn} turn */
  #edit(turn) {
    if (this.#running) return;
    this.#editing = turn;
    this.#composer.edit(turn.question, turn.pictures);
    this.#invite();
  }

  #endEdit() {
    this.#editing = null;
    this.#composer.endEdit();
    this.#invite();
  }

  /**
   * @param {string} text
   * @param {Picture[]} pictures
   */
  async #ask(text, pictures) {
    if (!this.#engine) throw new LlavaError("invalid_request", "No model is loaded yet.");
    if (this.#running) throw new LlavaError("invalid_request", "An answer is still being written. Stop it first.");
    const turn = this.#conversation.add(text, pictures, this.#handlersOf(() => turn));
    const before = this.#messages;
    this.#messages = [...before, question(text, pictures)];
    this.#emit("llava-message", { role: "user", content: text });
    try {
      return await this.#generate(turn);
    } catch (error) {
      // As if it had not been asked: nothing that was written is lost.
      this.#messages = before;
      this.#conversation.remove(turn);
      this.#composer.restore(text, pictures);
      this.#invite();
      throw error;
    }
  }

  /**
   * One of the pictures that the page offers, with its question.
   * @param {import("./model/suggested.js").Example} example
   */
  async #askExample({ picture, question: text }) {
    try {
      await this.#composer.attach(await fetchPicture(picture));
    } catch (error) {
      return this.#alert.show(/** @type {Error} */ (error).message);
    }
    // It was refused, with a sentence of its own.
    if (this.#composer.pictures.length === 0) return;
    this.#composer.setText(text);
    this.#composer.element.requestSubmit();
  }

  /** @param {() => Turn} turn */
  #handlersOf(turn) {
    return {
      onAgain: () => this.#again(turn()).catch(() => {}),
      onEdit: () => this.#edit(turn()),
      onLooked: () => this.#lookedAt.toggle(turn()),
      onClick: (/** @type {MouseEvent} */ event) => this.#lookedAt.clicked(turn(), event),
    };
  }

  /**
   * @param {Turn} turn
   * @param {number} index  of the answer's token
   */
  async #whereItLooked({ tokens, usage }, index) {
    if (!this.#engine || !usage) throw new LlavaError("invalid_request", "No model is loaded yet.");
    if (this.#running) throw new LlavaError("invalid_request", "An answer is still being written. Where the model looked can be seen at its end.");
    return this.#engine.lookedAt({ position: usage.prompt_tokens + index, token: tokens[index].id });
  }

  /** Answers the last question once more. @param {Turn} turn */
  async #again(turn) {
    if (this.#running || !this.#engine) return;
    const before = this.#messages;
    this.#messages = before.slice(0, -1);
    const { text, tokens, usage } = turn;
    this.#composer.focus();
    try {
      await this.#generate(turn);
    } catch (error) {
      this.#messages = before;
      turn.begin({ json: isJson(text) });
      turn.add(text);
      turn.tokens = tokens;
      turn.end("stop", usage);
      throw error;
    }
  }

  /**
   * Writes the answer to `#messages` into a turn.
   * @param {Turn} turn
   * @returns {Promise<string>}
   */
  async #generate(turn) {
    const engine = /** @type {import("../llava-web.js").Engine} */ (this.#engine);
    const running = new AbortController();
    this.#running = running;
    this.#alert.hide();
    this.#lookedAt.close();
    turn.begin({ json: this.#settings.json });
    this.#busy(true);
    this.#announce("Working on the answer");
    const askedAt = performance.now();
    /** @type {number | undefined} */
    let firstTokenSeconds;
    try {
      const system = this.#systemPrompt ? [{ role: /** @type {const} */ ("system"), content: this.#systemPrompt }] : [];
      const stream = await engine.chat.completions.create({
        messages: [...system, ...this.#messages],
        stream: true,
        ...(this.#known?.temperature === undefined ? {} : { temperature: this.#known.temperature }), ...sampling(this.#settings),
        response_format: responseFormat(this.#settings),
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
      /** @type {import("../llava-web.js").Usage | undefined} */
      let usage;
      for await (const chunk of stream) {
        const [{ delta, finish_reason, token_ids }] = chunk.choices;
        this.#recovering(null);
        if (delta.content !== "") firstTokenSeconds ??= (performance.now() - askedAt) / 1000;
        turn.add(delta.content, token_ids);
        this.#conversation.scrollAlong();
        if (finish_reason) {
          finish = finish_reason;
          usage = chunk.usage;
        }
      }
      turn.end(finish, usage);
      this.#conversation.scrollAlong();
      // A reset while this was going on has taken the conversation away.
      if (this.#running === running) {
        this.#messages = [...this.#messages, { role: "assistant", content: turn.text }];
        this.#keep();
      }
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
   * @param {import("../llava-web.js").GenerationProgress | null} progress  null: there is a word again
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

  get #systemPrompt() {
    return this.#settings.system ?? this.system;
  }

  #showSettings() {
    showSettings(/** @type {ShadowRoot} */ (this.shadowRoot), {
      settings: this.#settings, system: this.system, device: this.device, onChange: (settings) => this.#changeSettings(settings),
    });
  }

  /** @param {import("./tools/settings.js").Settings} settings */
  #changeSettings(settings) {
    const { keep } = this.#settings;
    this.#settings = settings;
    if (Boolean(keep) === Boolean(settings.keep)) return;
    if (settings.keep) this.#keep();
    else forgetConversation().catch(() => {});
  }

  /** Stores the conversation, where the person has asked for that. */
  #keep() {
    if (!this.#settings.keep) return;
    const turns = this.#conversation.turns.map(({ question, pictures, text, finish, usage, tokens }) => ({
      question, pictures: pictures.map(({ file, name }) => ({ file, name })), answer: text, finish, usage, tokens,
    }));
    (turns.length > 0 ? keepConversation(turns, this.#keptModel) : forgetConversation()).catch(() => {
      this.#alert.show("The conversation could not be kept: the browser’s storage is full, or off for this page.", { notice: true });
    });
    this.#keepSession().catch(() => {});
  }

  /** @returns {import("./conversation-store.js").KeptModel} */
  get #keptModel() {
    const { model, mmproj } = this.#sources ?? {};
    const isAddress = typeof model === "string" && (mmproj === undefined || typeof mmproj === "string");
    return { name: this.#engine?.info.name || "another model", sources: isAddress ? { model, mmproj } : null };
  }

  /** Stores what the engine has computed of the conversation, where it is not too much. It only saves time, so it may fail. */
  async #keepSession() {
    const engine = this.#engine;
    const usage = this.#conversation.turns.at(-1)?.usage;
    if (!this.#settings.keep || !engine || !usage) return;
    const { contextSize, bytes: { kvCache } } = engine.info;
    const isSmall = usage.total_tokens * kvCache / contextSize <= MAX_SESSION_BYTES;
    const session = isSmall ? await engine.saveSession() : null;
    // Meanwhile it may have been forgotten.
    if (this.#settings.keep && engine === this.#engine && this.#messages.length > 0) await keepSession(session);
  }

  /** Shows the conversation that was kept, to go on with. */
  async #restore() {
    if (!this.#settings.keep) return;
    const engine = this.#engine;
    const { turns: kept } = await keptConversation().catch(() => ({ turns: [] }));
    const vision = engine?.info.vision != null;
    if (kept.length === 0 || engine !== this.#engine || this.#messages.length > 0 || this.#running) return;
    if (!vision && kept.some(({ pictures }) => pictures.length > 0)) {
      this.#alert.show("The conversation that was kept has pictures in it, which this model cannot see. It is there again with a model that can.", { notice: true });
      return;
    }
    for (const { question: text, pictures: files, answer, finish, usage, tokens } of kept) {
      const pictures = await Promise.all(files.map(({ file, name }) => openPicture(file, name)));
      const turn = this.#conversation.add(text, pictures, this.#handlersOf(() => turn));
      turn.begin({ json: isJson(answer) });
      turn.add(answer);
      turn.tokens = tokens ?? [];
      turn.end(finish, usage);
      this.#messages = [...this.#messages, question(text, pictures), { role: "assistant", content: answer }];
    }
    this.#invite();
    this.#conversation.scrollAlong();
    this.#announce("The conversation that was kept is there again");
    const session = await keptSession();
    // Of another model it is refused, which costs no more than time.
    if (session && engine && engine === this.#engine && !this.#running) await engine.restoreSession(session);
  }

  /**
   * One picture of many, outside of any conversation.
   * @param {File} file
   * @param {string} prompt
   * @param {{ maxTokens: number, signal: AbortSignal }} options
   */
  async #describe(file, prompt, { maxTokens, signal }) {
    if (!this.#engine) throw new LlavaError("invalid_request", "No model is loaded yet.");
    const { url, image } = await openPicture(file).catch((cause) => {
      throw new LlavaError("invalid_image", cause.message, { cause });
    });
    try {
      const reply = await this.#engine.chat.completions.create({
        messages: [question(prompt, [{ file, name: file.name, url, image }])], temperature: 0, ...sampling(this.#settings), max_tokens: maxTokens, signal,
      });
      const [{ message, finish_reason }] = reply.choices;
      this.#showStatus({ usage: reply.usage });
      return { text: message.content, finish: finish_reason };
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  /** @param {boolean} shown */
  #showAltTexts(shown) {
    this.#alert.hide();
    this.#altTexts.element.hidden = !shown;
    this.#conversation.element.hidden = this.#composer.element.hidden = shown;
    this.#invite();
    (shown ? this.#altTexts : this.#composer).focus();
  }

  /**
   * @param {import("../llava-web.js").EngineInfo} info
   * @param {{ keep: boolean }} options
   */
  #showChat(info, { keep }) {
    this.#panel.element.hidden = true;
    this.#chat.hidden = false;
    this.#composer.element.before(this.#alert.element);
    this.#lookedAt.close();
    if (!keep) {
      this.#messages = [];
      this.#editing = null;
      this.#composer.endEdit();
      this.#conversation.clear();
      this.#altTexts.clear();
    }
    this.#showAltTexts(false);
    this.#modelName.replaceChildren(
      element("bdi", { class: "name" }, info.name || "Model"),
      element("span", { class: "size" }, [info.quantization, `${info.contextSize} tokens of context`].filter(Boolean).join(" · ")));
    this.#conversation.setModel(this.#known);
    this.#composer.setVision(info.vision !== null);
    this.#composer.setText(this.#composer.text.value || this.prompt);
    this.#busy(false);
    this.#showBar();
    this.#showStatus();
    this.#announce("The model is ready");
    if (info.warnings?.length) this.#alert.show(info.warnings.join(" "), { notice: true });
    this.#composer.focus();
    this.#restore().catch(() => {});
  }

  #changeModel() {
    this.#unload();
    this.#showPanel();
    this.#alert.hide();
    this.#panel.showForm();
    this.#panel.focus();
  }

  #unload() {
    this.stop();
    this.#altTexts.stop();
    this.#running = null;
    this.#engine?.unload();
    this.#engine = null;
  }

  #showPanel() {
    this.#chat.hidden = true;
    this.#panel.element.hidden = false;
    this.#panel.card.prepend(this.#alert.element);
    this.#showBar();
  }

  /** The bar has a model's name and buttons while there is one, and the page's brand if it gives one. */
  #showBar() {
    const chatting = !this.#chat.hidden;
    const brand = /** @type {HTMLSlotElement} */ (this.#bar.querySelector("slot"));
    this.#bar.hidden = !chatting && brand.assignedElements().length === 0;
    this.#modelName.hidden = !chatting;
    this.#changeButton.hidden = this.#settingsButton.hidden = !chatting;
    this.#invite();
  }

  /** The big invitation is for when there is neither a picture nor a conversation. */
  #invite() {
    const { pictures } = this.#composer;
    this.#conversation.setWaiting(this.#engine?.info.vision != null, pictures);
    this.#composer.setFollowUp(this.#messages.length > 0 && pictures.length === 0);
    this.#newButton.hidden = this.#saveButton.hidden = this.#chat.hidden || this.#messages.length === 0 || !this.#altTexts.element.hidden;
  }

  /** @param {boolean} busy */
  #busy(busy) {
    this.#composer.setBusy(busy);
    this.#invite();
  }

  /** @param {{ usage?: import("../llava-web.js").Usage, firstTokenSeconds?: number, note?: string }} [last] */
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
        this.#alert.hide();
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
    this.#alert.show(message, { actions });
    this.#emit("llava-error", { code, message, error });
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
      if (event.key !== "Escape") return;
      if (this.#running) this.stop();
      else if (!this.#altTexts.element.hidden) this.#altTexts.stop();
      else if (this.#editing) this.#endEdit();
      else if (this.#lookedAt.isOpen) this.#lookedAt.close({ focus: true });
      else return;
      event.preventDefault();
    });
    this.#shell.addEventListener("paste", (event) => {
      const files = pictureFiles(event.clipboardData);
      if (files.length === 0 || !this.#engine) return;
      event.preventDefault();
      this.#attach(files);
    });
    listenForDrops(this.#shell, (files) => this.#drop(files));
  }

  /** @param {File[]} files */
  #drop(files) {
    if (!this.#engine) {
      if (!this.#running) {
        this.#alert.hide();
        this.#panel.drop(files);
      }
    } else if (files.some((file) => ModelPanel.accepts(file))) {
      this.#alert.show("A model is loaded already. Press “Change model” first, then drop the other one.");
    } else {
      this.#attach(files);
    }
  }

  /** @param {File[]} files */
  #attach(files) {
    this.#alert.hide();
    if (this.#altTexts.element.hidden) this.#composer.attachAll(files);
    else this.#altTexts.add(files);
  }
}

/** Whether an answer is a JSON object or list, and not Markdown that happens to begin like one. @param {string} text */
function isJson(text) {
  try {
    return typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

/**
 * @param {string} text
 * @param {Picture[]} pictures
 * @returns {import("../llava-web.js").Message}
 */
function question(text, pictures) {
  if (pictures.length === 0) return { role: "user", content: text };
  return { role: "user", content: [...pictures.map(({ image }) => ({ type: /** @type {const} */ ("image"), image })), { type: "text", text }] };
}

if (!customElements.get("llava-chat")) customElements.define("llava-chat", LlavaChat);
