// The page as a visitor finds it, with the model that comes with it: what it answers, on every backend, offline, in two tabs, by keyboard, on
// a phone. The answers are checked, not only that there are some.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { cosine, openTab, QUICK_SWIFTSHADER, SCREENSHOTS, settled, start, withoutEngine, WWW } from "./support.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const example = (name) => path.join(WWW, "examples", name);

const VIEWS = [
  { name: "390-light", viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true },
  { name: "390-dark", viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true },
  { name: "1280-light", viewport: { width: 1280, height: 800 }, colorScheme: "light" },
  { name: "1280-dark", viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
];

const question = (page) => page.getByRole("textbox", { name: "Your question" });
const answers = (page) => page.locator(".answer");
const sample = (page, words) => page.getByRole("list", { name: "Example pictures" }).getByRole("button", { name: words });

/** What is answered to the question just asked, the `n`th. */
async function answer(page, n) {
  await page.locator(".turn .note").nth(n).filter({ hasText: "tokens in" }).waitFor();
  return (await answers(page).nth(n).textContent()).trim();
}
async function ask(page, text) {
  const n = await answers(page).count();
  await question(page).fill(text);
  await question(page).press("Enter");
  return answer(page, n);
}
async function attach(page, file) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Picture", exact: true }).click();
  await (await chooser).setFiles(file);
}

