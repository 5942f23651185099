// Other families than LLaVA through the public module, in a browser: what the engine's own tests hold against the references, held against
// them once more where it is used; how finely pictures are looked at; sessions, answers in JSON, and where the model looked.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { cosine, goldenJson, goldenTensor, maxDifference, openTab, start, withoutEngine } from "./support.mjs";

/**
 * Each with a picture, how many tiles and rows it makes of it at each detail, and the grid that they lie in. `model` and `variant`: where the
 * language model is another family's, and which of a folder's vision files it is.
 */
const FAMILIES = [
  { name: "tiny-smolvlm", picture: "chelsea.png", tiles: 5, rows: 80, rowsOfOne: 16, shape: [8, 8] },
  { name: "tiny-internvl3", picture: "chelsea.png", tiles: 7, rows: 28, rowsOfOne: 4, shape: [4, 6] },
  { name: "tiny-lfm2vl", picture: "chelsea.png", tiles: 1, rows: 126, rowsOfOne: 126, shape: [9, 14] },
  { name: "tiny-qwen2vl", picture: "chelsea.png", tiles: 1, rows: 176, rowsOfOne: 176, shape: [11, 16] },
  { name: "tiny-mobilevlm", model: "tiny-llava", variant: "ldp", picture: "chelsea.png", tiles: 1, rows: 144, rowsOfOne: 144, shape: [12, 12] },
  { name: "tiny-mobilevlm", model: "tiny-llava", variant: "ldpv2", picture: "chelsea.png", tiles: 1, rows: 144, rowsOfOne: 144, shape: [12, 12] },
  { name: "tiny-gemma3", picture: "chelsea.png", tiles: 1, rows: 16, rowsOfOne: 16, shape: [4, 4] },
];

