// The one engine behind a door for others: given, or created when it is first needed.

import { createEngine } from "./create-engine.js";
import { LlavaError } from "./errors.js";

/** @typedef {import("../llava-web.js").Engine} Engine */
/** @typedef {import("../llava-web.js").EngineOptions} EngineOptions */

export class SharedEngine {
  #given;
  /** @type {Promise<Engine> | null} */
  #loading = null;
  /** The engine, once it is there. @type {Engine | null} */
  engine = null;

  /**
   * @param {any} given  an engine, the promise of one, or the options of one
   * @param {string} door  for messages
   */
  constructor(given, door) {
    if (typeof given !== "object" || given === null || !(isEngine(given) || typeof given.then === "function" || "model" in given)) {
      throw new LlavaError("invalid_request", `${door} takes an engine, or the options of one: ${door}({ model, mmproj }).`);
    }
    this.#given = given;
    if (isEngine(given)) this.engine = given;
  }

  /** The options it is created with, where it is. @returns {EngineOptions | null} */
  get options() {
    return "model" in this.#given ? this.#given : null;
  }

  get isLoading() {
    return this.#loading !== null && this.engine === null;
  }

  /**
   * @param {(progress: import("../llava-web.js").LoadProgress) => void} [onProgress]  told of the load that this call begins
   * @returns {Promise<Engine>}
   */
  load(onProgress) {
    if (this.engine) return Promise.resolve(this.engine);
    if (this.#loading === null) {
      const { options } = this;
      const loading = options === null ? Promise.resolve(this.#given) : createEngine(onProgress === undefined ? options : {
        ...options,
        onProgress(progress) {
          onProgress(progress);
          options.onProgress?.(progress);
        },
      });
      this.#loading = loading.then((engine) => (this.engine = engine));
      // The next one who needs it tries once more.
      this.#loading.catch(() => (this.#loading = null));
    }
    return this.#loading;
  }
}

/** @param {any} value */
function isEngine(value) {
  return typeof value.chat?.completions?.create === "function";
}

/**
 * Rejects as soon as the signal says so: what is waited for may take longer.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | null | undefined} signal
 * @returns {Promise<T>}
 */
export function withSignal(promise, signal) {
  if (!signal) return promise;
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
