// A loaded model, as a page has it: each call becomes a request to the engine's worker.

import { checkIndex, checkOptions, checkSignal, invalid, tokenIds } from "./checks.js";
import { LlavaError } from "./errors.js";
import { ImageList } from "./images.js";
import { respond } from "./replies.js";
import { addImages, chatRequest, completionRequest, engineMessages, promptText, toolsToTell } from "./requests.js";
import { sessionToRestore } from "./sessions.js";
import { Watch } from "./watch.js";

/** @typedef {import("../wire/client.js").EngineClient} EngineClient */
/** @typedef {import("../wire/client.js").Message} Message */
/** @typedef {import("../llava-web.js").CallOptions} CallOptions */

/** Ends the workers of engines that nobody holds any more: their models are gigabytes. The client knows nothing of the engine that holds it. */
const abandoned = new FinalizationRegistry((/** @type {EngineClient} */ client) => {
  client.close(invalid("This engine was not used any more and was unloaded."));
});

/** A stream's engine is held as long as the stream, though nobody else may hold it. @type {WeakMap<object, Engine>} */
const engineOf = new WeakMap();

/**
 * A request with pictures, which are converted first. What that takes is given back when it was sent, or when it never will be.
 * @param {(images: ImageList) => Promise<Message["request"]>} make
 * @returns {Promise<Message>}
 */
async function withImages(make) {
  const images = new ImageList();
  try {
    return { request: await make(images), transfer: images.transfer, dispose: () => images.dispose() };
  } catch (error) {
    images.dispose();
    throw error;
  }
}

/** A loaded model. Made by `createEngine`. */
export class Engine {
  #client;
  /** Calls that are not answered. Whoever waits for one uses the engine, though nobody may hold it. */
  #pending = 0;
  /** Aborted when it is unloaded, with what those are told who wait for something else than an answer. */
  #gone = new AbortController();

  /** @param {EngineClient} client */
  constructor(client) {
    this.#client = client;
    abandoned.register(this, client, this);
    this.chat = Object.freeze({ completions: Object.freeze({
      create: (/** @type {any} */ request, /** @type {any} */ options) => this.#createChat(request, options),
    }) });
    this.completions = Object.freeze({
      create: (/** @type {any} */ request, /** @type {any} */ options) => this.#createCompletion(request, options),
    });
  }

  /** What was loaded and on what it runs. */
  get info() {
    return this.#client.info;
  }

