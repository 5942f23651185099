// Loading a model into a <llava-chat>: because somebody asked, because the page wishes it, or once more.

import { createEngine, listCachedModels, LlavaError } from "../llava-web.js";
import { totalBytes } from "./model/catalogue.js";
import { ModelPanel } from "./model/panel.js";
import { isKept } from "./model/facts.js";
import { rememberPair } from "./model/pairs.js";
import { measuredRate } from "./model/speed.js";
import { prepareMarkdown } from "./talk/markdown.js";
import { looksLikePicture } from "./talk/pictures.js";

/** @typedef {import("./element.js").Chat} Chat */
/** @typedef {import("./state.js").Plan} Plan */
/** @typedef {import("./talk/turn.js").Turn} Turn */
/** @typedef {import("./base/dom.js").Text} Text */
/** @typedef {{ signal?: AbortSignal, onProgress?: (progress: import("../llava-web.js").LoadProgress) => void }} Watching */

/** After these another model of the list may do. */
const ANOTHER_HELPS = ["network", "integrity", "storage", "out_of_memory", "unsupported_architecture", "unsupported_quantization", "invalid_gguf", "mmproj_mismatch"];

export class Loading {
  #chat;
  /** Turns with pictures, while a model is loaded that sees none. @type {{ putBack: () => void, release: () => void } | null} */
  #aside = null;
  /** Ends the measurement that is under way. @type {AbortController | null} */
  #measuring = null;

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
  }

  /**
   * Loads a model. What fails is shown, and thrown.
   * @param {Plan} plan
   * @param {{ focus?: boolean, turn?: Turn | null } & Watching} [options]  `focus`: the person began it; `turn`: what to answer then
   */
  async load(plan, { focus = false, turn = null, signal, onProgress } = {}) {
    const { state, view, settings, host, keeping, words } = this.#chat;
    view.alert.hide();
    view.altTexts.stop();
    view.lookedAt.close();
    const loading = state.load(plan, { focus, turn });
    const abort = () => loading.abort.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    view.announce(words.say("loading.bar"));
    // Needed with the first answer, and small beside what is loaded meanwhile.
    prepareMarkdown();
    /** @type {import("../llava-web.js").Engine | undefined} */
    let engine;
    const known = view.panel.known.find(plan.model, plan.mmproj ?? undefined);
    try {
      engine = await createEngine({
        ...known?.options, sha256: known?.sha256, threads: settings.threads,
        ...(settings.contextSize === undefined ? {} : { contextSize: settings.contextSize }),
        ...(settings.kvFormat === undefined ? {} : { kvFormat: settings.kvFormat }),
        device: settings.device ?? /** @type {any} */ (host.device || "auto"),
        ...plan,
        signal: loading.abort.signal,
        onProgress: (progress) => {
          if (state.now === loading) view.panel.update(progress);
          this.#chat.emit("llava-progress", progress);
          onProgress?.(progress);
        },
      });
      const kept = view.conversation.turns.length === 0 ? await keeping.open(engine.info.vision !== null) : null;
      loading.abort.signal.throwIfAborted();
      if (!state.loaded(loading, engine)) throw new LlavaError("aborted", "Another model is being loaded instead.");
      this.#conversationGoesOn(engine, kept);
    } catch (thrown) {
      engine?.unload();
      const error = loading.abort.signal.aborted && !(thrown instanceof LlavaError) ? new LlavaError("aborted", "Loading was cancelled.") : thrown;
      if (state.loadingFailed(loading)) this.#failed(error, loading);
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    rememberPair(plan.model, plan.mmproj);
    this.#chat.emit("llava-ready", { info: engine.info });
    this.#measure(engine, known);
    if (turn && turn === view.conversation.turns.at(-1)) await this.#chat.answering.again(turn);
  }

  /**
   * Loads a model for a person, who sees how it ends.
   * @param {Plan} plan
   * @param {{ focus?: boolean, turn?: Turn | null }} [options]
   */
  begin(plan, options) {
    this.load(plan, options).catch((error) => {
      // Shown where it happened; what is none of the known failures is also for the page's author to see.
      if (!(error instanceof LlavaError)) console.error(error);
    });
  }

  /** Loads without being asked, where the page wishes that: the attributes' model, or the one that the saved conversation was with. */
  async autoload() {
    // Once the parser or the script has set every attribute.
    await null;
    const { host, state, view, keeping, words } = this.#chat;
    const isWanted = () => host.isConnected && host.autoload && host.model !== "" && state.now.is === "choosing" && !state.last;
    if (!isWanted()) return;
    const model = await keeping.model();
    if (!isWanted()) return;
    const own = { model: host.model, mmproj: host.mmproj || undefined };
    if (!model) return this.begin(own);
    const { name, sources } = model;
    const stored = sources ? isKept(sources, await listCachedModels().catch(() => [])) : false;
    if (!isWanted()) return;
    if (sources && stored) return this.begin(sources);
    // Gigabytes are downloaded for nobody who did not ask.
    if (sources) view.panel.setAddresses({ mmproj: "", ...sources });
    view.alert.show(words.say(sources ? "saved.notStored" : "saved.fromFiles", { model: name || words.say("saved.anotherModel") }), { notice: true });
  }

  /**
   * Measures this machine with a model that has just been loaded, where there is a larger one to tell the speed of, and nothing to do: it ends
   * with the first question, and is not begun where a conversation is there already, which the engine would forget.
   * @param {import("../llava-web.js").Engine} engine
   * @param {import("./model/catalogue.js").KnownModel | undefined} known
   */
  async #measure(engine, known) {
    const { state, view } = this.#chat;
    if (known?.purpose !== "drawings" || view.conversation.turns.length > 0) return;
    const ended = this.#measuring = new AbortController();
    const rate = await measuredRate(engine, known, ended.signal);
    if (rate !== null && state.engine === engine) view.panel.known.setRate(rate);
  }

  /** There is something else to compute. */
  stopMeasuring() {
    this.#measuring?.abort();
    this.#measuring = null;
  }

  /** Shows the form; the model stays until another one begins to load. */
  change() {
    const { state, view } = this.#chat;
    view.alert.hide();
    view.altTexts.stop();
    view.lookedAt.close();
    state.choose();
    view.focus();
  }

  /** Back to the model that is loaded, or was before the one that failed. */
  back() {
    const { state, view } = this.#chat;
    view.alert.hide();
    if (state.back()) view.focus();
    else if (state.last) this.begin(state.last.plan, { focus: true });
  }

  /**
   * With a new engine the conversation is where it was.
   * @param {import("../llava-web.js").Engine} engine
   * @param {import("./keeping.js").Kept | null} kept
   */
  #conversationGoesOn(engine, kept) {
    const { view, keeping, host, words } = this.#chat;
    const { info } = engine;
    /** @type {Text[]} */
    const notices = (info.warnings ?? []).map((warning) => words.quote(warning));
    view.announce(words.say("loading.isReady"));
    if (info.vision && this.#aside) {
      this.#aside.putBack();
      this.#aside = null;
      view.announce(words.say("loading.isReadyAgain"));
    } else if (!info.vision && view.conversation.turns.some(({ pictures }) => pictures.length > 0)) {
      this.#aside = this.#chat.answering.setAside();
      notices.push(words.say("saved.aside"));
    }
    if (kept?.needsVision) notices.push(words.say("saved.needsVision"));
    else if (kept) keeping.show(kept, engine);
    if (notices.length > 0) view.alert.show(words.join(notices, " "), { notice: true });
    view.composer.setPrompt(host.prompt);
    view.render();
  }

  /**
   * @param {unknown} thrown
   * @param {import("./state.js").Loading} loading
   */
  #failed(thrown, { plan, turn, focus }) {
    const { view, words } = this.#chat;
    const error = thrown instanceof LlavaError ? thrown : new LlavaError("internal", thrown instanceof Error ? thrown.message : String(thrown));
    const { code, message } = error;
    if (code === "aborted") {
      view.announce(words.say("state.stopped"));
      return;
    }
    /** @type {{ text: Text, onclick: () => void }[]} */
    const actions = [];
    if (plan.mmproj && ["mmproj_mismatch", "unsupported_architecture"].includes(code)) {
      actions.push({ text: words.say("loading.swap"), onclick: () => {
        view.alert.hide();
        view.panel.swap();
        view.panel.focus();
      } });
    }
    if (code === "device_lost" || (code === "out_of_memory" && message.includes('device "cpu"'))) {
      actions.push({ text: words.say("loading.onCpu"), onclick: () => this.begin({ ...plan, device: "cpu" }, { focus: true, turn }) });
    }
    const known = view.panel.known.find(plan.model, plan.mmproj ?? undefined);
    const next = known?.purpose === "photographs" && ANOTHER_HELPS.includes(code) ? view.panel.known.after(known) : undefined;
    if (next) {
      actions.push({ text: words.say("loading.instead", { model: next.name, size: words.bytes(totalBytes(next)) }), onclick: () => {
        view.panel.setAddresses({ model: next.model, mmproj: next.mmproj ?? "" });
        this.begin({ model: next.model, mmproj: next.mmproj }, { focus: true, turn });
      } });
    }
    if (known && code === "network") actions.push({ text: words.say("loading.choose"), onclick: () => view.panel.choose() });
    const why = words.explain(error);
    view.alert.show(known && code === "network" ? words.say("loading.notDownloaded", { model: known.name, why }) : why, { actions });
    // It stands above a long form: whoever began it is led there, before what can be done about it.
    if (focus && actions.length > 0) view.alert.focus();
    else view.alert.element.scrollIntoView({ block: "nearest" });
    this.#chat.emit("llava-error", { code, message, error: thrown });
  }

  /** Files that were dropped or pasted where a model is chosen. @param {File[]} files */
  async take(files) {
    const { view, state } = this.#chat;
    view.alert.hide();
    const models = files.filter((file) => ModelPanel.accepts(file));
    const others = files.filter((file) => !models.includes(file));
    if (models.length > 0 && state.now.is === "choosing") view.panel.drop(models);
    await this.#attach(others);
  }

  /** Files that were chosen for a model and are none: a picture is meant for the question. @param {Promise<File[]>} files */
  takeOthers(files) {
    const { view, words } = this.#chat;
    const pictures = files.then(async (files) => {
      const isPicture = await Promise.all(files.map(looksLikePicture));
      const wrong = files.find((_, i) => !isPicture[i]);
      if (wrong) view.alert.show(words.say("model.notGguf", { file: wrong.name }));
      return files.filter((_, i) => isPicture[i]);
    });
    return this.#attach(pictures.catch((error) => {
      view.alert.show(words.explain(error));
      return [];
    }));
  }

  /** A picture that comes before the model waits in the composer. @param {File[] | Promise<File[]>} files */
  async #attach(files) {
    const { view, state, words } = this.#chat;
    const before = view.composer.pictures.length;
    await view.composer.attachAll(files);
    const count = view.composer.pictures.length - before;
    if (count > 0 && !state.isChatting) {
      view.alert.show(count === 1 ? words.say("loading.attached", { file: view.composer.pictures.at(-1)?.name ?? "" }) : words.say("loading.attachedSeveral", { count }), { notice: true });
    }
  }
}
