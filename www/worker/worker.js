// The engine's thread: owns the wasm module, reads the model files, runs one request after another. Messages: protocol.js.

import { hasRelaxedSimd, usableThreads } from "../api/devices.js";
import { engineFiles, THREAD } from "../assets.js";
import { chooseDevice } from "./choose-device.js";
import { isFault, LlavaError, toLlavaError } from "../api/errors.js";
import { decodeImage } from "./decode-image.js";
import { WrongParts } from "../storage/cached-file.js";
import { ModelStore } from "../storage/load-files.js";
import { withPieces } from "../fetching/pieces.js";
import { noUsage } from "../wire/protocol.js";
import { ADAPTER_DELAYS, Interrupted, isLoss, Losses, lostTooOften, notRecovered, unlessAborted } from "./recovery.js";
import { savedSession } from "./save-session.js";
import { SourceReader } from "../fetching/source-reader.js";
import { startWorker } from "../wire/start-worker.js";

/** @typedef {import("../wire/protocol.js").Request} Request */
/** @typedef {import("../wire/protocol.js").Answer} Answer */

/** @typedef {Extract<Request, { method: "load" }>} LoadRequest */

/** The wasm module's JavaScript side, once it is there. @type {any} */
let pkg = null;
/** Where it came from. */
let moduleScript = "";
/** @type {any} */
let engine = null;
/** What the GPU that was chosen is called. */
let adapterName = "";
/** What left the wasm instance in an unknown state, if anything did. @type {LlavaError | null} */
let fault = null;
/** What was said when the model was loaded, though it is no error. @type {string[]} */
let warnings = [];
/** What the engine on a GPU was loaded from, to load it again. @type {LoadRequest | null} */
let origin = null;
/** What is left of an engine whose GPU went away, until another one takes over. @type {any} */
let rescued = null;
/** The taking over, while it goes on. @type {Promise<void> | null} */
let recovery = null;
/** Told of how far it is. @type {(done: number, total: number) => void} */
let tellRecovery = () => {};
let recoveries = 0;
const losses = new Losses();
/** Why no GPU is tried any more. @type {LlavaError | null} */
let gaveUp = null;
/** The files of the load that is under way. @type {ModelStore | null} */
let store = null;
/** The requests that have been received and not yet answered. @type {Map<number, AbortController>} */
const open = new Map();
/** The requests whose turn has come. @type {Set<number>} */
const begun = new Set();
/** @type {Promise<void>} */
let queue = Promise.resolve();

self.onmessage = ({ data }) => {
  if ("end" in data) end();
  else if ("abort" in data) abort(data.abort);
  else enqueue(data);
};

/** @param {Request} request */
function enqueue(request) {
  open.set(request.id, new AbortController());
  queue = queue.then(() => answer(request));
}

/** @param {number} id */
function abort(id) {
  const controller = open.get(id);
  controller?.abort();
  // One that still waits for its turn has nothing to wait for any more.
  if (controller && !begun.has(id)) {
    open.delete(id);
    finishUnbegun(id);
  }
}

/** @param {number} id */
function finishUnbegun(id) {
  post({ id, kind: "started" });
  post({ id, kind: "event", event: { type: "done", text: "", finish_reason: "abort", usage: noUsage() } });
  post({ id, kind: "result" });
}

/** The page is about to end this worker: what is under way in the browser's storage comes to a proper end before that. */
async function end() {
  await store?.close();
  self.postMessage({ kind: "ended" });
}

/** @param {Request} request */
async function answer(request) {
  const controller = open.get(request.id);
  if (!controller) return;
  begun.add(request.id);
  try {
    if (fault) {
      throw new LlavaError("internal",
        "The engine stopped after a failure and cannot go on. Create the engine again.", { cause: fault });
    }
    if (gaveUp) throw gaveUp;
    const { value, transfer, info } = await run(request, controller.signal);
    post({ id: request.id, kind: "result", value, info }, transfer);
  } catch (thrown) {
    const error = toLlavaError(thrown);
    if (isFault(thrown)) fault = error;
    const cause = error.cause instanceof Error ? `${error.cause.name}: ${error.cause.message}` : undefined;
    post({ id: request.id, kind: "error", code: error.code, message: error.message, cause });
  } finally {
    open.delete(request.id);
    begun.delete(request.id);
  }
}

/**
 * @param {Request} request
 * @param {AbortSignal} signal
 * @returns {Promise<{ value?: any, transfer?: Transferable[], info?: object }>}
 */