  /** @param {any} request @param {any} options */
  async #createChat(request, options) {
    const asked = chatRequest(request, options);
    return this.#generate("chat", asked, withImages(async (images) => {
      const messages = await engineMessages(request.messages, images);
      return { method: "startChat", request: { ...asked.fields, messages }, images: images.images };
    }));
  }

  /** @param {any} request @param {any} options */
  async #createCompletion(request, options) {
    const asked = completionRequest(request, options);
    return this.#generate("text", asked, withImages(async (images) => {
      await addImages(request.images, images);
      return { method: "startCompletion", request: asked.fields, images: images.images };
    }));
  }

  /**
   * @param {"chat" | "text"} kind
   * @param {import("./requests.js").Asked} asked
   * @param {Promise<Message>} message
   */
  async #generate(kind, asked, message) {
    const events = await this.#inUse(this.#client.generate(message, asked));
    const reply = respond(kind, events, asked, this.info?.name ?? "");
    if (!asked.stream) return this.#inUse(reply);
    engineOf.set(reply, this);
    return reply;
  }

  /**
   * @template T
   * @param {Promise<T>} answer
   * @returns {Promise<T>}
   */
  async #inUse(answer) {
    this.#pending += 1;
    try {
      return await answer;
    } finally {
      this.#pending -= 1;
    }
  }

  /**
   * @param {string} text
   * @param {{ special?: boolean, bos?: boolean } & CallOptions} [options]
   * @returns {Promise<Uint32Array>}
   */
  async tokenize(text, options) {
    const { special = false, bos = false, signal } = checkOptions(options, "tokenize");
    if (typeof text !== "string") throw invalid("tokenize takes a string.");
    return this.#call({ method: "tokenize", text, special: Boolean(special), bos: Boolean(bos) }, signal);
  }

  /**
   * @param {Iterable<number>} ids
   * @param {CallOptions} [options]
   * @returns {Promise<string>}
   */
  async detokenize(ids, options) {
    const { signal } = checkOptions(options, "detokenize");
    return this.#call({ method: "detokenize", ids: Uint32Array.from(tokenIds(ids, "detokenize")) }, signal);
  }

  /**
   * @param {any[]} messages
   * @param {{ addGenerationPrompt?: boolean, tools?: any } & CallOptions} [options]
   * @returns {Promise<string>}
   */
  async applyChatTemplate(messages, options) {
    const { addGenerationPrompt = true, tools, signal } = checkOptions(options, "applyChatTemplate");
    const told = toolsToTell(tools);
    return this.#callWithImages(async (images) => {
      const prepared = await engineMessages(messages, images);
      // Only where they stand is asked for.
      images.transfer.length = 0;
      return { method: "applyChatTemplate", messages: prepared, addGenerationPrompt: Boolean(addGenerationPrompt), ...told };
    }, signal);
  }

  /**
   * How many tokens the prompt of these messages takes, with those of its pictures.
   * @param {any[]} messages
   * @param {{ tools?: any } & CallOptions} [options]
   * @returns {Promise<number>}
   */
  async countTokens(messages, options) {
    const { tools, signal } = checkOptions(options, "countTokens");
    const told = toolsToTell(tools);
    return this.#callWithImages(async (images) => ({
      method: "countTokens", messages: await engineMessages(messages, images), images: images.images, ...told,
    }), signal);
  }

  /** @param {any} image @param {CallOptions} [options] */
  async embedImage(image, options) {
    return this.#callWithImage("embedImage", image, options);
  }

  /** @param {any} image @param {CallOptions} [options] */
  async preprocessImage(image, options) {
    return this.#callWithImage("preprocessImage", image, options);
  }

  /**
   * @param {"embedImage" | "preprocessImage"} method
   * @param {any} picture
   * @param {CallOptions | undefined} options
   */
  async #callWithImage(method, picture, options) {
    const { signal } = checkOptions(options, method);
    return this.#callWithImages(async (images) => {
      const at = await images.add(picture, "image");
      return { method, image: /** @type {import("../wire/protocol.js").ImageSpec} */ (images.images[at]) };
    }, signal);
  }

  /**
   * @param {any} request  { tokens } or { prompt, images }, and a signal
   * @param {CallOptions} [options]
   */
  async evaluate(request, options) {
    if (typeof request !== "object" || request === null) throw invalid("evaluate takes { tokens } or { prompt, images }.");
    const signal = request.signal ?? checkOptions(options, "evaluate").signal;
    if (request.tokens !== undefined) {
      return this.#call({ method: "evaluate", request: { tokens: tokenIds(request.tokens, "evaluate") }, images: [] }, signal);
    }
    const prompt = promptText(request.prompt);
    return this.#callWithImages(async (images) => {
      await addImages(request.images, images);
      return { method: "evaluate", request: { prompt }, images: images.images };
    }, signal);
  }

  /**
   * Where the model looked before it wrote a token.
   * @param {{ position: number, token?: number } & CallOptions} request
   * @param {CallOptions} [options]
   */
  async lookedAt(request, options) {
    const { position, token, signal = checkOptions(options, "lookedAt").signal } = checkOptions(request, "lookedAt");
    checkIndex(position, "position");
    if (token !== undefined) checkIndex(token, "token");
    return this.#call({ method: "lookedAt", request: { position, token } }, signal);
  }

  /**
   * The context, to go on with later: in an engine of the same model, on any device.
   * @param {CallOptions} [options]
   */
  async saveSession(options) {
    return this.#call({ method: "saveSession" }, checkOptions(options, "saveSession").signal);
  }

  /**
   * @param {Uint8Array | ArrayBuffer} bytes  what `saveSession` gave; they stay the caller's
   * @param {CallOptions} [options]
   */
  async restoreSession(bytes, options) {
    const { signal } = checkOptions(options, "restoreSession");
    const copy = sessionToRestore(bytes);
    await this.#inUse(this.#client.call({ request: { method: "restoreSession", bytes: copy }, transfer: [copy.buffer] }, { signal: checkSignal(signal) }));
  }

  /**
   * Forgets the conversation.
   * @param {CallOptions} [options]
   */
  async reset(options) {
    await this.#call({ method: "reset" }, checkOptions(options, "reset").signal);
  }

  /** @param {{ promptTokens?: number, generatedTokens?: number, runs?: number } & CallOptions} [options] */
  async benchmark(options) {
    const { promptTokens = 512, generatedTokens = 128, runs = 3, signal } = checkOptions(options, "benchmark");
    return this.#call({ method: "benchmark", options: { promptTokens, generatedTokens, runs } }, signal);
  }

  /**
   * Watches a source: a question about it is answered anew for the newest frame, again and again.
   * @param {any} source
   * @param {any} options
   * @returns {Watch}
   */
  watch(source, options) {
    if (this.#gone.signal.aborted) throw unloaded();
    return new Watch({ create: (request) => this.#createChat(request, undefined), vision: this.info?.vision ?? null, gone: this.#gone.signal }, source, options);
  }

  /** Frees the model and its worker. */
  async unload() {
    abandoned.unregister(this);
    const pending = new LlavaError("aborted", "The engine was unloaded before it had finished.");
    this.#gone.abort(pending);
    this.#client.close(unloaded(), pending);
  }

  /** For `await using`. A browser that has no such symbol has no such statement, and a method that nobody calls. */
  async [Symbol.asyncDispose]() {
    await this.unload();
  }

  /**
   * @param {Message["request"]} request
   * @param {unknown} signal
   */
  #call(request, signal) {
    return this.#inUse(this.#client.call({ request }, { signal: checkSignal(signal) }));
  }

  /**
   * @param {(images: ImageList) => Promise<Message["request"]>} make
   * @param {unknown} signal
   */
  #callWithImages(make, signal) {
    const checked = checkSignal(signal);
    return this.#inUse(this.#client.call(withImages(make), { signal: checked }));
  }
}

function unloaded() {
  return invalid("This engine was unloaded. Create a new one.");
}
