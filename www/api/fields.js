// The fields of a request: OpenAI's, all of them, those of other servers that mean something here, and ours. Each is decided on once, in a
// table: it goes to the engine, is settled on this side of the wire, asks for nothing, or is refused by name.

import { LlavaError, shown, shownJson } from "./errors.js";

/**
 * What becomes of a field. `read` turns a value into what the engine is given, where undefined is nothing at all, or throws; `name` is the
 * engine's name for it, where that is another one, and `first` says that it counts where both are given.
 * @typedef {{ kind: "engine", name?: string, first?: boolean, read: (value: any, field: string) => unknown } |
 *   { kind: "here" } |
 *   { kind: "ignored" } |
 *   { kind: "refused", unless: (value: any) => boolean, because: string }} Field
 */

/** Settled by this side: how the answer is delivered. @type {Field} */
const HERE = { kind: "here" };
/** Says something about accounts, caches, prices or speed elsewhere, and changes no answer. @type {Field} */
const IGNORED = { kind: "ignored" };
/**
 * @param {string} field
 * @param {unknown} value
 * @param {string} expected
 */
function wrong(field, value, expected) {
  return new LlavaError("invalid_request", `${field} is ${shownJson(value)}; it must be ${expected}.`);
}

/**
 * A number in a range.
 * @param {number} low
 * @param {number} high
 * @param {{ name?: string }} [more]
 * @returns {Field}
 */
function number(low, high, { name } = {}) {
  return {
    kind: "engine",
    ...(name !== undefined && { name }),
    read(value, field) {
      if (typeof value === "number" && value >= low && value <= high) return value;
      throw wrong(field, value, `a number from ${low} to ${high}`);
    },
  };
}

/** The most that a whole number of the engine's holds. */
const MOST = 2 ** 53 - 1;

/**
 * A whole number in a range; `none` are the numbers outside of it that other programs give for no limit.
 * @param {number} low
 * @param {number} high
 * @param {{ name?: string, first?: boolean, none?: number[] }} [more]
 * @returns {Field}
 */
function whole(low, high, { name, first, none = [] } = {}) {
  const above = high === MOST ? `of at least ${low}` : `from ${low} to ${high}`;
  const or = none.length > 0 ? `, or ${none.join(" or ")} for no limit` : "";
  return {
    kind: "engine",
    ...(name !== undefined && { name }),
    ...(first !== undefined && { first }),
    read(value, field) {
      if (none.includes(value)) return undefined;
      if (Number.isInteger(value) && value >= low && value <= high) return value;
      throw wrong(field, value, `a whole number ${above}${or}`);
    },
  };
}

/** @type {Field} */
const YES_OR_NO = {
  kind: "engine",
  read(value, field) {
    if (typeof value === "boolean") return value;
    throw wrong(field, value, "true or false");
  },
};

/** @type {Field} */
const STOP = {
  kind: "engine",
  read(value, field) {
    const stops = Array.isArray(value) ? value : [value];
    if (!stops.every((stop) => typeof stop === "string")) throw wrong(field, value, "a string or an array of strings");
    // Clients that fill in every field send the empty string.
    const some = stops.filter((stop) => stop !== "");
    return some.length > 0 ? some : undefined;
  },
};

/** @type {Field} */
const OBJECT = {
  kind: "engine",
  read(value, field) {
    if (typeof value === "object" && !Array.isArray(value)) return asJson(value, field, "");
    throw wrong(field, value, "an object");
  },
};

/** @type {Field} */
const TOOLS = {
  kind: "engine",
  read(value, field) {
    if (!Array.isArray(value)) throw wrong(field, value, "an array");
    return value.length > 0 ? asJson(value, field, " Refer to a part of a schema with $ref.") : undefined;
  },
};

/** @type {Field} */
const TOOL_CHOICE = {
  kind: "engine",
  read(value, field) {
    if (typeof value === "string") return value;
    if (typeof value === "object" && !Array.isArray(value)) return asJson(value, field, "");
    throw wrong(field, value, "a string or an object");
  },
};

/**
 * What of a value can be written as JSON, which is all that goes to the engine: such values are often built by libraries, and what is not JSON
 * about them stays here.
 * @param {object | boolean} value
 * @param {string} field
 * @param {string} remedy  what else can be done, or nothing
 */
function asJson(value, field, remedy) {
  try {
    return JSON.parse(JSON.stringify(value));
  } catch (cause) {
    throw new LlavaError("invalid_request", `${field} cannot be written as JSON: it contains itself, is too deep, or has a value that JSON has not.${remedy}`, { cause });
  }
}

/**
 * Refused unless it asks for nothing.
 * @param {(value: any) => boolean} unless
 * @param {string} because  what the error says after the field's name
 * @returns {Field}
 */
function refused(unless, because) {
  return { kind: "refused", unless, because };
}

const never = () => false;
const isEmpty = (/** @type {any} */ value) => Array.isArray(value) && value.length === 0;
const isOne = (/** @type {any} */ value) => value === 1;
const OLD_TOOLS = "is OpenAI's older form of tools. Give tools and tool_choice.";