async function run(request, signal) {
  switch (request.method) {
    case "load":
      return { value: await load(request), info: info() };
    case "startChat":
    case "startCompletion":
      await generate(request, signal);
      // One that was stopped may have left before there was an engine again.
      return engine ? { info: info() } : {};
    case "tokenize": {
      const ids = await withEngine(() => engine.tokenize(request.text, request.special, request.bos));
      return { value: ids, transfer: [ids.buffer] };
    }
    case "detokenize":
      return { value: await withEngine(() => engine.detokenize(request.ids)) };
    case "applyChatTemplate":
      return { value: await withEngine(() => engine.applyChatTemplate(JSON.stringify(request.messages), request.addGenerationPrompt)) };
    case "embedImage": {
      const image = await decodeImage(request.image);
      const value = await surviving(() => engine.embedImage(image));
      return { value, transfer: [value.data.buffer] };
    }
    case "preprocessImage": {
      const image = await decodeImage(request.image);
      const value = await withEngine(() => engine.preprocessImage(image));
      return { value, transfer: [value.data.buffer] };
    }
    case "evaluate": {
      const images = await Promise.all(request.images.map((image) => decodeImage(image)));
      const value = await surviving(() => engine.evaluate(JSON.stringify(request.request), images));
      return { value, transfer: [value.logits.buffer, value.tokens.buffer] };
    }
    case "benchmark":
      return { value: JSON.parse(await surviving(() => engine.benchmark(JSON.stringify(request.options)))) };
    case "lookedAt": {
      const value = await surviving(() => engine.lookedAt(JSON.stringify(request.request)));
      return { value };
    }
    case "saveSession": {
      const value = await surviving(() => savedSession(engine));
      return { value, transfer: [value.buffer] };
    }
    case "restoreSession":
      await surviving(() => engine.restoreSession(request.bytes));
      return { info: info() };
    case "reset":
      await withEngine(() => engine.reset());
      return { info: info() };
    default:
      throw new LlavaError("internal", `The worker knows no method '${/** @type {any} */ (request).method}'.`);
  }
}

function info() {
  const info = JSON.parse(engine.info());
  const recovered = recoveries === 0 ? [] :
    [`The GPU went away ${recoveries === 1 ? "once" : `${recoveries} times`} since the model was loaded; it was loaded again.`];
  const more = [...warnings, ...recovered];
  if (more.length > 0) info.warnings = [...(info.warnings ?? []), ...more];
  // Browsers tell the page more about an adapter than the module is told.
  if (info.device?.kind === "webgpu") info.device.adapter ||= adapterName;
  return info;
}

/** @param {LoadRequest} request */
async function load(request) {
  const { id, model, options } = request;
  const tell = (/** @type {import("../wire/protocol.js").LoadProgress} */ progress) => post({ id, kind: "progress", progress });
  let kept = 0;
  let startedOver = false;
  for (;;) {
    const progress = new Progress(tell);
    try {
      const loaded = await loadEngine(request, await chooseDevice(options.device), progress);
      engine = loaded.engine;
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
      if (!losses.add()) throw lostTooOften(error);
      tell({ stage: "recovering", file: model[0]?.name ?? "", loaded: 0, total: 0, bytesPerSecond: 0, cached: false });
    }
  }
  if (info().device?.kind === "webgpu") origin = request;
  return { kept };
}

/**
 * Reads the files into a new engine on this device. After a failure nothing of it is left.
 * @param {LoadRequest} request
 * @param {Awaited<ReturnType<typeof chooseDevice>>} chosen
 * @param {Progress} progress
 */
