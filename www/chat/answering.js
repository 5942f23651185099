// Questions and answers in a <llava-chat>: asked, asked again, edited, taken back.

import { LlavaError } from "../llava-web.js";
import { Complaint } from "../strings/language.js";
import { isBlob } from "./base/files.js";
import { totalBytes } from "./model/catalogue.js";
import { ALMOST_FULL, costOf, earliestTurns, usedTokens } from "./talk/context.js";
import { messagesOf, userMessage } from "./talk/messages.js";
import { fetchPicture } from "./talk/address-dialog.js";
import { isPhotograph } from "./talk/photograph.js";
import { openPicture } from "./talk/pictures.js";
import { responseFormat, sampling } from "./tools/settings.js";

/** @typedef {import("./element.js").Chat} Chat */
/** @typedef {import("./state.js").Answering} AnsweringState */
/** @typedef {import("./talk/conversation.js").Cut} Cut */
/** @typedef {import("./talk/pictures.js").Picture} Picture */
/** @typedef {import("./talk/turn.js").Turn} Turn */
/** @typedef {import("./base/dom.js").Text} Text */

/** After these the engine cannot go on. */
const FATAL = ["internal", "out_of_memory", "device_lost"];

export class Answering {
  #chat;
  /** The earlier question that is being edited. @type {Turn | null} */
  #editing = null;
  /** What a question replaces that has no answer yet. @type {Map<Turn, { cut: Cut, edited: Turn }>} */
  #replaced = new Map();
  /** Whether the GPU was lost and another one is awaited. */
  #isRecovering = false;
  /** Whether an example is on its way. */
  #hasExample = false;
  /** Whether it was said that the context is almost full. */
  #isFullTold = false;

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
  }

  get isEditing() {
    return this.#editing !== null;
  }

  /** The system message. */
  get system() {
    return this.#chat.settings.system ?? this.#chat.host.system;
  }

  /**
   * For a page: asks beside whatever the person is writing. Rejects where there is no answer.
   * @param {string} text
   * @param {Blob | Blob[]} images
   * @returns {Promise<string>}
   */
  async ask(text, images) {
    this.#chat.state.checkReady();
    if (typeof text !== "string") throw new LlavaError("invalid_request", "ask takes the question as a string.");
    /** @type {Picture[]} */
    const pictures = [];
    for (const image of [images].flat()) {
      if (!isBlob(image)) throw new LlavaError("invalid_image", "ask takes pictures as Blobs or Files.");
      pictures.push(await openPicture(image).catch((cause) => {
        throw new LlavaError("invalid_image", cause.message, { cause });
      }));
    }
    this.#chat.state.checkReady();
    return this.#write(this.#add(text, pictures));
  }

  /**
   * What a person wrote: a new question, or an earlier one anew.
   * @param {string} text
   * @param {Picture[]} pictures
   * @returns {boolean}  whether it was taken; the answer comes later, and a failure is shown with it
   */
  submit(text, pictures) {
    if (this.#chat.state.now.is !== "ready") return false;
    const edited = this.#editing;
    const cut = edited && this.#chat.view.conversation.cut(edited);
    this.#editing = null;
    const turn = this.#add(text, pictures);
    if (edited && cut) this.#replaced.set(turn, { cut, edited });
    this.#start(turn);
    return true;
  }

  /** Answers the last question once more, with a new engine where the last one broke. @param {Turn} turn */
  async again(turn) {
    const { state } = this.#chat;
    if (turn.failure && FATAL.includes(turn.failure.code) && state.last && state.engine === this.#broken) {
      return this.#chat.loading.begin(state.last.plan, { focus: true, turn });
    }
    if (state.now.is === "ready") this.#start(turn);
  }

  /** The engine of the last fatal failure. @type {import("../llava-web.js").Engine | null} */
  #broken = null;

  /** Writes an answer for a person, who sees how it ends. @param {Turn} turn */
  #start(turn) {
    this.#write(turn).catch((error) => {
      // It stands in the turn; what is none of the known failures is also for the page's author to see.
      if (!(error instanceof LlavaError)) console.error(error);
    });
  }

  /**
   * @param {string} text
   * @param {Picture[]} pictures
   */
  #add(text, pictures) {
    const { view, emit } = this.#chat;
    // What was taken away stays away once something else is said.
    view.undo.end();
    const turn = this.addTurn(text, pictures);
    emit("llava-message", { role: "user", content: text });
    return turn;
  }

  /**
   * @param {string} text
   * @param {Picture[]} pictures
   */
  addTurn(text, pictures) {
    const { view } = this.#chat;
    /** @type {Turn} */
    const turn = view.conversation.add(text, pictures, {
      onAgain: () => {
        view.composer.focus();
        this.again(turn);
      },
      onEdit: () => this.#edit(turn),
      onLooked: () => view.lookedAt.toggle(turn),
      onClick: (event) => view.lookedAt.clicked(turn, event),
    });
    return turn;
  }

  /**
   * A question that was answered elsewhere, with its answer: it is gone on with as with any other.
   * @param {string} question
   * @param {Picture[]} pictures
   * @param {{ text: string, finish_reason: string | null, usage: import("../llava-web.js").Usage | null }} answer
   */
  addAnswered(question, pictures, { text, finish_reason, usage }) {
    const { keeping, emit } = this.#chat;
    const turn = this.#add(question, pictures);
    const finish = finish_reason ?? "stop";
    // The context does not hold it, so where the model looked cannot be asked.
    turn.show({ text, finish, usage: undefined, tokens: [] });
    turn.cost = usage?.total_tokens ?? 0;
    keeping.save();
    emit("llava-message", { role: "assistant", content: text, finish_reason: finish, usage: usage ?? undefined });
  }

  /**
   * Writes the answer into the last turn.
   * @param {Turn} turn
   * @returns {Promise<string>}
   */
  async #write(turn) {
    const { state, view, settings, emit, words } = this.#chat;
    const answering = state.answer(turn);
    this.#chat.loading.stopMeasuring();
    view.alert.hide();
    view.lookedAt.close();
    turn.begin({ json: settings.json });
    view.announce(words.say("answer.working"));
    if (view.known?.purpose === "drawings") this.#tellOfPhotographs(answering);
    /** @type {{ finish: string, usage?: import("../llava-web.js").Usage, firstTokenSeconds?: number }} */
    let ended;
    try {
      ended = await this.#generate(answering);
    } catch (thrown) {
      const error = thrown instanceof Complaint ? new LlavaError("invalid_request", thrown.message, { cause: thrown }) : thrown;
      this.#failed(answering, error);
      throw error;
    }
    const { finish, usage, firstTokenSeconds } = ended;
    turn.end(finish, usage, view.conversation.turns.reduce((n, { pictures }) => n + pictures.length, 0));
    turn.cost = costOf(turn, view.conversation.turns);
    this.#replaced.get(turn)?.cut.release();
    this.#replaced.delete(turn);
    state.answered(answering);
    view.conversation.scrollAlong();
    if (view.conversation.turns.includes(turn)) this.#chat.keeping.save();
    view.announce(turn.text === "" ? words.say("answer.none") : words.join([words.say("answer.whole", { text: turn.text }), turn.remark], " "));
    view.showStatus({ usage, firstTokenSeconds });
    this.#tellOfContext(answering);
    emit("llava-message", { role: "assistant", content: turn.text, finish_reason: finish, usage });
    return turn.text;
  }

  /**
   * Where a model that knows drawings is asked about a photograph, says so beside the answer, and offers one that knows those: the question is then
   * asked again with it.
   * @param {AnsweringState} answering
   */
  async #tellOfPhotographs({ turn, engine }) {
    const { state, view, loading, words } = this.#chat;
    const found = await Promise.all(turn.pictures.map(({ file }) => isPhotograph(file)));
    const count = found.filter((is) => is === true).length;
    if (count === 0 || state.engine !== engine || !view.conversation.turns.includes(turn)) return;
    const { known } = view.panel;
    const [model] = known.photographs;
    const what = words.say(count > 1 ? "photograph.several" : found.length === 1 ? "photograph.one" : "photograph.oneOf");
    const other = model && words.say(known.isHere(model) ? "photograph.other" : "photograph.download", { model: model.name, size: words.bytes(totalBytes(model)) });
    turn.tell(words.join([what, other], " "), [
      ...(model ? [{
        text: words.say("photograph.ask", { model: model.name }),
        onclick: () => {
          view.panel.setAddresses({ model: model.model, mmproj: model.mmproj ?? "" });
          loading.begin({ model: model.model, mmproj: model.mmproj }, { focus: true, turn });
        },
      }] : []),
      { text: words.say("known.more"), quiet: true, onclick: () => view.showMoreModels() },
    ]);
    view.conversation.scrollAlong();
    // Otherwise it is read out with the answer.
    if (turn.isAnswered) view.announce(turn.remark);
  }

  /** Says that the context is almost full, once until there is room again. @param {AnsweringState} answering */
  #tellOfContext({ engine }) {
    const { state, view, words } = this.#chat;
    const isAlmostFull = usedTokens(view.conversation.turns) >= ALMOST_FULL * engine.info.contextSize;
    if (isAlmostFull && !this.#isFullTold && state.engine === engine) {
      view.alert.show(words.say("context.almostFull"), { notice: true, actions: [
        ...(this.#canForget(engine) ? [{ text: words.say("context.forget"), onclick: () => this.#forgetEarliest(engine) }] : []),
        { text: words.say("bar.newConversation"), onclick: () => this.reset() },
      ] });
    }
    this.#isFullTold = isAlmostFull;
  }

  /** @param {import("../llava-web.js").Engine} engine */
  #canForget(engine) {
    return earliestTurns(this.#chat.view.conversation.turns, engine.info.contextSize).length > 0;
  }

  /** The model is no longer sent the earliest questions; they stay on the screen. @param {import("../llava-web.js").Engine} engine */
  #forgetEarliest(engine) {
    const { state, view, keeping, words } = this.#chat;
    if (state.now.is !== "ready") return;
    const earliest = earliestTurns(view.conversation.turns, engine.info.contextSize);
    for (const turn of earliest) turn.leaveOut();
    this.#isFullTold = false;
    view.alert.hide();
    view.showStatus();
    view.announce(words.say("context.forgotten", { count: earliest.length }));
    view.focus();
    keeping.save();
  }

  /** @param {AnsweringState} answering */
  async #generate({ engine, turn, abort }) {
    const { view, settings, emit, words } = this.#chat;
    const { conversation } = view;
    const system = this.system ? [{ role: /** @type {const} */ ("system"), content: this.system }] : [];
    const askedAt = performance.now();
    /** @type {number | undefined} */
    let firstTokenSeconds;
    const stream = await engine.chat.completions.create({
      messages: [...system, ...messagesOf(conversation.turns, this.#chat.detail)],
      stream: true,
      ...view.known?.sampling, ...sampling(settings),
      response_format: responseFormat(words, settings),
      signal: abort.signal,
      onProgress: (progress) => {
        turn.progress(progress);
        this.#recovering(progress);
        conversation.scrollAlong();
        emit("llava-progress", progress);
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
      conversation.scrollAlong();
      if (finish_reason) {
        finish = finish_reason;
        usage = chunk.usage;
      }
    }
    return { finish, usage, firstTokenSeconds };
  }

  /**
   * @param {AnsweringState} answering
   * @param {unknown} thrown
   */
  #failed(answering, thrown) {
    const { state, view, emit, keeping, words } = this.#chat;
    const { turn, engine, abort } = answering;
    const error = thrown instanceof LlavaError ? thrown : new LlavaError("internal", thrown instanceof Error ? thrown.message : String(thrown));
    if (error.code === "aborted" || abort.signal.aborted) {
      // Stopped together with its engine: what was written stays.
      turn.end("abort", undefined);
      state.answered(answering);
      view.announce(words.say("state.stopped"));
      return;
    }
    const { code } = error;
    const message = forPeople(error.message);
    /** @type {{ text: Text, onclick: () => void }[]} */
    const actions = [];
    if (FATAL.includes(code)) this.#broken = engine;
    if (code === "device_lost" && state.last) {
      const { plan } = state.last;
      actions.push({ text: words.say("answer.onCpu"), onclick: () => this.#chat.loading.begin({ ...plan, device: "cpu" }, { focus: true, turn }) });
    }
    const replaced = this.#replaced.get(turn);
    if (code === "context_overflow" && this.#canForget(engine)) {
      actions.push({ text: words.say("context.forget"), onclick: () => {
        this.#forgetEarliest(engine);
        this.again(turn);
      } });
    }
    if (replaced) actions.push({ text: words.say("answer.undoEdit"), onclick: () => this.#undoEdit(turn, replaced) });
    turn.fail({ code, message }, actions, words.explain(error.cause instanceof Complaint ? error.cause : { code, message }));
    state.answered(answering);
    view.conversation.scrollAlong();
    if (!replaced && view.conversation.turns.includes(turn)) keeping.save();
    emit("llava-error", { code, message: error.message, error: thrown });
  }

  /** @param {Turn} turn */
  #edit(turn) {
    const { state, view } = this.#chat;
    if (state.now.is !== "ready") return;
    this.#editing = turn;
    view.composer.edit(turn.question, turn.pictures);
    view.render();
  }

  endEdit() {
    this.#editing = null;
    this.#chat.view.composer.endEdit();
    this.#chat.view.render();
  }

  /**
   * Takes an edited question that failed out again: what it replaced comes back, and its text can be edited further.
   * @param {Turn} turn
   * @param {{ cut: Cut, edited: Turn }} replaced
   */
  #undoEdit(turn, { cut, edited }) {
    const { state, view } = this.#chat;
    if (state.now.is !== "ready") return;
    this.#replaced.delete(turn);
    view.conversation.cut(turn).release();
    cut.putBack();
    this.#editing = edited;
    view.composer.edit(turn.question, turn.pictures);
    view.render();
  }

  /** Begins a new conversation. The one before can be had back for a while. */
  reset() {
    const { state, view, host, keeping, words } = this.#chat;
    state.stop();
    view.undo.end();
    view.alert.hide();
    view.lookedAt.close();
    this.#editing = null;
    view.composer.keepEdited();
    if (view.conversation.turns.length > 0) {
      const cut = view.conversation.cut();
      const saved = keeping.begin({ discard: true });
      const { engine } = state;
      view.undo.offer(words.say("chat.cleared"), {
        putBack: () => {
          cut.putBack();
          saved.putBack();
          view.showStatus();
          view.render();
          view.focus();
        },
        letGo: () => {
          this.#letGo(cut);
          saved.forget();
          // What the engine remembers of it goes too. Where that fails, the next question writes over it.
          if (engine === state.engine && view.conversation.turns.length === 0) engine?.reset().catch(() => {});
        },
      });
      view.announce(words.say("chat.cleared"));
    }
    view.composer.setPrompt(host.prompt);
    view.showStatus();
    view.render();
  }

  /** Takes the conversation out for as long as a model is loaded that cannot go on with it. */
  setAside() {
    this.#editing = null;
    this.#chat.view.composer.keepEdited();
    const cut = this.#chat.view.conversation.cut();
    const saved = this.#chat.keeping.begin();
    return {
      putBack: () => {
        cut.putBack();
        saved.putBack();
      },
      release: () => this.#letGo(cut),
    };
  }

  /** @param {Cut} cut */
  #letGo(cut) {
    for (const turn of cut.turns) {
      this.#replaced.get(turn)?.cut.release();
      this.#replaced.delete(turn);
    }
    cut.release();
  }

  /**
   * One of the pictures that the page offers, with its question; whatever the person is writing stays.
   * @param {import("./model/catalogue.js").Example} example
   */
  async example({ picture, question }) {
    const { state, view, words } = this.#chat;
    if (this.#hasExample || state.now.is !== "ready") return;
    this.#hasExample = true;
    try {
      const file = await fetchPicture(picture);
      if (!this.submit(question, [await openPicture(file)])) view.alert.show(words.say("start.busy"), { notice: true });
    } catch (error) {
      view.alert.show(words.explain(error));
    } finally {
      this.#hasExample = false;
    }
  }

  /**
   * @param {Turn} turn
   * @param {number} index  of the answer's token
   */
  async whereItLooked({ tokens, usage }, index) {
    const { now } = this.#chat.state;
    if (now.is === "answering") throw new Complaint("looked.answering");
    if (now.is !== "ready" || !usage) throw new Complaint("looked.notLoaded");
    return now.engine.lookedAt({ position: usage.prompt_tokens + index, token: tokens[index]?.id });
  }

  /**
   * One picture of many, outside of any conversation.
   * @param {File} file
   * @param {string} prompt
   * @param {{ maxTokens: number, signal: AbortSignal }} options
   */
  async describe(file, prompt, { maxTokens, signal }) {
    const { now } = this.#chat.state;
    if (now.is !== "ready") throw new LlavaError("invalid_request", "No model is loaded yet.");
    const picture = await openPicture(file).catch((cause) => {
      throw new LlavaError("invalid_image", cause.message, { cause });
    });
    const reply = await now.engine.chat.completions.create({
      messages: [userMessage(prompt, [picture], this.#chat.detail)], ...this.#chat.view.known?.sampling, temperature: 0, ...sampling(this.#chat.settings), max_tokens: maxTokens, signal,
    });
    const [{ message, finish_reason }] = reply.choices;
    this.#chat.view.showStatus({ usage: reply.usage });
    return { text: message.content, finish: finish_reason };
  }

  /** The conversation for a file: who wrote with whom. */
  get forExport() {
    return { turns: this.#chat.view.conversation.turns, model: this.#chat.state.engine?.info.name || "llava-web", system: this.system };
  }

  /**
   * Says that the GPU was lost, and that the answer goes on.
   * @param {import("../llava-web.js").GenerationProgress | null} progress  null: there is a word again
   */
  #recovering(progress) {
    const { view, words } = this.#chat;
    const now = progress ? progress.stage === "recovering" : false;
    // The prompt's own stages may follow: they are a part of it.
    if (progress && !now) return;
    if (now && !this.#isRecovering) view.announce(words.say("answer.recovering"));
    if (!now && this.#isRecovering) view.announce(words.say("answer.goesOn"));
    if (now || this.#isRecovering) view.showStatus({ note: now ? words.say("turn.recovering") : undefined });
    this.#isRecovering = now;
  }
}

/** Without the place in the request, which the person never saw. @param {string} message */
function forPeople(message) {
  return message.replace(/^messages\[\d+\]\.content\[\d+\]\.image\b/, "The picture");
}
