// The engine's thread: runs one request after another. Messages: wire/protocol.js.

import { LlavaError, toLlavaError } from "../api/errors.js";
import { toJson } from "../wire/json.js";
import { decodeImage, decodeImages } from "./decode-image.js";
import { takeDrawn } from "./drawn.js";
import { generate, stoppedBefore } from "./generate.js";
import { EngineHost } from "./host.js";
import { endLoading } from "./load.js";
import { nextTask } from "./next-task.js";
import { Interrupted } from "./recovery.js";
import { savedSession } from "./save-session.js";

/** @typedef {import("../wire/protocol.js").Request} Request */
/** @typedef {import("../wire/protocol.js").Answer} Answer */

/** The requests that have been received and not yet answered. @type {Map<number, { request: Request, controller: AbortController }>} */
const open = new Map();
/** The request whose turn it is. @type {{ id: number, signal: AbortSignal } | null} */
let turn = null;
/** @type {Promise<void>} */
let queue = Promise.resolve();

const host = new EngineHost(async () => {
  await nextTask();
  throwIfAborted(turn?.signal);
});

self.onmessage = ({ data }) => {
  if ("end" in data) end();
  else if ("abort" in data) abort(data.abort);
  else if ("drawn" in data) takeDrawn(data);
  else enqueue(data);
};

/** @param {Request} request */
function enqueue(request) {
  open.set(request.id, { request, controller: new AbortController() });
  queue = queue.then(() => answer(request));
}

/** @param {number} id */
function abort(id) {
  const waiting = open.get(id);
  if (!waiting) return;
  waiting.controller.abort();
  if (turn?.id === id) return;
  // One that still waits for its turn has nothing to wait for any more.
  open.delete(id);
  closeBitmaps(waiting.request);
  if (waiting.request.method === "startChat" || waiting.request.method === "startCompletion") {
    post({ id, kind: "started" });
    post({ id, kind: "event", event: stoppedBefore() });
    post({ id, kind: "result" });
  } else {
    postError(id, stopped());
  }
}

/** The page is about to end this worker: what is under way in the browser's storage comes to a proper end before that. */
async function end() {
  await endLoading();
  self.postMessage({ kind: "ended" });
}

/** @param {Request} request */
async function answer(request) {
  const { id } = request;
  const controller = open.get(id)?.controller;
  if (!controller) return;
  turn = { id, signal: controller.signal };
  try {
    host.check();
    const { value, transfer, info } = await run(request, controller.signal);
    post({ id, kind: "result", value, info }, transfer);
  } catch (thrown) {
    postError(id, thrown instanceof Interrupted ? stopped() : toLlavaError(thrown));
  } finally {
    closeBitmaps(request);
    open.delete(id);
    turn = null;
  }
}

/**
 * @param {Request} request
 * @param {AbortSignal} signal
 * @returns {Promise<{ value?: any, transfer?: Transferable[], info?: object }>}
 */
async function run(request, signal) {
  const { id } = request;
  const waiting = { signal };
  switch (request.method) {
    case "load":
      return { value: await host.load(request, (progress) => post({ id, kind: "progress", progress })), info: host.info() };
    case "startChat":
    case "startCompletion":
      await generate(host, request, signal, {
        started: () => post({ id, kind: "started" }),
        event: (event) => post({ id, kind: "event", event }),
      });
      return host.isThere ? { info: host.info() } : {};
    case "tokenize": {
      const ids = await host.withEngine((engine) => engine.tokenize(request.text, request.special, request.bos), waiting);
      return { value: ids, transfer: [ids.buffer] };
    }
    case "detokenize":
      return { value: await host.withEngine((engine) => engine.detokenize(request.ids), waiting) };
    case "applyChatTemplate": {
      const [messages, tools] = [toJson(request.messages), request.tools && toJson(request.tools)];
      return { value: await host.withEngine((engine) => engine.applyChatTemplate(messages, request.addGenerationPrompt, tools), waiting) };
    }
    case "countTokens": {
      const [messages, tools] = [toJson(request.messages), request.tools && toJson(request.tools)];
      const images = await decodeImages(request.images, signal);
      return { value: await host.withEngine((engine) => engine.countTokens(messages, images, tools), waiting) };
    }
    case "embedImage": {
      const image = await decodeImage(request.image, signal);
      const value = await host.surviving((engine) => engine.embedImage(image), waiting);
      return { value, transfer: [value.data.buffer] };
    }
    case "preprocessImage": {
      const image = await decodeImage(request.image, signal);
      const value = await host.withEngine((engine) => engine.preprocessImage(image), waiting);
      return { value, transfer: [value.data.buffer] };
    }
    case "evaluate": {
      const json = toJson(request.request);
      const images = await decodeImages(request.images, signal);
      const value = await host.surviving((engine) => engine.evaluate(json, images), waiting);
      return { value, transfer: [value.logits.buffer, value.tokens.buffer] };
    }
    case "benchmark": {
      const options = toJson(request.options);
      return { value: JSON.parse(await host.surviving((engine) => engine.benchmark(options), waiting)) };
    }
    case "lookedAt": {
      const json = toJson(request.request);
      return { value: await host.surviving((engine) => engine.lookedAt(json), waiting) };
    }
    case "saveSession": {
      const value = await host.surviving((engine) => savedSession(engine), waiting);
      return { value, transfer: [value.buffer] };
    }
    case "restoreSession":
      await host.surviving((engine) => engine.restoreSession(request.bytes), waiting);
      return { info: host.info() };
    case "reset":
      await host.withEngine((engine) => engine.reset(), waiting);
      return { info: host.info() };
    default:
      throw new LlavaError("internal", `The worker knows no method '${/** @type {any} */ (request).method}'.`);
  }
}

/**
 * Gives back the pixels that came with a request; those that were used are given back already, which does no harm.
 * @param {Request} request
 */
function closeBitmaps(request) {
  const images = "images" in request ? request.images : "image" in request ? [request.image] : [];
  for (const image of images) if (image.kind === "bitmap") image.bitmap.close();
}

function stopped() {
  return new LlavaError("aborted", "The request was stopped by its signal.");
}

/** @param {AbortSignal | undefined} signal */
function throwIfAborted(signal) {
  if (signal?.aborted) throw stopped();
}

/**
 * @param {number} id
 * @param {LlavaError} error
 */
function postError(id, error) {
  const cause = error.cause instanceof Error ? `${error.cause.name}: ${error.cause.message}` : undefined;
  post({ id, kind: "error", code: error.code, message: error.message, cause });
}

/**
 * @param {Answer} message
 * @param {Transferable[]} [transfer]
 */
function post(message, transfer = []) {
  self.postMessage(message, { transfer });
}
