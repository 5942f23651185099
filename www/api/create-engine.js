// Loads a model: the options, held to what they may be, and the worker that is asked.

import { checkChoice, checkCount, checkListener, checkSignal, invalid, kindOf } from "./checks.js";
import { hasSimd } from "./devices.js";
import { draw } from "./drawing.js";
import { Engine } from "./engine.js";
import { LlavaError, shown, shownJson, toLlavaError } from "./errors.js";
import { addHeaders } from "./headers.js";
import { sourceSpecs } from "./sources.js";
import { keepStorage } from "./storage.js";
import { assetsIn } from "../assets.js";
import { EngineClient } from "../wire/client.js";

const OPTIONS = [
  "model", "mmproj", "device", "threads", "contextSize", "chatTemplate", "quantizeMmproj", "kvFormat", "cache", "headers", "assets", "sha256", "signal", "onProgress",
];

/**
 * Loads a model and starts an engine for it, in a worker of its own.
 * @param {import("../llava-web.js").EngineOptions} options
 * @returns {Promise<Engine>}
 */
export async function createEngine(options) {
  if (typeof globalThis.Worker !== "function") {
    throw new LlavaError("unsupported_browser", "The engine runs in a browser, in a worker of its own, and here are no workers. On a server import what you like, and call createEngine in the page.");
  }
  const { signal, onProgress, request } = loadRequest(options);
  throwIfAborted(signal);
  if (!hasSimd()) {
    throw new LlavaError("unsupported_browser",
      "This browser has no WebAssembly SIMD, which the engine needs. Update it, or use a current Chrome, Edge, Firefox or Safari.");
  }
  await addHeaders([request.model, request.mmproj], options.headers);
  throwIfAborted(signal);
  const client = new EngineClient(request.assets.worker, draw);
  // Ending the worker is the one way to stop a download, a decompression and a computation alike, at once.
  const abort = () => client.stopLoading(aborted(signal));
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const { kept } = await client.call({ request }, { onProgress: onProgress && ((progress) => !signal?.aborted && onProgress(progress)) });
    keepStorage(kept);
  } catch (error) {
    client.close(toLlavaError(error));
    throw error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
  return new Engine(client);
}

/**
 * @param {any} options
 * @returns {{ signal: AbortSignal | undefined, onProgress: ((progress: any) => void) | undefined, request: any }}
 */
function loadRequest(options) {
  if (typeof options !== "object" || options === null) throw invalid("createEngine takes an object with at least a model.");
  for (const name of Object.keys(options)) {
    if (!OPTIONS.includes(name)) throw invalid(`createEngine has no option ${shown(name)}. It has ${OPTIONS.join(", ")}.`);
  }
  const { model, mmproj, device = "auto", threads, contextSize, chatTemplate, quantizeMmproj, kvFormat, cache, assets, sha256 = {}, signal, onProgress } = options;
  if (model === undefined || model === null) throw invalid("createEngine needs a model: a URL, a File or the bytes of a GGUF file.");
  checkChoice(device, ["auto", "webgpu", "cpu"], "device");
  checkChoice(cache, ["opfs", "none"], "cache");
  checkCount(threads, "threads");
  checkCount(contextSize, "contextSize");
  if (chatTemplate !== undefined && typeof chatTemplate !== "string") throw invalid("chatTemplate must be a string: Jinja, or the name of a built-in template.");
  checkChoice(quantizeMmproj, ["q4_0", "q8_0"], "quantizeMmproj");
  checkChoice(kvFormat, ["f16", "q8_0", "f32"], "kvFormat");
  const modelSpecs = sourceSpecs(model, "model");
  const mmprojSpecs = mmproj === undefined || mmproj === null ? null : sourceSpecs(mmproj, "mmproj");
  return {
    signal: checkSignal(signal),
    onProgress: checkListener(onProgress),
    request: {
      method: "load",
      model: modelSpecs,
      mmproj: mmprojSpecs,
      sha256: {
        model: hashes(sha256?.model, modelSpecs.length, "sha256.model"),
        mmproj: hashes(sha256?.mmproj, mmprojSpecs?.length ?? 0, "sha256.mmproj"),
      },
      cache,
      assets: assetsIn(folderOf(assets)),
      options: { device, threads, contextSize, chatTemplate, quantizeMmproj, kvFormat },
    },
  };
}

/**
 * @param {unknown} assets
 * @returns {URL | undefined}
 */
function folderOf(assets) {
  if (assets === undefined || assets === null) return undefined;
  const address = kindOf(assets) === "URL" || (typeof assets === "string" && assets.trim() !== "") ? String(assets) : null;
  if (address !== null) {
    try {
      const url = new URL(address, globalThis.document?.baseURI ?? globalThis.location?.href);
      if (["https:", "http:", "blob:", "file:"].includes(url.protocol) || url.protocol.endsWith("-extension:")) return url;
    } catch {
      // Said below.
    }
  }
  throw invalid(`assets is ${shownJson(assets)}; it must be the address of the folder that has the engine's files: worker/, pkg/ and its like.`);
}

/**
 * One hash a file. The parts of a split model are read side by side, so their concatenation is never hashed.
 * @param {unknown} given
 * @param {number} count
 * @param {string} option
 * @returns {string[]}
 */
function hashes(given, count, option) {
  if (given === undefined || given === null) return [];
  const list = Array.isArray(given) ? given : [given];
  if (list.length !== count) throw invalid(`${option} has ${list.length} hashes for ${count} files. Give one for each file, in order.`);
  for (const hash of list) {
    if (typeof hash !== "string" || !/^[0-9a-f]{64}$/i.test(hash)) throw invalid(`${option} must be 64 hexadecimal digits for each file.`);
  }
  return list;
}

/** @param {AbortSignal | undefined} signal */
function aborted(signal) {
  return new LlavaError("aborted", "Loading the model was stopped.", { cause: signal?.reason });
}

/** @param {AbortSignal | undefined} signal */
function throwIfAborted(signal) {
  if (signal?.aborted) throw aborted(signal);
}
