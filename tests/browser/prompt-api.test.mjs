// The browser's Prompt API over this engine: what a page that was written for `LanguageModel` does.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import idl from "@webref/idl";

import { openTab, start, withoutEngine } from "./support.mjs";

describe("the Prompt API", { skip: withoutEngine }, () => {
  let host;
  let page;

  before(async () => {
    host = await start();
    ({ page } = await openTab(host.browser));
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(async ({ site }) => {
      const { LanguageModel, installLanguageModel } = await import(`${site}prompt-api.js`);
      const options = { model: `${site}models/house.gguf`, mmproj: `${site}models/house-mmproj.gguf`, device: "cpu", cache: "none" };
      const picture = await (await fetch(`${site}examples/fruit.png`)).blob();
      Object.assign(globalThis, {
        Ours: LanguageModel, installLanguageModel, options, picture, site,
        /** What a promise ends with. */
        outcome: (promise) => Promise.resolve(promise).then((value) => ({ value }), (error) => ({ name: error.name, message: error.message })),
        look: (text) => [{ role: "user", content: [{ type: "image", value: picture }, { type: "text", value: text }] }],
        greedy: { topK: 1, temperature: 0 },
      });
    }, { site: host.site });
  });

  after(() => host?.close());

  test("before a model is given there is none; then it is downloaded, and its progress told", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, installLanguageModel, options, outcome, greedy } = globalThis;
      const none = [await Ours.availability(), await Ours.params(), (await outcome(Ours.create())).name];
      const wrong = await outcome((async () => installLanguageModel("model.gguf"))());
      const native = globalThis.LanguageModel;
      const installed = installLanguageModel(options, { prefer: true });
      const before = [
        await Ours.availability(), await Ours.availability({ expectedInputs: [{ type: "image", languages: ["en"] }] }), await Ours.availability({ expectedInputs: [{ type: "audio" }] }),
        (await outcome(Ours.availability({ tools: [{}] }))).name, (await outcome(Ours.availability({ topK: 0 }))).name,
      ];
      const told = [];
      const creating = globalThis.LanguageModel.create({
        ...greedy, expectedInputs: [{ type: "image" }], monitor: (monitor) => monitor.addEventListener("downloadprogress", ({ loaded, total }) => told.push(loaded / total)),
      });
      await new Promise((resolve) => setTimeout(resolve));
      const during = await Ours.availability();
      globalThis.session = await creating;
      return {
        none, wrong, native: typeof native, installed, before, during, after: await Ours.availability(), told, params: await Ours.params(),
        is: globalThis.session instanceof Ours && globalThis.session instanceof EventTarget && globalThis.LanguageModel === Ours,
        built: (await outcome((async () => new Ours())())).name,
      };
    });
    assert.deepEqual(seen.none, ["unavailable", null, "NotSupportedError"]);
    assert.equal(seen.wrong.name, "LlavaError");
    assert.equal(seen.installed, true);
    assert.deepEqual(seen.before, ["downloadable", "downloadable", "unavailable", "TypeError", "RangeError"]);
    assert.deepEqual([seen.during, seen.after], ["downloading", "available"]);
    assert.deepEqual([seen.told[0], seen.told.at(-1)], [0, 1]);
    assert.ok(seen.told.every((loaded) => loaded >= 0 && loaded <= 1), JSON.stringify(seen.told));
    assert.ok(seen.params.maxTopK > 1 && seen.params.defaultTemperature > 0);
    assert.equal(seen.is, true);
    assert.equal(seen.built, "TypeError");
  });

  test("the browser's own is replaced where it is asked to be, or has no model for what is needed", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, installLanguageModel, options } = globalThis;
      const image = { expectedInputs: [{ type: "image" }] };
      /** What becomes of a browser's own whose availability is this. */
      const become = async (availability, more) => {
        const asked = [];
        const theirs = { availability: (options) => (asked.push(options), availability(options)) };
        Object.defineProperty(globalThis, "LanguageModel", { value: theirs, writable: true, configurable: true });
        const installed = await installLanguageModel(options, more);
        return [installed, globalThis.LanguageModel === Ours, globalThis.LanguageModel === theirs, asked];
      };
      const onlyText = async (options) => (options.expectedInputs ? "unavailable" : "downloadable");
      const all = [
        await become(onlyText), await become(onlyText, { prefer: true }), await become(onlyText, { needs: {} }), await become(onlyText, { needs: image }),
        await become(async () => { throw new TypeError("an option that it does not know"); }, { needs: image }),
        await become(() => { throw new TypeError("at once"); }, { needs: image }),
        await become(async () => "available", { prefer: true, needs: {} }),
      ];
      delete globalThis.LanguageModel;
      return [...all, [await installLanguageModel(options, { needs: image }), globalThis.LanguageModel === Ours, false, []]];
    });
    const image = { expectedInputs: [{ type: "image" }] };
    assert.deepEqual(seen, [
      [false, false, true, []], [true, true, false, []], [false, false, true, [{}]], [true, true, false, [image]],
      [true, true, false, [image]], [true, true, false, [image]], [true, true, false, [{}]], [true, true, false, []],
    ]);
  });

  test("every member, value and option that the specification's IDL has is there, or refused by name", async () => {
    const files = await idl.listAll();
    const all = (await Promise.all(["prompt-api", "writing-assistance-apis"].map((name) => files[name].parse()))).flat();
    const named = (name, type) => all.find((one) => one.name === name && one.type === type);
    const values = (name) => named(name, "enum").values.map(({ value }) => value);
    const mixins = (name) => all.filter(({ type, target }) => type === "includes" && target === name).map(({ includes }) => named(includes, "interface mixin"));
    const membersOf = (name) => [named(name, "interface"), ...mixins(name)].flatMap(({ members }) => members).map(({ type, name, special, readonly, arguments: given, idlType }) => ({
      type, name, isStatic: special === "static", readonly, isPromise: idlType?.generic === "Promise", length: given?.filter(({ optional }) => !optional).length,
    }));
    const options = (name) => {
      const { members, inheritance } = named(name, "dictionary");
      return [...inheritance ? options(inheritance) : [], ...members.map(({ name }) => name)];
    };
    const dictionaries = Object.fromEntries(["CreateCoreOptions", "CreateOptions", "PromptOptions", "AppendOptions", "CloneOptions", "Expected", "Message", "MessageContent", "Tool"].map((name) => [name, options(`LanguageModel${name}`)]));
    const interfaces = { LanguageModel: membersOf("LanguageModel"), CreateMonitor: membersOf("CreateMonitor") };
    const enums = Object.fromEntries(["Availability", "LanguageModelSamplingMode", "LanguageModelMessageRole", "LanguageModelMessageType"].map((name) => [name, values(name)]));
    assert.ok(interfaces.LanguageModel.length > 15 && dictionaries.CreateOptions.length > 7, "the IDL is what it was");

    const seen = await page.evaluate(async ({ interfaces, dictionaries, enums }) => {
      const { Ours, installLanguageModel, options, outcome, picture } = globalThis;
      installLanguageModel(options, { prefer: true });
      let monitor;
      const session = await Ours.create({ monitor: (given) => (monitor = given) });
      const faults = [];
      const check = (holds, what) => holds || faults.push(what);
      for (const [name, object] of Object.entries({ LanguageModel: session, CreateMonitor: monitor })) {
        const prototype = Object.getPrototypeOf(object);
        check(Object.prototype.toString.call(object) === `[object ${name}]` && object instanceof EventTarget, name);
        for (const member of interfaces[name]) {
          const holder = member.isStatic ? prototype.constructor : prototype;
          const { value, get, set } = Object.getOwnPropertyDescriptor(holder, member.name) ?? {};
          const what = `${name}.${member.name}`;
          if (member.type === "attribute") {
            check(get && Boolean(set) !== member.readonly, what);
          } else {
            check(typeof value === "function" && value.length === member.length, `${what}: ${value?.length} arguments`);
            // Wrong arguments are no reason to throw where there is a promise.
            if (member.isPromise && member.length > 0) check((await outcome(value.call(object, Symbol("wrong")))).name === "TypeError", `${what} with a wrong argument`);
          }
          if (member.name.startsWith("on")) {
            const type = member.name.slice(2);
            const got = [];
            object[member.name] = () => got.push("first");
            object.addEventListener(type, () => got.push("second"), { once: true });
            object[member.name] = () => got.push("instead");
            object.dispatchEvent(new Event(type));
            object[member.name] = 7;
            object.dispatchEvent(new Event(type));
            check(got.join() === "instead,second" && object[member.name] === null, `${what}: ${got}`);
          }
        }
      }
      /** The names that are looked at of an object that is given to `use`. */
      const readBy = async (use, from = {}) => {
        const read = new Set();
        await outcome((async () => use(new Proxy(from, { get: (target, name) => (read.add(name), target[name]) })))());
        return read;
      };
      const uses = {
        CreateCoreOptions: [(given) => Ours.availability(given)],
        CreateOptions: [(given) => Ours.create(given)],
        PromptOptions: [(given) => session.prompt("x", given), (given) => session.measureContextUsage("x", given), (given) => session.promptStreaming("x", given).getReader().read()],
        AppendOptions: [(given) => session.append("x", given)],
        CloneOptions: [(given) => session.clone(given)],
        Expected: [(given) => Ours.availability({ expectedInputs: [given] }), (given) => Ours.availability({ expectedOutputs: [given] })],
        Message: [(given) => session.measureContextUsage([given])],
        MessageContent: [(given) => session.measureContextUsage([{ role: "user", content: [given] }])],
        Tool: [(given) => Ours.availability({ tools: [given] })],
      };
      const from = { Message: { role: "user", content: "x" }, Expected: { type: "text" }, MessageContent: { type: "text", value: "x" }, Tool: { name: "x", description: "x", inputSchema: {}, execute() {} }, PromptOptions: { signal: AbortSignal.timeout(500) } };
      for (const [name, names] of Object.entries(dictionaries)) {
        for (const use of uses[name]) {
          const read = await readBy(use, from[name]);
          for (const option of names) check(read.has(option), `${name}.${option} is not looked at by ${use}`);
        }
        if (name !== "PromptOptions") check(!(await outcome((async () => uses[name][0](from[name] ?? {}))())).name, `${name} with nothing said`);
      }
      check(enums.Availability.includes(await Ours.availability()), "availability");
      for (const samplingMode of enums.LanguageModelSamplingMode) {
        const made = await Ours.create({ samplingMode });
        check(made.samplingMode === samplingMode && made.topK >= 1 && made.temperature >= 0 && (await made.clone()).samplingMode === samplingMode, samplingMode);
      }
      check((await outcome(Ours.create({ samplingMode: "wild" }))).name === "TypeError", "another sampling mode");
      check((await outcome(Ours.create({ samplingMode: "balanced", topK: 3 }))).name === "TypeError", "a sampling mode beside topK");
      for (const role of enums.LanguageModelMessageRole) check((await outcome(Ours.create({ initialPrompts: [{ role, content: "x" }] }))).value instanceof Ours, role);
      const types = {};
      for (const type of [...enums.LanguageModelMessageType, "video"]) {
        const value = type === "image" ? picture : "x";
        types[type] = [(await outcome(session.measureContextUsage([{ role: "user", content: [{ type, value }] }]))).name ?? "taken",
          (await outcome(Ours.create({ expectedInputs: [{ type }] }))).name ?? "taken", (await outcome(Ours.create({ expectedOutputs: [{ type }] }))).name ?? "taken"];
      }
      const tags = (await outcome(Ours.create({ expectedInputs: [{ type: "text", languages: ["no tag"] }] }))).name;
      const empty = await Promise.all([Ours.availability(null), Ours.create(null).then((made) => made.clone(null)).then((made) => made.append("x", null))].map(outcome));
      return { faults, types, tags, empty: empty.map(({ name }) => name ?? "taken") };
    }, { interfaces, dictionaries, enums });
    assert.deepEqual(seen, {
      faults: [],
      types: {
        "text": ["taken", "taken", "taken"], "image": ["taken", "taken", "NotSupportedError"],
        ...Object.fromEntries(["audio", "tool-call", "tool-response"].map((type) => [type, ["NotSupportedError", "NotSupportedError", "NotSupportedError"]])), "video": ["TypeError", "TypeError", "TypeError"],
      },
      tags: "RangeError",
      empty: ["taken", "taken"],
    });
  });

  test("a question about a picture, whole and in pieces, and the next one", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, look, greedy } = globalThis;
      const [a, b] = [await Ours.create(greedy), await Ours.create(greedy)];
      const whole = await a.prompt(look("What do you see?"));
      const pieces = [];
      const reader = b.promptStreaming(look("What do you see?")).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) pieces.push(part.value);
      const usage = [a.contextUsage, b.contextUsage, a.inputUsage, a.contextWindow, a.inputQuota];
      const next = [await a.prompt("How many are there?"), await b.prompt([{ role: "user", content: "How many are there?" }])];
      return { whole, pieces, usage, next, grown: a.contextUsage > usage[0], topK: a.topK, temperature: a.temperature };
    });
    assert.ok(seen.whole.length > 10, seen.whole);
    assert.ok(seen.pieces.length > 3);
    assert.equal(seen.pieces.join(""), seen.whole);
    assert.ok(seen.usage[0] > 20 && seen.usage[0] === seen.usage[1] && seen.usage[0] === seen.usage[2] && seen.usage[3] === seen.usage[4] && seen.usage[3] > seen.usage[0]);
    assert.equal(seen.next[0], seen.next[1]);
    assert.equal(seen.grown, true);
    assert.deepEqual([seen.topK, seen.temperature], [1, 0]);
  });

  test("messages are appended, sessions cloned, and each goes its own way", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, look, greedy } = globalThis;
      const one = await Ours.create({ ...greedy, initialPrompts: [{ role: "system", content: "Answer questions about drawings." }] });
      const initial = one.contextUsage;
      const measured = await one.measureContextUsage(look("Look."));
      await one.append(look("Look."));
      const appended = one.contextUsage;
      const two = await one.clone();
      const [a, b] = await Promise.all([one.prompt("What do you see?"), two.prompt("What do you see?")]);
      const usage = two.contextUsage;
      await one.prompt("How many are there?");
      const same = await (await two.clone()).prompt("How many are there?") === await two.prompt("How many are there?");
      return { initial, measured, appended, a, b, same, apart: two.contextUsage > usage, old: await one.measureInputUsage("x") === await one.measureContextUsage("x") };
    });
    assert.ok(seen.initial > 3);
    assert.equal(seen.appended, seen.initial + seen.measured);
    assert.equal(seen.a, seen.b);
    assert.deepEqual([seen.same, seen.apart, seen.old], [true, true, true]);
  });

  test("answers keep to a schema or a regular expression, and go on behind a prefix", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, look, greedy, outcome } = globalThis;
      const session = () => Ours.create(greedy);
      const schema = { type: "object", properties: { colour: { enum: ["red", "blue"] }, n: { type: "integer", minimum: 0, maximum: 9 } }, required: ["colour", "n"], additionalProperties: false };
      const json = JSON.parse(await (await session()).prompt(look("What colour is it?"), { responseConstraint: schema }));
      const before = await session();
      const [told, untold] = [before, await session()];
      await told.prompt("x", { responseConstraint: schema });
      await untold.prompt("x", { responseConstraint: schema, omitResponseConstraintInput: true });
      const pattern = await (await session()).prompt(look("How many?"), { responseConstraint: /\d{2}-"(a|b)\\é🙂"/ });
      const pieces = [];
      for await (const piece of (await session()).promptStreaming(look("How many?"), { responseConstraint: /[0-9]{3}"\\é🙂/ })) pieces.push(piece);
      const flags = await outcome((await session()).prompt("x", { responseConstraint: /a/i }));
      const noConstraint = await outcome((await session()).prompt("x", { responseConstraint: "a" }));
      const whole = await (await session()).prompt(look("What do you see?"));
      const begun = whole.split(" ").slice(0, 3).join(" ");
      const one = await session();
      const rest = await one.prompt([...look("What do you see?"), { role: "assistant", content: begun, prefix: true }]);
      const two = await session();
      await two.append([...look("What do you see?"), { role: "assistant", content: whole }]);
      return {
        json, more: told.contextUsage - untold.contextUsage, pattern, pieces, flags: flags.name, noConstraint: noConstraint.name, whole, rest: begun + rest,
        kept: await one.prompt("How many are there?") === await two.prompt("How many are there?"),
      };
    });
    assert.ok(["red", "blue"].includes(seen.json.colour) && Number.isInteger(seen.json.n));
    assert.ok(seen.more > 5, `${seen.more} tokens of schema`);
    assert.match(seen.pattern, /^\d{2}-"(a|b)\\é🙂"$/);
    assert.match(seen.pieces.join(""), /^[0-9]{3}"\\é🙂$/);
    assert.ok(seen.pieces.every((piece) => piece.isWellFormed()));
    assert.deepEqual([seen.flags, seen.noConstraint], ["NotSupportedError", "TypeError"]);
    assert.equal(seen.rest, seen.whole);
    assert.equal(seen.kept, true);
  });

  test("what is stopped ends at once and leaves the conversation as it was", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, look, greedy, outcome } = globalThis;
      const session = await Ours.create(greedy);
      const first = await session.prompt(look("What do you see?"));
      const usage = await session.measureContextUsage("x");
      const stop = new AbortController();
      const stopped = outcome(session.prompt("What can you do?", { signal: stop.signal }));
      const queued = session.prompt("How many are there?");
      stop.abort();
      const reader = session.promptStreaming("What can you do?").getReader();
      await reader.read();
      await reader.cancel();
      const other = await Ours.create(greedy);
      await other.append([...look("What do you see?"), { role: "assistant", content: first }]);
      const same = await queued === await other.prompt("How many are there?");
      const waiting = outcome(session.prompt("What can you do?"));
      session.destroy();
      const early = await outcome(other.prompt("x", { signal: AbortSignal.abort() }));
      const cancelled = new AbortController();
      const creating = outcome(Ours.create({ signal: AbortSignal.abort() }));
      cancelled.abort();
      return {
        stopped: (await stopped).name, same, usage, waiting: (await waiting).name, after: (await outcome(session.prompt("x"))).name, streamed: (await outcome(session.promptStreaming("x").getReader().read())).name,
        early: early.name, creating: (await creating).name, clone: (await outcome(session.clone())).name, alive: (await other.prompt("What can you do?")).length > 0,
      };
    });
    assert.deepEqual([seen.stopped, seen.waiting, seen.after, seen.streamed], ["AbortError", "AbortError", "InvalidStateError", "InvalidStateError"]);
    assert.equal(seen.same, true, "the conversation without what was stopped");
    assert.deepEqual([seen.early, seen.creating, seen.clone, seen.alive], ["AbortError", "AbortError", "InvalidStateError", true]);
  });

  test("wrong input is refused with the errors of the specification", async () => {
    const names = await page.evaluate(async () => {
      const { Ours, outcome, greedy } = globalThis;
      const session = await Ours.create(greedy);
      const name = async (promise) => (await outcome(promise)).name;
      return {
        audio: await name(session.prompt([{ role: "user", content: [{ type: "audio", value: new Blob() }] }])), number: await name(session.prompt(7)), role: await name(session.prompt([{ role: "wizard", content: "x" }])),
        system: await name(session.prompt([{ role: "user", content: "x" }, { role: "system", content: "x" }])), part: await name(session.prompt([{ role: "user", content: [{ type: "video", value: 1 }] }])),
        prefix: await name(session.prompt([{ role: "user", content: "x", prefix: true }])), assistantPicture: await name(session.prompt([{ role: "assistant", content: [{ type: "image", value: globalThis.picture }] }])),
        picture: await name(session.prompt([{ role: "user", content: [{ type: "image", value: new Blob(["no picture"]) }] }])), noPicture: await name(session.prompt([{ role: "user", content: [{ type: "image", value: 7 }] }])),
        output: await name(Ours.create({ expectedOutputs: [{ type: "image" }] })), temperature: await name(Ours.create({ temperature: -1 })), initial: await name(Ours.create({ initialPrompts: "x" })).then((found) => found ?? "taken"),
      };
    });
    assert.deepEqual(names, {
      audio: "NotSupportedError", number: "TypeError", role: "TypeError", system: "TypeError", part: "TypeError", prefix: "SyntaxError", assistantPicture: "NotSupportedError",
      picture: "EncodingError", noPicture: "NotSupportedError", output: "NotSupportedError", temperature: "RangeError", initial: "taken",
    });
  });

  test("a conversation that grows too long forgets its oldest turns, and says so", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, installLanguageModel, options, outcome, greedy, site } = globalThis;
      const { createEngine } = await import(`${site}llava-web.js`);
      const engine = await createEngine({ ...options, contextSize: 200 });
      installLanguageModel(engine, { prefer: true });
      const session = await Ours.create({ ...greedy, initialPrompts: [{ role: "system", content: "Answer questions." }] });
      const events = [];
      session.addEventListener("contextoverflow", () => events.push("contextoverflow"));
      session.onquotaoverflow = () => events.push("quotaoverflow");
      const usages = [];
      for (let i = 0; i < 12 && events.length === 0; i++) {
        await session.prompt("What can you do? Tell me all about it, please, at some length.");
        usages.push(session.contextUsage);
      }
      const long = await outcome(session.prompt("many words ".repeat(100)));
      const initial = await outcome(Ours.create({ initialPrompts: [{ role: "user", content: "many words ".repeat(100) }] }));
      const pictures = await Ours.availability({ expectedInputs: [{ type: "image" }] });
      await engine.unload();
      return { events, usages, long, initial: initial.name, pictures, window: session.contextWindow, handler: typeof session.onquotaoverflow };
    });
    assert.equal(seen.window, 200);
    assert.deepEqual(seen.events, ["contextoverflow", "quotaoverflow"]);
    assert.ok(seen.usages.length > 1 && seen.usages.every((usage) => usage <= 200), JSON.stringify(seen.usages));
    assert.deepEqual([seen.long.name, seen.initial, seen.pictures, seen.handler], ["QuotaExceededError", "QuotaExceededError", "available", "function"]);
  });

  test("tools are executed with what the model asks for, and answered from", async () => {
    const seen = await page.evaluate(async () => {
      const { Ours, installLanguageModel, options, outcome, greedy, site } = globalThis;
      const { createEngine } = await import(`${site}llava-web.js`);
      const engine = await createEngine(options);
      const asked = [];
      // The house model does not call of its own accord: the first answer of each prompt must.
      installLanguageModel({
        info: engine.info, countTokens: (...given) => engine.countTokens(...given),
        chat: { completions: { create: (request) => {
          asked.push(request.messages.map(({ role }) => role));
          return engine.chat.completions.create({ ...request, ...(request.messages.at(-1).role === "user" && { tool_choice: "required", parallel_tool_calls: false }) });
        } } },
      }, { prefer: true });
      const inputs = [];
      const weather = { name: "weather", description: "The weather.", inputSchema: { type: "object", properties: { town: { enum: ["Bonn", "Ulm"] } }, required: ["town"] } };
      const session = await Ours.create({ ...greedy, tools: [{ ...weather, execute: async (input) => inputs.push(input) && { sky: "grey" } }] });
      const text = await session.prompt("How is the weather?");
      const next = await (await session.clone()).prompt("And now?");
      const wrong = await Ours.create({ ...greedy, tools: [{ ...weather, execute: () => { throw new RangeError("no weather today"); } }] });
      const failed = await outcome(wrong.prompt("How is the weather?"));
      const refused = [{}, { ...weather }, { ...weather, execute: 7 }, { ...weather, inputSchema: "x", execute() {} }].map((tool) => outcome(Ours.create({ tools: [tool] })));
      const usage = session.contextUsage;
      await engine.unload();
      return { text, next, inputs, asked, failed, refused: (await Promise.all(refused)).map(({ name }) => name), usage };
    });
    assert.equal(seen.inputs.length, 2);
    assert.ok(seen.inputs.every(({ town }) => ["Bonn", "Ulm"].includes(town)), JSON.stringify(seen.inputs));
    assert.deepEqual(seen.asked.slice(0, 2), [["user"], ["user", "assistant", "tool"]]);
    assert.ok(typeof seen.text === "string" && typeof seen.next === "string" && seen.usage > 0);
    assert.deepEqual(seen.failed, { name: "RangeError", message: "no weather today" });
    assert.deepEqual(seen.refused, Array(4).fill("TypeError"));
  });
});
