// The engine of this worker: the one that is loaded, and after its GPU went away the next one, which takes over what was under way.

import { isFault, LlavaError, toLlavaError } from "../api/errors.js";
import { WrongParts } from "../storage/cached-file.js";
import { chooseDevice } from "./choose-device.js";
import { loadEngine } from "./load.js";
import { Progress } from "./progress.js";
import { ADAPTER_DELAYS, Interrupted, isLoss, Losses, lostTooOften, notRecovered, unlessAborted } from "./recovery.js";

/** @typedef {import("./load.js").LoadRequest} LoadRequest */
/** @typedef {{ signal?: AbortSignal, onProgress?: (done: number, total: number) => void }} Waiting  who waits for a recovery */

export class EngineHost {
  /** @type {any} */
  #engine = null;
  /** What left the wasm instance in an unknown state, if anything did. @type {LlavaError | null} */
  #fault = null;
  /** What the GPU that was chosen is called. */
  #adapterName = "";
  /** What was said when the model was loaded, though it is no error. @type {string[]} */
  #warnings = [];
  /** What the engine on a GPU was loaded from, to load it again. @type {LoadRequest | null} */
  #origin = null;
  /** What is left of an engine whose GPU went away, until another one takes over. @type {any} */
  #rescued = null;
  /** The recovery under way. @type {Promise<void> | null} */
  #recovery = null;
  /** Told how far it is. @type {(done: number, total: number) => void} */
  #tellRecovery = () => {};
  #recoveries = 0;
  #losses = new Losses();
  /** Why no GPU is tried any more. @type {LlavaError | null} */
  #gaveUp = null;
  #pause;

  /** @param {() => Promise<void>} pause  called between two steps of long computations; its rejection ends them */
  constructor(pause) {
    this.#pause = pause;
  }

  /** Whether there is an engine: not while a recovery that nobody waits for goes on. */
  get isThere() {
    return this.#engine !== null;
  }

