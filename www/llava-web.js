// llava-web: answers questions about pictures with LLaVA-family models, in this browser, without a server.
//
//   import { createEngine } from "./llava-web.js";
//   const engine = await createEngine({ model: "hf:…/model.gguf", mmproj: "hf:…/mmproj.gguf" });
//   const reply = await engine.chat.completions.create({ messages, stream: true });
//   for await (const chunk of reply) console.log(chunk.choices[0].delta.content);
//
// Types: llava-web.d.ts beside this file. The work is done by a worker (worker.js); this module only talks to it.

import { chatRequest, completionRequest, engineMessages, imageList, promptText, respond } from "./completions.js";
import { detectDevice, hasSimd } from "./device.js";
import { EngineClient } from "./engine-client.js";
import { LlavaError, toLlavaError } from "./errors.js";
import { ImageList } from "./image-input.js";
import { sessionToRestore } from "./session.js";
import { sourceSpecs } from "./sources.js";
import { deleteStored, listStored } from "./stored-files.js";

export { detectDevice, LlavaError };

const OPTIONS = [
  "model", "mmproj", "device", "threads", "contextSize", "chatTemplate", "quantizeMmproj", "kvFormat", "cache", "sha256", "signal", "onProgress",
];

/**
 * Loads a model and starts an engine for it, in a worker of its own.
 * @param {import("./llava-web.js").EngineOptions} options
 * @returns {Promise<Engine>}
 */
export async function createEngine(options) {
  const { signal, onProgress, request } = loadRequest(options);
  throwIfAborted(signal);
  if (!hasSimd()) {
    throw new LlavaError("unsupported_browser",
      "This browser has no WebAssembly SIMD, which the engine needs. Update it, or use a current Chrome, Edge, Firefox or Safari.");
  }
  const client = new EngineClient();
  // Ending the worker is the one way to stop a download, a decompression and a computation alike, at once.
  const abort = () => client.close(aborted(signal));
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const { firstStored } = await client.call(request, { onProgress: onProgress && ((progress) => !signal?.aborted && onProgress(progress)) });
    if (firstStored) keepStorage();
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
    if (!OPTIONS.includes(name)) throw invalid(`createEngine has no option ${name}. It has ${OPTIONS.join(", ")}.`);
  }
  const { model, mmproj, device = "auto", threads, contextSize, chatTemplate, quantizeMmproj, kvFormat, cache, sha256 = {}, signal, onProgress } = options;
  if (model === undefined || model === null) throw invalid("createEngine needs a model: a URL, a File or the bytes of a GGUF file.");
  checkChoice(device, ["auto", "webgpu", "cpu"], "device");
  checkChoice(cache, ["opfs", "none"], "cache");
  checkCount(threads, "threads");
  checkCount(contextSize, "contextSize");
  if (chatTemplate !== undefined && typeof chatTemplate !== "string") throw invalid("chatTemplate must be a string: Jinja, or the name of a built-in template.");
  checkChoice(quantizeMmproj, ["q4_0", "q8_0"], "quantizeMmproj");
  checkChoice(kvFormat, ["f16", "f32"], "kvFormat");
  if (signal !== undefined && signal !== null && !(signal instanceof AbortSignal)) throw invalid("signal must be an AbortSignal.");
  if (onProgress !== undefined && typeof onProgress !== "function") throw invalid("onProgress must be a function.");
  const modelSpecs = sourceSpecs(model, "model");
  const mmprojSpecs = mmproj === undefined || mmproj === null ? null : sourceSpecs(mmproj, "mmproj");
  return {
    signal: signal ?? undefined,
    onProgress,
    request: {
      method: "load",
      model: modelSpecs,
      mmproj: mmprojSpecs,
      sha256: {
        model: hashes(sha256?.model, modelSpecs.length, "sha256.model"),
        mmproj: hashes(sha256?.mmproj, mmprojSpecs?.length ?? 0, "sha256.mmproj"),
      },
      cache,
      options: { device, threads, contextSize, chatTemplate, quantizeMmproj, kvFormat },
    },
  };
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

/**
 * @param {unknown} value
 * @param {string} option
 */
function checkCount(value, option) {
  if (value !== undefined && !(Number.isInteger(value) && /** @type {number} */ (value) > 0)) throw invalid(`${option} must be a whole number above 0.`);
}

/**
 * @param {unknown} value
 * @param {string[]} choices
 * @param {string} option
 */
function checkChoice(value, choices, option) {
  if (value !== undefined && !choices.includes(/** @type {string} */ (value))) {
    throw invalid(`${option} is ${JSON.stringify(value)}; it must be one of ${choices.map((choice) => `"${choice}"`).join(", ")}.`);
  }
}

/** @param {string} message */
function invalid(message) {
  return new LlavaError("invalid_request", message);
}

/** @param {AbortSignal | undefined} signal */
function aborted(signal) {
  return new LlavaError("aborted", "Loading the model was stopped.", { cause: signal?.reason });
}

/** @param {AbortSignal | undefined} signal */
function throwIfAborted(signal) {
  if (signal?.aborted) throw aborted(signal);
}

/** A loaded model. Made by `createEngine`. */
class Engine {
  #client;

