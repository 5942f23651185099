import type { Engine, EngineOptions } from "./llava-web.js";

/**
 * A `fetch` that answers OpenAI's requests with a model in this tab; nothing is sent anywhere. For the official `openai` client, LangChain.js, the
 * Vercel AI SDK (`createOpenAICompatible`), and whatever else lets one choose its `fetch`. The host of the address does not matter: it is never
 * asked.
 *
 * There are `POST /chat/completions` and `POST /completions` (streamed too), `GET /models` and `GET /models/ID`. All else is answered with the
 * status 404. Errors have OpenAI's form; their `code` is a `LlavaError`'s, but for `context_length_exceeded`. A request that is aborted stops
 * the engine.
 *
 * @param engine  an engine, the promise of one, or the options of one: it is then created by the first request, and once
 */
export function openaiFetch(engine: Engine | PromiseLike<Engine> | EngineOptions): typeof fetch;