describe("the page with its own model", { skip: withoutEngine }, () => {
  let host;
  before(async () => {
    host = await start();
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(() => host?.close());

  const visit = (name, use, options = {}) => test(name, { timeout: 120_000 }, async () => {
    const tab = await openTab(host.browser, options);
    tab.page.setDefaultTimeout(20_000);
    try {
      await tab.page.goto(host.site);
      await question(tab.page).waitFor();
      await use(tab.page, tab);
      assert.deepEqual(tab.complaints, []);
      assert.deepEqual(tab.requests.filter((url) => !url.startsWith(host.server.origin) && !/^(blob|data):/.test(url)), []);
    } finally {
      await tab.close();
    }
  });

  visit("a first visit: three pictures to click, and the answers are right", async (page) => {
    await page.getByText(/recognizes drawings of everyday objects, shapes and colors/).waitFor();
    // Beside it, what is for photographs: its size, its licence, and how fast it will be, which is measured with the model that is loaded.
    const offer = page.getByRole("region", { name: "For photographs: SmolVLM 256M" });
    await offer.getByText(/279 MB to download · .* · (fast here: first words within 4 s|first words within about \d+ s here|slow here: .*) · license: Apache-2\.0/).waitFor();
    await offer.getByRole("button", { name: "Load SmolVLM 256M" }).waitFor();
    await offer.getByRole("button", { name: "More models" }).waitFor();
    await sample(page, /Is there a dog/).click();
    assert.equal(await answer(page, 0), "Yes, there is a dog in the picture.");
    // The pictures make room for the conversation, and come back with a new one.
    assert.equal(await sample(page, /Is there a banana/).isVisible(), false);
    await page.getByRole("button", { name: "New conversation" }).click();
    await sample(page, /Is there a banana/).click();
    assert.match(await answer(page, 0), /^Yes, there .*\bbananas?\b/);
    await page.getByRole("button", { name: "New conversation" }).click();
    // Pressed twice it is asked once, and what is being written stays.
    await question(page).fill("a draft");
    await sample(page, /What color is the bus/).dblclick();
    assert.equal(await answer(page, 0), "The bus is yellow.");
    assert.deepEqual(await page.locator(".question").allTextContents(), ["What color is the bus?"]);
    assert.equal(await page.locator(".thumb").count(), 0);
    assert.equal(await question(page).inputValue(), "a draft");
  });

  visit("a conversation: what is there and what is not, a word looked at, stopped and asked again", async (page) => {
    await attach(page, example("pets.png"));
    assert.match(await ask(page, "Is there a bus?"), /^No\b/);
    assert.match(await ask(page, "What color is the balloon?"), /\bred\b/i);
    await page.getByRole("button", { name: "Ask again" }).click();
    await page.waitForFunction(() => /red/.test(document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer")[1].textContent));
    await answer(page, 1);
    await page.getByRole("button", { name: "Where the model looked", exact: true }).nth(1).click();
    await page.locator(".word").filter({ hasText: "red" }).click();
    await page.getByRole("img", { name: /^Where the model looked before/ }).waitFor();
    await page.screenshot({ path: path.join(SCREENSHOTS, "house-looked-at.png") });
  });

  visit("by keyboard alone", async (page) => {
    const active = () => page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement?.textContent);
    // The question has the focus; the pictures are before it.
    for (let i = 0; i < 20 && !/Is there a dog/.test(await active() ?? ""); i++) await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    assert.match(await answer(page, 0), /^Yes\b/);
    await page.keyboard.type("Is there a cat?");
    await page.keyboard.press("Enter");
    assert.match(await answer(page, 1), /^Yes\b/);
  });

  visit("kept: without the host the page still has its model; its deletion is told, and it is fetched again", async (page) => {
    const stored = await page.evaluate(async () => {
      const { listCachedModels } = await import(new URL("llava-web.js", location.href).href);
      return (await listCachedModels()).map(({ name, complete }) => [name, complete]);
    });
    assert.deepEqual(stored.sort(), [["house-mmproj.gguf", true], ["house.gguf", true]]);
    await page.route("**/*.gguf", (route) => route.abort());
    await page.reload();
    await sample(page, /Is there a banana/).click();
    assert.match(await answer(page, 0), /^Yes\b/);
    await page.unroute("**/*.gguf");
    // A second tab takes the same files meanwhile.
    const second = await page.context().newPage();
    await second.goto(host.site);
    await sample(second, /What color is the bus/).click();
    assert.match(await answer(second, 0), /\byellow\b/i);
    await second.close();

    await page.getByRole("button", { name: "Change model" }).click();
    for (const name of ["house.gguf", "house-mmproj.gguf"]) {
      await page.getByRole("button", { name: `Delete ${name}`, exact: true }).click();
      await page.getByRole("button", { name: `Delete ${name} from this device` }).click();
      await page.getByRole("button", { name: `Use ${name}`, exact: true }).waitFor({ state: "detached" });
    }
    await page.getByRole("region", { name: "On this device" }).waitFor({ state: "hidden" });
    await page.reload();
    await sample(page, /What color is the bus/).click();
    assert.match(await answer(page, 0), /\byellow\b/i);
  });

  visit("a link that names a model does not load this one", async (page) => {
    await page.goto(`${host.site}?model=hf:owner/repo/file.gguf`);
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    assert.equal(await page.getByRole("textbox", { name: "Language model" }).inputValue(), "hf:owner/repo/file.gguf");
    await page.getByText("From the link you opened: the files would be downloaded from huggingface.co.").waitFor();
    await page.getByRole("button", { name: "Load Built-in mini model" }).click();
    await sample(page, /Is there a dog/).waitFor();
  });

  visit("a conversation that is kept brings its own model back", async (page) => {
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByRole("checkbox", { name: /Save the conversation and its pictures/ }).check();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Change model" }).click();
    const other = `${host.server.origin}/golden/tiny-llava/tiny-llava-f16.gguf`;
    await page.getByRole("textbox", { name: "Language model" }).fill(other);
    await page.getByRole("textbox", { name: "Vision file" }).fill("");
    await page.getByRole("button", { name: "Load model" }).click();
    await question(page).fill("Hello");
    await question(page).press("Enter");
    await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".answer")?.textContent.length > 10);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
    const name = await page.evaluate(() => document.querySelector("llava-chat").engine.info.name);
    await page.reload();
    await answers(page).first().waitFor();
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").engine.info.name), name);

    // Not kept by this browser any more, it is fetched for nobody who did not ask.
    await page.evaluate(async (url) => (await import(new URL("llava-web.js", location.href).href)).deleteCachedModel(url), other);
    const count = host.server.requests.length;
    await page.reload();
    await page.getByText(/which is no longer stored in this browser/).waitFor();
    assert.equal(await page.getByRole("textbox", { name: "Language model" }).inputValue(), other);
    assert.deepEqual(host.server.requests.slice(count).filter(({ url }) => url.includes(".gguf")), []);
  });

  test("the same answers on WebGPU as on the CPU", { timeout: 240_000 }, async (t) => {
    const gpu = await start({ flags: QUICK_SWIFTSHADER });
    try {
      const { page } = await openTab(gpu.browser);
      await page.goto(`${gpu.server.origin}/tests/blank.html`);
      // The CPU multiplies what it has rounded to eight bits, so an answer may turn where two tokens are all but equally likely: the
      // likelihoods are compared, too.
      const asked = {
        pets: ["What is in this picture?", "Is there a bus?", "What color is the balloon?"],
        fruit: ["Is there a banana?", "How many apples are there?"],
        travel: ["Where is the airplane?"],
      };
      const { said, logits } = await page.evaluate(async ([site, asked]) => {
        const { createEngine } = await import(new URL("llava-web.js", site).href);
        const [said, logits] = [{}, {}];
        for (const device of ["cpu", "webgpu"]) {
          const engine = await createEngine({ model: new URL("models/house.gguf", site).href, mmproj: new URL("models/house-mmproj.gguf", site).href, device });
          said[device] = [engine.info.device.kind];
          logits[device] = [];
          for (const [picture, questions] of Object.entries(asked)) {
            const image = await (await fetch(new URL(`examples/${picture}.png`, site))).blob();
            const messages = (text) => [{ role: "user", content: [{ type: "image", image }, { type: "text", text }] }];
            for (const text of questions) {
              const reply = await engine.chat.completions.create({ messages: messages(text), temperature: 0, max_tokens: 60 });
              said[device].push(reply.choices[0].message.content);
            }
            const prompt = await engine.applyChatTemplate(messages("What is in this picture?"));
            for (const begun of ["", "I see a dog, a dog"]) {
              logits[device].push([...(await engine.evaluate({ prompt: prompt + begun, images: [image] })).logits]);
            }
          }
          engine.unload();
        }
        return { said, logits };
      }, [gpu.site, asked]);
      const cosines = logits.cpu.map((ours, i) => cosine(ours, logits.webgpu[i]));
      t.diagnostic(`cosines ${cosines.map((c) => c.toFixed(5))}`);
      assert.equal(cosines.length, 6);
      assert.ok(Math.min(...cosines) > 0.999, `${cosines}`);
      t.diagnostic(JSON.stringify(said));
      assert.deepEqual([said.cpu.shift(), said.webgpu.shift()], ["cpu", "webgpu"]);
      assert.deepEqual(said.webgpu, said.cpu);
    } finally {
      await gpu.close();
    }
  });

  for (const { name, ...options } of VIEWS) {
    visit(`at ${name}: nothing overflows, no accessibility rule is broken; screenshots`, async (page) => {
      const check = async (state) => {
        await settled(page);
        await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${state}.png`) });
        const found = await page.evaluate(async (axe) => {
          globalThis.axe ?? Function(axe)();
          const { violations } = await globalThis.axe.run(document);
          return { overflows: document.documentElement.scrollWidth > innerWidth, violations: violations.map(({ id, nodes }) => [id, nodes.length]) };
        }, axe);
        assert.deepEqual(found, { overflows: false, violations: [] }, state);
      };
      await check("17-house");
      await sample(page, /Is there a dog/).click();
      await answer(page, 0);
      await ask(page, "What color is the balloon?");
      await check("18-house-answers");
    }, options);
  }
});
