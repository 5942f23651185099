// The page's end of the wire: makes the worker, sends requests, gives each answer to whoever asked.

import { LlavaError, reason, toLlavaError } from "../api/errors.js";
import { noUsage } from "./protocol.js";
import { startWorker } from "./start-worker.js";

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {import("./protocol.js").Answer} Answer */
/** @typedef {import("./protocol.js").GenerationEvent} GenerationEvent */
/** @typedef {import("./protocol.js").Draw} Draw */
/**
 * @template T
 * @typedef {T extends { id: number } ? Omit<T, "id"> : never} WithoutId
 */

/** How long the worker may take to leave the browser's storage in order, in milliseconds. It may be computing, and hear nothing. */
const END_WITHIN = 300;

/**
 * What is sent: a request, what is moved with it, and what gives back what was made for it, whether it was sent or not.
 * @typedef {{ request: WithoutId<Request>, transfer?: Transferable[], dispose?: () => void }} Message
 */

/** Who waits for the answers to one request. @typedef {{ onAnswer: (answer: Answer) => void, onFailure: (error: LlavaError) => void }} Waiting */

export class EngineClient {
  /** The engine's own description, as of the last request that may have changed it. @type {any} */
  info = null;
  #worker;
  /** Its address. */
  #script;
  #nextId = 1;
  /** @type {Map<number, Waiting>} */
  #waiting = new Map();
  /** Requests that are not sent yet, in the order in which they were made: that is the order in which they are answered. @type {{ id: number, message: Message | null }[]} */
  #outbox = [];
  /** Why nothing can be asked any more. @type {LlavaError | null} */
  #closed = null;
  #draw;

  /**
   * @param {string} script  the address of the engine's worker
   * @param {(blob: Blob) => Promise<ImageBitmap>} draw  decodes what only a document can
   */
  constructor(script, draw) {
    this.#script = script;
    this.#draw = draw;
    this.#worker = createWorker(script);
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => this.#workerFailed(event);
    this.#worker.onmessageerror = () => this.close(new LlavaError("internal", "A message from the engine could not be read. Create the engine again."));
  }

