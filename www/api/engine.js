// A loaded model, as a page has it: each call becomes a request to the engine's worker.

import { checkIndex, invalid, tokenIds } from "./checks.js";
import { chatRequest, completionRequest, engineMessages, imageList, promptText, respond } from "./completions.js";
import { LlavaError } from "./errors.js";
import { ImageList } from "./images.js";
import { sessionToRestore } from "./sessions.js";

/** @typedef {import("../wire/client.js").EngineClient} EngineClient */

/** A loaded model. Made by `createEngine`. */
export class Engine {
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
