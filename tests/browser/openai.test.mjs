// Programs that were written for OpenAI: requests of every kind that they send, and the unmodified clients over the door that answers them.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import ts from "typescript";

import { CHAT_FIELDS, COMPLETION_FIELDS } from "../../www/api/fields.js";
import { openTab, start, withoutEngine } from "./support.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const { build } = createRequire(path.join(here, "../../tools/web/package.json"))("esbuild");

/** The members of an interface in a file of types. @param {string} file @param {string} name */
function membersOf(file, name) {
  const source = ts.createSourceFile(file, readFileSync(path.join(here, "../node_modules", file), "utf8"), ts.ScriptTarget.Latest);
  /** @type {string[]} */
  const members = [];
  source.forEachChild((node) => {
    if (ts.isInterfaceDeclaration(node) && node.name.text === name) members.push(...node.members.map((member) => /** @type {any} */ (member.name).text));
  });
  return members;
}

test("every field that OpenAI's requests have is decided on", () => {
  const chat = membersOf("openai/resources/chat/completions/completions.d.ts", "ChatCompletionCreateParamsBase");
  const completion = membersOf("openai/resources/completions.d.ts", "CompletionCreateParamsBase");
  assert.ok(chat.includes("messages") && chat.length > 30 && completion.includes("prompt") && completion.length > 15, `${chat}; ${completion}`);
  assert.deepEqual(chat.filter((name) => !Object.hasOwn(CHAT_FIELDS, name)), []);
  assert.deepEqual(completion.filter((name) => !Object.hasOwn(COMPLETION_FIELDS, name)), []);
});

