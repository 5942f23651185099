// A source that is watched: one question, answered anew for the newest frame, again and again.

import { checkListener, checkOptions, checkSignal, invalid } from "./checks.js";
import { shownJson, toLlavaError } from "./errors.js";
import { CHAT_FIELDS, readFields } from "./fields.js";
import { framesOf } from "./frames.js";
import { difference, Drawing } from "./glimpse.js";
import { checkDetail } from "./requests.js";

/** @typedef {import("../llava-web.js").WatchAnswer} WatchAnswer */
/** @typedef {import("../llava-web.js").WatchState} WatchState */
/** @typedef {import("./frames.js").Frame} Frame */
/**
 * A frame that is looked at: what the request shows, and the tiny copy where there is one. `time`: when it was taken.
 * @typedef {{ image: any, tiny: Uint8ClampedArray | null, time: number, mediaTime: number | null }} Look
 */

/** How much the newest frame must differ from the one that was answered. A camera's noise makes 0.01 to 0.03, a hand that moves 0.2. */
const THRESHOLD = 0.06;
/** After a frame like the last one, the next is looked at so much later, in milliseconds. */
const LOOK_AGAIN = 50;
/** While there is no frame, the source is asked after so many milliseconds, though events should tell. */
const ASK_AGAIN = 500;
/** An answer is to be there before it is out of date. */
const MAX_TOKENS = 128;
/** Pixels of a frame's longer side, where it is looked at as one tile: never less than these, and this often the tower's own. */
const LEAST_SIDE = 640;
const TIMES_IMAGE = 2;
/** Where it may be cut into tiles. */
const MOST_SIDE = 2048;
/** Fields of a request that mean nothing here. */
const OF_REQUESTS = ["messages", "stream", "stream_options", "tools", "tool_choice", "onProgress", "logprobs", "top_logprobs", "continue_final_message", "add_generation_prompt"];

export class Watch {
  /** @type {WatchState} */
  #state = "watching";
  /** @type {string} */
  #question;
  #engine;
  #onAnswer;
  #fields;
  #system;
  #detail;
  #threshold;
  #interval;
  #frames;
  #drawing;
  /** What was answered last, to be asked about again. @type {Look | null} */
  #last = null;
  /** What was answered of it, and to which question. @type {WatchAnswer | null} */
  #answer = null;
  /** The answer that is being written. @type {AbortController | null} */
  #writing = null;
  /** Ends the wait for something new; the argument says that it is a frame. @type {(isFrame: boolean) => void} */
  #poke = () => {};
  /** @type {import("./errors.js").LlavaError | null} */
  #failure = null;
  #listening = new AbortController();
  /** @type {Promise<"stopped" | "source">} */
  #ended;

