// The page and the element, used as a person uses them: through what is seen and named.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { storedIs } from "./stand-in.mjs";
import { golden, openTab, SCREENSHOTS, settled, start, withoutEngine } from "./support.mjs";

const MODEL = "tiny-llava/tiny-llava-f16.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const VIEWS = [
  { name: "390-light", viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true },
  { name: "390-dark", viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true },
  { name: "1280-light", viewport: { width: 1280, height: 800 }, colorScheme: "light" },
  { name: "1280-dark", viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  { name: "1920-light", viewport: { width: 1920, height: 1080 }, colorScheme: "light" },
];

const question = (page) => page.getByRole("textbox", { name: "Your question" });
const answers = (page) => page.locator(".answer");
const loadButton = (page) => page.getByRole("button", { name: "Load model" });

/** Chooses both files at once, through the file chooser. */
async function chooseModel(page, files = [MODEL, MMPROJ]) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Language model: choose file" }).click();
  await (await chooser).setFiles(files.map(golden));
}

async function attach(page, file) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Picture", exact: true }).click();
  await (await chooser).setFiles(file);
}

async function loadModel(page) {
  await chooseModel(page);
  await loadButton(page).click();
  await question(page).waitFor();
}

/** Asks, and lets a few words come before the answer is stopped: random weights rarely end one. */
async function askAndStop(page, text, length = 10) {
  const count = await answers(page).count();
  await question(page).fill(text);
  await question(page).press("Enter");
  await page.waitForFunction(([n, length]) => {
    const all = document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer");
    return all.length === n + 1 && all[n].textContent.length > length;
  }, [count, length]);
  // It may have come to its end by itself.
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
}

