// The page's end of the wire: makes the worker, sends requests, gives each answer to whoever asked.

import { LlavaError } from "../api/errors.js";
import { WORKER } from "../assets.js";
import { noUsage } from "./protocol.js";
import { startWorker } from "./start-worker.js";

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {import("./protocol.js").Answer} Answer */
/** @typedef {import("./protocol.js").GenerationEvent} GenerationEvent */
/**
 * @template T
 * @typedef {T extends { id: number } ? Omit<T, "id"> : never} WithoutId
 */

/** How long the worker may take to leave the browser's storage in order, in milliseconds. It may be computing, and hear nothing. */
const END_WITHIN = 300;

/** Who waits for the answers to one request. @typedef {{ onAnswer: (answer: Answer) => void, onFailure: (error: LlavaError) => void }} Waiting */

export class EngineClient {
  /** The engine's own description, as of the last request that may have changed it. @type {any} */
  info = null;
  #worker;
  #nextId = 1;
  /** @type {Map<number, Waiting>} */
  #waiting = new Map();
  /** Why nothing can be asked any more. @type {LlavaError | null} */
  #closed = null;

  constructor() {
    this.#worker = createWorker();
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => this.#workerFailed(event);
    this.#worker.onmessageerror = () => this.close(new LlavaError("internal", "A message from the engine could not be read. Create the engine again."));
  }

  /**
   * Asks for something that is answered once.
   * @param {WithoutId<Request>} request
   * @param {{ transfer?: Transferable[], onProgress?: (progress: any) => void }} [options]
   * @returns {Promise<any>}
   */
  call(request, { transfer, onProgress } = {}) {
    return new Promise((resolve, reject) => {
      this.#send(request, transfer, {
        onAnswer: (answer) => {
          if (answer.kind === "progress") onProgress?.(answer.progress);
          if (answer.kind === "result") resolve(answer.value);
        },
        onFailure: reject,
      });
    });
  }

  /**
   * Starts a generation; resolves once the engine has accepted it.
   * @param {WithoutId<Request>} request
   * @param {{ transfer?: Transferable[], signal?: AbortSignal | null, onProgress?: (progress: object) => void }} [options]  `onProgress`: told
   *   of what happens before that
   * @returns {Promise<GenerationEvents>}
   */
  generate(request, { transfer, signal, onProgress } = {}) {
    if (signal?.aborted && !this.#closed) return Promise.resolve(abortedBefore());
    return new Promise((resolve, reject) => {
      const abort = () => {
        if (this.#waiting.has(id) && !this.#closed) this.#worker.postMessage({ abort: id });
      };
      let started = false;
      const settled = () => signal?.removeEventListener("abort", abort);
      const events = new GenerationEvents(abort);
      const id = this.#send(request, transfer, {
        onAnswer: (answer) => {
          if (answer.kind === "started") {
            started = true;
            resolve(events);
          }
          if (answer.kind === "event" && answer.event.type === "progress" && !started) {
            const { stage, done, total } = answer.event;
            onProgress?.({ stage, done, total });
          } else if (answer.kind === "event") {
            events.push(answer.event);
          }
          if (answer.kind === "result") {
            events.end();
            settled();
          }
        },
        onFailure: (error) => {
          events.fail(error);
          reject(error);
          settled();
        },
      });
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /**
   * Ends the worker, and with it the model's memory and any download.
   * @param {LlavaError} why  what pending and later requests are told
   * @param {LlavaError} [pending]  what pending ones are told, where it is something else
   */
  close(why, pending = why) {
    if (this.#closed) return;
    this.#worker.terminate();
    this.#fail(why, pending);
  }

  /**
   * The same for a load that is under way: the worker first has a moment to give back the room it took in the browser's storage. Whoever
   * waits is told when that is done.
   * @param {LlavaError} why
   */
  stopLoading(why) {
    if (this.#closed) return;
    this.#closed = why;
    const end = () => {
      clearTimeout(timer);
      this.#worker.terminate();
      this.#fail(why);
    };
    const timer = setTimeout(end, END_WITHIN);
    this.#worker.onmessage = ({ data }) => {
      if (data.kind === "ended") end();
    };
    this.#worker.onerror = end;
    this.#worker.postMessage({ end: true });
  }

  /**
   * @param {LlavaError} why
   * @param {LlavaError} [pending]
   */
  #fail(why, pending = why) {
    this.#closed = why;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { onFailure } of waiting) onFailure(pending);
  }

  /**
   * @param {WithoutId<Request>} request
   * @param {Transferable[] | undefined} transfer
   * @param {Waiting} waiting
   * @returns {number}
   */
  #send(request, transfer, waiting) {
    const id = this.#nextId++;
    if (this.#closed) {
      waiting.onFailure(this.#closed);
      return id;
    }
    this.#waiting.set(id, waiting);
    try {
      this.#worker.postMessage({ id, ...request }, { transfer });
    } catch (cause) {
      this.#waiting.delete(id);
      waiting.onFailure(notSendable(cause));
    }
    return id;
  }

  /** @param {Answer} answer */
  #receive(answer) {
    const waiting = this.#waiting.get(answer.id);
    if (!waiting) return;
    if (answer.kind === "error") {
      this.#waiting.delete(answer.id);
      const cause = answer.cause === undefined ? undefined : new Error(answer.cause);
      waiting.onFailure(new LlavaError(answer.code, answer.message, cause && { cause }));
      return;
    }
    if (answer.kind === "result") {
      this.#waiting.delete(answer.id);
      if (answer.info) this.info = answer.info;
    }
    waiting.onAnswer(answer);
  }

  /** @param {ErrorEvent} event */
  #workerFailed(event) {
    event.preventDefault();
    // A script that did not load gives no message.
    this.close(event.message ?
      new LlavaError("internal", `The engine's worker failed: ${event.message}. Create the engine again; if it happens again, please report it.`) :
      new LlavaError("network", `The engine's worker could not be started from ${WORKER.href}. Check the connection, that worker.js was published beside llava-web.js, and that the page's security policy lets workers run.`));
  }
}

