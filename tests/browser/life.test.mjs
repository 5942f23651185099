// The element's life: taken out and put back, moved, several of it, failed and tried again, its model changed. Nothing that a person wrote,
// attached, asked or was answered may be lost, and nothing may come out of order. A stand-in for the engine answers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { standIn, storedIs } from "./stand-in.mjs";
import { golden, openTab, start } from "./support.mjs";

const question = (page) => page.getByRole("textbox", { name: "Your question" });
const answers = (page) => page.locator(".answer");
const questions = (page) => page.locator(".question").allTextContents();
const idle = (page) => page.getByRole("button", { name: "Ask", exact: true }).waitFor();
const messages = (page) => page.evaluate(() => document.querySelector("llava-chat").messages.map(({ role, content }) =>
  `${role[0]}:${typeof content === "string" ? content : content.map(({ type, text }) => text ?? type).join("+")}`));
async function ask(page, text) {
  await question(page).fill(text);
  await question(page).press("Enter");
  await idle(page);
}
/** Asks something whose answer does not end soon, and waits until it is being written. */
async function askOnAndOn(page) {
  const n = await answers(page).count();
  await question(page).fill("on and on");
  await question(page).press("Enter");
  await page.waitForFunction((n) => document.querySelector("llava-chat").shadowRoot.querySelectorAll(".answer")[n]?.textContent.length > 20, n);
}
async function attach(page, ...files) {
  const chooser = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Picture", exact: true }).click();
  await (await chooser).setFiles(files.map((file) => (typeof file === "string" ? golden(file) : file)));
  await page.locator(".thumb").nth(files.length - 1).waitFor();
}

