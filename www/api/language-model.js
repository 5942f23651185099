// The browser's Prompt API → calls of an engine in this tab. What a session is to the browser is a list of messages here: the engine finds
// those that it has computed before.

import { constraintOf, JsonString, PlainText } from "./constraint.js";
import { CreateMonitor, tellProgress } from "./create-monitor.js";
import { asException, exception } from "./dom-exception.js";
import { EventHandlers } from "./event-handlers.js";
import { isKept } from "./kept.js";
import { isBegun, tell, toMessages } from "./prompt-input.js";
import { addCallPart, checkTools, engineTools, resultsOf } from "./prompt-tools.js";
import { checkSampling, PARAMS } from "./sampling-mode.js";
import { SharedEngine, withSignal } from "./shared-engine.js";

/** @typedef {import("../llava-web.js").Engine} Engine */
/** @typedef {import("../llava-web.js").Message} Message */
/** @typedef {{ signal?: AbortSignal, responseConstraint?: object | RegExp, omitResponseConstraintInput?: boolean }} PromptOptions */

/** The model behind it, once a page has said which. @type {SharedEngine | null} */
let shared = null;

/** What is kept free for an answer: this part of the context. */
const FOR_ANSWER = 1 / 8;
/** What the specification knows that is said and answered; text and pictures are understood here. */
const TYPES = ["text", "image", "audio", "tool-call", "tool-response"];
/** How often tools may be called for one answer. */
const MAX_ROUNDS = 8;

/**
 * @param {any} given
 * @param {{ prefer?: boolean, needs?: object }} [options]
 * @returns {boolean | Promise<boolean>}
 */
export function installLanguageModel(given, { prefer = false, needs } = {}) {
  shared = new SharedEngine(given, "installLanguageModel");
  const own = /** @type {any} */ (globalThis).LanguageModel;
  if (needs !== undefined) return lacks(own, needs).then((lacking) => (prefer || lacking) && install());
  return (prefer || own === undefined || own === LanguageModel) && install();
}

/** @returns {true} */
function install() {
  Object.defineProperty(globalThis, "LanguageModel", { value: LanguageModel, writable: true, configurable: true, enumerable: false });
  return true;
}

/**
 * Whether the browser's own `LanguageModel` has no model that does what a page needs.
 * @param {any} own
 * @param {object} needs
 */
async function lacks(own, needs) {
  if (own === undefined || own === LanguageModel) return true;
  // A browser that does not know what is asked of it does not do it.
  const availability = await (async () => own.availability(needs))().catch(() => "unavailable");
  return availability === "unavailable";
}

/** Given to the constructor by `create` and `clone` alone. */
const OWN = Symbol("session");

export class LanguageModel extends EventTarget {
  #engine;
  /** @type {Message[]} */
  #messages;
  /** @type {ReturnType<typeof checkSampling>} */
  #sampling;
  #tools;
  #usage;
  /** Ends everything that it is doing. */
  #ended = new AbortController();
  /** The call before: they are answered in their order. @type {Promise<unknown>} */
  #last = Promise.resolve();
  #handlers = new EventHandlers(this);

  /**
   * @param {symbol} own
   * @param {{ engine: Engine, messages: Message[], sampling: ReturnType<typeof checkSampling>, tools: import("./prompt-tools.js").PromptTool[], usage: number }} state
   */
  constructor(own, state) {
    if (own !== OWN) throw new TypeError("Illegal constructor. Use LanguageModel.create().");
    super();
    this.#engine = state.engine;
    this.#messages = state.messages;
    this.#sampling = state.sampling;
    this.#tools = state.tools;
    this.#usage = state.usage;
  }

  /** @param {any} [options] */
  static async availability(options = {}) {
    options ??= {};
    checkSampling(options);
    checkTools(options.tools);
    const why = unsupported(options);
    if (shared === null || why !== null) return "unavailable";
    if (shared.engine) return shared.engine.info.vision === null && wantsImages(options) ? "unavailable" : "available";
    if (wantsImages(options) && shared.options !== null && !shared.options.mmproj) return "unavailable";
    if (shared.isLoading) return "downloading";
    return shared.options === null || await isKept([shared.options.model, shared.options.mmproj]) ? "available" : "downloadable";
  }