async function loadEngine({ sha256, cache, options: { threads, ...options }, ...sources }, chosen, progress) {
  ({ adapterName } = chosen);
  const maxThreads = Math.min(threads ?? Infinity, usableThreads(threads));
  // On the GPU there is nothing for threads to do, and their module reserves all the memory it may ever take.
  pkg ??= await loadModule(maxThreads > 1 && chosen.device === "cpu");
  const model = await withPieces(sources.model);
  const mmproj = sources.mmproj && await withPieces(sources.mmproj);
  /** @type {any} */
  let engine = null;
  const hashes = new Map([...model.map((spec, i) => /** @type {const} */ ([spec, sha256.model[i]])), ...(mmproj ?? []).map((spec, i) => /** @type {const} */ ([spec, sha256.mmproj[i]]))]);
  const hashOf = (/** @type {import("../wire/protocol.js").SourceSpec} */ spec) => hashes.get(spec) ?? (spec.kind === "url" ? spec.pieces?.sha256 : undefined);
  const stored = await ModelStore.lock(cache === "none" ? [] : [...model, ...(mmproj ?? [])], {
    required: cache === "opfs",
    hashOf,
    onWaiting: (file) => progress.waiting(file),
  });
  store = stored;
  progress.ahead = () => stored.ahead;
  const readerOf = (/** @type {import("../wire/protocol.js").SourceSpec} */ spec) => {
    /** @type {import("../fetching/source-reader.js").ReaderOptions} */
    const options = { sha256: hashOf(spec), createHasher: () => new pkg.Sha256(), onBytes: (count, stored = false) => progress.bytes(count, stored) };
    return new SourceReader(spec, { ...options, stored: stored.bytes(spec, options) });
  };
  const files = model.map(readerOf);
  const visionFiles = mmproj?.map(readerOf);
  const readers = [...files, ...(visionFiles ?? [])];
  try {
    await Promise.all(readers.map((reader) => reader.open()));
    try {
      engine = await pkg.Engine.load(files, visionFiles, JSON.stringify({ ...options, ...chosen, maxThreads, exactThreads: threads !== undefined }),
        (/** @type {string} */ json) => {
          const step = JSON.parse(json);
          if (step.stage !== "header") stored.accept();
          progress.engine(step);
        }, startHelpers);
    } catch (error) {
      // The reader's own account says more than what is left of it after its way through the engine.
      throw readers.find((reader) => reader.failure)?.failure ?? error;
    }
    for (const reader of readers) await reader.finish();
  } catch (error) {
    if (engine && !isFault(error)) engine.free();
    const blamed = readers.filter((reader) => reader.failure || reader.isRefused).map(({ spec }) => spec);
    await stored.failed(toLlavaError(error), new Set(blamed));
    throw error;
  } finally {
    // Also those that are still being opened, where another one could not be.
    for (const reader of readers) reader.close();
    await stored.close();
    store = null;
  }
  ({ warnings } = stored);
  return { engine, kept: stored.kept };
}

/**
 * Does something that needs the engine, but not its GPU.
 * @template T
 * @param {() => T} work
 */
async function withEngine(work) {
  if (rescued) await recovered();
  return work();
}

/**
 * Does something on the GPU. Where it goes away meanwhile, does it on the next one.
 * @template T
 * @param {() => T | Promise<T>} work
 * @param {{ signal?: AbortSignal, onProgress?: (done: number, total: number) => void }} [options]
 * @returns {Promise<T>}
 */
async function surviving(work, options) {
  for (;;) {
    // A tab that was in the background for long finds it gone; then the work need not be begun to know.
    if (engine?.isLost()) lose(null);
    if (rescued) await recovered(options);
    try {
      return await work();
    } catch (error) {
      if (!isLoss(error)) throw error;
      lose(error);
    }
  }
}

/**
 * The GPU went away: what was on it is given up.
 * @param {unknown} cause
 */
function lose(cause) {
  rescued = engine.rescue();
  engine = null;
  if (!losses.add()) giveUp(cause);
}

/**
 * @param {unknown} cause
 * @returns {never}
 */
function giveUp(cause) {
  gaveUp = lostTooOften(cause);
  rescued?.free();
  rescued = null;
  throw gaveUp;
}

/**
 * Resolves once there is an engine again. A request that is stopped need not wait; the next one finds what was done until then.
 * @param {{ signal?: AbortSignal, onProgress?: (done: number, total: number) => void }} [options]
 */
function recovered({ signal, onProgress = () => {} } = {}) {
  if (signal?.aborted) return Promise.reject(new Interrupted());
  tellRecovery = onProgress;
  if (!recovery) {
    recovery = recover().finally(() => {
      recovery = null;
    });
    // Nobody may be waiting any more.
    recovery.catch(() => {});
  }
  return unlessAborted(recovery, signal);
}