describe("the element's life", () => {
  let host;
  before(async () => {
    host = await start();
  });
  after(() => host?.close());

  const load = (page, { vision = true, at = 0 } = {}) => page.evaluate(([vision, at]) =>
    document.querySelectorAll("llava-chat")[at].load({ model: new Blob(["GGUF"]), mmproj: vision ? new Blob(["GGUF"]) : undefined }), [vision, at]);
  /** @param {{ hold?: boolean }} options  `hold`: the engine's module is not served before `release` is called */
  const visit = (name, use, { ready = true, ...options } = {}) => test(name, { timeout: 120_000 }, async () => {
    const tab = await openTab(host.browser, options);
    tab.page.setDefaultTimeout(15_000);
    let gate = Promise.resolve();
    let engines = 0;
    tab.hold = () => {
      let release;
      gate = new Promise((resolve) => (release = resolve));
      return release;
    };
    try {
      await tab.page.context().route("**/pkg*/llava_web.js", async (route) => {
        await gate;
        await route.fulfill({ contentType: "text/javascript", body: standIn(++engines) }).catch(() => {});
      });
      await tab.page.goto(host.chooser);
      if (ready) {
        await load(tab.page);
        await question(tab.page).waitFor();
      }
      await use(tab.page, tab);
      assert.deepEqual(tab.complaints, []);
    } finally {
      await tab.close();
    }
  });
  const remove = (page) => page.evaluate(async () => {
    globalThis.chat = document.querySelector("llava-chat");
    globalThis.place = globalThis.chat.parentElement;
    globalThis.chat.remove();
    // Longer than any grace.
    await new Promise((resolve) => setTimeout(resolve));
  });
  const putBack = (page) => page.evaluate(() => globalThis.place.append(globalThis.chat));

  visit("taken out while ready and put back: the conversation, the draft and the pictures are there, and the next question is answered", async (page) => {
    await attach(page, "images/astronaut.jpg");
    await ask(page, "One");
    await attach(page, "images/coffee.jpg");
    await question(page).fill("a draft");
    const engine = await page.evaluateHandle(() => document.querySelector("llava-chat").engine);
    await remove(page);
    assert.equal(await engine.evaluate((engine) => engine.tokenize("x").catch(({ code }) => code)), "invalid_request", "its memory is given back");
    assert.equal(await page.evaluate(() => globalThis.chat.engine), null);
    await putBack(page);
    await question(page).waitFor();
    assert.equal(await question(page).inputValue(), "a draft");
    await page.locator(".thumb").getByText("coffee.jpg").waitFor();
    await page.waitForFunction(() => [...document.querySelector("llava-chat").shadowRoot.querySelectorAll(".picture, .thumb img")].every((image) => image.complete && image.naturalWidth > 0));
    await question(page).press("Enter");
    await idle(page);
    assert.deepEqual(await questions(page), ["One", "a draft"]);
    assert.deepEqual(await messages(page), ["u:image+One", "a:It is **1**, 3.", "u:image+a draft", "a:It is **2**, 7."]);
  });

  visit("taken out while loading and put back: it goes on loading", async (page, tab) => {
    const release = tab.hold();
    const first = page.evaluate(() => document.querySelector("llava-chat").load({ model: new Blob(["GGUF"]) }).catch(({ code }) => code));
    await page.getByRole("button", { name: "Cancel" }).waitFor();
    await remove(page);
    assert.equal(await first, "aborted");
    await putBack(page);
    await page.getByRole("button", { name: "Cancel" }).waitFor();
    // Cancel does what it says, and there is a form again.
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("heading", { name: "Load a model" }).waitFor();
    const again = load(page).catch(({ message }) => message);
    await page.getByRole("button", { name: "Cancel" }).waitFor();
    await remove(page);
    await putBack(page);
    release();
    await question(page).waitFor();
    assert.match(await again, /stopped|cancelled/);
    await ask(page, "One");
    assert.deepEqual(await messages(page), ["u:One", "a:It is **0**, 3."]);
  }, { ready: false });

  visit("taken out while answering and put back: the question is answered", async (page) => {
    await ask(page, "One");
    await askOnAndOn(page);
    await question(page).fill("a draft");
    await remove(page);
    await putBack(page);
    await page.waitForFunction(() => {
      const chat = document.querySelector("llava-chat");
      return chat.engine && chat.shadowRoot.querySelectorAll(".answer")[1].textContent.length > 100 && chat.shadowRoot.querySelector("[part~=stop]").checkVisibility();
    });
    assert.equal(await question(page).inputValue(), "a draft");
    await page.getByRole("button", { name: "Stop" }).click();
    await idle(page);
    assert.deepEqual(await questions(page), ["One", "on and on"]);
    assert.deepEqual((await messages(page)).map((message) => message.slice(0, 6)), ["u:One", "a:It i", "u:on a", "a:word"]);
  });

  visit("moved in the document, also into another one, while loading and while answering: nothing is interrupted", async (page, tab) => {
    const move = () => page.evaluate(() => {
      const chat = document.querySelector("llava-chat");
      const elsewhere = document.createElement("div");
      document.body.append(elsewhere);
      elsewhere.append(chat);
    });
    const release = tab.hold();
    const loading = load(page);
    await page.getByRole("button", { name: "Cancel" }).waitFor();
    await move();
    release();
    await loading;
    await askOnAndOn(page);
    const engine = await page.evaluateHandle(() => document.querySelector("llava-chat").engine);
    await move();
    // Adopted by a fragment's document, as some frameworks keep what is not shown, and back.
    await page.evaluate(() => {
      const chat = document.querySelector("llava-chat");
      const parent = chat.parentElement;
      const other = document.implementation.createHTMLDocument();
      other.adoptNode(chat);
      parent.append(document.adoptNode(chat));
    });
    await page.getByRole("button", { name: "Stop" }).click();
    await idle(page);
    assert.equal(await engine.evaluate((engine) => document.querySelector("llava-chat").engine === engine), true);
    assert.deepEqual((await messages(page)).map((message) => message.slice(0, 6)), ["u:on a", "a:word"]);
  }, { ready: false });

  visit("an answer that fails while the next question is being written: both are there; tried again where it stands", async (page) => {
    await attach(page, "images/astronaut.jpg");
    await question(page).fill("fail: invalid_request once");
    await question(page).press("Enter");
    await question(page).fill("the next one");
    await attach(page, "images/coffee.jpg");
    const failed = page.locator(".turn").first();
    await failed.getByRole("alert").getByText("It failed: invalid_request").waitFor();
    assert.equal(await question(page).inputValue(), "the next one");
    assert.equal(await page.locator(".thumb").count(), 1);
    assert.deepEqual(await messages(page), [], "what was not answered is no part of the conversation");
    await failed.getByRole("button", { name: "Try again" }).click();
    await failed.getByText("It is 1, 26.").waitFor();
    assert.equal(await failed.getByRole("alert").count(), 0);
    await question(page).press("Enter");
    await idle(page);
    assert.deepEqual(await messages(page), ["u:image+fail: invalid_request once", "a:It is **1**, 26.", "u:image+the next one", "a:It is **2**, 12."]);
  });

  visit("the picture of a question that failed goes with the next one, beside which it stands", async (page) => {
    await attach(page, "images/astronaut.jpg");
    await ask(page, "fail: invalid_request");
    await ask(page, "And now?");
    assert.deepEqual(await messages(page), ["u:image+And now?", "a:It is **1**, 8."]);
    assert.equal(await page.locator(".exchange").count(), 1);
  });

  visit("asked again in vain: the answer before is there again, as it ended", async (page) => {
    await askOnAndOn(page);
    await page.getByRole("button", { name: "Stop" }).click();
    await idle(page);
    const before = await answers(page).textContent();
    // The schema is no JSON: every request fails.
    const settings = async (wish, schema) => {
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("Answer as JSON").setChecked(wish);
      if (wish) await page.getByLabel("JSON schema").fill(schema);
      await page.keyboard.press("Escape");
    };
    await settings(true, "{");
    await page.getByRole("button", { name: "Ask again" }).click();
    await page.getByRole("alert").getByText("isn’t valid JSON").waitFor();
    assert.equal(await answers(page).textContent(), before);
    assert.equal(await page.locator(".note").textContent().then((text) => text.includes("Stopped")), true, "it was stopped then, and is still");
    await settings(false);
    assert.deepEqual((await messages(page)).map((message) => message.slice(0, 6)), ["u:on a", "a:word"]);
  });

  visit("an engine that broke: tried again with a new one", async (page) => {
    await ask(page, "One");
    await ask(page, "fail: internal in engine 1");
    await page.getByRole("alert").getByText("It failed: internal").waitFor();
    const engine = await page.evaluateHandle(() => document.querySelector("llava-chat").engine);
    await page.getByRole("button", { name: "Try again" }).click();
    await page.waitForFunction((engine) => document.querySelector("llava-chat").engine && document.querySelector("llava-chat").engine !== engine, engine);
    await page.locator(".turn").nth(1).getByText("It is 0, 26.").waitFor();
    await ask(page, "Two");
    assert.deepEqual((await messages(page)).filter((message) => message.startsWith("u:")), ["u:One", "u:fail: internal in engine 1", "u:Two"]);
  });

  visit("change of model: there is a way back, and the conversation goes on with the next one", async (page, tab) => {
    await attach(page, "images/astronaut.jpg");
    await ask(page, "One");
    await question(page).fill("a draft");
    const engine = await page.evaluateHandle(() => document.querySelector("llava-chat").engine);
    const sameEngine = () => engine.evaluate((engine) => document.querySelector("llava-chat").engine === engine);
    await page.getByRole("button", { name: "Change model" }).click();
    assert.equal(await sameEngine(), true, "it is not freed before another one is loaded");
    await page.getByRole("button", { name: "Back to the chat" }).click();
    assert.equal(await sameEngine(), true);
    assert.equal(await question(page).inputValue(), "a draft");
    await ask(page, "Two");

    // The next load is cancelled: the former model is one click away.
    await page.getByRole("button", { name: "Change model" }).click();
    const release = tab.hold();
    const cancelled = load(page).catch(() => {});
    await page.getByRole("button", { name: "Cancel" }).click();
    await cancelled;
    release();
    await page.getByRole("button", { name: "Back to Stand-in" }).click();
    await question(page).waitFor();
    assert.equal(await sameEngine(), false);
    await ask(page, "Three");
    assert.deepEqual(await questions(page), ["One", "Two", "Three"]);

    // A model that sees no pictures: the conversation waits for one that does, and what was said meanwhile follows it.
    await load(page, { vision: false });
    await page.getByText("this model can’t see pictures").waitFor();
    assert.deepEqual(await questions(page), []);
    await ask(page, "Four");
    assert.deepEqual(await messages(page), ["u:Four", "a:It is **0**, 4."]);
    await load(page);
    assert.deepEqual(await questions(page), ["One", "Two", "Three", "Four"]);
    await ask(page, "Five");
    assert.deepEqual((await messages(page)).filter((message) => message.startsWith("u:")), ["u:image+One", "u:Two", "u:Three", "u:Four", "u:Five"]);
  });

  visit("pictures that were attached wait for a model that sees", async (page) => {
    await attach(page, "images/astronaut.jpg");
    await load(page, { vision: false });
    await question(page).fill("What is it?");
    await question(page).press("Enter");
    await page.getByRole("alert").getByText("can’t see pictures").waitFor();
    assert.equal(await question(page).inputValue(), "What is it?");
    await load(page);
    await question(page).press("Enter");
    await idle(page);
    assert.deepEqual(await messages(page), ["u:image+What is it?", "a:It is **1**, 11."]);
  });

  visit("a picture put into the field for model files is the next question's, even of one that is asked before it is opened", async (page) => {
    await page.getByRole("button", { name: "Change model" }).click();
    await page.evaluate(() => {
      const { decode } = HTMLImageElement.prototype;
      HTMLImageElement.prototype.decode = async function () {
        await new Promise((resolve) => setTimeout(resolve, 1500));
        return decode.call(this);
      };
    });
    await page.locator('input[data-slot="model"]').setInputFiles([golden("images/astronaut.jpg"), golden("chat/tools.json")]);
    await page.getByRole("alert").getByText("“tools.json” is not a GGUF file").waitFor();
    await load(page);
    await question(page).fill("What is it?");
    await question(page).press("Enter");
    assert.deepEqual(await messages(page), [], "it waits");
    await page.waitForFunction(() => document.querySelector("llava-chat").messages.length === 2);
    assert.deepEqual(await messages(page), ["u:image+What is it?", "a:It is **1**, 11."]);
  });

  visit("a page asks with files of another frame as with its own", async (page) => {
    const picture = [...readFileSync(golden("images/astronaut.jpg"))];
    const answers = await page.evaluate(async (picture) => {
      const frame = document.body.appendChild(document.createElement("iframe"));
      const { Blob: TheirBlob, File: TheirFile, Uint8Array: Bytes } = frame.contentWindow;
      const bytes = new Bytes(picture);
      const chat = document.querySelector("llava-chat");
      const answers = [];
      for (const image of [new TheirBlob([bytes]), new TheirFile([bytes], "astronaut.jpg"), [new TheirBlob([bytes]), new Blob([bytes])]]) answers.push(await chat.ask("What?", image));
      frame.remove();
      return [...answers, await chat.ask("What?", { size: 3 }).catch(({ code }) => code)];
    }, picture);
    // Each sees those of the questions before, too.
    assert.deepEqual(answers, ["It is **1**, 5.", "It is **2**, 5.", "It is **4**, 5.", "invalid_image"]);
  });

  visit("a new conversation can be undone for a while", async (page) => {
    await page.clock.install();
    await attach(page, "images/astronaut.jpg");
    await ask(page, "One");
    await ask(page, "Two");
    await question(page).fill("a draft");
    await page.getByRole("button", { name: "New conversation" }).click();
    assert.deepEqual(await questions(page), []);
    assert.equal(await question(page).inputValue(), "a draft");
    await page.getByRole("button", { name: "Undo" }).click();
    assert.deepEqual(await questions(page), ["One", "Two"]);
    assert.equal(await page.getByRole("img", { name: /astronaut/ }).evaluate((image) => image.naturalWidth > 0), true);
    await ask(page, "Three");
    assert.deepEqual((await messages(page)).map((message) => message.slice(0, 11)), ["u:image+One", "a:It is **1", "u:Two", "a:It is **1", "u:Three", "a:It is **1"]);
    // While it is being written, too: what came until then stays.
    await askOnAndOn(page);
    await page.getByRole("button", { name: "New conversation" }).click();
    await idle(page);
    assert.deepEqual(await questions(page), []);
    await page.getByRole("button", { name: "Undo" }).click();
    assert.deepEqual(await questions(page), ["One", "Two", "Three", "on and on"]);
    await page.getByText("Stopped").first().waitFor();
    // Left alone it is gone for good after some seconds.
    await page.getByRole("button", { name: "New conversation" }).click();
    await page.getByRole("button", { name: "Undo" }).waitFor();
    await page.mouse.move(0, 0);
    await page.clock.fastForward(60_000);
    await page.getByRole("button", { name: "Undo" }).waitFor({ state: "hidden" });
    assert.deepEqual(await messages(page), []);
  });

  visit("ask() leaves the person's draft alone, and rejects what is no picture", async (page) => {
    await attach(page, "images/astronaut.jpg");
    await question(page).fill("a draft");
    const seen = await page.evaluate(async () => {
      const chat = document.querySelector("llava-chat");
      const code = (promise) => promise.then((value) => value, ({ code }) => code);
      const picture = await (await fetch("/golden/images/coffee.jpg")).blob();
      const answers = [
        await code(chat.ask("One")), await code(chat.ask("Two", [picture, picture])), await code(chat.ask("What is in it?", new Blob(["no picture"], { type: "image/png" }))),
        await code(chat.ask("Three", "no blob")), await code(chat.ask(4)), await code(chat.ask("too long")),
      ];
      const both = [chat.ask("Four"), chat.ask("Five")].map(code);
      return [...answers, ...await Promise.all(both)];
    });
    assert.deepEqual(seen, ["It is **0**, 3.", "It is **2**, 3.", "invalid_image", "invalid_image", "invalid_request", "context_overflow", "It is **2**, 4.", "invalid_request"]);
    assert.equal(await question(page).inputValue(), "a draft");
    assert.equal(await page.locator(".thumb").count(), 1);
    assert.deepEqual(await questions(page), ["One", "Two", "too long", "Four"]);
  });

  visit("Enter while a picture is still being opened waits for it; what is no picture keeps the question back", async (page) => {
    await page.evaluate(() => {
      // Opened only when the test says so.
      globalThis.opened = [];
      const decode = HTMLImageElement.prototype.decode;
      HTMLImageElement.prototype.decode = function () {
        return new Promise((resolve) => globalThis.opened.push(resolve)).then(() => decode.call(this));
      };
      globalThis.paste = async (name, content) => {
        const data = new DataTransfer();
        data.items.add(new File([content ?? await (await fetch(`/golden/images/${name}`)).blob()], name, { type: "image/png" }));
        document.querySelector("llava-chat").shadowRoot.querySelector("textarea").dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, composed: true, cancelable: true }));
      };
    });
    const open = () => page.waitForFunction(() => globalThis.opened.length > 0).then(() => page.evaluate(() => globalThis.opened.shift()()));
    await question(page).fill("What is it?");
    await page.evaluate(() => globalThis.paste("chelsea.png"));
    await page.evaluate(() => globalThis.paste("coffee.jpg"));
    await question(page).press("Enter");
    await open();
    await page.locator(".thumb").getByText("chelsea.png").waitFor();
    assert.deepEqual(await questions(page), []);
    await open();
    await page.locator(".turn .note").filter({ hasText: "tokens" }).waitFor();
    assert.deepEqual(await messages(page), ["u:image+image+What is it?", "a:It is **2**, 11."]);

    await question(page).fill("And this?");
    await page.evaluate(() => globalThis.paste("broken.png", "no picture"));
    await question(page).press("Enter");
    await open();
    await page.getByRole("alert").getByText("“broken.png” could not be opened as a picture").waitFor();
    assert.equal(await question(page).inputValue(), "And this?");
    assert.deepEqual(await questions(page), ["What is it?"]);
  });

  visit("two elements on a page and two tabs: each has its own conversation, after a reload too", async (page, tab) => {
    await page.evaluate(() => localStorage.setItem("llava-web settings", '{"keep":true}'));
    const two = async () => {
      await page.goto(host.chooser);
      await page.evaluate(() => document.querySelector("main").append(document.createElement("llava-chat")));
      for (const at of [0, 1]) await load(page, { at });
    };
    const said = (page) => page.evaluate(() => [...document.querySelectorAll("llava-chat")].map(({ messages }) => messages.filter(({ role }) => role === "user").map(({ content }) => content)));
    await two();
    const askIn = (at, text) => page.evaluate(([at, text]) => document.querySelectorAll("llava-chat")[at].ask(text), [at, text]);
    await askIn(0, "in A");
    await askIn(1, "in B");
    await askIn(0, "in A again");
    await storedIs(page, ({ conversations }) => conversations.flatMap(({ questions }) => questions).length === 3);
    await two();
    assert.deepEqual(await said(page), [["in A", "in A again"], ["in B"]]);

    // Another tab, at another path of the site: it begins with nothing, for both are open here.
    const other = await page.context().newPage();
    await other.goto(`${host.site}?model=&elsewhere`);
    await load(other);
    assert.deepEqual(await said(other), [[]]);
    await other.evaluate(() => document.querySelector("llava-chat").ask("in C"));
    await storedIs(page, ({ conversations }) => conversations.length === 3);
    // What one begins anew is another's no loss.
    await page.evaluate(() => document.querySelectorAll("llava-chat")[1].reset());
    await page.locator("llava-chat").nth(1).getByRole("button", { name: "Close this message" }).click();
    await storedIs(page, ({ conversations }) => conversations.map(({ questions }) => questions[0]).sort().join() === "in A,in C");

    // Turned off in one tab, it is off in all, and nothing is left anywhere.
    await other.getByRole("button", { name: "Settings" }).click();
    await other.getByRole("checkbox", { name: /Save the conversation/ }).uncheck();
    await storedIs(page, (now) => now.conversations.length + now.pictures.length + now.sessions.length === 0);
    await askIn(0, "in A, not kept");
    await other.close();
    await storedIs(page, (now) => now.conversations.length === 0);
    assert.deepEqual(await said(page), [["in A", "in A again", "in A, not kept"], []], "what is on the screen stays there");
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    assert.deepEqual(tab.complaints, []);
  });

  visit("object URLs are given back with the turns, and all of them with the element", async (page) => {
    await page.evaluate(() => {
      globalThis.urls = new Set();
      const { createObjectURL, revokeObjectURL } = URL;
      URL.createObjectURL = (object) => {
        const url = createObjectURL(object);
        // Those of workers are not the element's.
        if (object.type.startsWith("image/")) globalThis.urls.add(url);
        return url;
      };
      URL.revokeObjectURL = (url) => {
        globalThis.urls.delete(url);
        revokeObjectURL(url);
      };
    });
    const count = () => page.evaluate(() => globalThis.urls.size);
    for (const n of [1, 2, 3]) {
      await attach(page, "images/astronaut.jpg", "images/coffee.jpg");
      await ask(page, `Question ${n}`);
    }
    await attach(page, "images/chelsea.png");
    assert.equal(await count(), 7, "one for each picture that is shown");
    await page.getByRole("button", { name: "Edit" }).nth(1).click();
    await ask(page, "Another question 2");
    assert.equal(await count(), 5, "those of the questions that were replaced are gone");
    await remove(page);
    assert.equal(await count(), 0);
    await putBack(page);
    await question(page).waitFor();
    assert.equal(await count(), 5);
    await page.getByRole("button", { name: "New conversation" }).click();
    await page.getByRole("button", { name: "Close this message" }).click();
    // The one in the composer is also shown large, above it, where nothing was said yet.
    assert.equal(await count(), 2);
  });

  visit("a model that loads by itself leaves the focus where it is; one that somebody loads leads to the question", async (page, tab) => {
    const release = tab.hold();
    await page.evaluate(() => {
      const input = document.body.appendChild(document.createElement("input"));
      input.focus();
    });
    const loading = load(page);
    await page.getByRole("button", { name: "Cancel" }).waitFor();
    release();
    await loading;
    await question(page).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.localName), "input");
    await page.getByRole("button", { name: "Change model" }).click();
    await page.getByRole("button", { name: "Back to the chat" }).click();
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement?.localName), "textarea");
  }, { ready: false });
});