  static async params() {
    return shared && { ...PARAMS };
  }

  /** @param {any} [options] */
  static async create(options = {}) {
    options ??= {};
    const { signal, monitor, initialPrompts } = options;
    signal?.throwIfAborted();
    const sampling = checkSampling(options);
    const tools = checkTools(options.tools);
    const why = unsupported(options) ?? (shared === null ? "No model was given: call installLanguageModel first." : null);
    if (shared === null || why !== null) throw exception(String(why), "NotSupportedError");
    const messages = toMessages(initialPrompts ?? [], { isInitial: true });
    if (messages.some(isBegun)) throw new TypeError("initialPrompts: a prefix can only be given to prompt.");
    const told = new CreateMonitor();
    monitor?.(told);
    const progress = (/** @type {number} */ loaded) => tellProgress(told, loaded);
    try {
      progress(0);
      const engine = await withSignal(shared.load(({ loaded, total }) => {
        // 1 is told once, at the end; and never less than before, though files come one after another.
        if (total > 0 && loaded < total) progress(loaded / total);
      }), signal);
      progress(1);
      if (engine.info.vision === null && wantsImages(options)) throw exception("This model sees no pictures: it was loaded without a vision file (mmproj).", "NotSupportedError");
      const usage = messages.length === 0 ? 0 : await engine.countTokens(messages, { tools: engineTools(tools), signal });
      if (usage > engine.info.contextSize) {
        throw exception(`initialPrompts take ${usage} tokens, but the context has ${engine.info.contextSize}. Shorten them.`, "QuotaExceededError");
      }
      return new LanguageModel(OWN, { engine, messages, tools, usage, sampling });
    } catch (thrown) {
      signal?.throwIfAborted();
      throw asException(thrown);
    }
  }

  get [Symbol.toStringTag]() {
    return "LanguageModel";
  }

  get topK() {
    return this.#sampling.topK;
  }

  get temperature() {
    return this.#sampling.temperature;
  }

  get samplingMode() {
    return this.#sampling.samplingMode;
  }

  get contextUsage() {
    return this.#usage;
  }

  get contextWindow() {
    return this.#engine.info.contextSize;
  }

  get inputUsage() {
    return this.contextUsage;
  }

  get inputQuota() {
    return this.contextWindow;
  }

  get oncontextoverflow() {
    return this.#handlers.get("contextoverflow");
  }

  set oncontextoverflow(handler) {
    this.#handlers.set("contextoverflow", handler);
  }

  get onquotaoverflow() {
    return this.#handlers.get("quotaoverflow");
  }

  set onquotaoverflow(handler) {
    this.#handlers.set("quotaoverflow", handler);
  }