  /** Throws where nothing can be computed any more. */
  check() {
    if (this.#fault) {
      throw new LlavaError("internal", "The engine stopped after a failure and cannot go on. Create the engine again.", { cause: this.#fault });
    }
    if (this.#gaveUp) throw this.#gaveUp;
  }

  info() {
    const info = JSON.parse(this.#engine.info());
    const times = this.#recoveries === 1 ? "once" : `${this.#recoveries} times`;
    const recovered = this.#recoveries === 0 ? [] : [`The GPU went away ${times} since the model was loaded; it was loaded again.`];
    const more = [...this.#warnings, ...recovered];
    if (more.length > 0) info.warnings = [...(info.warnings ?? []), ...more];
    // Browsers tell the page more about an adapter than the module is told.
    if (info.device?.kind === "webgpu") info.device.adapter ||= this.#adapterName;
    return info;
  }

  /**
   * @param {LoadRequest} request
   * @param {(progress: import("../wire/protocol.js").LoadProgress) => void} tell
   */
  async load(request, tell) {
    const { model, options } = request;
    let kept = 0;
    let startedOver = false;
    for (;;) {
      const progress = new Progress(tell);
      try {
        const loaded = await this.#loadOn(request, await chooseDevice(options.device), progress);
        this.#engine = loaded.engine;
        ({ kept } = loaded);
        progress.ready(model[0]?.name ?? "");
        break;
      } catch (error) {
        if (error instanceof WrongParts && !startedOver) {
          // What was there of an earlier version is deleted; the download begins anew, once.
          startedOver = true;
          continue;
        }
        if (!isLoss(error)) throw error;
        if (!this.#losses.add()) throw lostTooOften(error);
        tell({ stage: "recovering", file: model[0]?.name ?? "", loaded: 0, total: 0, bytesPerSecond: 0, cached: false });
      }
    }
    if (this.info().device?.kind === "webgpu") this.#origin = request;
    return { kept };
  }

  /**
   * @param {LoadRequest} request
   * @param {import("./load.js").Chosen} chosen
   * @param {Progress} progress
   */
  async #loadOn(request, chosen, progress) {
    const loaded = await loadEngine(request, chosen, progress, { pause: this.#pause, note: (error) => this.#note(error) });
    this.#adapterName = chosen.adapterName;
    this.#warnings = loaded.warnings;
    return loaded;
  }

  /**
   * Does something that needs the engine, but not its GPU.
   * @template T
   * @param {(engine: any) => T} work
   * @param {Waiting} [waiting]
   * @returns {Promise<T>}
   */
  async withEngine(work, waiting) {
    if (this.#rescued) await this.#recovered(waiting);
    try {
      return work(this.#engine);
    } catch (error) {
      this.#note(error);
      throw error;
    }
  }

  /**
   * Does something on the GPU. Where it goes away meanwhile, does it on the next one.
   * @template T
   * @param {(engine: any) => T | Promise<T>} work
   * @param {Waiting} [waiting]
   * @returns {Promise<T>}
   */
  async surviving(work, waiting) {
    for (;;) {
      // A tab that was in the background for long finds it gone; then the work need not be begun to know.
      if (this.#engine?.isLost()) this.#lose(null);
      if (this.#rescued) await this.#recovered(waiting);
      try {
        return await work(this.#engine);
      } catch (error) {
        this.#note(error);
        if (!isLoss(error)) throw error;
        this.#lose(error);
      }
    }
  }

  /** Asks the generation under way to end; its next step is the last. */
  abort() {
    this.#engine?.abort();
  }

  /** Ends the generation that waited for another GPU; gives its last event, where there was one. */
  async endInterrupted() {
    if (this.#rescued) return JSON.parse(this.#rescued.abort() ?? "null");
    // The GPU came at the same moment.
    this.#engine.abort();
    return JSON.parse(await this.#engine.step());
  }

  /**
   * Remembers what the module cannot go on after.
   * @param {unknown} error  what a call into it threw
   */
  #note(error) {
    if (isFault(error)) this.#fault = toLlavaError(error);
  }

  /**
   * The GPU went away: what was on it is given up.
   * @param {unknown} cause
   */
  #lose(cause) {
    this.#rescued = this.#engine.rescue();
    this.#engine = null;
    if (!this.#losses.add()) this.#giveUp(cause);
  }

  /**
   * @param {unknown} cause
   * @returns {never}
   */
  #giveUp(cause) {
    this.#gaveUp = lostTooOften(cause);
    this.#rescued?.free();
    this.#rescued = null;
    throw this.#gaveUp;
  }

  /**
   * Resolves once there is an engine again. A request that is stopped need not wait; the next one finds what was done until then.
   * @param {Waiting} [waiting]
   * @returns {Promise<void>}
   */
  #recovered({ signal, onProgress = () => {} } = {}) {
    if (signal?.aborted) return Promise.reject(new Interrupted());
    this.#tellRecovery = onProgress;
    if (!this.#recovery) {
      this.#recovery = this.#recover().finally(() => {
        this.#recovery = null;
      });
      // Nobody may be waiting any more.
      this.#recovery.catch(() => {});
    }
    return unlessAborted(this.#recovery, signal);
  }

  /** Loads the model on a new device; what was under way goes on there. */
  async #recover() {
    const request = /** @type {LoadRequest} */ (this.#origin);
    this.#tellRecovery(0, 0);
    const progress = new Progress(({ loaded, total }) => this.#tellRecovery(loaded, total));
    /** @type {any} */
    let fresh = null;
    while (!fresh) {
      try {
        fresh = (await this.#loadOn(request, await chooseAgain(request.options.device), progress)).engine;
      } catch (error) {
        if (isLoss(error)) {
          if (!this.#losses.add()) this.#giveUp(error);
        } else {
          // Whoever waited for it is told of the failure, so it ends here. The next request tries again.
          this.#rescued?.abort();
          throw notRecovered(error);
        }
      }
    }
    const old = this.#rescued;
    this.#rescued = null;
    this.#engine = fresh;
    this.#recoveries += 1;
    fresh.resume(old);
  }
}

/**
 * A GPU after another one went away. A program on the CPU, which some browsers then offer instead, is no substitute unless it was asked for.
 * @param {"auto" | "webgpu" | "cpu"} wanted
 */
async function chooseAgain(wanted) {
  /** @type {unknown} */
  let cause = null;
  for (const delay of ADAPTER_DELAYS) {
    await new Promise((resolve) => setTimeout(resolve, delay));
    try {
      const chosen = await chooseDevice(wanted);
      if (chosen.device !== "cpu") return { ...chosen, device: /** @type {const} */ ("webgpu") };
    } catch (error) {
      cause = error;
    }
  }
  throw cause ?? new LlavaError("unsupported_browser", "There is no other GPU.");
}