for (const { name, model = name, variant = "", picture, tiles, rows, rowsOfOne, shape } of FAMILIES) {
  describe(`the family of ${name}${variant && ` (${variant})`}`, { skip: withoutEngine }, () => {
    let host;
    let tab;
    let page;
    const expected = () => goldenJson(`${name}/expected.json`);
    const prompt = () => (expected().prompts?.one ?? expected().prompt).replace("{image}", "<image>");

    before(async () => {
      host = await start();
      tab = await openTab(host.browser);
      page = tab.page;
      await page.goto(`${host.server.origin}/tests/blank.html`);
      await page.evaluate(async ({ site, origin, model, mmproj, picture }) => {
        const api = await import(`${site}llava-web.js`);
        const load = (format) => api.createEngine({
          model: `${origin}/golden/${model}/${model}-${format}.gguf`, mmproj: `${origin}/golden/${mmproj}`, device: "cpu",
        });
        Object.assign(globalThis, {
          api, load, engine: await load("f16"),
          image: await (await fetch(`${origin}/golden/images/${picture}`)).blob(),
          ask: (engine, more = {}, detail) => engine.chat.completions.create({
            messages: [{ role: "user", content: [{ type: "image", image: globalThis.image, detail }, { type: "text", text: "What is this?" }] }],
            temperature: 0, max_tokens: 6, ...more,
          }),
        });
      }, { site: host.site, origin: host.server.origin, model, mmproj: `${name}/mmproj-${variant && `${variant}-`}f16.gguf`, picture });
    });

    after(async () => {
      const complaints = tab?.complaints.filter((text) => !text.includes("Failed to load resource")) ?? [];
      await host?.close();
      assert.deepEqual(complaints, []);
    });

    test("rows and logits are the reference's", async () => {
      const got = await page.evaluate(async (prompt) => {
        const { data } = await globalThis.engine.embedImage(globalThis.image);
        const { logits } = await globalThis.engine.evaluate({ prompt, images: [globalThis.image] });
        return { rows: [...data], logits: [...logits] };
      }, prompt());
      const of = picture.replace(".png", variant && `.${variant}`);
      const rowsOfReference = goldenTensor(`${name}/expected.safetensors`, `${of}.embeds`);
      assert.ok(cosine(got.rows, rowsOfReference) > 0.9999);
      const logits = goldenTensor(`${name}/expected.safetensors`, `${of}.f16.hf.logits`);
      // Keys and values of 16 bits: the bound of the reference data.
      assert.ok(maxDifference(got.logits, logits) < 0.03, `max ${maxDifference(got.logits, logits)}`);
      assert.ok(cosine(got.logits, logits) > 0.999);
    });

    test("a picture is looked at as finely as is asked for", async () => {
      const usages = await page.evaluate(async () => {
        const usages = {};
        for (const detail of [undefined, "high", "low", "auto", null]) usages[detail] = (await globalThis.ask(globalThis.engine, {}, detail)).usage;
        const url = await new Promise((resolve) => {
          const reader = new FileReader();
          reader.onload = () => resolve(reader.result);
          reader.readAsDataURL(globalThis.image);
        });
        const asUrl = await globalThis.engine.chat.completions.create({
          messages: [{ role: "user", content: [{ type: "image_url", image_url: { url, detail: "low" } }, { type: "text", text: "What is this?" }] }], max_tokens: 1,
        });
        return { ...usages, asUrl: asUrl.usage };
      });
      for (const detail of ["undefined", "high", "null"]) {
        assert.deepEqual([usages[detail].image_tiles, usages[detail].image_tokens], [tiles, rows], detail);
      }
      for (const low of [usages.low, usages.asUrl]) assert.deepEqual([low.image_tiles, low.image_tokens], [1, rowsOfOne]);
      // A model this small is fast anywhere.
      assert.deepEqual([usages.auto.image_tiles, usages.auto.image_tokens], [tiles, rows]);
      const failure = await page.evaluate(() => globalThis.ask(globalThis.engine, {}, "finest").then(() => null, ({ code, message }) => ({ code, message })));
      assert.equal(failure.code, "invalid_request");
      assert.match(failure.message, /detail is "finest".*"high", "low" or "auto"/);
    });

    test("where it looked is laid over the grid of tiles", async () => {
      const looked = await page.evaluate(async () => {
        const reply = await globalThis.ask(globalThis.engine, { logprobs: true });
        return globalThis.engine.lookedAt({ position: reply.usage.prompt_tokens + 1 });
      });
      assert.equal(looked.images.length, 1);
      assert.deepEqual([...looked.images[0].shape], shape);
    });

    test("a follow-up finds the picture again, also in another engine that takes over the session", async () => {
      const { first, again, restored } = await page.evaluate(async () => {
        const { engine } = globalThis;
        const first = await globalThis.ask(engine);
        const session = await engine.saveSession();
        const again = await globalThis.ask(engine);
        const other = await globalThis.load("f16");
        await other.restoreSession(session);
        const restored = await globalThis.ask(other);
        await other.unload();
        return { first, again, restored };
      });
      for (const reply of [again, restored]) {
        assert.deepEqual(reply.choices[0].message.content, first.choices[0].message.content);
        assert.ok(reply.usage.cached_tokens >= reply.usage.prompt_tokens - 1, JSON.stringify(reply.usage));
        assert.equal(reply.usage.image_ms, 0);
      }
    });

    test("an answer in JSON, of several pictures, and of none", async () => {
      const texts = await page.evaluate(async () => {
        const json = await globalThis.ask(globalThis.engine, { response_format: { type: "json_schema", json_schema: { schema: { enum: ["cat", "cup"] } } }, max_tokens: 20 });
        const two = await globalThis.engine.chat.completions.create({
          messages: [{ role: "user", content: [{ type: "image", image: globalThis.image, detail: "low" }, { type: "image", image: globalThis.image }, { type: "text", text: "Compare." }] }],
          temperature: 0, max_tokens: 3,
        });
        const none = await globalThis.engine.chat.completions.create({ messages: [{ role: "user", content: "Hello" }], temperature: 0, max_tokens: 3 });
        return { json: json.choices[0].message.content, two: two.usage, none: none.usage };
      });
      assert.match(texts.json, /^\s*"(cat|cup)"$/);
      assert.deepEqual([texts.two.image_tiles, texts.two.image_tokens], [tiles + 1, rows + rowsOfOne]);
      assert.equal(texts.none.image_tokens, 0);
    });
  });
}