  /**
   * @param {any} input
   * @param {PromptOptions} [options]
   */
  async prompt(input, options = {}) {
    let text = "";
    for await (const piece of this.#answer(input, options)) text += piece;
    return text;
  }

  /**
   * @param {any} input
   * @param {PromptOptions} [options]
   */
  promptStreaming(input, options = {}) {
    const left = new AbortController();
    const pieces = this.#answer(input, options, left.signal);
    return new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await pieces.next();
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (thrown) {
          controller.error(thrown);
        }
      },
      async cancel() {
        left.abort();
        await pieces.return(undefined).catch(() => {});
      },
    }, { highWaterMark: 0 });
  }

  /**
   * @param {any} input
   * @param {{ signal?: AbortSignal }} [options]
   */
  async append(input, options = {}) {
    const { signal } = options ?? {};
    return this.#inTurn(signal, async (stop) => {
      const added = toMessages(input, { follows: this.#messages });
      const messages = await this.#fitting(added, stop, 0);
      this.#usage = await this.#count(messages, stop);
      this.#messages = messages;
    });
  }

  /**
   * @param {any} input
   * @param {PromptOptions} [options]
   */
  async measureContextUsage(input, options = {}) {
    const { signal, responseConstraint, omitResponseConstraintInput } = options ?? {};
    return this.#inTurn(signal, async (stop) => {
      const added = toMessages(input, { follows: this.#messages });
      const { schema } = constraintOf(responseConstraint);
      if (schema !== undefined && !omitResponseConstraintInput) tell(added, schema);
      const [before, after] = [this.#messages, [...this.#messages, ...added]].map((messages) =>
        messages.length === 0 ? Promise.resolve(0) : this.#count(messages, stop));
      return Math.max(0, await /** @type {Promise<number>} */ (after) - await /** @type {Promise<number>} */ (before));
    });
  }

  /**
   * @param {any} input
   * @param {PromptOptions} [options]
   */
  async measureInputUsage(input, options = {}) {
    return this.measureContextUsage(input, options);
  }

  /**
   * Tokens of the messages with the session's tools.
   * @param {Message[]} messages
   * @param {AbortSignal} signal
   */
  #count(messages, signal) {
    return this.#engine.countTokens(messages, { tools: engineTools(this.#tools), signal });
  }

  /** @param {{ signal?: AbortSignal }} [options] */
  async clone(options = {}) {
    const { signal } = options ?? {};
    return this.#inTurn(signal, async () => new LanguageModel(OWN, {
      engine: this.#engine, messages: [...this.#messages], sampling: this.#sampling, tools: this.#tools, usage: this.#usage,
    }));
  }

  destroy() {
    this.#ended.abort(exception("The session was destroyed.", "AbortError"));
  }

  /**
   * Runs a call behind those before it.
   * @template T
   * @param {AbortSignal | undefined} signal
   * @param {(stop: AbortSignal) => Promise<T>} run
   * @returns {Promise<T>}
   */
  async #inTurn(signal, run) {
    this.#check(signal);
    const stop = signal ? AbortSignal.any([signal, this.#ended.signal]) : this.#ended.signal;
    const turn = this.#last.then(() => {
      stop.throwIfAborted();
      return run(stop);
    });
    this.#last = turn.catch(() => {});
    try {
      return await withSignal(turn, stop);
    } catch (thrown) {
      if (stop.aborted) throw stop.reason;
      throw asException(thrown);
    }
  }

  /** @param {AbortSignal | undefined} signal */
  #check(signal) {
    if (this.#ended.signal.aborted) throw exception("The session was destroyed. Create a new one.", "InvalidStateError");
    signal?.throwIfAborted();
  }

  /**
   * The pieces of an answer. The conversation has it only when it is whole: one that was stopped leaves the session as it was.
   * @param {any} input
   * @param {PromptOptions} options
   * @param {AbortSignal} [left]  that of a stream that nobody reads any more
   * @returns {AsyncGenerator<string, void, undefined>}
   */
  async *#answer(input, options, left) {
    const { signal, responseConstraint, omitResponseConstraintInput = false } = options ?? {};
    this.#check(signal);
    const stop = AbortSignal.any([this.#ended.signal, ...(signal ? [signal] : []), ...(left ? [left] : [])]);
    const before = this.#last;
    let done = () => {};
    this.#last = new Promise((resolve) => (done = () => resolve(undefined)));
    // Also one that is stopped while nobody reads on: what comes behind it need not wait.
    stop.addEventListener("abort", () => done(), { once: true });
    /** What a tool threw, which is the page's own. @type {{ error: unknown } | null} */
    let thrownByTool = null;
    try {
      await withSignal(before.then(() => {}), stop);
      const added = toMessages(input, { follows: this.#messages });
      const constraint = constraintOf(responseConstraint);
      if (constraint.schema !== undefined && !omitResponseConstraintInput) tell(added, constraint.schema);
      for (let round = 0; ; round++) {
        const messages = await this.#fitting(added, stop, FOR_ANSWER);
        const goesOn = isBegun(messages.at(-1));
        const stream = await this.#engine.chat.completions.create({
          messages: messages, stream: true, signal: stop, temperature: this.temperature, top_k: this.topK,
          ...(goesOn && { continue_final_message: true }), ...(constraint.format && { response_format: constraint.format }),
          ...(round < MAX_ROUNDS && { tools: engineTools(this.#tools) }),
        });
        const text = constraint.isPattern ? new JsonString() : new PlainText();
        /** @type {import("../llava-web.js").ToolCall[]} */
        const calls = [];
        let isWhole = false;
        for await (const { choices: [{ delta, finish_reason }], usage } of stream) {
          stop.throwIfAborted();
          const piece = text.push(delta.content);
          if (piece !== "") yield piece;
          for (const part of delta.tool_calls ?? []) addCallPart(calls, part);
          isWhole ||= finish_reason === "tool_calls";
          if (usage) this.#usage = usage.total_tokens;
        }
        stop.throwIfAborted();
        const content = goesOn ? textOf(messages.pop()) + text.whole : text.whole;
        if (!isWhole) {
          this.#messages = [...messages, { role: "assistant", content }];
          return;
        }
        if (isBegun(added.at(-1))) added.pop();
        const results = await resultsOf(calls, this.#tools, stop).catch((error) => {
          thrownByTool = { error };
          throw error;
        });
        added.push({ role: "assistant", content, tool_calls: calls }, ...results);
      }
    } catch (thrown) {
      if (stop.aborted) throw stop.reason;
      throw thrownByTool ? thrown : asException(thrown);
    } finally {
      done();
    }
  }

  /**
   * The conversation with what is added, less its oldest turns where it would be too long.
   * @param {Message[]} added
   * @param {AbortSignal} signal
   * @param {number} free  this part of the context is left to an answer, where anything can be forgotten for it
   */
  async #fitting(added, signal, free) {
    const { contextSize } = this.#engine.info;
    let kept = this.#messages;
    for (;;) {
      const messages = [...kept, ...added];
      const n = await this.#count(messages, signal);
      const first = kept[0]?.role === "system" ? 1 : 0;
      const canForget = kept.length > first;
      if (n <= contextSize * (1 - free) || (!canForget && n < contextSize)) {
        if (kept !== this.#messages) {
          for (const type of ["contextoverflow", "quotaoverflow"]) this.dispatchEvent(new Event(type));
        }
        return messages;
      }
      if (!canForget) {
        throw Object.assign(exception(`The input takes ${n} tokens, but the context has ${contextSize}. Shorten it.`, "QuotaExceededError"), { requested: n, quota: contextSize });
      }
      // A question goes with its answer: up to the next question.
      const next = kept.findIndex((message, i) => i > first && message.role === "user");
      kept = [...kept.slice(0, first), ...(next < 0 ? [] : kept.slice(next))];
    }
  }
}

/** @param {Message | undefined} message */
function textOf(message) {
  const content = message?.content ?? "";
  return typeof content === "string" ? content : content.map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** @param {any} options */
function wantsImages({ expectedInputs }) {
  return (expectedInputs ?? []).some((/** @type {any} */ { type }) => type === "image");
}

/**
 * What of a session's options there is no way to do, or null.
 * @param {any} options
 * @returns {string | null}
 */
function unsupported({ expectedInputs, expectedOutputs }) {
  const [inputs, outputs] = [typesOf(expectedInputs, "expectedInputs"), typesOf(expectedOutputs, "expectedOutputs")];
  const other = inputs.find((type) => !["text", "image"].includes(type));
  if (other) return `Input of the type "${other}" is not understood by this model.`;
  if (outputs.some((type) => type !== "text")) return "Text is all that this model writes.";
  return null;
}

/**
 * The types that are expected. Which languages a model knows is not known: each is taken, if it is the tag of one.
 * @param {any} expected
 * @param {string} name
 * @returns {string[]}
 */
function typesOf(expected, name) {
  return [...expected ?? []].map((given) => {
    const { type, languages } = given ?? {};
    if (!TYPES.includes(type)) throw new TypeError(`${name}: the type must be one of ${TYPES.map((type) => `"${type}"`).join(", ")}.`);
    Intl.getCanonicalLocales(languages ?? []);
    return type;
  });
}

