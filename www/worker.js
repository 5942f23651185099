// The engine's thread: owns the wasm module, reads the model files, runs one request after another. Messages: protocol.js.

import { chooseDevice } from "./device.js";
import { isFault, LlavaError, toLlavaError } from "./errors.js";
import { decodeImage } from "./image-reader.js";
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
      await load(request);
      return { info: info() };
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
  // Browsers tell the page more about an adapter than the module is told.
  if (info.device?.kind === "webgpu") info.device.adapter ||= adapterName;
  return info;
}

/** @param {Extract<Request, { method: "load" }>} request */
async function load({ id, model, mmproj, sha256, options }) {
  const chosen = await chooseDevice(options.device);
  ({ adapterName } = chosen);
  pkg ??= await loadModule();
  const speed = new Speed();
  /** @type {SourceReader[]} */
  const readers = [];
  /** @param {import("./protocol.js").SourceSpec[]} specs @param {string[]} hashes */
  const openAll = (specs, hashes) => Promise.all(specs.map(async (spec, i) => {
    const reader = await SourceReader.open(spec, {
      sha256: hashes[i],
      createHasher: () => new pkg.Sha256(),
      onBytes: (count) => speed.add(count),
    });
    readers.push(reader);
    return reader;
  }));
  /** The engine's word that it is ready is held back until the hashes are compared. @type {any} */
  let ready = null;
  /** @param {string} json */
  const onProgress = (json) => {
    const progress = { ...JSON.parse(json), bytesPerSecond: speed.perSecond(), cached: false };
    if (progress.stage === "ready") ready = progress;
    else post({ id, kind: "progress", progress });
  };
  try {
    const files = await openAll(model, sha256.model);
    const visionFiles = mmproj ? await openAll(mmproj, sha256.mmproj) : undefined;
    try {
      engine = await pkg.Engine.load(files, visionFiles, JSON.stringify({ ...options, ...chosen }), onProgress);
    } catch (error) {
      // The reader's own account says more than what is left of it after its way through the engine.
      throw readers.find((reader) => reader.failure)?.failure ?? error;
    }
    for (const reader of readers) await reader.finish();
  } catch (error) {
    if (engine && !isFault(error)) engine.free();
    engine = null;
    throw error;
  } finally {
    for (const reader of readers) reader.close();
  }
  const { name: file = "" } = model[0] ?? {};
  post({ id, kind: "progress", progress: ready ?? { stage: "ready", file, loaded: 0, total: 0, bytesPerSecond: 0, cached: false } });
}

async function loadModule() {
  try {
    // @ts-ignore: there once build.sh has run
    const module = await import("./pkg/llava_web.js");
    await module.default({ module_or_path: new URL("./pkg/llava_web_bg.wasm", import.meta.url) });
    return module;
  } catch (cause) {
    if (cause instanceof WebAssembly.CompileError) {
      throw new LlavaError("unsupported_browser",
        "This browser cannot run the engine's WebAssembly, which needs SIMD. Update the browser, or use a current Chrome, Edge, Firefox or Safari.",
        { cause });
    }
    throw new LlavaError("network",
      `The engine's own files could not be loaded from ${new URL("./pkg/", import.meta.url).href}. Check the connection, and that this folder was published with the page.`,
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
    return seconds > 0 ? Math.round((last.bytes - first.bytes) / seconds) : 0;
  }
}

/**
 * @param {Answer} message
 * @param {Transferable[]} [transfer]
 */
function post(message, transfer = []) {
  self.postMessage(message, { transfer });
}
