// When the GPU goes away (a driver that crashed or was updated, a tab that was in the background for hours, a laptop that changed its
// card): how often another one is tried before somebody is asked.

import { LlavaError } from "../api/errors.js";

/** So many losses, and within how many milliseconds, show that another attempt would end the same way. */
export const MOST_LOSSES = 2;
export const LOSS_WINDOW = 60_000;

/** Milliseconds before another adapter is asked for: a browser whose GPU process has just crashed has none for a moment. */
export const ADAPTER_DELAYS = [0, 500, 2000];

/** Counts losses. */
export class Losses {
  #now;
  /** When the last ones were. @type {number[]} */
  #times = [];

  /** @param {() => number} [now]  milliseconds */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /**
   * Counts one more.
   * @returns {boolean}  whether another GPU is worth a try
   */
  add() {
    const now = this.#now();
    this.#times = this.#times.filter((time) => now - time < LOSS_WINDOW);
    this.#times.push(now);
    return this.#times.length < MOST_LOSSES;
  }
}

/** @param {unknown} thrown */
export function isLoss(thrown) {
  return /** @type {{ code?: unknown } | null} */ (thrown)?.code === "device_lost";
}

/**
 * The error that ends the attempts.
 * @param {unknown} cause
 */
export function lostTooOften(cause) {
  return new LlavaError("device_lost",
    `The GPU went away ${MOST_LOSSES} times within a minute, so it is not tried again. Load the model with device "cpu", which needs no GPU and is slower, ` +
    "or close other programs that use the GPU and load it again.", { cause });
}

/**
 * The error of a recovery that failed for another reason than the GPU.
 * @param {unknown} cause
 */
export function notRecovered(cause) {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new LlavaError("device_lost",
    `The GPU went away, and the model could not be loaded again: ${why} Ask again to try once more, or load the model with device "cpu".`, { cause });
}

/** What a wait ends with whose request was stopped. */
export class Interrupted extends Error {}

/**
 * Waits for something, but no longer than until the signal is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(new Interrupted());
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