describe("openai", { skip: withoutEngine }, () => {
  let host;
  let tab;
  let page;
  let folder;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "llava-web-clients-"));
    await build({
      entryPoints: [path.join(here, "clients/clients.js")], outfile: path.join(folder, "clients.js"), bundle: true, format: "esm", platform: "browser",
      define: { "process.env.NODE_ENV": '"production"' }, logLevel: "error",
    });
    host = await start({ "/clients/": folder, given: [/house\.gguf\.none$/] });
    tab = await openTab(host.browser);
    page = tab.page;
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(async ({ site }) => {
      const { createEngine } = await import(`${site}llava-web.js`);
      const { openaiFetch } = await import(`${site}openai.js`);
      const options = { model: `${site}models/house.gguf`, mmproj: `${site}models/house-mmproj.gguf`, device: "cpu", cache: "none" };
      const engine = await createEngine(options);
      const drawing = await (await fetch(`${site}examples/fruit.png`)).blob();
      const reader = new FileReader();
      await new Promise((resolve) => {
        reader.onload = resolve;
        reader.readAsDataURL(drawing);
      });
      const url = String(reader.result);
      Object.assign(globalThis, {
        engine, options, openaiFetch, url, baseURL: "http://llava-web.invalid/v1",
        chat: (more, call) => engine.chat.completions.create({ messages: [{ role: "user", content: "What can you do?" }], temperature: 0, max_tokens: 8, ...more }, call),
        weather: () => ({
          type: "function",
          function: { name: "weather", description: "The weather of a town.", parameters: { type: "object", properties: { town: { enum: ["Bonn", "Ulm"] }, days: { type: "integer", minimum: 1, maximum: 3 } }, required: ["town"] } },
        }),
        failure: (promise) => promise.then(() => null, ({ code, message }) => ({ code, message })),
      });
    }, { site: host.site });
  });

  after(async () => {
    await host?.close();
    rmSync(folder, { recursive: true });
  });

  test("fields that ask for nothing change nothing", async () => {
    const { plain, answers } = await page.evaluate(async () => {
      const { chat } = globalThis;
      const text = async (more) => (await chat(more)).choices[0].message.content;
      const nothing = [
        { tools: [] }, { tools: [], tool_choice: "none" }, { tool_choice: "auto" }, { functions: [], function_call: "none" }, { parallel_tool_calls: false }, { store: true },
        { metadata: { a: "b" } }, { service_tier: "auto" }, { reasoning_effort: "high" }, { verbosity: "low" }, { modalities: ["text"] },
        { prompt_cache_key: "x" }, { safety_identifier: "x" }, { prediction: { type: "content", content: "x" } }, { n: 1 }, { user: "me", model: "any" },
        { stop: "" }, { stop: ["", ""] }, { top_k: -1 }, { seed: 7 }, { repeat_penalty: 1 }, { response_format: { type: "text" } }, { logit_bias: {} },
        { tools: null, audio: null, web_search_options: null, moderation: null, max_completion_tokens: null }, { cache_prompt: true }, { stream_options: null },
      ];
      const answers = [];
      for (const more of nothing) answers.push([JSON.stringify(more), await text(more)]);
      return { plain: await text({}), answers };
    });
    assert.ok(plain.length > 3, plain);
    for (const [more, text] of answers) assert.equal(text, plain, more);
  });

  test("fields that would change the answer are refused by name, numbers with their range", async () => {
    const failures = await page.evaluate(async () => {
      const { chat, engine, failure, weather } = globalThis;
      const circle = {};
      circle.itself = circle;
      const wrong = {
        "tools is 7; it must be an array": { tools: 7 }, "tools[0].function.name must be": { tools: [{ type: "function", function: { name: "a b" } }] },
        "tools[0].type must be": { tools: [{ type: "custom", custom: { name: "f" } }] }, "another has": { tools: [weather(), weather()] }, "there are no tools": { tool_choice: "required" },
        "tool_choice names 'g'": { tools: [weather()], tool_choice: { type: "function", function: { name: "g" } } }, "tool_choice is 7": { tool_choice: 7 },
        "The tool 'f': ": { tools: [{ type: "function", function: { name: "f", parameters: { properties: { x: { type: "string", pattern: "(" } } } } }] },
        "#/properties/x/pattern": { tools: [{ type: "function", function: { name: "f", parameters: { properties: { x: { type: "string", pattern: "(" } } } } }] },
        function_call: { function_call: { name: "f" } }, audio: { audio: { voice: "x", format: "wav" } },
        modalities: { modalities: ["text", "audio"] }, web_search_options: { web_search_options: {} }, n: { n: 2 }, functions: { functions: [{ name: "f" }] },
        "max_tokens is 0; it must be a whole number of at least 1, or -1": { max_tokens: 0 }, "max_tokens is 1.5": { max_tokens: 1.5 }, "max_completion_tokens is -2": { max_completion_tokens: -2 },
        "max_tokens is \"5\"": { max_tokens: "5" }, "temperature is 2.5; it must be a number from 0 to 2": { temperature: 2.5 }, "temperature is \"hot\"": { temperature: "hot" },
        "top_p is -0.1; it must be a number from 0 to 1": { top_p: -0.1 }, "seed is 42.5": { seed: 42.5 }, "seed is 18446744073709552000": { seed: 2 ** 64 }, "top_k is -3": { top_k: -3 },
        "top_logprobs is 21; it must be a whole number from 0 to 20": { logprobs: true, top_logprobs: 21 }, "stop is 7": { stop: 7 }, "logprobs is 3": { logprobs: 3 },
        "repeat_penalty is 0; it must be a number from 0.1 to 10": { repeat_penalty: 0 }, "frequency_penalty is NaN": { frequency_penalty: NaN }, maxTokens: { maxTokens: 5 },
        "chat_template_kwargs cannot be written as JSON": { chat_template_kwargs: circle }, "logit_bias cannot be written as JSON": { logit_bias: { 5: 5n } },
        constructor: { constructor: 1 }, chat_template_kwargs: { chat_template_kwargs: [1] }, "continue_final_message": { continue_final_message: true },
      };
      const found = {};
      for (const [name, more] of Object.entries(wrong)) found[name] = await failure(chat(more));
      const completion = (more) => failure(engine.completions.create({ prompt: "x", max_tokens: 2, ...more }));
      Object.assign(found, {
        echo: await completion({ echo: true }), suffix: await completion({ suffix: "x" }), best_of: await completion({ best_of: 3 }), prompt: await completion({ prompt: ["a", "b"] }),
        "logprobs is 21": await completion({ logprobs: 21 }),
      });
      for (const [name, message] of Object.entries({
        "the result of the tool call '1'": { role: "tool", content: "x", tool_call_id: "1" }, "messages[0].tool_call_id": { role: "tool", content: "x" },
        "messages[0].content can only have parts of the type \"text\"": { role: "tool", tool_call_id: "1", content: [{ type: "image_url", image_url: { url: "data:," } }] },
        "messages[0].tool_calls[0].function.name": { role: "assistant", tool_calls: [{ id: "1", type: "custom" }] }, "older form of tools": { role: "function", name: "f", content: "x" },
        "messages[0].tool_calls[0].function.arguments": { role: "assistant", tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{\"a" } }] }, "messages[0].role": { content: "x" }, "messages[0].content": { role: "user", content: null },
        "messages[0].content[0].refusal": { role: "assistant", content: [{ type: "refusal" }] },
      })) found[name] = await failure(chat({ messages: [message] }));
      return found;
    });
    for (const [name, failure] of Object.entries(failures)) {
      assert.equal(failure?.code, "invalid_request", name);
      assert.ok(failure.message.includes(name), `${name}: ${failure.message}`);
    }
  });

  test("conversations in OpenAI's form: developers, answers of nothing, refusals, names", async () => {
    const { system, developer, long, unlimited } = await page.evaluate(async () => {
      const { chat, url } = globalThis;
      const said = async (messages, more) => (await chat({ messages, ...more })).usage.prompt_tokens;
      const question = { role: "user", name: "me", content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "What is this?" }] };
      const reply = await chat({ messages: [question], max_tokens: 3 });
      const long = [question, reply.choices[0].message, { role: "user", content: "And?" }, { role: "assistant", content: null, refusal: null, tool_calls: [] },
        { role: "user", content: "" }, { role: "assistant", content: [{ type: "refusal", refusal: "No." }] }, { role: "user", content: [] }];
      return {
        system: await said([{ role: "system", content: "Be brief." }, question]), developer: await said([{ role: "developer", content: "Be brief." }, question]),
        long: await said(long), unlimited: (await chat({ max_tokens: -1 })).choices[0].finish_reason,
      };
    });
    assert.equal(developer, system);
    assert.ok(long > 0);
    assert.equal(unlimited, "stop");
  });

  test("the usage is told where OpenAI tells it", async () => {
    const { chunks, apart, whole } = await page.evaluate(async () => {
      const read = async (stream) => {
        const chunks = [];
        for await (const chunk of stream) chunks.push(chunk);
        return chunks;
      };
      const { chat } = globalThis;
      return {
        chunks: await read(await chat({ stream: true })), apart: await read(await chat({ stream: true, stream_options: { include_usage: true } })), whole: await chat({}),
      };
    });
    assert.ok(chunks.every(({ choices }) => choices.length === 1));
    assert.ok(chunks.at(-1).usage.total_tokens > 0);
    assert.deepEqual(apart.at(-1).choices, []);
    assert.equal(apart.filter(({ usage }) => usage).length, 1);
    assert.equal(apart.at(-1).usage.completion_tokens, chunks.at(-1).usage.completion_tokens);
    assert.deepEqual(whole.usage.prompt_tokens_details, { cached_tokens: whole.usage.cached_tokens });
  });

  test("an answer goes on where the last message ends", async () => {
    const { whole, rest } = await page.evaluate(async () => {
      const { engine, url } = globalThis;
      const question = { role: "user", content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "What do you see?" }] };
      const answer = async (more) => (await engine.chat.completions.create({ messages: [question], temperature: 0, ...more })).choices[0].message.content;
      const whole = await answer({});
      const begun = whole.split(" ").slice(0, 3).join(" ");
      return { whole, rest: begun + await answer({ messages: [question, { role: "assistant", content: begun }], continue_final_message: true }) };
    });
    assert.ok(whole.split(" ").length > 4, whole);
    assert.equal(rest, whole);
  });

  test("openai's own client", async () => {
    const seen = await page.evaluate(async () => {
      const { OpenAI, zodResponseFormat, z } = await import("/clients/clients.js");
      const { engine, openaiFetch, url, baseURL } = globalThis;
      const client = new OpenAI({ apiKey: "none", baseURL, fetch: openaiFetch(engine), dangerouslyAllowBrowser: true });
      const messages = [{ role: "user", content: [{ type: "image_url", image_url: { url, detail: "auto" } }, { type: "text", text: "What do you see?" }] }];
      const request = { model: "any", messages, temperature: 0 };
      const direct = (await engine.chat.completions.create(request)).choices[0].message.content;
      const created = await client.chat.completions.create({ ...request, store: false, metadata: { a: "b" } });
      let streamed = "";
      let usage = null;
      for await (const chunk of await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })) {
        streamed += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
      }
      const runner = client.chat.completions.stream(request);
      const final = await runner.finalChatCompletion();
      const Colour = z.object({ colour: z.enum(["red", "blue", "green"]), n: z.number().int().min(0).max(9) });
      const parsed = await client.chat.completions.parse({ ...request, response_format: zodResponseFormat(Colour, "colour") });
      const completion = await client.completions.create({ model: "any", prompt: "Hello", max_tokens: 3 });
      const models = [];
      for await (const model of client.models.list()) models.push(model.id);
      const one = await client.models.retrieve(models[0]);
      const failed = async (promise) => promise.then(() => null, (error) => ({ name: error.constructor.name, status: error.status, code: error.code, type: error.type, message: error.message }));
      return {
        direct, created: created.choices[0].message.content, id: created.id, streamed, usage, final: final.choices[0].message.content, parsed: parsed.choices[0].message.parsed,
        completion: completion.object, models, one: one.id, name: engine.info.name,
        errors: {
          tools: await failed(client.chat.completions.create({ ...request, tools: [{ type: "function", function: { name: "f", parameters: { type: "string" } } }] })),
          long: await failed(client.chat.completions.create({ ...request, messages: [{ role: "user", content: "many words ".repeat(3000) }] })),
          route: await failed(client.responses.create({ model: "any", input: "x" })),
          model: await failed(client.models.retrieve("another")),
          picture: await failed(client.chat.completions.create({ ...request, messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }] }] })),
          streamed: await failed(client.chat.completions.create({ ...request, stream: true, temperature: 9 })),
        },
      };
    });
    assert.ok(seen.direct.length > 10);
    for (const name of ["created", "streamed", "final"]) assert.equal(seen[name], seen.direct, name);
    assert.match(seen.id, /^chatcmpl-/);
    assert.ok(seen.usage.total_tokens > 0);
    assert.ok(["red", "blue", "green"].includes(seen.parsed.colour) && Number.isInteger(seen.parsed.n));
    assert.equal(seen.completion, "text_completion");
    assert.deepEqual([seen.models, seen.one], [[seen.name], seen.name]);
    const { errors } = seen;
    assert.deepEqual([errors.tools.name, errors.tools.status, errors.tools.code], ["BadRequestError", 400, "invalid_request"]);
    assert.match(errors.tools.message, /The tool 'f'/);
    assert.deepEqual([errors.long.status, errors.long.code], [400, "context_length_exceeded"]);
    assert.deepEqual([errors.route.name, errors.model.name], ["NotFoundError", "NotFoundError"]);
    assert.deepEqual([errors.picture.status, errors.picture.code, errors.picture.type], [400, "invalid_image", "invalid_request_error"]);
    assert.match(errors.streamed.message, /temperature is 9/);
  });

  test("tools are called in the form of their schemas, and results are gone on from", async () => {
    const seen = await page.evaluate(async () => {
      const { chat, engine, weather } = globalThis;
      const tools = [weather(), { type: "function", function: { name: "now" } }];
      const messages = [{ role: "user", content: "How is the weather?" }];
      const named = { messages, tools, tool_choice: { type: "function", function: { name: "weather" } }, max_tokens: 200 };
      const whole = await chat(named);
      const chunks = [];
      for await (const chunk of await chat({ ...named, stream: true })) chunks.push(chunk);
      const several = await chat({ tools: [tools[1]], tool_choice: "required", max_tokens: 600 });
      const allowed = await chat({ messages, tools, tool_choice: { type: "allowed_tools", allowed_tools: { mode: "required", tools: [{ type: "function", function: { name: "now" } }] } }, parallel_tool_calls: false, max_tokens: 200 });
      const [{ message }] = whole.choices;
      const called = [...messages, message, { role: "tool", tool_call_id: message.tool_calls[0].id, content: [{ type: "text", text: "It rains." }] }];
      const next = await chat({ messages: called, tools, max_tokens: 4 });
      const told = await engine.countTokens(messages, { tools });
      return {
        whole, chunks, several: several.choices[0], allowed: allowed.choices[0], next, told, untold: await engine.countTokens(messages),
        prompt: await engine.applyChatTemplate(called, { tools }), cut: (await chat({ ...named, max_tokens: 12 })).choices[0],
      };
    });
    const { message, finish_reason } = seen.whole.choices[0];
    assert.deepEqual([message.content, finish_reason, message.tool_calls.length], [null, "tool_calls", 1]);
    const [{ id, type, function: { name, arguments: json } }] = message.tool_calls;
    assert.match(id, /^call_[0-9a-f]{24}$/);
    assert.deepEqual([type, name], ["function", "weather"]);
    const { town, days = 1, ...more } = JSON.parse(json);
    assert.ok(["Bonn", "Ulm"].includes(town) && days >= 1 && days <= 3 && Object.keys(more).length === 0, json);
    assert.equal(seen.whole.usage.completion_tokens, seen.whole.choices[0].token_ids.length);
    const parts = seen.chunks.flatMap(({ choices: [{ delta }] }) => delta.tool_calls ?? []);
    assert.match(parts[0].id, /^call_/);
    assert.equal(parts[0].function.name, "weather");
    assert.ok(parts.length > 2 && parts.slice(1).every((part) => part.index === 0 && part.id === undefined && part.function.name === undefined), JSON.stringify(parts));
    assert.equal(parts.map((part) => part.function.arguments).join(""), json);
    assert.equal(seen.chunks.at(-1).choices[0].finish_reason, "tool_calls");
    assert.ok(seen.several.message.tool_calls.every((call) => call.function.name === "now" && Object.keys(JSON.parse(call.function.arguments)).length === 0), JSON.stringify(seen.several));
    assert.deepEqual(seen.allowed.message.tool_calls.map((call) => call.function.name), ["now"]);
    assert.ok(seen.next.usage.cached_tokens >= seen.told - 1 && seen.told > seen.untold, JSON.stringify([seen.next.usage, seen.told, seen.untold]));
    for (const part of [`{"town": "${town}"`, "It rains.", "The weather of a town."]) assert.ok(seen.prompt.includes(part), seen.prompt);
    assert.equal(seen.cut.finish_reason, "length");
  });

  test("openai's own client calls tools", async () => {
    const seen = await page.evaluate(async () => {
      const { OpenAI } = await import("/clients/clients.js");
      const { engine, openaiFetch, baseURL, weather } = globalThis;
      const client = new OpenAI({ apiKey: "none", baseURL, fetch: openaiFetch(engine), dangerouslyAllowBrowser: true });
      const request = { model: "any", messages: [{ role: "user", content: "How is the weather?" }], tools: [weather()], tool_choice: "required", parallel_tool_calls: false, temperature: 0 };
      const [{ message, finish_reason }] = (await client.chat.completions.create(request)).choices;
      let streamed = "";
      for await (const { choices: [choice] } of await client.chat.completions.create({ ...request, stream: true })) streamed += choice.delta.tool_calls?.[0].function.arguments ?? "";
      const done = [];
      const runner = client.chat.completions.stream(request).on("tool_calls.function.arguments.done", ({ name, arguments: json }) => done.push([name, json]));
      const final = (await runner.finalChatCompletion()).choices[0].message;
      const asked = [];
      const { type, function: described } = weather();
      const loop = client.chat.completions.runTools({
        ...request, tools: [{ type, function: { ...described, parse: JSON.parse, function: (input) => asked.push(input) && "It rains." } }],
      }, { maxChatCompletions: 2 });
      await loop.done();
      return { message, finish_reason, streamed, done, final, asked, roles: loop.messages.map(({ role }) => role), content: loop.messages[2].content };
    });
    const json = seen.message.tool_calls[0].function.arguments;
    assert.deepEqual([seen.message.content, seen.finish_reason, seen.final.content], [null, "tool_calls", null]);
    assert.equal(seen.streamed, json);
    assert.deepEqual(seen.done, [["weather", json]]);
    assert.equal(seen.final.tool_calls[0].function.arguments, json);
    assert.equal(seen.asked.length, 2);
    assert.deepEqual(seen.asked[0], JSON.parse(json));
    assert.deepEqual(seen.roles, ["user", "assistant", "tool", "assistant", "tool"]);
    assert.equal(seen.content, "It rains.");
  });

  test("who stops a client's request stops the engine", async () => {
    const seen = await page.evaluate(async () => {
      const { OpenAI } = await import("/clients/clients.js");
      const { engine, openaiFetch, baseURL } = globalThis;
      const client = new OpenAI({ apiKey: "none", baseURL, fetch: openaiFetch(engine), dangerouslyAllowBrowser: true });
      // It would write until the context is full.
      const request = { model: "any", messages: [{ role: "user", content: "What can you do?" }], logit_bias: { 0: -100, 1: -100, 2: -100, 3: -100 }, stream: true };
      const stream = await client.chat.completions.create(request);
      let n = 0;
      for await (const chunk of stream) if (chunk.choices[0].delta.content && ++n === 3) stream.controller.abort();
      const asked = performance.now();
      await engine.chat.completions.create({ messages: [{ role: "user", content: "What can you do?" }], max_tokens: 1 });
      const free = performance.now() - asked;
      const left = new AbortController();
      const whole = client.chat.completions.create({ ...request, stream: false }, { signal: left.signal });
      setTimeout(() => left.abort(), 100);
      const aborted = await whole.then(() => null, (error) => error.constructor.name);
      const early = await openaiFetch(engine)(`${baseURL}/models`, { signal: AbortSignal.abort() }).then(() => null, (error) => error.name);
      return { n, free, aborted, early, after: (await engine.chat.completions.create({ messages: [{ role: "user", content: "What can you do?" }], max_tokens: 2 })).usage.completion_tokens };
    });
    assert.equal(seen.n, 3);
    assert.deepEqual([seen.aborted, seen.early, seen.after], ["APIUserAbortError", "AbortError", 2]);
  });

  test("LangChain", async () => {
    const seen = await page.evaluate(async () => {
      const { ChatOpenAI, HumanMessage, z } = await import("/clients/clients.js");
      const { engine, openaiFetch, url, baseURL } = globalThis;
      const model = new ChatOpenAI({ apiKey: "none", model: "any", temperature: 0, configuration: { baseURL, fetch: openaiFetch(engine), dangerouslyAllowBrowser: true } });
      const message = new HumanMessage({ content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "What do you see?" }] });
      const direct = (await engine.chat.completions.create({
        messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "What do you see?" }] }], temperature: 0,
      })).choices[0].message.content;
      const invoked = await model.invoke([message]);
      let streamed = "";
      let usage = null;
      for await (const chunk of await model.stream([message])) {
        streamed += chunk.content;
        usage = chunk.usage_metadata ?? usage;
      }
      const structured = await model.withStructuredOutput(z.object({ colour: z.enum(["red", "blue"]) }), { method: "jsonSchema" }).invoke([message]);
      const { ToolMessage } = await import("/clients/clients.js");
      const bound = model.bindTools([globalThis.weather()], { tool_choice: "any", parallel_tool_calls: false });
      const called = await bound.invoke([message]);
      let joined = null;
      for await (const chunk of await bound.stream([message])) joined = joined?.concat(chunk) ?? chunk;
      const [call] = called.tool_calls;
      const answer = await model.invoke([message, called, new ToolMessage({ tool_call_id: call.id, content: "It rains." })]);
      const bySchema = await model.withStructuredOutput(z.object({ colour: z.enum(["red", "blue"]) }), { method: "functionCalling" }).invoke([message]);
      return {
        direct, invoked: invoked.content, tokens: invoked.usage_metadata, streamed, usage, structured, bySchema, calls: [call, joined.tool_calls[0]].map(({ name, args }) => ({ name, args })),
        answer: typeof answer.content,
      };
    });
    assert.equal(seen.calls[0].name, "weather");
    assert.ok(["Bonn", "Ulm"].includes(seen.calls[0].args.town), JSON.stringify(seen.calls));
    assert.deepEqual(seen.calls[1], seen.calls[0]);
    assert.equal(seen.answer, "string");
    assert.ok(["red", "blue"].includes(seen.bySchema.colour));
    assert.equal(seen.invoked, seen.direct);
    assert.equal(seen.streamed, seen.direct);
    assert.ok(seen.tokens.total_tokens > 0 && seen.usage.total_tokens === seen.tokens.total_tokens, JSON.stringify([seen.tokens, seen.usage]));
    assert.ok(["red", "blue"].includes(seen.structured.colour));
  });

  test("the Vercel AI SDK", async () => {
    const seen = await page.evaluate(async () => {
      const { createOpenAICompatible, generateObject, generateText, stepCountIs, streamText, tool, z } = await import("/clients/clients.js");
      const { engine, openaiFetch, url, baseURL } = globalThis;
      const model = createOpenAICompatible({ name: "llava-web", baseURL, fetch: openaiFetch(engine), supportsStructuredOutputs: true, includeUsage: true })("any");
      const messages = [{ role: "user", content: [{ type: "image", image: url }, { type: "text", text: "What do you see?" }] }];
      const direct = (await engine.chat.completions.create({
        messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }, { type: "text", text: "What do you see?" }] }], temperature: 0,
      })).choices[0].message.content;
      const { text, usage } = await generateText({ model, messages, temperature: 0 });
      const stream = streamText({ model, messages, temperature: 0 });
      let streamed = "";
      for await (const part of stream.textStream) streamed += part;
      const { object } = await generateObject({ model, messages, schema: z.object({ colour: z.enum(["red", "blue"]) }), temperature: 0 });
      const asked = [];
      const weather = tool({ description: "The weather of a town.", inputSchema: z.object({ town: z.enum(["Bonn", "Ulm"]) }), execute: async (input) => asked.push(input) && "It rains." });
      // First a call, then an answer from what came of it.
      const withTools = {
        model, messages, tools: { weather }, temperature: 0, stopWhen: stepCountIs(3), prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
        providerOptions: { "llava-web": { parallel_tool_calls: false } },
      };
      const { steps } = await generateText(withTools);
      const parts = [];
      for await (const { type } of streamText(withTools).fullStream) parts.push(type);
      return {
        direct, text, usage, streamed, streamedUsage: await stream.usage, object, asked,
        steps: steps.map(({ finishReason, toolCalls, toolResults }) => ({ finishReason, calls: toolCalls.map(({ toolName, input }) => ({ toolName, input })), results: toolResults.map(({ output }) => output) })), parts,
      };
    });
    assert.deepEqual(seen.steps.map(({ finishReason }) => finishReason), ["tool-calls", "stop"]);
    assert.equal(seen.steps[0].calls[0].toolName, "weather");
    assert.ok(["Bonn", "Ulm"].includes(seen.steps[0].calls[0].input.town) && seen.asked.length >= 2, JSON.stringify(seen));
    assert.equal(seen.steps[0].results[0], "It rains.");
    for (const type of ["tool-input-start", "tool-input-delta", "tool-call", "tool-result", "finish"]) assert.ok(seen.parts.includes(type), `${type} of ${seen.parts}`);
    assert.equal(seen.text, seen.direct);
    assert.equal(seen.streamed, seen.direct);
    assert.ok(seen.usage.totalTokens > 0 && seen.streamedUsage.totalTokens === seen.usage.totalTokens);
    assert.ok(["red", "blue"].includes(seen.object.colour));
  });

  test("the door loads a model when it is first asked, once, and anew after a failure", async () => {
    const seen = await page.evaluate(async () => {
      const { openaiFetch, options, baseURL } = globalThis;
      const ask = async (fetch) => {
        const response = await fetch(`${baseURL}/chat/completions`, { method: "POST", body: JSON.stringify({ messages: [{ role: "user", content: "What can you do?" }], max_tokens: 2 }) });
        return { status: response.status, ...await response.json() };
      };
      let loads = 0;
      const fetch = openaiFetch({ ...options, onProgress: ({ stage }) => (loads += stage === "ready" ? 1 : 0) });
      const before = (await (await fetch(`${baseURL}/models`)).json()).data[0].id;
      const [a, b] = await Promise.all([ask(fetch), ask(fetch)]);
      const after = (await (await fetch(`${baseURL}/models/`)).json()).data[0].id;
      const broken = openaiFetch({ ...options, model: `${options.model}.none` });
      const failures = [await ask(broken), await ask(broken)].map(({ status, error }) => [status, error.code]);
      const raw = (init, address = "chat/completions") => fetch(`${baseURL}/${address}`, init).then(async (response) => [response.status, (await response.json()).error.message]);
      return {
        before, after, loads, a: a.choices[0].finish_reason, b: b.choices[0].finish_reason, failures,
        raw: [await raw({ method: "GET" }), await raw({ method: "POST", body: "{" }), await raw({ method: "POST", body: "[]" }), await raw({ method: "POST" }, "models"), await raw({}, "files"), await raw({}, "models/%E0%A4%A")],
        wrong: [undefined, 7, {}, "model.gguf"].map((given) => {
          try {
            openaiFetch(given);
            return null;
          } catch (error) {
            return error.code;
          }
        }),
      };
    });
    assert.equal(seen.before, "house.gguf");
    assert.notEqual(seen.after, "");
    assert.equal(seen.loads, 1);
    assert.deepEqual([seen.a, seen.b], ["length", "length"]);
    assert.deepEqual(seen.failures, [[502, "network"], [502, "network"]]);
    assert.deepEqual(seen.raw.map(([status]) => status), [405, 400, 400, 405, 404, 404]);
    assert.deepEqual(seen.wrong, Array(4).fill("invalid_request"));
  });
});