describe("the page", { skip: withoutEngine }, () => {
  let host;
  before(async () => {
    host = await start({ given: [/\/nothing\/here\.gguf$/] });
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(() => host?.close());

  /** A tab with the page; at the end nothing may have complained, and nobody else may have been asked for anything. */
  const visit = (name, options, use) => test(name, async () => {
    const tab = await openTab(host.browser, options);
    try {
      await tab.page.goto(host.chooser);
      await tab.page.getByRole("heading", { name: "Load a model" }).waitFor();
      await use(tab.page, tab);
      assert.deepEqual(tab.complaints, []);
      const foreign = tab.requests.filter((url) => !url.startsWith(host.server.origin) && !/^(blob|data):/.test(url));
      assert.deepEqual(foreign, []);
    } finally {
      await tab.close();
    }
  });

  visit("loads nothing before it is asked to", {}, async (page, { requests }) => {
    // What the page does by itself is done once the list of models is there, which asks for the device and for what is stored.
    await page.getByRole("button", { name: "Load Built-in mini model" }).waitFor();
    assert.ok(requests.every((url) => !/\/pkg|\.gguf|\/worker\.js/.test(url)), requests.join("\n"));
    assert.ok(await loadButton(page).isDisabled());
  });

  visit("kept on wish with its session: after a reload nothing is computed again, and where it looked is still seen", {}, async (page) => {
    const usages = () => page.evaluate(() => globalThis.usages);
    const listen = () => page.evaluate(() => {
      globalThis.usages = [];
      document.querySelector("llava-chat").addEventListener("llava-message", ({ detail }) => detail.usage && globalThis.usages.push(detail.usage));
    });
    await listen();
    await loadModel(page);
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByRole("checkbox", { name: /Save the conversation and its pictures/ }).check();
    await page.keyboard.press("Escape");
    await attach(page, golden("images/astronaut.jpg"));
    await askAndStop(page, "What is in this picture?", 40);
    const [first] = await usages();
    // A word of noise, chosen with the pointer; then the button.
    const looked = page.getByRole("button", { name: "Where the model looked", exact: true });
    const words = page.locator(".word");
    const map = page.getByRole("img", { name: /^Where the model looked before/ });
    await looked.click();
    await words.nth(1).click();
    await map.waitFor();
    const before = await map.locator("canvas").evaluate((canvas) => canvas.toDataURL());
    await page.locator(".heat-legend").getByText(/% of its attention was on the picture/).waitFor();
    await page.screenshot({ path: path.join(SCREENSHOTS, "looked-at.png") });
    await looked.click();
    assert.equal(await map.count(), 0);
    // It is stored behind the answer.
    await storedIs(page, ({ sessions }) => sessions[0] > 1000);

    await page.reload();
    await listen();
    await loadModel(page);
    await answers(page).first().waitFor();
    await looked.click();
    await words.nth(1).click();
    await map.waitFor();
    assert.equal(await map.locator("canvas").evaluate((canvas) => canvas.toDataURL()), before, "the same map");
    await askAndStop(page, "And what else?");
    const [second] = await usages();
    assert.ok(second.cached_tokens >= first.prompt_tokens && second.image_ms === 0, JSON.stringify({ first, second }));
  });

  visit("a conversation: load, attach, ask, stop, ask on, ask again, begin anew", {}, async (page) => {
    await chooseModel(page);
    await page.getByText("tiny-llava-f16.gguf").waitFor();
    await page.getByText("mmproj-legacy-f16.gguf").waitFor();
    await loadButton(page).click();
    await question(page).waitFor();
    assert.equal(await question(page).evaluate((node) => node.getRootNode().activeElement === node), true, "the question has the focus");
    await page.getByText("CPU, 1 thread").waitFor();

    await attach(page, golden("images/astronaut.jpg"));
    await page.getByText("astronaut.jpg").waitFor();
    await page.getByRole("button", { name: "Remove the picture" }).click();
    assert.equal(await page.getByText("astronaut.jpg").count(), 0);
    await attach(page, golden("images/astronaut.jpg"));

    await question(page).fill("first line");
    await question(page).press("Shift+Enter");
    assert.equal(await question(page).inputValue(), "first line\n");
    await askAndStop(page, "What is in this picture?");
    const first = await answers(page).nth(0).textContent();
    assert.ok(first.length > 10);
    assert.equal(await page.getByRole("img", { name: /astronaut\.jpg/ }).count(), 1);
    await page.getByText(/tokens\/s/).waitFor();

    await askAndStop(page, "And what else?");
    assert.equal(await answers(page).count(), 2);
    assert.equal(await answers(page).nth(0).textContent(), first, "the first answer stayed");
    const { roles, parts } = await page.evaluate(() => {
      const { messages } = document.querySelector("llava-chat");
      return { roles: messages.map(({ role }) => role), parts: messages[0].content.map(({ type }) => type) };
    });
    assert.deepEqual(roles, ["user", "assistant", "user", "assistant"]);
    assert.deepEqual(parts, ["image", "text"]);

    await page.getByRole("button", { name: "Ask again" }).click();
    await page.waitForFunction(() => [...document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer")].at(-1).textContent.length > 10);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
    assert.equal(await answers(page).count(), 2);
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").messages.length), 4);

    await page.getByRole("button", { name: "New conversation" }).click();
    assert.equal(await answers(page).count(), 0);
    await page.getByRole("button", { name: /Add a picture/ }).waitFor();
  });

  visit("text appears while it is generated", {}, async (page) => {
    await loadModel(page);
    await page.evaluate(() => {
      const root = document.querySelector("llava-chat").shadowRoot;
      const log = root.querySelector(".log");
      new MutationObserver(() => {
        const answers = root.querySelectorAll(".answer");
        const length = answers[answers.length - 1]?.textContent.length;
        if (answers.length === globalThis.asked && length > 0) globalThis.lengths.add(length);
      }).observe(log, { subtree: true, childList: true, characterData: true });
    });
    const seen = [];
    // So small a model writes a short answer within a frame or two.
    for (let tries = 0; tries < 6 && !(seen.at(-1) > 3); tries++) {
      await page.evaluate((asked) => Object.assign(globalThis, { asked, lengths: new Set() }), tries + 1);
      await question(page).fill("Tell me something");
      await question(page).press("Enter");
      await page.waitForFunction((n) => {
        const root = document.querySelector("llava-chat").shadowRoot;
        const all = root.querySelectorAll(".answer");
        return all.length === n && (all[n - 1].textContent.length > 1200 || root.querySelector("[part~=ask]")?.checkVisibility());
      }, tries + 1);
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
      seen.push(await page.evaluate(() => globalThis.lengths.size));
    }
    assert.ok(seen.at(-1) > 3, `${seen} different lengths`);
  });

  visit("what goes wrong is said in a sentence, and can be put right", {}, async (page) => {
    const alert = page.getByRole("alert");
    // Something that is no model.
    await chooseModel(page, ["images/small.safetensors"]);
    await alert.getByText("is not a GGUF file").waitFor();
    await page.getByRole("button", { name: "Close this message" }).click();

    // The two addresses swapped.
    const [model, mmproj] = [MODEL, MMPROJ].map((name) => `${host.server.origin}/golden/${name}`);
    await page.getByRole("textbox", { name: "Language model" }).fill(mmproj);
    await page.getByRole("textbox", { name: "Vision file" }).fill(model);
    await loadButton(page).click();
    await page.getByRole("button", { name: "Swap the two files" }).click();
    assert.equal(await page.getByRole("textbox", { name: "Language model" }).inputValue(), model);

    // Cancelled.
    await page.getByRole("textbox", { name: "Language model" }).fill(`${model}?rate=300000`);
    await loadButton(page).click();
    await page.getByRole("button", { name: "Cancel" }).click();
    await loadButton(page).waitFor();
    assert.equal(await alert.isVisible(), false);

    await page.getByRole("textbox", { name: "Language model" }).fill(model);
    await loadButton(page).click();
    await question(page).waitFor();

    // A picture that is none.
    await attach(page, { name: "holiday.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no picture at all") });
    await alert.getByText("“holiday.jpg” could not be opened as a picture").waitFor();

    // Too long a question stays where it was asked, and the next one is answered.
    const long = "many words ".repeat(3000);
    await question(page).fill(long);
    await question(page).press("Enter");
    const failed = page.locator(".turn").first();
    await failed.getByRole("alert").getByText(/context/).waitFor();
    assert.equal(await failed.locator(".question").textContent(), long.trim());
    await askAndStop(page, "Something shorter");
    assert.equal(await failed.getByRole("button", { name: "Try again" }).isVisible(), false, "an answer came after it");
    assert.deepEqual(await page.evaluate(() => document.querySelector("llava-chat").messages.map(({ content }) => content)).then(([first]) => first), "Something shorter");
  });

  visit("a missing file is named", {}, async (page, { complaints }) => {
    await page.getByRole("textbox", { name: "Language model" }).fill("nothing/here.gguf");
    await loadButton(page).click();
    await page.getByRole("alert").getByText(/nothing\/here\.gguf answered with status 404/).waitFor();
    // The browser's own line about the missing file.
    complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("404")));
  });

  visit("dropped and pasted", {}, async (page) => {
    const dropOn = (files) => page.evaluate(async (files) => {
      const data = new DataTransfer();
      for (const [name, type, url] of files) data.items.add(new File([await (await fetch(url)).blob()], name, { type }));
      const target = document.querySelector("llava-chat").shadowRoot.querySelector(".shell > section:not([hidden]) *");
      for (const type of ["dragenter", "dragover", "drop"]) target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, composed: true, cancelable: true }));
    }, files);
    await dropOn([["m.gguf", "", `/golden/${MODEL}`], ["mmproj.gguf", "", `/golden/${MMPROJ}`]]);
    await page.getByText("mmproj.gguf").waitFor();
    await loadButton(page).click();
    await question(page).waitFor();
    await dropOn([["cat.png", "image/png", "/golden/images/chelsea.png"]]);
    await page.getByText("cat.png").waitFor();
    await page.getByRole("button", { name: "Remove the picture" }).click();
    await page.evaluate(async () => {
      const data = new DataTransfer();
      data.items.add(new File([await (await fetch("/golden/images/chelsea.png")).blob()], "pasted.png", { type: "image/png" }));
      document.querySelector("llava-chat").shadowRoot.querySelector("textarea").dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, composed: true, cancelable: true }));
    });
    await page.getByText("pasted.png").waitFor();
  });

  visit("the element: attributes, properties, events, autoload", {}, async (page) => {
    const seen = await page.evaluate(async ([model, mmproj]) => {
      document.body.replaceChildren();
      const chat = document.createElement("llava-chat");
      const events = [];
      for (const name of ["llava-ready", "llava-progress", "llava-message", "llava-error"]) {
        document.body.addEventListener(name, ({ detail }) => events.push([name, detail.role ?? detail.code ?? detail.info?.quantization ?? detail.stage]));
      }
      chat.model = model;
      chat.setAttribute("mmproj", mmproj);
      chat.prompt = "Describe this image";
      chat.system = "Be brief.";
      document.body.append(chat);
      // Without "autoload" nothing begins: one that has it, put in after this one, is ready meanwhile.
      const control = document.createElement("llava-chat");
      control.model = model;
      control.autoload = true;
      const isReady = new Promise((resolve) => control.addEventListener("llava-ready", (event) => resolve(event.stopPropagation())));
      control.addEventListener("llava-progress", (event) => event.stopPropagation());
      document.body.append(control);
      await isReady;
      control.remove();
      const before = { events: events.length, engine: chat.engine, reflected: chat.getAttribute("model") === model && chat.mmproj === mmproj };
      chat.remove();
      chat.autoload = true;
      document.body.append(chat);
      await new Promise((resolve) => document.body.addEventListener("llava-ready", resolve, { once: true }));
      const text = chat.shadowRoot.querySelector("textarea").value;
      const picture = await (await fetch("/golden/images/astronaut.jpg")).blob();
      const asking = chat.ask(text, picture);
      // Until there is a word of it, or it has come to its end by itself.
      await Promise.race([asking, new Promise((resolve) => new MutationObserver((_, observer) => {
        if (chat.shadowRoot.querySelector(".answer")?.textContent) resolve(observer.disconnect());
      }).observe(chat.shadowRoot, { subtree: true, childList: true, characterData: true }))]);
      chat.stop();
      const answer = await asking;
      const attribute = chat.hasAttribute("autoload");
      const { engine } = chat;
      chat.remove();
      await null;
      const unloaded = await engine.tokenize("x").catch(({ code }) => code);
      return { before, text, answer, attribute, unloaded, events, names: [...new Set(events.map(([name]) => name))] };
    }, [`/golden/${MODEL}`, `/golden/${MMPROJ}`]);
    assert.deepEqual(seen.before, { events: 0, engine: null, reflected: true });
    assert.equal(seen.text, "Describe this image");
    assert.equal(seen.attribute, true);
    assert.equal(typeof seen.answer, "string");
    assert.equal(seen.unloaded, "invalid_request");
    assert.deepEqual(seen.names.sort(), ["llava-message", "llava-progress", "llava-ready"]);
    assert.deepEqual(seen.events.filter(([name]) => name === "llava-message").map(([, role]) => role), ["user", "assistant"]);
  });

  visit("by keyboard alone, and read from right to left", {}, async (page) => {
    await page.evaluate(() => document.documentElement.setAttribute("dir", "rtl"));
    await page.getByRole("textbox", { name: "Language model" }).focus();
    await page.keyboard.type(`/golden/${MODEL}`);
    await page.keyboard.press("Enter");
    await question(page).waitFor();
    await page.keyboard.type("Hello");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".answer")?.textContent.length > 5);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
    // A text-only model offers no picture.
    assert.equal(await page.getByRole("button", { name: "Picture", exact: true }).count(), 0);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  });

  /** Nothing overflows, targets are large enough, no accessibility rule is broken; leaves a screenshot. */
  const checked = async (page, name, state) => {
    await settled(page);
    await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${state}.png`) });
    const found = await page.evaluate(async (axe) => {
      globalThis.axe ?? Function(axe)();
      const { violations } = await globalThis.axe.run(document);
      const root = document.querySelector("llava-chat").shadowRoot;
      const small = [...root.querySelectorAll("button, input:not(.visually-hidden), textarea")]
        .filter((node) => node.checkVisibility())
        .map((node) => ({ node: node.className, ...node.getBoundingClientRect().toJSON() }))
        .filter(({ width, height }) => Math.min(width, height) < 40 || (height < 44 && width < 44));
      return {
        violations: violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`),
        small,
        // Also inside what scrolls on its own.
        outside: [...root.querySelectorAll("*")]
          .filter((node) => node.checkVisibility() && !node.closest(".visually-hidden, select, svg"))
          .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 || node.getBoundingClientRect().left < -1)
          .map((node) => node.className),
        overflow: document.documentElement.scrollWidth - innerWidth,
      };
    }, axe).catch(async (error) => {
      throw new Error(`${state}: ${error.message}`);
    });
    assert.deepEqual(found, { violations: [], small: [], outside: [], overflow: 0 }, state);
  };

  for (const { name, ...options } of VIEWS) {
    visit(`at ${name}: nothing overflows, targets are large enough, no accessibility rule is broken; screenshots`, options, async (page) => {
      const check = (state) => checked(page, name, state);
      // What is offered comes in when it is known what this browser keeps.
      await page.getByRole("button", { name: "Load Built-in mini model" }).waitFor();
      await check("1-start");
      await chooseModel(page);
      await page.getByText("mmproj-legacy-f16.gguf").waitFor();
      await check("2-chosen");
      await loadButton(page).click();
      await question(page).waitFor();
      await check("3-ready");
      await attach(page, golden("images/astronaut.jpg"));
      await page.getByText("astronaut.jpg").waitFor();
      await check("4-attached");
      await askAndStop(page, "What is in this picture?");
      await page.locator(".turn .note").filter({ hasText: /\S/ }).waitFor();
      await check("5-answered");
      await question(page).fill("many words ".repeat(3000));
      await question(page).press("Enter");
      await page.getByRole("alert").waitFor();
      await check("6-error");
    });
  }

  const stored = (page) => page.getByRole("region", { name: "On this device" });
  const url = (name) => `${host.server.origin}/golden/${name}`;
  /** Loads from addresses, and goes back to the panel. */
  async function download(page, model, mmproj = "") {
    await page.getByRole("textbox", { name: "Language model" }).fill(model);
    await page.getByRole("textbox", { name: "Vision file" }).fill(mmproj);
    await loadButton(page).click();
    await question(page).waitFor();
    await page.getByRole("button", { name: "Change model" }).click();
    await stored(page).waitFor();
  }
  /** Breaks a slow download off. */
  async function downloadPartly(page, model) {
    await page.getByRole("textbox", { name: "Language model" }).fill(`${model}?rate=700000`);
    await loadButton(page).click();
    await page.getByText(/[1-3]\.\d+ MB of 5/).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await stored(page).waitFor();
  }

  visit("kept models, by keyboard: use, go on, delete", {}, async (page) => {
    assert.equal(await stored(page).count(), 0);
    const model = `${url(MODEL)}?kept`;
    await download(page, model, url(MMPROJ));
    await page.reload();
    await stored(page).getByText("tiny-llava-f16.gguf").waitFor();
    assert.match(await stored(page).getByRole("listitem").filter({ hasText: "tiny-llava-f16.gguf" }).textContent(), /5\.69 MB · used today/);
    await stored(page).getByText(/of storage used, about .* free/).waitFor();
    const press = async (name) => {
      await page.getByRole("button", { name, exact: true }).focus();
      await page.keyboard.press("Enter");
    };
    const focused = () => page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement?.textContent);

    await press("Use mmproj-legacy-f16.gguf");
    assert.equal(await page.getByRole("textbox", { name: "Vision file" }).inputValue(), url(MMPROJ));
    await press("Use tiny-llava-f16.gguf");
    assert.equal(await focused(), "Load model");
    await page.keyboard.press("Enter");
    await question(page).waitFor();
    assert.equal(host.server.requests.filter((request) => model.endsWith(request.url)).length, 1, "it was kept");
    await page.getByRole("button", { name: "Change model" }).click();

    // Asked first, and Escape is no.
    await press("Delete mmproj-legacy-f16.gguf");
    assert.equal(await focused(), "Keep");
    await page.keyboard.press("Escape");
    assert.equal(await focused(), "Delete");
    await page.keyboard.press("Enter");
    await press("Delete mmproj-legacy-f16.gguf from this device");
    await stored(page).getByText("mmproj-legacy-f16.gguf").waitFor({ state: "detached" });
    assert.equal(await focused(), "Use");

    await downloadPartly(page, url(MODEL));
    await stored(page).getByText(/Incomplete: [1-3]\.\d+ MB of 5\.69 MB/).waitFor();
    await stored(page).getByRole("button", { name: /^Resume/ }).focus();
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    await page.getByText(/[1-3]\.\d+ MB already downloaded/).waitFor();
    await question(page).waitFor();
    await page.getByRole("button", { name: "Change model" }).click();
    // The vision file's address still stood there.
    for (let left = 3; left > 0; left--) {
      await stored(page).getByRole("button", { name: /^Delete / }).first().focus();
      await page.keyboard.press("Enter");
      await stored(page).getByRole("button", { name: /from this device$/ }).focus();
      await page.keyboard.press("Enter");
      await stored(page).getByRole("listitem").nth(left - 1).waitFor({ state: "detached" });
    }
    assert.equal(await stored(page).count(), 0);
    assert.equal(await focused(), "Load model");
  });

  for (const { name, ...options } of VIEWS) {
    visit(`at ${name}: kept models; nothing overflows, no accessibility rule is broken; screenshots`, options, async (page) => {
      await download(page, url(MODEL), url(MMPROJ));
      await downloadPartly(page, url(MODEL));
      await checked(page, name, "7-kept");
      await stored(page).getByRole("button", { name: /^Delete / }).first().click();
      await checked(page, name, "8-delete");
      await stored(page).getByRole("button", { name: /^Keep / }).click();
      await stored(page).getByRole("button", { name: /^Resume/ }).click();
      await loadButton(page).click();
      await page.getByText(/already downloaded/).waitFor();
      await checked(page, name, "9-going-on");
    });
  }
});