  /**
   * @param {{ create: (request: any) => Promise<any>, vision: import("../llava-web.js").EngineInfo["vision"], gone: AbortSignal }} engine  `gone`: aborted with
   *   the reason when it is unloaded
   * @param {any} source
   * @param {any} options
   */
  constructor(engine, source, options) {
    const { question, onAnswer, signal, system, detail = "low", threshold = THRESHOLD, interval = 0, ...fields } = checkOptions(options, "watch");
    for (const name of OF_REQUESTS) if ((fields[name] ?? null) !== null) throw invalid(`watch does not support ${name}. Leave it out.`);
    readFields(fields, CHAT_FIELDS, "watch");
    const listener = checkListener(onAnswer, "onAnswer");
    if (!listener) throw invalid("watch needs onAnswer, a function that is told the answers.");
    if (system !== undefined && system !== null && typeof system !== "string") throw invalid("system must be a string.");
    if (!(threshold >= 0 && threshold <= 1)) throw invalid(`threshold is ${shownJson(threshold)}; it must be a number from 0 to 1.`);
    if (!(interval >= 0 && interval < Infinity)) throw invalid(`interval is ${shownJson(interval)}; it must be a number of milliseconds.`);
    const checked = checkSignal(signal);
    if (!engine.vision) throw invalid("This model has no vision file, so it cannot see what is to be watched. Load it together with its mmproj file.");
    this.#question = checkQuestion(question);
    this.#engine = engine;
    this.#onAnswer = listener;
    this.#fields = { temperature: 0, max_tokens: MAX_TOKENS, ...given(fields) };
    this.#system = system ?? "";
    this.#detail = checkDetail(detail, "detail");
    this.#threshold = threshold;
    this.#interval = interval;
    this.#drawing = new Drawing(this.#detail === "low" ? Math.max(LEAST_SIDE, TIMES_IMAGE * engine.vision.imageSize) : MOST_SIDE);
    this.#frames = framesOf(source, () => this.#poke(true));
    const listening = { signal: this.#listening.signal };
    checked?.addEventListener("abort", () => this.stop(), listening);
    engine.gone.addEventListener("abort", () => this.#fail(engine.gone.reason), listening);
    globalThis.document?.addEventListener("visibilitychange", () => this.#poke(false), listening);
    if (checked?.aborted) this.#state = "ended";
    this.#ended = new Promise((resolve, reject) => {
      this.#run().then(resolve, (error) => {
        // Whoever unloads the engine knows that this ends; of any other failure the page is told, whether or not somebody waits for it.
        if (error.code === "aborted") this.#ended.catch(() => {});
        reject(error);
      });
    });
  }

  get state() {
    return this.#state;
  }

  get question() {
    return this.#question;
  }

  set question(question) {
    const checked = checkQuestion(question);
    if (checked === this.#question) return;
    this.#question = checked;
    this.#writing?.abort();
    this.#poke(false);
  }

  get ended() {
    return this.#ended;
  }

  async stop() {
    this.#end();
    await this.#ended.catch(() => {});
  }

  /** For `await using`. */
  async [Symbol.asyncDispose]() {
    await this.stop();
  }

  #end() {
    this.#state = "ended";
    this.#writing?.abort();
    this.#poke(false);
  }

  /** @param {unknown} thrown */
  #fail(thrown) {
    if (this.#state === "ended") return;
    this.#failure = toLlavaError(thrown);
    this.#end();
  }

  /** Whether nothing more is wanted. It may change whenever something is waited for. */
  get #isOver() {
    return this.#state === "ended";
  }

  /** @returns {Promise<"stopped" | "source">} */
  async #run() {
    // Nobody is told anything before the caller has what this is called from.
    await null;
    let hasSourceEnded = false;
    try {
      while (!this.#isOver) {
        hasSourceEnded = this.#frames.hasEnded;
        if (hasSourceEnded) break;
        if (globalThis.document?.visibilityState === "hidden") {
          this.#state = "hidden";
          // A frame may be the last one.
          await this.#wait(undefined, { orFrame: true });
          continue;
        }
        const look = this.#take();
        this.#state = look ? "watching" : "waiting";
        await (look ? this.#look(look) : this.#wait(ASK_AGAIN, { orFrame: true }));
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#state = "ended";
      this.#listening.abort();
      this.#frames.close();
      this.#last = this.#answer = null;
    }
    if (this.#failure) throw this.#failure;
    return hasSourceEnded ? "source" : "stopped";
  }

  /** The newest frame; the last one once more, where there is no newer one and the question is another. @returns {Look | null} */
  #take() {
    const frame = this.#frames.take();
    const time = performance.now();
    try {
      if (!frame) return this.#last && this.#answer?.question !== this.#question ? this.#last : null;
      const { image, mediaTime } = frame;
      if (!frame.drawable) return { image, tiny: null, time, mediaTime };
      const { pixels, tiny } = this.#drawing.draw(frame);
      return { image: pixels, tiny, time, mediaTime };
    } finally {
      frame?.close();
    }
  }

  /** @param {Look} look */
  async #look(look) {
    const [before, answer] = [this.#last, this.#answer];
    const isLike = before?.tiny && look.tiny && difference(before.tiny, look.tiny) < this.#threshold;
    if (isLike && answer?.question === this.#question) {
      this.#onAnswer({ ...answer, skipped: true, time: look.time, mediaTime: look.mediaTime });
      await this.#wait(LOOK_AGAIN);
      return;
    }
    this.#last = look;
    this.#answer = null;
    await this.#ask(look, this.#question);
    const left = look.time + this.#interval - performance.now();
    if (left > 0) await this.#wait(left);
  }

  /**
   * @param {Look} look
   * @param {string} question
   */
  async #ask({ image, time, mediaTime }, question) {
    const writing = this.#writing = new AbortController();
    /** @type {WatchAnswer} */
    let answer = { question, text: "", done: false, finish_reason: null, skipped: false, time, mediaTime, latency: { firstToken: null, whole: null }, usage: null };
    this.#onAnswer(answer);
    try {
      // Told of the frame, somebody may have changed the question, or have had enough.
      if (this.#isOver || question !== this.#question) return;
      const stream = await this.#engine.create({
        ...this.#fields, messages: [
          ...(this.#system ? [{ role: "system", content: this.#system }] : []),
          { role: "user", content: [{ type: "image", image, detail: this.#detail }, { type: "text", text: question }] },
        ],
        stream: true, signal: writing.signal,
      });
      for await (const { choices: [{ delta, finish_reason }], usage } of stream) {
        if (writing.signal.aborted) continue;
        const passed = performance.now() - time;
        const { firstToken } = answer.latency;
        const done = finish_reason !== null;
        answer = {
          ...answer, text: answer.text + delta.content, done, finish_reason, usage: usage ?? null,
          latency: { firstToken: firstToken ?? (delta.content === "" && !done ? null : passed), whole: done ? passed : null },
        };
        if (done) this.#answer = answer;
        if (done || delta.content !== "") this.#onAnswer(answer);
      }
    } finally {
      this.#writing = null;
    }
  }

  /**
   * Until something else is wanted.
   * @param {number} [milliseconds]  at most
   * @param {{ orFrame?: boolean }} [options]  `orFrame`: or until there is another frame
   */
  async #wait(milliseconds, { orFrame = false } = {}) {
    if (this.#isOver) return;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    await new Promise((resolve) => {
      this.#poke = (isFrame) => {
        if (orFrame || !isFrame) resolve(undefined);
      };
      if (milliseconds !== undefined) timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
    this.#poke = () => {};
  }
}

/** @param {unknown} question */
function checkQuestion(question) {
  if (typeof question !== "string" || question.trim() === "") throw invalid("question must be a string that asks something.");
  return question;
}

/**
 * Fields that say something.
 * @param {Record<string, any>} fields
 */
function given(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}
