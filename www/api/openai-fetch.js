// OpenAI's requests over HTTP → calls of an engine in this tab. No address is ever asked: the requests end here.

import { createEngine } from "./create-engine.js";
import { LlavaError, shown, toLlavaError } from "./errors.js";

/** @typedef {import("../llava-web.js").Engine} Engine */
/** @typedef {import("../llava-web.js").EngineOptions} EngineOptions */

/** The status that stands for each code; others are a fault of the engine's. @type {Partial<Record<import("./errors.js").ErrorCode, number>>} */
const STATUS = {
  invalid_request: 400, context_overflow: 400, invalid_image: 400, network: 502, unsupported_browser: 501, out_of_memory: 503, device_lost: 503,
};

/**
 * @param {Engine | PromiseLike<Engine> | EngineOptions} given
 * @returns {typeof fetch}
 */
export function openaiFetch(given) {
  const model = new Model(given);
  return async (input, init) => {
    const request = new Request(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    try {
      return await withSignal(answer(model, request), signal);
    } catch (thrown) {
      // As every `fetch`: a request that was aborted has no answer.
      signal.throwIfAborted();
      return failure(toLlavaError(thrown));
    }
  };
}

/** The engine that answers, which may be made by the first request. */
class Model {
  #given;
  /** @type {Promise<Engine> | null} */
  #loading = null;
  /** @type {Engine | null} */
  #engine = null;

  /** @param {any} given */
  constructor(given) {
    if (typeof given !== "object" || given === null || !(isEngine(given) || typeof given.then === "function" || "model" in given)) {
      throw new LlavaError("invalid_request", "openaiFetch takes an engine, or the options of one: openaiFetch({ model, mmproj }).");
    }
    this.#given = given;
    if (isEngine(given)) this.#engine = given;
  }

  /** What it is called: before it is loaded, by its file. */
  get id() {
    if (this.#engine) return this.#engine.info.name;
    const { model } = this.#given;
    const first = Array.isArray(model) ? model[0] : model;
    const name = typeof first === "string" || first instanceof URL ? String(first).split(/[?#]/)[0]?.split("/").at(-1) : first?.name;
    return name || "llava-web";
  }

  /** @returns {Promise<Engine>} */
  engine() {
    if (this.#engine) return Promise.resolve(this.#engine);
    if (this.#loading === null) {
      const loading = typeof this.#given.then === "function" ? Promise.resolve(this.#given) : createEngine(this.#given);
      this.#loading = loading.then((engine) => (this.#engine = engine));
      // The next request tries once more.
      this.#loading.catch(() => (this.#loading = null));
    }
    return this.#loading;
  }
}

/** @param {any} value */
function isEngine(value) {
  return typeof value.chat?.completions?.create === "function";
}

/**
 * Rejects as soon as the signal says so: what is waited for may take longer.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
function withSignal(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/**
 * @param {Model} model
 * @param {Request} request
 * @returns {Promise<Response>}
 */
async function answer(model, request) {
  const path = new URL(request.url).pathname.replace(/\/+$/, "");
  const [, route] = /\/(chat\/completions|completions|models(?:\/[^/]+)?)$/.exec(path) ?? [];
  switch (route) {
    case "chat/completions":
    case "completions": {
      if (request.method !== "POST") return notAllowed(request.method, "POST");
      const body = await bodyOf(request);
      const engine = await model.engine();
      request.signal.throwIfAborted();
      /** @type {{ create(request: any): Promise<any> }} */
      const completions = route === "completions" ? engine.completions : engine.chat.completions;
      const reply = await completions.create({ ...body, signal: request.signal });
      return body.stream ? eventStream(reply, request.signal, body.stream_options?.include_usage === true) : Response.json(asOpenAIs(reply));
    }
    case undefined:
      return failure(new LlavaError("invalid_request",
        `There is no ${shown(path)} here. There are /v1/chat/completions, /v1/completions and /v1/models; of a client that asks for others, choose its way of chat completions.`), 404);
    default: {
      if (request.method !== "GET") return notAllowed(request.method, "GET");
      const { id } = model;
      const entry = { id, object: "model", created: 0, owned_by: "llava-web" };
      if (route === "models") return Response.json({ object: "list", data: [entry] });
      const asked = decodeURIComponent(route.slice("models/".length));
      return asked === id ? Response.json(entry) : failure(new LlavaError("invalid_request", `There is no model '${shown(asked)}' here, but '${id}'.`), 404);
    }
  }
}

/** @param {Request} request */
async function bodyOf(request) {
  let body;
  try {
    body = await request.json();
  } catch (cause) {
    throw new LlavaError("invalid_request", "The request's body is no JSON.", { cause });
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw new LlavaError("invalid_request", "The request's body must be a JSON object.");
  // What came over HTTP has no listeners, and this is not where its signal is.
  const { signal, onProgress, ...fields } = body;
  return fields;
}

/**
 * A reply, or a chunk of one, with nothing in it that OpenAI's have not in that place.
 * @param {any} reply
 */
function asOpenAIs(reply) {
  // What was stopped has been stopped by whoever reads it.
  return { ...reply, choices: reply.choices.map((/** @type {any} */ choice) => (choice.finish_reason === "abort" ? { ...choice, finish_reason: "stop" } : choice)) };
}

/**
 * Chunks as server-sent events. One is generated when it is asked for.
 * @param {any} chunks
 * @param {AbortSignal} signal
 * @param {boolean} withUsage
 */
function eventStream(chunks, signal, withUsage) {
  const encoder = new TextEncoder();
  const line = (/** @type {string} */ data) => encoder.encode(`data: ${data}\n\n`);
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await chunks.next();
        // The client knows why; to it the connection has failed.
        if (signal.aborted) throw signal.reason;
        if (done) {
          controller.enqueue(line("[DONE]"));
          controller.close();
          return;
        }
        const { usage, ...chunk } = asOpenAIs(value);
        // In a stream OpenAI tells it in a chunk of its own, where it was asked for.
        controller.enqueue(line(JSON.stringify(withUsage ? { ...chunk, usage: usage ?? null } : chunk)));
      } catch (thrown) {
        if (signal.aborted) {
          controller.error(signal.reason);
          return;
        }
        controller.enqueue(line(JSON.stringify({ error: errorBody(toLlavaError(thrown)) })));
        controller.close();
      }
    },
    async cancel() {
      await chunks.return();
    },
  }, { highWaterMark: 0 });
  return new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" } });
}

/** @param {LlavaError} error */
function errorBody({ code, message }) {
  return {
    message,
    type: (STATUS[code] ?? 500) < 500 ? "invalid_request_error" : "server_error",
    param: null,
    code: code === "context_overflow" ? "context_length_exceeded" : code,
  };
}

/**
 * @param {LlavaError} error
 * @param {number} [status]
 */
function failure(error, status = STATUS[error.code] ?? 500) {
  // Nothing changes by asking again, which clients otherwise do by themselves.
  return Response.json({ error: errorBody(error) }, { status, headers: { "x-should-retry": "false" } });
}

/**
 * @param {string} method
 * @param {string} allowed
 */
function notAllowed(method, allowed) {
  const response = failure(new LlavaError("invalid_request", `The method is ${shown(method)}; it must be ${allowed}.`), 405);
  response.headers.set("allow", allowed);
  return response;
}