/** What both kinds of request have. @type {Record<string, Field>} */
const COMMON = {
  max_tokens: whole(1, MOST, { none: [-1] }),
  temperature: number(0, 2),
  top_p: number(0, 1),
  top_k: whole(0, MOST, { none: [-1] }),
  min_p: number(0, 1),
  repetition_penalty: number(0.1, 10),
  // llama.cpp's and Ollama's name.
  repeat_penalty: number(0.1, 10, { name: "repetition_penalty" }),
  frequency_penalty: number(-2, 2),
  presence_penalty: number(-2, 2),
  logit_bias: OBJECT,
  seed: whole(-MOST, MOST),
  stop: STOP,
  response_format: { kind: "engine", read: responseFormat },

  stream: HERE,
  stream_options: HERE,
  signal: HERE,
  onProgress: HERE,

  n: refused(isOne, "asks for several answers, but one is written. Leave it out, and ask again for another."),
  best_of: refused(isOne, "asks for several answers, but one is written. Leave it out."),

  // One engine has one model.
  model: IGNORED,
  user: IGNORED,
  // llama.cpp's: what was computed is used again always.
  cache_prompt: IGNORED,
};

/** Those of a chat completion. @type {Record<string, Field>} */
export const CHAT_FIELDS = {
  ...COMMON,
  messages: HERE,
  max_completion_tokens: whole(1, MOST, { name: "max_tokens", first: true, none: [-1] }),
  logprobs: YES_OR_NO,
  top_logprobs: whole(0, 20),
  // vLLM's and transformers'.
  continue_final_message: YES_OR_NO,
  add_generation_prompt: YES_OR_NO,
  chat_template_kwargs: OBJECT,

  // What is in them is checked by the engine.
  tools: TOOLS,
  tool_choice: TOOL_CHOICE,
  parallel_tool_calls: YES_OR_NO,
  functions: refused(isEmpty, OLD_TOOLS),
  function_call: refused((value) => value === "none" || value === "auto", OLD_TOOLS),
  modalities: refused((value) => Array.isArray(value) && value.every((kind) => kind === "text"), "asks for more than text, which is all that is written. Leave it out."),
  audio: refused(never, "asks for a spoken answer, but text is all that is written. Leave it out."),
  web_search_options: refused(never, "asks for a search of the web, but nothing leaves this tab. Leave it out."),
  moderation: refused(never, "asks for a judgement of the texts, for which there is no model here. Leave it out."),

  metadata: IGNORED,
  store: IGNORED,
  service_tier: IGNORED,
  safety_identifier: IGNORED,
  prompt_cache_key: IGNORED,
  prompt_cache_options: IGNORED,
  prompt_cache_retention: IGNORED,
  // A text that the answer may repeat, so that it comes sooner.
  prediction: IGNORED,
  reasoning_effort: IGNORED,
  verbosity: IGNORED,
};

/** Those of a completion. @type {Record<string, Field>} */
export const COMPLETION_FIELDS = {
  ...COMMON,
  prompt: HERE,
  images: HERE,
  logprobs: {
    kind: "engine",
    read(value, field) {
      if (typeof value === "boolean" || (Number.isInteger(value) && value >= 0 && value <= 20)) return value;
      throw wrong(field, value, "true, false, or a whole number from 0 to 20");
    },
  },
  top_logprobs: whole(0, 20),
  echo: refused((value) => value === false, "asks for the prompt in the answer. Leave it out, and put the prompt before the answer yourself."),
  suffix: refused((value) => value === "", "asks for a text between two others, which these models are not made for. Leave it out."),
};

/**
 * What a request gives the engine, by the engine's names.
 * @param {Record<string, any>} request
 * @param {Record<string, Field>} table
 * @param {string} method  for messages
 */
export function readFields(request, table, method) {
  /** @type {Record<string, any>} */
  const fields = {};
  for (const [name, value] of Object.entries(request)) {
    // A field that is not given, however that is written.
    if (value === undefined || value === null) continue;
    const field = Object.hasOwn(table, name) ? table[name] : undefined;
    if (field === undefined) throw new LlavaError("invalid_request", `${method} does not support ${shown(name)}. Leave it out.`);
    if (field.kind === "refused" && !field.unless(value)) {
      throw new LlavaError("invalid_request", `${name} is ${shownJson(value)}, which ${field.because}`);
    }
    if (field.kind !== "engine") continue;
    const read = field.read(value, name);
    const own = field.name ?? name;
    const counts = field.name === undefined ? !(own in fields) : field.first === true || (request[own] ?? null) === null;
    if (read !== undefined && counts) fields[own] = read;
  }
  return fields;
}

/**
 * What can go to the engine of a response format; the engine checks the schema.
 * @param {any} format
 */
function responseFormat(format) {
  switch (format?.type) {
    case "text":
    case "json_object":
      return { type: format.type };
    case "json_schema": {
      const schema = format.json_schema?.schema;
      if (typeof schema !== "object" && typeof schema !== "boolean") {
        throw new LlavaError("invalid_request", "response_format.json_schema.schema must be a JSON schema.");
      }
      return {
        type: "json_schema",
        json_schema: { schema: asJson(schema, "response_format.json_schema.schema", " Refer to a part of it with $ref.") },
      };
    }
    default:
      throw new LlavaError("invalid_request", 'response_format.type must be "text", "json_object" or "json_schema".');
  }
}