/** Loads the model on a new device; what was under way goes on there. */
async function recover() {
  const request = /** @type {LoadRequest} */ (origin);
  tellRecovery(0, 0);
  const progress = new Progress(({ loaded, total }) => tellRecovery(loaded, total));
  /** @type {any} */
  let fresh = null;
  while (!fresh) {
    try {
      fresh = (await loadEngine(request, await chooseAgain(request.options.device), progress)).engine;
    } catch (error) {
      if (isFault(error)) fault = toLlavaError(error);
      if (isLoss(error)) {
        if (!losses.add()) giveUp(error);
      } else {
        // Whoever waited for it is told of the failure, so it ends here. The next request tries again.
        rescued?.abort();
        throw notRecovered(error);
      }
    }
  }
  const old = rescued;
  rescued = null;
  engine = fresh;
  recoveries += 1;
  engine.resume(old);
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

/** How often progress is told while nothing but bytes come in, in milliseconds. */
const TELL_EVERY = 200;

/** Puts together what the engine says of its tensors and the readers of their bytes. */
class Progress {
  #tell;
  #speed = new Speed();
  #stored = false;
  /** @type {any} */
  #last = { stage: "header", file: "", loaded: 0, total: 0 };
  /** How many bytes were downloaded beyond what the engine has read. @type {() => number} */
  ahead = () => 0;
  /** Bytes that came since the engine last said something. */
  #since = 0;
  #toldAt = 0;
  /** The most that was told of this stage. */
  #sent = 0;
  /** @type {any} */
  #ready = null;

  /** @param {(progress: import("../wire/protocol.js").LoadProgress) => void} tell */
  constructor(tell) {
    this.#tell = tell;
  }

  /** @param {{ name: string, loaded: number, total: number }} file  what another tab is downloading */
  waiting({ name, loaded, total }) {
    this.#tell({ stage: "header", file: name, loaded, total, bytesPerSecond: 0, cached: false });
  }

  /**
   * @param {number} count
   * @param {boolean} stored  whether they come from the browser's storage
   */
  bytes(count, stored) {
    if (stored !== this.#stored) {
      // A disk's speed says nothing of what the network will take.
      this.#stored = stored;
      this.#speed = new Speed();
    }
    this.#speed.add(count);
    this.#since += count;
    // The engine asks for megabytes at a time; on a slow connection one would see nothing for long.
    if (this.#last.total > 0 && performance.now() - this.#toldAt > TELL_EVERY) this.#send(this.#last);
  }

  /** @param {any} progress */
  engine(progress) {
    if (progress.stage !== this.#last.stage || progress.file !== this.#last.file) this.#sent = 0;
    this.#last = progress;
    this.#since = 0;
    // Its word that it is ready is held back until the hashes are compared.
    if (progress.stage === "ready") this.#ready = progress;
    else this.#send(progress);
  }

  /** @param {string} file */
  ready(file) {
    this.#send(this.#ready ?? { stage: "ready", file, loaded: 0, total: 0 });
  }

  /** @param {any} progress */
  #send(progress) {
    // What is read ahead of the engine counts once.
    const loaded = progress.loaded + Math.max(this.#since, this.ahead());
    this.#sent = Math.max(this.#sent, Math.min(loaded, progress.total));
    this.#toldAt = performance.now();
    this.#tell({ ...progress, loaded: this.#sent, bytesPerSecond: this.#speed.perSecond(), cached: this.#stored });
  }
}

/**
 * The module, in the best of its builds that this browser can run and that is there: they differ in the instructions they use.
 * @param {boolean} wantsThreads
 */
async function loadModule(wantsThreads) {
  /** @type {("pkg-relaxed" | "pkg")[]} */
  const plain = hasRelaxedSimd() ? ["pkg-relaxed", "pkg"] : ["pkg"];
  // Relaxed instructions are worth more than a second thread.
  const builds = wantsThreads ? plain.flatMap((build) => [/** @type {const} */ (`${build}-threads`), build]) : plain;
  /** @type {unknown[]} */
  const causes = [];
  for (const build of builds) {
    try {
      return await instantiate(build);
    } catch (cause) {
      // It may not have been built or published, and a module with threads reserves its memory as a whole, which may not be had.
      console.info(`The engine's build ${build} is not used:`, cause);
      causes.push(cause);
    }
  }
  if (causes.at(-1) instanceof WebAssembly.CompileError) {
    throw new LlavaError("unsupported_browser",
      "This browser cannot run the engine's WebAssembly, which needs SIMD. Update the browser, or use a current Chrome, Edge, Firefox or Safari.",
      { cause: causes.at(-1) });
  }
  throw new LlavaError("network",
    `The engine's own files could not be loaded from ${new URL("./", engineFiles(plain[0]).script).href}. Check the connection, and that this folder was published with the page.`,
    { cause: causes[wantsThreads ? 1 : 0] });
}

/** @param {Parameters<typeof engineFiles>[0]} build */
async function instantiate(build) {
  const files = engineFiles(build);
  const module = await import(files.script.href);
  await module.default({ module_or_path: files.module });
  moduleScript = files.script.href;
  return module;
}

/**
 * Starts a worker for each of the helpers that share the CPU's work; resolves when all are there. They end with the engine.
 * @param {WebAssembly.Module} module
 * @param {WebAssembly.Memory} memory
 * @param {number[]} helpers
 */
function startHelpers(module, memory, helpers) {
  return Promise.all(helpers.map((helper) => new Promise((resolve, reject) => {
    const worker = startWorker(THREAD);
    worker.onmessage = () => resolve(undefined);
    worker.onerror = (event) => reject(new Error(event.message ?? "a worker did not start"));
    worker.postMessage({ script: moduleScript, module, memory, helper });
  })));
}

/**
 * Runs a generation step by step. Before each step the event loop gets a turn, so that an abort is seen within a token.
 * @param {Extract<Request, { method: "startChat" | "startCompletion" }>} request
 * @param {AbortSignal} signal
 */
async function generate({ id, method, request, images }, signal) {
  /** @type {any[]} */
  let decoded = [];
  try {
    decoded = await Promise.all(images.map((image) => decodeImage(image, signal)));
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  if (signal.aborted) {
    post({ id, kind: "started" });
    post({ id, kind: "event", event: { type: "done", text: "", finish_reason: "abort", usage: noUsage() } });
    return;
  }
  let started = false;
  const options = {
    signal,
    onProgress: (/** @type {number} */ done, /** @type {number} */ total) =>
      post({ id, kind: "event", event: { type: "progress", stage: "recovering", done, total } }),
  };
  try {
    await surviving(() => engine[method](JSON.stringify(request), decoded), options);
    post({ id, kind: "started" });
    started = true;
    let told = false;
    for (;;) {
      await nextTask();
      if (signal.aborted && !told) {
        engine.abort();
        told = true;
      }
      const event = JSON.parse(await surviving(() => engine.step(), options));
      post({ id, kind: "event", event });
      if (event.type === "done") return;
    }
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    const last = started ? await stopped() : null;
    if (!started) post({ id, kind: "started" });
    post({ id, kind: "event", event: last ?? { type: "done", text: "", finish_reason: "abort", usage: noUsage() } });
  }
}

/** Ends the generation that waited for another GPU; gives its last event, where there was one. */
async function stopped() {
  if (rescued) return JSON.parse(rescued.abort() ?? "null");
  // It came at the same moment.
  engine.abort();
  return JSON.parse(await engine.step());
}

const channel = new MessageChannel();
/** @type {(() => void) | null} */
let resume = null;
channel.port1.onmessage = () => resume?.();

/** Resolves in a task of its own: messages that have come in are seen first. Timers would cost 4 ms a token. */
function nextTask() {
  return new Promise((resolve) => {
    resume = () => resolve(undefined);
    channel.port2.postMessage(null);
  });
}

/** Bytes per second over the last few seconds. */
class Speed {
  /** @type {{ at: number, bytes: number }[]} */
  #samples = [{ at: performance.now(), bytes: 0 }];

  /** @param {number} count */
  add(count) {
    const at = performance.now();
    const last = this.#samples[this.#samples.length - 1];
    const bytes = last.bytes + count;
    // Ten samples a second at most, over three seconds.
    if (this.#samples.length > 1 && at - this.#samples[this.#samples.length - 2].at < 100) {
      last.at = at;
      last.bytes = bytes;
    } else {
      this.#samples.push({ at, bytes });
    }
    while (this.#samples.length > 2 && at - this.#samples[0].at > 3000) this.#samples.shift();
  }

  perSecond() {
    const first = this.#samples[0];
    const last = this.#samples[this.#samples.length - 1];
    const seconds = (performance.now() - first.at) / 1000;
    // Less says nothing yet: what had piled up in buffers comes all at once.
    return seconds > 0.2 ? Math.round((last.bytes - first.bytes) / seconds) : 0;
  }
}

/**
 * @param {Answer} message
 * @param {Transferable[]} [transfer]
 */
function post(message, transfer = []) {
  self.postMessage(message, { transfer });
}
