// What a person enters, by key, clipboard and file, and what becomes of what was entered before. A stand-in for the engine answers.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";

import { standIn, storedIs } from "./stand-in.mjs";
import { openTab, start, WWW } from "./support.mjs";

const question = (page) => page.getByRole("textbox", { name: "Your question" });
const answers = (page) => page.locator(".answer");
const idle = (page) => page.getByRole("button", { name: "Ask", exact: true }).waitFor();
const load = (page) => page.evaluate(() => document.querySelector("llava-chat").load({ model: new Blob(["GGUF"]), mmproj: new Blob(["GGUF"]) }));
/** A key as an input method sends it, which no driver of browsers can. */
const key = (page, init) => page.evaluate((init) => {
  const event = new KeyboardEvent("keydown", { bubbles: true, composed: true, cancelable: true, ...init });
  return document.querySelector("llava-chat").shadowRoot.querySelector("textarea").dispatchEvent(event);
}, init);
const paste = (page, files, text) => page.evaluate(async ([files, text]) => {
  const data = new DataTransfer();
  for (const [name, type, url] of files) data.items.add(new File([await (await fetch(url)).blob()], name, { type }));
  if (text) data.items.add(text, "text/plain");
  const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, composed: true, cancelable: true });
  return document.querySelector("llava-chat").shadowRoot.querySelector("textarea").dispatchEvent(event);
}, [files, text]);

test("on a server the element's module can be imported, and does nothing", () => {
  const names = execFileSync(process.execPath, ["--input-type=module", "-e", `console.log(Object.keys(await import(${JSON.stringify(pathToFileURL(path.join(WWW, "llava-chat.js")).href)})).join())`], { encoding: "utf8" });
  assert.equal(names.trim(), "LlavaChat");
});

