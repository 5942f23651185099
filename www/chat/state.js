// What a <llava-chat> is doing: one of five states, each with what belongs to it. Everything that is shown follows from it (view.js).
//
//   choosing   the form that asks for a model; one may still be loaded, to go back to
//   loading    a model is being loaded, and can be cancelled
//   ready      a model is loaded
//   answering  it writes the answer to a turn, and can be stopped
//   watching   it answers about what a camera, a screen or a video shows, until it is stopped
//
// An element that is taken out of the document frees its engine, and remembers what to do when it is put back.

import { LlavaError } from "../llava-web.js";

/** @typedef {import("../llava-web.js").Engine} Engine */
/** @typedef {import("./talk/turn.js").Turn} Turn */
/** Enough to load a model again. @typedef {Omit<import("../llava-web.js").EngineOptions, "signal" | "onProgress">} Plan */
/** @typedef {{ is: "choosing", engine: Engine | null }} Choosing */
/**
 * `focus`: whether the person began it, and is led through it; `turn`: what to answer once the model is there.
 * @typedef {{ is: "loading", plan: Plan, abort: AbortController, focus: boolean, turn: Turn | null }} Loading
 */
/** @typedef {{ is: "ready", engine: Engine }} Ready */
/** @typedef {{ is: "answering", engine: Engine, turn: Turn, abort: AbortController }} Answering */
/** @typedef {{ is: "watching", engine: Engine, abort: AbortController }} Watching */
/** @typedef {Choosing | Loading | Ready | Answering | Watching} State */

export class ChatState {
  /** @type {State} */
  #now = { is: "choosing", engine: null };
  /** What was going on when the element was taken out. @type {{ plan: Plan, turn: Turn | null } | null} */
  #suspended = null;
  #onChange;
  /** The model that was loaded last, whether or not it still is. `name`: "" where its file has none. @type {{ plan: Plan, name: string } | null} */
  last = null;

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  get now() {
    return this.#now;
  }

  /** The loaded engine. */
  get engine() {
    return this.#now.is === "loading" ? null : this.#now.engine;
  }

  /** Whether a conversation is on the screen. */
  get isChatting() {
    return this.#now.is === "ready" || this.#now.is === "answering" || this.#now.is === "watching";
  }

  /**
   * Begins to load. What was loaded is freed first: two models rarely fit into memory together.
   * @param {Plan} plan
   * @param {{ focus?: boolean, turn?: Turn | null }} [options]
   * @returns {Loading}
   */
  load(plan, { focus = false, turn = null } = {}) {
    this.#free();
    this.#suspended = null;
    /** @type {Loading} */
    const loading = { is: "loading", plan, abort: new AbortController(), focus, turn };
    this.#set(loading);
    return loading;
  }

  /**
   * @param {Loading} loading
   * @param {Engine} engine
   * @returns {boolean}  false where something else has begun meanwhile: the engine is freed
   */
  loaded(loading, engine) {
    if (this.#now !== loading) {
      engine.unload();
      return false;
    }
    this.last = { plan: loading.plan, name: engine.info.name };
    this.#set({ is: "ready", engine });
    return true;
  }

  /** @param {Loading} loading @returns {boolean}  false where something else has begun meanwhile */
  loadingFailed(loading) {
    if (this.#now !== loading) return false;
    this.#set({ is: "choosing", engine: null });
    return true;
  }

  /** @param {Turn} turn @returns {Answering} */
  answer(turn) {
    const { engine } = this.checkReady();
    /** @type {Answering} */
    const answering = { is: "answering", engine, turn, abort: new AbortController() };
    this.#set(answering);
    return answering;
  }

  /** @param {Answering} answering */
  answered(answering) {
    if (this.#now === answering) this.#set({ is: "ready", engine: answering.engine });
  }

  /** @returns {Watching} */
  watch() {
    const { engine } = this.checkReady();
    /** @type {Watching} */
    const watching = { is: "watching", engine, abort: new AbortController() };
    this.#set(watching);
    return watching;
  }

  /** @param {Watching} watching */
  watched(watching) {
    if (this.#now === watching) this.#set({ is: "ready", engine: watching.engine });
  }

  /** The engine that something can be asked now; else says why not. */
  checkReady() {
    const { now } = this;
    if (now.is === "answering") throw new LlavaError("invalid_request", "An answer is still being written. Stop it first.");
    if (now.is === "watching") throw new LlavaError("invalid_request", "Live is on, and the model is busy with it. Stop it first.");
    if (now.is !== "ready") throw new LlavaError("invalid_request", "No model is loaded yet.");
    return now;
  }

  /** Shows the form. The engine stays, so that there is a way back, until another model begins to load. */
  choose() {
    const { engine } = this;
    this.stop();
    this.#set({ is: "choosing", engine });
  }

  /** Back to the engine that is still there. @returns {boolean} */
  back() {
    const { now } = this;
    if (now.is !== "choosing" || !now.engine) return false;
    this.#set({ is: "ready", engine: now.engine });
    return true;
  }

  /** Ends the load, the answer or the watch that is going on. */
  stop() {
    if ("abort" in this.#now) this.#now.abort.abort();
  }

  /** The element is not in the document any more. */
  suspend() {
    const { now } = this;
    if (now.is === "loading") this.#suspended = { plan: now.plan, turn: now.turn };
    else if (now.is !== "choosing" && this.last) this.#suspended = { plan: this.last.plan, turn: now.is === "answering" ? now.turn : null };
    this.#free();
    this.#set({ is: "choosing", engine: null });
  }

  /** What is to be gone on with, now that the element is in the document again; asked once. */
  resume() {
    const suspended = this.#suspended;
    this.#suspended = null;
    return suspended;
  }

  #free() {
    const { engine } = this;
    this.stop();
    engine?.unload();
  }

  /** @param {State} next */
  #set(next) {
    this.#now = next;
    this.#onChange();
  }
}