  /**
   * Asks for something that is answered once.
   * @param {Message | Promise<Message>} message
   * @param {{ signal?: AbortSignal | null, onProgress?: (progress: any) => void }} [options]
   * @returns {Promise<any>}
   */
  call(message, { signal, onProgress } = {}) {
    return new Promise((resolve, reject) => {
      const settled = () => signal?.removeEventListener("abort", abort);
      /** @type {number | undefined} */
      let id;
      const abort = () => {
        settled();
        // The worker is told to stop; nobody has to wait until it has seen that.
        if (id !== undefined) this.#abandon(id);
        else discard(message);
        reject(new LlavaError("aborted", "The request was stopped by its signal.", { cause: signal?.reason }));
      };
      if (signal?.aborted && !this.#closed) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      id = this.#send(message, {
        onAnswer: (answer) => {
          if (answer.kind === "progress") onProgress?.(answer.progress);
          if (answer.kind !== "result") return;
          settled();
          resolve(answer.value);
        },
        onFailure: (error) => {
          settled();
          reject(error);
        },
      });
    });
  }

  /**
   * Starts a generation; resolves once the engine has accepted it.
   * @param {Message | Promise<Message>} message
   * @param {{ signal?: AbortSignal | null, onProgress?: (progress: object) => void }} [options]  `onProgress`: told of what happens before that
   * @returns {Promise<AsyncIterableIterator<GenerationEvent>>}
   */
  generate(message, { signal, onProgress } = {}) {
    if (signal?.aborted && !this.#closed) {
      discard(message);
      return Promise.resolve(abortedBefore());
    }
    return new Promise((resolve, reject) => {
      const settled = () => signal?.removeEventListener("abort", abort);
      const abort = () => {
        if (this.#withdraw(id)) {
          settled();
          resolve(abortedBefore());
        } else if (this.#waiting.has(id)) {
          this.#worker.postMessage({ abort: id });
        }
      };
      const events = new GenerationEvents(abort);
      let started = false;
      signal?.addEventListener("abort", abort, { once: true });
      const id = this.#send(message, {
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
    for (const { message } of this.#outbox.splice(0)) message?.dispose?.();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { onFailure } of waiting) onFailure(pending);
  }

  /**
   * @param {Message | Promise<Message>} message  a promise where something has to be made ready first
   * @param {Waiting} waiting
   * @returns {number}
   */
  #send(message, waiting) {
    const id = this.#nextId++;
    if (this.#closed) {
      discard(message);
      waiting.onFailure(this.#closed);
      return id;
    }
    this.#waiting.set(id, waiting);
    /** @type {{ id: number, message: Message | null }} */
    const entry = { id, message: null };
    this.#outbox.push(entry);
    const ready = (/** @type {Message} */ message) => {
      if (!this.#outbox.includes(entry)) {
        message.dispose?.();
        return;
      }
      entry.message = message;
      this.#flush();
    };
    if (!(message instanceof Promise)) {
      ready(message);
      return id;
    }
    message.then(ready, (error) => {
      const waiting = this.#waiting.get(id);
      if (this.#withdraw(id)) waiting?.onFailure(toLlavaError(error));
    });
    return id;
  }

  /** Sends what is ready and has nothing before it that is not. */
  #flush() {
    for (let first = this.#outbox[0]; first?.message; first = this.#outbox[0]) {
      this.#outbox.shift();
      const { request, transfer, dispose } = first.message;
      try {
        this.#worker.postMessage({ id: first.id, ...request }, { transfer });
      } catch (cause) {
        const waiting = this.#waiting.get(first.id);
        this.#waiting.delete(first.id);
        waiting?.onFailure(notSendable(cause));
      }
      dispose?.();
    }
  }

  /**
   * Takes back a request that is not sent yet.
   * @param {number} id
   * @returns {boolean}  whether that was so
   */
  #withdraw(id) {
    const at = this.#outbox.findIndex((entry) => entry.id === id);
    if (at < 0) return false;
    const [entry] = this.#outbox.splice(at, 1);
    entry?.message?.dispose?.();
    this.#waiting.delete(id);
    this.#flush();
    return true;
  }

  /**
   * Lets go of a request, wherever it is.
   * @param {number} id
   */
  #abandon(id) {
    if (this.#withdraw(id) || !this.#waiting.delete(id)) return;
    this.#worker.postMessage({ abort: id });
  }

  /** @param {Draw} asked */
  async #drawFor({ drawing, blob }) {
    try {
      const bitmap = await this.#draw(blob);
      if (this.#closed) bitmap.close();
      else this.#worker.postMessage({ drawn: drawing, bitmap }, { transfer: [bitmap] });
    } catch (error) {
      if (!this.#closed) this.#worker.postMessage({ drawn: drawing, why: reason(error) });
    }
  }

  /** @param {Answer | Draw} answer */
  #receive(answer) {
    if (answer.kind === "draw") {
      this.#drawFor(answer);
      return;
    }
    if (answer.kind === "result" && answer.info) this.info = answer.info;
    const waiting = this.#waiting.get(answer.id);
    if (!waiting) return;
    if (answer.kind === "error") {
      this.#waiting.delete(answer.id);
      const cause = answer.cause === undefined ? undefined : new Error(answer.cause);
      waiting.onFailure(new LlavaError(answer.code, answer.message, cause && { cause }));
      return;
    }
    if (answer.kind === "result") this.#waiting.delete(answer.id);
    waiting.onAnswer(answer);
  }

  /** @param {ErrorEvent} event */
  #workerFailed(event) {
    event.preventDefault();
    // A script that did not load gives no message.
    this.close(event.message ?
      new LlavaError("internal", `The engine's worker failed: ${reason(event.message)}. Create the engine again; if it happens again, please report it.`) :
      new LlavaError("network", `The engine's worker could not be started from ${this.#script}. Check the connection, that worker.js was published beside llava-web.js, and that the page's security policy lets workers run.`));
  }
}

/** The events of one generation, as they come. Leaving the loop early stops the generation. @implements {AsyncIterableIterator<GenerationEvent>} */
class GenerationEvents {
  /** @type {GenerationEvent[]} */
  #events = [];
  #ended = false;
  /** @type {LlavaError | null} */
  #failure = null;
  /** Whoever waits for an event, in the order in which they came. @type {(() => void)[]} */
  #waiting = [];
  #abort;

  /** @param {() => void} abort */
  constructor(abort) {
    this.#abort = abort;
  }

  /** @param {GenerationEvent} event */
  push(event) {
    if (this.#ended) return;
    this.#events.push(event);
    this.#waiting.shift()?.();
  }

  end() {
    this.#ended = true;
    for (const wake of this.#waiting.splice(0)) wake();
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
    // One that is woken may find the event gone: whoever asked in the meantime has it.
    while (this.#events.length === 0 && !this.#ended) {
      await new Promise((resolve) => {
        this.#waiting.push(() => resolve(undefined));
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

/**
 * Gives back what was made for a request that is not sent.
 * @param {Message | Promise<Message>} message
 */
function discard(message) {
  Promise.resolve(message).then(({ dispose }) => dispose?.(), () => {});
}

/** @param {string} script */
function createWorker(script) {
  try {
    return startWorker(new URL(script));
  } catch (cause) {
    throw new LlavaError("unsupported_browser",
      "This page cannot start a module worker. Update the browser, or let the page's security policy allow workers from its own address (worker-src) and, where it has them, the " +
      "trusted types policy llava-web, with 'allow-duplicates' where the module is loaded twice.",
      { cause });
  }
}

/** @param {unknown} cause */
function notSendable(cause) {
  return new LlavaError("invalid_request",
    `The request could not be handed to the engine: ${reason(cause)} ` +
    "Pictures from other sites must be loaded with CORS (the crossorigin attribute), and closed ImageBitmaps cannot be used.",
    { cause });
}
