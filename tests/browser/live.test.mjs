// Live, as a person uses it: with Chromium's camera, which shows a moving figure, with a video of drawings, and with a shared screen that is a canvas here. By keyboard, on a
// phone and on a desk; what is said where there is no camera, no permission, no cable any more.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test as plainTest } from "node:test";

import { openTab, SCREENSHOTS, settled, start, withoutEngine } from "./support.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const CAMERA = ["--use-fake-device-for-media-stream"];
const ALLOWED = "--use-fake-ui-for-media-stream";
/** What never ends is what is looked for here. */
const test = (name, body) => plainTest(name, { timeout: 120_000 }, body);

const question = (page) => page.getByRole("textbox", { name: "Your question" });
const named = (page, name) => page.getByRole("button", { name, exact: true });
const answer = (page) => page.locator(".live-answer:not(.muted)");
const figures = (page) => page.locator(".live-figures").filter({ hasText: /whole answer in/ });
const problem = (page) => page.locator(".live .problem");
const open = (page) => page.getByRole("form", { name: "Ask" }).getByRole("button", { name: "Live: camera, screen or video" }).click();
/** Says in the tab what the browser's questions are answered with. */
const answered = (page, method, name) => page.evaluate(([method, name]) => {
  navigator.mediaDevices[method] = async () => {
    throw new DOMException("no", name);
  };
}, [method, name]);
const lamp = (page) => page.evaluate(() => globalThis.tracks.filter(({ readyState }) => readyState === "live").length);
const announced = (page) => page.evaluate(() => document.querySelector("llava-chat").shadowRoot.querySelector(".shell > [aria-live]").textContent);

/** Every track that the page is given, to unplug it. */
const remember = () => {
  globalThis.tracks = [];
  for (const method of ["getUserMedia", "getDisplayMedia"]) {
    const ask = navigator.mediaDevices[method].bind(navigator.mediaDevices);
    navigator.mediaDevices[method] = async (...args) => {
      const stream = await ask(...args);
      globalThis.tracks.push(...stream.getTracks());
      return stream;
    };
  }
};
/** A video file of drawings, half a second each. */
const recordDrawings = (names) => {
  const record = async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 384, height: 384 });
    const drawings = await Promise.all(names.map(async (name) => createImageBitmap(await (await fetch(`examples/${name}.png`)).blob())));
    const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: "video/webm" });
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    canvas.getContext("2d").drawImage(drawings[0], 0, 0, 384, 384);
    recorder.start();
    for (const drawing of drawings) for (let i = 0; i < 10; i++) {
      canvas.getContext("2d").drawImage(drawing, i % 2, 0, 384, 384);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    recorder.stop();
    await stopped;
    return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
  };
  return record();
};