/** The events of one generation, as they come. Leaving the loop early stops the generation. @implements {AsyncIterableIterator<GenerationEvent>} */
class GenerationEvents {
  /** @type {GenerationEvent[]} */
  #events = [];
  #ended = false;
  /** @type {LlavaError | null} */
  #failure = null;
  /** @type {(() => void) | null} */
  #wake = null;
  #abort;

  /** @param {() => void} abort */
  constructor(abort) {
    this.#abort = abort;
  }

  /** @param {GenerationEvent} event */
  push(event) {
    if (this.#ended) return;
    this.#events.push(event);
    this.#wake?.();
  }

  end() {
    this.#ended = true;
    this.#wake?.();
  }

  /** @param {LlavaError} error */
  fail(error) {
    this.#failure = error;
    this.end();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<IteratorResult<GenerationEvent, undefined>>} */
  async next() {
    while (this.#events.length === 0 && !this.#ended) {
      await new Promise((resolve) => {
        this.#wake = () => resolve(undefined);
      });
    }
    const event = this.#events.shift();
    if (event) return { done: false, value: event };
    const failure = this.#failure;
    this.#failure = null;
    if (failure) throw failure;
    return { done: true, value: undefined };
  }

  /** @returns {Promise<IteratorResult<GenerationEvent, undefined>>} */
  async return() {
    if (!this.#ended) this.#abort();
    this.#events.length = 0;
    this.end();
    return { done: true, value: undefined };
  }
}

/** A generation that was stopped before it was asked for. */
function abortedBefore() {
  const events = new GenerationEvents(() => {});
  events.push({ type: "done", text: "", finish_reason: "abort", usage: noUsage() });
  events.end();
  return events;
}

function createWorker() {
  try {
    return startWorker(WORKER);
  } catch (cause) {
    throw new LlavaError("unsupported_browser",
      "This page cannot start a module worker. Update the browser, or let the page's security policy allow workers from its own address (worker-src).",
      { cause });
  }
}

/** @param {unknown} cause */
function notSendable(cause) {
  return new LlavaError("invalid_request",
    `The request could not be handed to the engine: ${cause instanceof Error ? cause.message : cause} ` +
    "Pictures from other sites must be loaded with CORS (the crossorigin attribute), and closed ImageBitmaps cannot be used.",
    { cause });
}
