// OpenAI's requests over HTTP → calls of an engine in this tab. No address is ever asked: the requests end here.

import { kindOf } from "./checks.js";
import { LlavaError, shown, toLlavaError } from "./errors.js";
import { SharedEngine, withSignal } from "./shared-engine.js";
import { safeDecode } from "./sources.js";

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
  const shared = new SharedEngine(given, "openaiFetch");
  return async (input, init) => {
    const request = new Request(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    try {
      return await withSignal(answer(shared, request), signal);
    } catch (thrown) {
      // As every `fetch`: a request that was aborted has no answer.
      signal.throwIfAborted();
      return failure(toLlavaError(thrown));
    }
  };
}

/**
 * What the model is called: before it is loaded, by its file.
 * @param {SharedEngine} shared
 */
function nameOf({ engine, options }) {
  if (engine) return engine.info.name;
  const model = /** @type {any} */ (options?.model);
  const first = Array.isArray(model) ? model[0] : model;
  const name = typeof first === "string" || kindOf(first) === "URL" ? String(first).split(/[?#]/)[0]?.split("/").at(-1) : first?.name;
  return name || "llava-web";
}

/**
 * @param {SharedEngine} shared
 * @param {Request} request
 * @returns {Promise<Response>}
 */
async function answer(shared, request) {
  const path = new URL(request.url).pathname.replace(/\/+$/, "");
  const [, route] = /\/(chat\/completions|completions|models(?:\/[^/]+)?)$/.exec(path) ?? [];
  switch (route) {
    case "chat/completions":
    case "completions": {
      if (request.method !== "POST") return notAllowed(request.method, "POST");
      const body = await bodyOf(request);
      const engine = await shared.load();
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
      const id = nameOf(shared);
      const entry = { id, object: "model", created: 0, owned_by: "llava-web" };
      if (route === "models") return Response.json({ object: "list", data: [entry] });
      const asked = safeDecode(route.slice("models/".length));
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