describe("live", { skip: withoutEngine }, () => {
  let host;
  before(async () => {
    host = await start({ flags: [...CAMERA, ALLOWED] });
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(() => host?.close());

  const visit = (name, use, options = {}) => test(name, async () => {
    const tab = await openTab(host.browser, { bypassCSP: false, ...options });
    tab.page.setDefaultTimeout(20_000);
    await tab.page.addInitScript(remember);
    try {
      await tab.page.goto(host.site);
      await question(tab.page).waitFor();
      await use(tab.page, tab);
      assert.deepEqual(tab.complaints, []);
      // Nothing leaves the tab.
      assert.deepEqual(tab.requests.filter((url) => !url.startsWith(host.server.origin) && !/^(blob|data):/.test(url)), []);
    } finally {
      await tab.close();
    }
  });

  for (const { name, ...view } of [
    { name: "390-light", viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true },
    { name: "1280-dark", viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  ]) visit(`the camera is watched, the question changed, a picture kept and gone on with, ${name}`, async (page) => {
    await open(page);
    await page.getByText(/Nothing leaves this tab/).waitFor();
    assert.equal(await question(page).inputValue(), "What is in this picture?");
    await named(page, "Camera").click();
    await answer(page).filter({ hasText: /\w/ }).waitFor();
    await figures(page).filter({ hasText: /answers\/s/ }).waitFor();
    assert.equal(await lamp(page), 1);
    assert.match(await page.locator(".live-question").textContent(), /What is in this picture/);
    await question(page).fill("Is there a dog?");
    await question(page).press("Enter");
    await answer(page).filter({ hasText: /^(Yes|No)\b/ }).waitFor();
    assert.equal(await question(page).inputValue(), "Is there a dog?");
    const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(inner <= outer, `${inner} pixels wide on a screen of ${outer}`);
    await settled(page);
    await page.screenshot({ path: path.join(SCREENSHOTS, `live-${name}.png`) });
    await named(page, "Keep this picture").click();
    await page.getByText("Kept: the picture and its answer are in the conversation.").waitFor();
    await named(page, "Stop").click();
    await named(page, "Camera").waitFor();
    // The lamp is off, and whoever used the keyboard is where it goes on.
    assert.equal(await lamp(page), 0);
    assert.equal(await page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement.textContent), "Camera");
    await named(page, "Back to the chat").click();
    assert.deepEqual(await page.locator(".turn .question").allTextContents(), ["Is there a dog?"]);
    assert.match(await page.locator(".turn .answer").textContent(), /^(Yes|No)\b/);
    assert.ok(await page.locator("img.picture").evaluate((image) => image.decode().then(() => image.naturalWidth)) >= 640);
    await question(page).fill("Is there a bus?");
    await question(page).press("Enter");
    await page.locator(".turn .note").nth(1).filter({ hasText: "tokens in" }).waitFor();
    const messages = await page.evaluate(() => document.querySelector("llava-chat").messages.map(({ role, content }) => [role, typeof content === "string" ? content : content.map(({ type }) => type)]));
    assert.deepEqual(messages.map(([role]) => role), ["user", "assistant", "user", "assistant"]);
    assert.deepEqual(messages[0][1], ["image", "text"]);
  }, view);

  visit("a video file: the answers follow its pictures, and stop when it is paused", async (page) => {
    const video = await page.evaluate(recordDrawings, ["pets", "fruit", "travel"]);
    await open(page);
    const chooser = page.waitForEvent("filechooser");
    await named(page, "Video file").click();
    await (await chooser).setFiles({ name: "drawings.webm", mimeType: "video/webm", buffer: Buffer.from(video) });
    for (const what of [/dog/, /banana/, /bus/]) await answer(page).filter({ hasText: what }).waitFor();
    await page.locator(".live-video").evaluate((video) => video.pause());
    await page.waitForFunction(() => document.querySelector("llava-chat").shadowRoot.querySelector(".live-video").paused);
    await question(page).fill("Is there a bus?");
    await named(page, "Ask").click();
    await answer(page).filter({ hasText: /^(Yes|No)\b/ }).waitFor();
    // No other file of a kind that is no video is taken, and the one before goes on.
    await page.keyboard.press("Escape");
    await named(page, "Video file").waitFor();
    const second = page.waitForEvent("filechooser");
    await named(page, "Video file").click();
    await (await second).setFiles({ name: "broken.mp4", mimeType: "video/mp4", buffer: Buffer.from("no video") });
    await problem(page).filter({ hasText: /cannot be played/ }).waitFor();
  });

  visit("by keyboard and for screen readers: what is said, and how often", async (page) => {
    const active = () => page.evaluate(() => document.querySelector("llava-chat").shadowRoot.activeElement?.ariaLabel || document.querySelector("llava-chat").shadowRoot.activeElement?.textContent);
    for (let i = 0; i < 20 && await active() !== "Live: camera, screen or video"; i++) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    assert.equal(await active(), "Camera");
    // Every text that is announced from here on.
    await page.evaluate(() => {
      globalThis.said = [];
      const node = document.querySelector("llava-chat").shadowRoot.querySelector(".shell > [aria-live]");
      new MutationObserver(() => globalThis.said.push(node.textContent)).observe(node, { childList: true, characterData: true, subtree: true });
    });
    await page.keyboard.press("Enter");
    await figures(page).filter({ hasText: /answers\/s/ }).waitFor();
    await page.waitForTimeout(1500);
    const said = await page.evaluate(() => globalThis.said);
    assert.equal(said[0], "Live is on. Press Escape to stop.");
    assert.equal(await active(), "Your question");
    // One answer in so short a time, though many were written, and never a part of one.
    assert.ok(said.length <= 2 && said.slice(1).every((text) => /^[A-Z].*\.$/.test(text)), said.join(" | "));
    assert.equal(await page.locator(".live-answer").evaluate((node) => node.closest("[aria-live]")), null);
    await page.keyboard.press("Escape");
    await named(page, "Camera").waitFor();
    assert.equal(await announced(page), "Stopped");
    assert.equal(await active(), "Your question");
  });

  for (const state of ["choosing", "watching"]) visit(`no violation of accessibility rules while ${state}`, async (page) => {
    await open(page);
    if (state === "watching") {
      await named(page, "Camera").click();
      await figures(page).waitFor();
    }
    await settled(page);
    await page.addScriptTag({ content: axe });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document));
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), []);
  }, { bypassCSP: true, viewport: { width: 390, height: 844 } });

  visit("refused, absent, busy, not shared: each is said with what to do, and can be tried again", async (page) => {
    await open(page);
    for (const [name, said] of [["NotAllowedError", /may not use the camera.*Allow it/], ["NotFoundError", /No camera found/], ["NotReadableError", /Close other programs/]]) {
      await answered(page, "getUserMedia", name);
      await named(page, "Camera").click();
      await problem(page).filter({ hasText: said }).waitFor();
    }
    await answered(page, "getDisplayMedia", "NotAllowedError");
    await named(page, "Screen or window").click();
    await problem(page).filter({ hasText: /Nothing was shared/ }).waitFor();
    // Asked without anything to look at: it is said what is missing.
    await question(page).press("Enter");
    assert.equal(await announced(page), "Choose what to watch first");
    await page.evaluate(() => delete navigator.mediaDevices.getUserMedia);
    await named(page, "Camera").click();
    await answer(page).filter({ hasText: /\w/ }).waitFor();
    assert.equal(await problem(page).textContent(), "");
  });

  visit("a shared screen, and its end", async (page) => {
    // There is no screen to choose here: a canvas is shared in its place.
    await page.evaluate(async () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 384, height: 384 });
      const fruit = await createImageBitmap(await (await fetch("examples/fruit.png")).blob());
      setInterval(() => canvas.getContext("2d").drawImage(fruit, 0, 0, 384, 384), 50);
      navigator.mediaDevices.getDisplayMedia = async () => {
        const stream = canvas.captureStream(20);
        globalThis.tracks.push(...stream.getTracks());
        return stream;
      };
    });
    await open(page);
    await named(page, "Screen or window").click();
    await answer(page).filter({ hasText: /banana/ }).waitFor();
    await figures(page).filter({ hasText: /nothing has changed/ }).waitFor();
    await page.evaluate(() => globalThis.tracks.at(-1).stop());
    await problem(page).filter({ hasText: /Sharing was stopped/ }).waitFor();
    assert.equal(await page.locator(".live-stage").isVisible(), false);
  });

  visit("unplugged while it is watched; hidden and seen again; taken out of the page: the lamp goes out", async (page) => {
    await open(page);
    await named(page, "Camera").click();
    await figures(page).waitFor();
    await page.evaluate(() => globalThis.tracks.at(-1).stop());
    await problem(page).filter({ hasText: /no longer there. Connect it again/ }).waitFor();
    await named(page, "Camera").click();
    await figures(page).waitFor();
    await page.evaluate(async () => {
      const hide = (hidden) => {
        Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (hidden ? "hidden" : "visible") });
        document.dispatchEvent(new Event("visibilitychange"));
      };
      hide(true);
      await new Promise((resolve) => setTimeout(resolve, 2200));
      hide(false);
    });
    await page.getByText("Paused while this tab was hidden. To watch another window, place this one beside it.").waitFor();
    await figures(page).waitFor();
    assert.equal(await lamp(page), 1);
    await page.evaluate(() => document.querySelector("llava-chat").remove());
    await page.waitForFunction(() => globalThis.tracks.every(({ readyState }) => readyState === "ended"));
  });

  visit("a page that asks meanwhile is told why not; another model is chosen: the camera is let go", async (page) => {
    await open(page);
    await named(page, "Camera").click();
    await figures(page).waitFor();
    const refused = await page.evaluate(() => document.querySelector("llava-chat").ask("What is it?").catch(({ code, message }) => ({ code, message })));
    assert.equal(refused.code, "invalid_request");
    assert.match(refused.message, /Live is on/);
    await named(page, "Change model").click();
    await page.waitForFunction(() => globalThis.tracks.every(({ readyState }) => readyState === "ended"));
    await page.getByRole("button", { name: "Back to the chat" }).first().click();
    await named(page, "Camera").waitFor();
  });
});

describe("live, where the browser refuses", { skip: withoutEngine }, () => {
  test("the camera's permission is refused", async () => {
    // Without the flag that allows everything, nobody is there to allow it.
    const host = await start({ flags: CAMERA });
    const { page, close } = await openTab(host.browser, { permissions: [] });
    await page.goto(host.site);
    await question(page).waitFor();
    await open(page);
    await named(page, "Camera").click();
    await problem(page).filter({ hasText: /may not use the camera/ }).waitFor();
    await close();
    await host.close();
  });
});
