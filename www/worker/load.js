// From files to an engine: the build of the module, the device, the readers of the files, the helpers.

import { hasRelaxedSimd, usableThreads } from "../api/devices.js";
import { isFault, LlavaError, toLlavaError } from "../api/errors.js";
import { withPieces } from "../fetching/pieces.js";
import { SourceReader } from "../fetching/source-reader.js";
import { ModelStore } from "../storage/load-files.js";
import { toJson } from "../wire/json.js";
import { startWorker } from "../wire/start-worker.js";

/** @typedef {Extract<import("../wire/protocol.js").Request, { method: "load" }>} LoadRequest */
/** @typedef {Awaited<ReturnType<typeof import("./choose-device.js").chooseDevice>>} Chosen */
/** @typedef {import("./progress.js").Progress} Progress */

/** Milliseconds in which a helper has to have begun. */
const HELPER_PATIENCE = 10_000;

/** Where the engine's files are, as the page said. @type {import("../assets.js").Assets} */
let assets;
/** The wasm module's JavaScript side, once it is there. @type {any} */
let pkg = null;
/** Where it came from. */
let moduleScript = "";
/** The files of the load that is under way. @type {ModelStore | null} */
let store = null;

/**
 * Reads the files into a new engine on this device. After a failure nothing of it is left.
 * @param {LoadRequest} request
 * @param {Chosen} chosen
 * @param {Progress} progress
 * @param {{ pause: () => Promise<void>, note: (error: unknown) => void }} calls  `pause` is called between two steps of long computations, which
 *   its rejection ends; `note` with what a call into the module threw
 */
export async function loadEngine({ sha256, cache, options: { threads, ...options }, ...sources }, chosen, progress, { pause, note: noteError }) {
  ({ assets } = sources);
  const maxThreads = Math.min(threads ?? Infinity, usableThreads(threads));
  const { gpu, note } = await openDevice(chosen, maxThreads, options.kvFormat);
  /** Whether the device was handed to the engine, which frees it in any case. */
  let given = false;
  /** @type {any} */
  let engine = null;
  /** @type {SourceReader[]} */
  let readers = [];
  /** @type {ModelStore | null} */
  let stored = null;
  try {
    const model = await withPieces(sources.model);
    const mmproj = sources.mmproj && await withPieces(sources.mmproj);
    const hashes = new Map([...model.map((spec, i) => /** @type {const} */ ([spec, sha256.model[i]])), ...(mmproj ?? []).map((spec, i) => /** @type {const} */ ([spec, sha256.mmproj[i]]))]);
    const hashOf = (/** @type {import("../wire/protocol.js").SourceSpec} */ spec) => hashes.get(spec) ?? (spec.kind === "url" ? spec.pieces?.sha256 : undefined);
    const locked = stored = store = await ModelStore.lock(cache === "none" ? [] : [...model, ...(mmproj ?? [])], {
      required: cache === "opfs",
      hashOf,
      onWaiting: (file) => progress.waiting(file),
    });
    progress.ahead = () => locked.ahead;
    const readerOf = (/** @type {import("../wire/protocol.js").SourceSpec} */ spec) => {
      /** @type {import("../fetching/source-reader.js").ReaderOptions} */
      const options = { sha256: hashOf(spec), createHasher: () => new pkg.Sha256(), onBytes: (count, stored = false) => progress.bytes(count, stored) };
      return new SourceReader(spec, { ...options, stored: locked.bytes(spec, options) });
    };
    const files = model.map(readerOf);
    const visionFiles = mmproj?.map(readerOf);
    readers = [...files, ...(visionFiles ?? [])];
    await Promise.all(readers.map((reader) => reader.open()));
    try {
      given = true;
      engine = await pkg.Engine.load(files, visionFiles, toJson({ ...options, maxThreads, exactThreads: threads !== undefined }),
        (/** @type {string} */ json) => {
          const step = JSON.parse(json);
          if (step.stage !== "header") locked.accept();
          progress.engine(step);
        }, startHelpers, pause, gpu);
    } catch (error) {
      noteError(error);
      // The reader's own account says more than what is left of it after its way through the engine.
      throw readers.find((reader) => reader.failure)?.failure ?? error;
    }
    for (const reader of readers) await reader.finish();
    return { engine, kept: locked.kept, warnings: [...(note ? [note] : []), ...locked.warnings] };
  } catch (error) {
    if (!given) gpu?.free();
    if (engine && !isFault(error)) engine.free();
    const blamed = readers.filter((reader) => reader.failure || reader.isRefused).map(({ spec }) => spec);
    await stored?.failed(toLlavaError(error), new Set(blamed));
    throw error;
  } finally {
    // Also those that are still being opened, where another one could not be.
    for (const reader of readers) reader.close();
    await stored?.close();
    store = null;
  }
}