  /** @param {EngineClient} client */
  constructor(client) {
    this.#client = client;
    this.chat = Object.freeze({ completions: Object.freeze({ create: (/** @type {any} */ request) => this.#createChat(request) }) });
    this.completions = Object.freeze({ create: (/** @type {any} */ request) => this.#createCompletion(request) });
  }

  /** What was loaded and on what it runs. */
  get info() {
    return this.#client.info;
  }

  /** @param {any} request */
  async #createChat(request) {
    const { fields, images } = await chatRequest(request);
    return this.#generate("chat", { method: "startChat", request: fields, images: images.images }, images.transfer, request);
  }

  /** @param {any} request */
  async #createCompletion(request) {
    const { fields, images } = await completionRequest(request);
    return this.#generate("text", { method: "startCompletion", request: fields, images: images.images }, images.transfer, request);
  }

  /**
   * @param {"chat" | "text"} kind
   * @param {any} message
   * @param {Transferable[]} transfer
   * @param {any} request
   */
  async #generate(kind, message, transfer, request) {
    const events = await this.#client.generate(message, { transfer, signal: request.signal, onProgress: request.onProgress });
    return respond(kind, events, request, this.info?.name ?? "");
  }

  /**
   * @param {string} text
   * @param {{ special?: boolean, bos?: boolean }} [options]
   * @returns {Promise<Uint32Array>}
   */
  async tokenize(text, { special = false, bos = false } = {}) {
    if (typeof text !== "string") throw invalid("tokenize takes a string.");
    return this.#client.call({ method: "tokenize", text, special, bos });
  }

  /**
   * @param {Iterable<number>} ids
   * @returns {Promise<string>}
   */
  async detokenize(ids) {
    return this.#client.call({ method: "detokenize", ids: Uint32Array.from(tokenIds(ids, "detokenize")) });
  }

  /**
   * @param {any[]} messages
   * @param {{ addGenerationPrompt?: boolean }} [options]
   * @returns {Promise<string>}
   */
  async applyChatTemplate(messages, { addGenerationPrompt = true } = {}) {
    return this.#client.call({ method: "applyChatTemplate", messages: await engineMessages(messages, new ImageList()), addGenerationPrompt });
  }

  /** @param {any} image */
  async embedImage(image) {
    return this.#callWithImage("embedImage", image);
  }

  /** @param {any} image */
  async preprocessImage(image) {
    return this.#callWithImage("preprocessImage", image);
  }

  /**
   * @param {"embedImage" | "preprocessImage"} method
   * @param {any} image
   */
  async #callWithImage(method, image) {
    const images = new ImageList();
    await images.add(image, "image");
    return this.#client.call({ method, image: images.images[0] }, { transfer: images.transfer });
  }

  /** @param {any} request  { tokens } or { prompt, images } */
  async evaluate(request) {
    if (typeof request !== "object" || request === null) throw invalid("evaluate takes { tokens } or { prompt, images }.");
    if (request.tokens !== undefined) {
      return this.#client.call({ method: "evaluate", request: { tokens: tokenIds(request.tokens, "evaluate") }, images: [] });
    }
    const { images, transfer } = await imageList(request.images);
    return this.#client.call({ method: "evaluate", request: { prompt: promptText(request.prompt) }, images }, { transfer });
  }

  /**
   * Where the model looked before it wrote a token.
   * @param {{ position: number, token?: number }} request
   */
  async lookedAt({ position, token }) {
    checkIndex(position, "position");
    if (token !== undefined) checkIndex(token, "token");
    return this.#client.call({ method: "lookedAt", request: { position, token } });
  }

  /** The context, to go on with later: in an engine of the same model, on any device. */
  async saveSession() {
    return this.#client.call({ method: "saveSession" });
  }

  /** @param {Uint8Array} bytes  what `saveSession` gave; they stay the caller's */
  async restoreSession(bytes) {
    const copy = sessionToRestore(bytes);
    await this.#client.call({ method: "restoreSession", bytes: copy }, { transfer: [copy.buffer] });
  }

  /** Forgets the conversation. */
  async reset() {
    await this.#client.call({ method: "reset" });
  }

  /** @param {{ promptTokens?: number, generatedTokens?: number, runs?: number }} [options] */
  async benchmark({ promptTokens = 512, generatedTokens = 128, runs = 3 } = {}) {
    return this.#client.call({ method: "benchmark", options: { promptTokens, generatedTokens, runs } });
  }

  /** Frees the model and its worker. */
  async unload() {
    this.#client.close(
      invalid("This engine was unloaded. Create a new one."),
      new LlavaError("aborted", "The engine was unloaded before it had finished."));
  }
}

/**
 * @param {unknown} value
 * @param {string} name
 */
function checkIndex(value, name) {
  if (!Number.isInteger(value) || /** @type {number} */ (value) < 0 || /** @type {number} */ (value) > 0xffff_ffff) {
    throw invalid(`lookedAt: ${name} must be a whole number from 0 on.`);
  }
}

/**
 * @param {any} ids
 * @param {string} method
 * @returns {number[]}
 */
function tokenIds(ids, method) {
  if (typeof ids?.[Symbol.iterator] !== "function" || typeof ids === "string") throw invalid(`${method} takes an array of token ids.`);
  const list = Array.from(ids);
  for (const id of list) {
    if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff) throw invalid(`${method}: ${JSON.stringify(id)} is not a token id.`);
  }
  return list;
}

/** The model files kept in the browser's storage, wholly or in part. */
export async function listCachedModels() {
  return listStored();
}

/** @param {string} name  its name in the list, or its address */
export async function deleteCachedModel(name) {
  return deleteStored(name);
}

/** Asks the browser not to clear this site's storage when the disk gets full. Its answer changes nothing here. */
async function keepStorage() {
  try {
    if (!await navigator.storage.persisted()) await navigator.storage.persist();
  } catch {
    // Not every browser can be asked.
  }
}

/** How much of this site's storage is used, in bytes. */
export async function storageEstimate() {
  try {
    const { usage = 0, quota = 0 } = await navigator.storage.estimate();
    return { usage, quota, persisted: await navigator.storage.persisted() };
  } catch (cause) {
    throw new LlavaError("storage", "The browser does not say how much storage there is; pages served over http: are not told.", { cause });
  }
}