describe("what is entered", () => {
  let host;
  before(async () => {
    host = await start();
  });
  after(() => host?.close());

  const visit = (name, use, { before } = {}) => test(name, { timeout: 120_000 }, async () => {
    const tab = await openTab(host.browser);
    const { page } = tab;
    page.setDefaultTimeout(15_000);
    try {
      await page.context().route("**/pkg*/llava_web.js", (route) => route.fulfill({ contentType: "text/javascript", body: standIn() }));
      if (before) {
        await page.goto(`${host.server.origin}/tests/blank.html`);
        await before(page);
      }
      await page.goto(host.chooser);
      await load(page);
      await question(page).waitFor();
      await use(page);
      assert.deepEqual(tab.complaints, []);
    } finally {
      await tab.close();
    }
  });

  visit("Enter and Escape are an input method's while it composes", async (page) => {
    await question(page).fill("にほん");
    await key(page, { key: "Enter", isComposing: true });
    // Safari's, which ends the composition and says that there is none.
    await key(page, { key: "Enter", keyCode: 229 });
    assert.equal(await question(page).inputValue(), "にほん");
    assert.equal(await page.locator(".turn").count(), 0);
    await question(page).fill("on and on");
    await question(page).press("Enter");
    await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".answer")?.textContent.length > 20);
    await key(page, { key: "Escape", isComposing: true });
    await key(page, { key: "Escape", keyCode: 229 });
    const length = await answers(page).evaluate((node) => node.textContent.length);
    await page.waitForFunction((length) => document.querySelector("llava-chat").shadowRoot.querySelector(".answer").textContent.length > length + 20, length);
    await question(page).press("Escape");
    await idle(page);
    await page.getByText("Stopped").first().waitFor();
  });

  visit("text with a picture of itself is pasted as text, a picture alone as a picture", async (page) => {
    const picture = ["cell.png", "image/png", "/golden/images/chelsea.png"];
    assert.equal(await paste(page, [picture], "A cell"), true, "the browser pastes the text");
    assert.equal(await paste(page, [picture]), false);
    await page.locator(".thumb").getByText("cell.png").waitFor();
    assert.equal(await page.locator(".thumb").count(), 1);
  });

  visit("pictures are what their content says; what only the browser decodes becomes PNG; what is none is said to be", async (page) => {
    const svg = (size) => `data:image/svg+xml,${encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 4 3"><rect width="4" height="3" fill="red"/></svg>`)}`;
    await paste(page, [
      ["wrong.jpg", "image/jpeg", "/golden/images/chelsea.png"], ["untyped", "", "/golden/images/coffee.jpg"],
      ["sized.svg", "image/svg+xml", svg('width="40" height="30"')], ["sizeless.svg", "image/svg+xml", svg("")],
    ]);
    await page.locator(".thumb").nth(3).waitFor();
    await question(page).fill("What are they?");
    await question(page).press("Enter");
    await answers(page).getByText("It is 4, 14.").waitFor();
    const types = await page.evaluate(async () => {
      const [{ content }] = document.querySelector("llava-chat").messages;
      // A page may send them on to a worker of its own.
      const copies = structuredClone(content.slice(0, 4).map(({ image }) => image));
      return Promise.all(copies.map(async (image) => {
        const { width, height } = await createImageBitmap(image);
        return [image.type, Math.round(100 * width / height)];
      }));
    });
    assert.deepEqual(types, [["image/png", 150], ["image/jpeg", 150], ["image/png", 133], ["image/png", 133]]);
    await page.getByRole("button", { name: "Save the conversation" }).click();
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "JSON", exact: true }).click();
    const { messages } = JSON.parse(readFileSync(await (await download).path(), "utf8"));
    assert.deepEqual(messages[0].content.slice(0, 4).map(({ image_url: { url } }) => url.slice(0, 15)), ["data:image/png;", "data:image/jpeg", "data:image/png;", "data:image/png;"]);
    await paste(page, [["notes.txt", "text/plain", "data:,hello"]]);
    await page.getByRole("alert").getByText("“notes.txt” is not a picture.").waitFor();
  });

  visit("a picture that comes before the model waits for it", async (page) => {
    await page.goto(host.chooser);
    await page.evaluate(async () => {
      const data = new DataTransfer();
      data.items.add(new File([await (await fetch("/golden/images/chelsea.png")).blob()], "cat.png", { type: "image/png" }));
      const target = document.querySelector("llava-chat").shadowRoot.querySelector(".card");
      for (const type of ["dragenter", "dragover", "drop"]) target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, composed: true, cancelable: true }));
    });
    await page.getByText("“cat.png” is attached. Load a model, then ask about it.").waitFor();
    await load(page);
    await question(page).fill("What is it?");
    await question(page).press("Enter");
    await answers(page).getByText("It is 1, 11.").waitFor();
  });

  /** The database as it was laid out at first: one store, with a page's path as the key. */
  const firstLayout = (page) => page.evaluate(async () => {
    const file = await (await fetch("/golden/images/chelsea.png")).blob();
    await new Promise((resolve, reject) => {
      const request = indexedDB.open("llava-web", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("conversations");
      request.onerror = reject;
      request.onsuccess = () => {
        const transaction = request.result.transaction("conversations", "readwrite");
        const store = transaction.objectStore("conversations");
        const turn = (question, pictures) => ({ question, pictures, answer: "A cat.", finish: "stop", tokens: [] });
        store.put({ turns: [turn("What is it?", [{ file, name: "cat.png" }]), turn("And now?", [])], model: { name: "X", sources: null }, at: 2 }, "/some/folder/");
        store.put(new Uint8Array([1, 2]), "/some/folder/ session");
        store.put({ turns: [turn("Elsewhere", [])], at: 1 }, "/elsewhere/");
        transaction.oncomplete = () => resolve(request.result.close());
      };
    });
  });
  const wish = (page) => page.evaluate(() => localStorage.setItem("llava-web settings", '{"keep":true}'));

  visit("what was saved by an earlier version is there, and becomes of the new kind", async (page) => {
    await answers(page).nth(1).waitFor();
    assert.deepEqual(await page.locator(".question").allTextContents(), ["What is it?", "And now?"]);
    assert.equal(await page.getByRole("img", { name: /cat\.png/ }).evaluate((image) => image.decode().then(() => image.naturalWidth)), 451);
    await question(page).fill("Go on");
    await question(page).press("Enter");
    await storedIs(page, ({ conversations, pictures }) => pictures.length === 1 &&
      conversations.map(({ questions }) => questions.join()).sort().join("|") === "Elsewhere|What is it?,And now?,Go on");
  }, { before: async (page) => {
    await firstLayout(page);
    await wish(page);
  } });

  visit("what an earlier version left behind is deleted where nothing is to be saved", async (page) => {
    await storedIs(page, (now) => now.conversations.length + now.pictures.length + now.sessions.length === 0);
    assert.equal(await answers(page).count(), 0);
  }, { before: firstLayout });

  visit("a deletion that fails is said to have failed", async (page) => {
    await question(page).fill("Hello");
    await question(page).press("Enter");
    await storedIs(page, ({ conversations }) => conversations.length === 1);
    await page.evaluate(() => {
      IDBObjectStore.prototype.clear = () => {
        throw new DOMException("The disk is gone.", "UnknownError");
      };
    });
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByRole("checkbox", { name: /Save the conversation/ }).uncheck();
    await page.keyboard.press("Escape");
    await page.getByText("The saved conversations couldn’t be deleted.").waitFor();
  }, { before: wish });
});
