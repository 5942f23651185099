// The engine's thread: owns the wasm module, reads the model files, runs one request after another. Messages: protocol.js.

import { chooseDevice, hasRelaxedSimd } from "./device.js";
import { isFault, LlavaError, toLlavaError } from "./errors.js";
import { decodeImage } from "./image-reader.js";
import { ModelStore } from "./model-store.js";
import { withPieces } from "./pieces.js";
import { noUsage } from "./protocol.js";
import { SourceReader } from "./source-reader.js";

/** @typedef {import("./protocol.js").Request} Request */
/** @typedef {import("./protocol.js").Answer} Answer */

/** The wasm module's JavaScript side, once it is there. @type {any} */
let pkg = null;
/** @type {any} */
let engine = null;
/** What the GPU that was chosen is called. */
let adapterName = "";
/** What left the wasm instance in an unknown state, if anything did. @type {LlavaError | null} */
let fault = null;
/** What was said when the model was loaded, though it is no error. @type {string[]} */
let warnings = [];
/** The requests that have been received and not yet answered. @type {Map<number, AbortController>} */
const open = new Map();
/** The requests whose turn has come. @type {Set<number>} */
const begun = new Set();
/** @type {Promise<void>} */
let queue = Promise.resolve();

self.onmessage = ({ data }) => {
  if ("abort" in data) abort(data.abort);
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
      return { info: info() };
    case "tokenize": {
      const ids = engine.tokenize(request.text, request.special, request.bos);
      return { value: ids, transfer: [ids.buffer] };
    }
    case "detokenize":
      return { value: engine.detokenize(request.ids) };
    case "applyChatTemplate":
      return { value: engine.applyChatTemplate(JSON.stringify(request.messages), request.addGenerationPrompt) };
    case "embedImage":
    case "preprocessImage": {
      const value = await engine[request.method](await decodeImage(request.image));
      return { value, transfer: [value.data.buffer] };
    }
    case "evaluate": {
      const images = await Promise.all(request.images.map((image) => decodeImage(image)));
      const value = await engine.evaluate(JSON.stringify(request.request), images);
      return { value, transfer: [value.logits.buffer, value.tokens.buffer] };
    }
    case "benchmark":
      return { value: JSON.parse(await engine.benchmark(JSON.stringify(request.options))) };
    case "reset":
      engine.reset();
      return { info: info() };
    default:
      throw new LlavaError("internal", `The worker knows no method '${/** @type {any} */ (request).method}'.`);
  }
}

function info() {
  const info = JSON.parse(engine.info());
  if (warnings.length > 0) info.warnings = [...(info.warnings ?? []), ...warnings];
  // Browsers tell the page more about an adapter than the module is told.
  if (info.device?.kind === "webgpu") info.device.adapter ||= adapterName;
  return info;
}

/** @param {Extract<Request, { method: "load" }>} request */
async function load({ id, sha256, cache, options, ...sources }) {
  const chosen = await chooseDevice(options.device);
  ({ adapterName } = chosen);
  pkg ??= await loadModule();
  const model = await withPieces(sources.model);
  const mmproj = sources.mmproj && await withPieces(sources.mmproj);
  const progress = new Progress((progress) => post({ id, kind: "progress", progress }));
  /** @type {SourceReader[]} */
  const readers = [];
  const store = await ModelStore.lock(cache === "none" ? [] : [...model, ...(mmproj ?? [])], {
    required: cache === "opfs",
    onWaiting: (file) => progress.waiting(file),
  });
  progress.ahead = () => store.ahead;
  /** @param {import("./protocol.js").SourceSpec[]} specs @param {string[]} hashes */
  const openAll = (specs, hashes) => Promise.all(specs.map(async (spec, i) => {
    /** @type {import("./source-reader.js").ReaderOptions} */
    const options = { sha256: hashes[i] ?? (spec.kind === "url" ? spec.pieces?.sha256 : undefined), createHasher: () => new pkg.Sha256(), onBytes: (count, stored = false) => progress.bytes(count, stored) };
    const reader = await SourceReader.open(spec, { ...options, stored: store.bytes(spec, options) });
    readers.push(reader);
    return reader;
  }));
  try {
    const files = await openAll(model, sha256.model);
    const visionFiles = mmproj ? await openAll(mmproj, sha256.mmproj) : undefined;
    await store.makeRoom();
    try {
      engine = await pkg.Engine.load(files, visionFiles, JSON.stringify({ ...options, ...chosen }), (/** @type {string} */ json) => progress.engine(JSON.parse(json)));
    } catch (error) {
      // The reader's own account says more than what is left of it after its way through the engine.
      throw readers.find((reader) => reader.failure)?.failure ?? error;
    }
    for (const reader of readers) await reader.finish();
  } catch (error) {
    if (engine && !isFault(error)) engine.free();
    engine = null;
    await store.failed(toLlavaError(error));
    throw error;
  } finally {
    for (const reader of readers) reader.close();
    store.close();
  }
  ({ warnings } = store);
  progress.ready(model[0]?.name ?? "");
  return { firstStored: store.firstStored };
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

  /** @param {(progress: import("./protocol.js").LoadProgress) => void} tell */
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

async function loadModule() {
  const isRelaxed = hasRelaxedSimd();
  const folder = new URL(isRelaxed ? "./pkg-relaxed/" : "./pkg/", import.meta.url);
  try {
    // @ts-ignore: both are there once build.sh has run
    const module = await (isRelaxed ? import("./pkg-relaxed/llava_web.js") : import("./pkg/llava_web.js"));
    await module.default({ module_or_path: new URL("llava_web_bg.wasm", folder) });
    return module;
  } catch (cause) {
    if (cause instanceof WebAssembly.CompileError) {
      throw new LlavaError("unsupported_browser",
        "This browser cannot run the engine's WebAssembly, which needs SIMD. Update the browser, or use a current Chrome, Edge, Firefox or Safari.",
        { cause });
    }
    throw new LlavaError("network",
      `The engine's own files could not be loaded from ${folder.href}. Check the connection, and that this folder was published with the page.`,
      { cause });
  }
}

/**
 * Runs a generation step by step. Before each step the event loop gets a turn, so that an abort is seen within a token.
 * @param {Extract<Request, { method: "startChat" | "startCompletion" }>} request
 * @param {AbortSignal} signal
 */
async function generate({ id, method, request, images }, signal) {
  let decoded;
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
  engine[method](JSON.stringify(request), decoded);
  post({ id, kind: "started" });
  let told = false;
  for (;;) {
    await nextTask();
    if (signal.aborted && !told) {
      engine.abort();
      told = true;
    }
    const event = JSON.parse(await engine.step());
    post({ id, kind: "event", event });
    if (event.type === "done") return;
  }
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