/** The load that is under way is about to be ended: what it does in the browser's storage comes to a proper end before that. */
export async function endLoading() {
  await store?.close();
}

/**
 * The GPU, where it was chosen and passes its self-test, and the build of the module for what is to compute. Where any device will do and the
 * GPU does not pass, the CPU takes over, with all its threads; the note says so.
 * @param {Chosen} chosen
 * @param {number} maxThreads
 * @param {string | undefined} kvFormat  what only one way to keep keys and values needs is tried where it is wanted
 * @returns {Promise<{ gpu: any, note: string | undefined }>}
 */
async function openDevice(chosen, maxThreads, kvFormat) {
  // On the GPU there is nothing for threads to do, and their module reserves all the memory it may ever take.
  if (chosen.device === "cpu") {
    pkg ??= await loadModule(maxThreads > 1);
    return { gpu: undefined, note: undefined };
  }
  pkg ??= await loadModule(false);
  const opened = await pkg.OpenDevice.open(JSON.stringify({ ...chosen, kvFormat }));
  const note = opened.note();
  if (opened.isGpu()) return { gpu: opened, note };
  opened.free();
  if (maxThreads > 1) pkg = await loadModule(true);
  return { gpu: undefined, note };
}

/**
 * The module, in the best of its builds that this browser can run and that is there: they differ in the instructions they use.
 * @param {boolean} wantsThreads
 */
async function loadModule(wantsThreads) {
  /** @type {["pkg-relaxed", "pkg"] | ["pkg"]} */
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
  const forbidden = causes.find((cause) => cause instanceof Error && /unsafe-eval|content.security.policy|\bCSP\b/i.test(cause.message));
  if (forbidden) {
    throw new LlavaError("unsupported_browser",
      "A security policy forbids WebAssembly here. Add 'wasm-unsafe-eval' to its script-src; in the manifest of an extension: " +
      "\"content_security_policy\": { \"extension_pages\": \"script-src 'self' 'wasm-unsafe-eval'; object-src 'self'\" }.",
      { cause: forbidden });
  }
  if (causes.at(-1) instanceof WebAssembly.CompileError) {
    throw new LlavaError("unsupported_browser",
      "This browser cannot run the engine's WebAssembly, which needs SIMD. Update the browser, or use a current Chrome, Edge, Firefox or Safari.",
      { cause: causes.at(-1) });
  }
  throw new LlavaError("network",
    `The engine's own files could not be loaded from ${new URL("./", assets.builds[plain[0]].script).href}. Check the connection, and that this folder was published with the page.`,
    { cause: causes[wantsThreads ? 1 : 0] });
}

/** @param {import("../assets.js").Build} build */
async function instantiate(build) {
  const files = assets.builds[build];
  const module = await import(files.script);
  await module.default({ module_or_path: new URL(files.module) });
  moduleScript = files.script;
  return module;
}

/**
 * Starts a worker for each of the helpers that share the CPU's work. Resolves to those that came; the others cost nothing but their share of
 * the speed. They end with the engine.
 * @param {WebAssembly.Module} module
 * @param {WebAssembly.Memory} memory
 * @param {number[]} helpers
 * @returns {Promise<number[]>}
 */
async function startHelpers(module, memory, helpers) {
  const started = await Promise.all(helpers.map((helper) => startHelper({ script: moduleScript, module, memory, helper })));
  return helpers.filter((_, i) => started[i]);
}

/**
 * Whether the helper came. One that did not is ended, and has touched nothing.
 * @param {{ script: string, module: WebAssembly.Module, memory: WebAssembly.Memory, helper: number }} start
 * @returns {Promise<boolean>}
 */
function startHelper(start) {
  return new Promise((resolve) => {
    /** @type {Worker | undefined} */
    let worker;
    const lost = (/** @type {unknown} */ why) => {
      clearTimeout(timer);
      worker?.terminate();
      console.info("A thread of the engine could not be started:", why);
      resolve(false);
    };
    const timer = setTimeout(() => lost("it does not answer"), HELPER_PATIENCE);
    try {
      const helper = worker = startWorker(new URL(assets.thread));
      helper.onmessage = ({ data }) => {
        if (data !== "ready") return lost(data?.failed);
        clearTimeout(timer);
        helper.onmessage = null;
        // The module itself has told the engine, and the console, of one that traps later.
        helper.onerror = (event) => event.preventDefault();
        helper.postMessage("go");
        resolve(true);
      };
      helper.onerror = (event) => {
        event.preventDefault();
        lost(event.message || "its script could not be loaded");
      };
      helper.postMessage(start);
    } catch (error) {
      lost(error);
    }
  });
}
