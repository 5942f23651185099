// The page's own model knows drawings only: a photograph is told from a drawing by its pixels, and whoever asks about one is told so and is
// offered a model that knows them, with the picture and the question kept.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { golden, openTab, SCREENSHOTS, settled, start, withoutEngine, WWW } from "./support.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const question = (page) => page.getByRole("textbox", { name: "Your question" });
const remark = (page) => page.getByRole("note", { name: "About this answer" });

describe("photographs and drawings", () => {
  let host;
  before(async () => {
    host = await start();
  });
  after(() => host?.close());

  /** What is told of pictures: their names → true for a photograph. Each picture comes with copies as programs and hosts make them. */
  async function told(make, { crops = false } = {}) {
    const tab = await openTab(host.browser);
    try {
      await tab.page.goto(`${host.server.origin}/tests/blank.html`);
      await tab.page.addScriptTag({ content: `globalThis.make = ${make};` });
      return await tab.page.evaluate(async ([site, origin, crops]) => {
        const { isPhotograph } = await import(new URL("chat/talk/photograph.js", site).href);
        const all = {};
        for (const [name, blob] of Object.entries(await globalThis.make(site, origin))) {
          const image = await createImageBitmap(blob);
          const { width, height } = image;
          const copy = (type, quality, { side = Infinity, filter = "none", part = [0, 0, 1, 1] } = {}) => {
            const [x, y, w, h] = [part[0] * width, part[1] * height, part[2] * width, part[3] * height];
            const scale = Math.min(1, side / Math.max(w, h));
            const canvas = new OffscreenCanvas(Math.round(w * scale), Math.round(h * scale));
            const context = canvas.getContext("2d");
            context.imageSmoothingQuality = "high";
            context.filter = filter;
            context.drawImage(image, x, y, w, h, 0, 0, canvas.width, canvas.height);
            return canvas.convertToBlob({ type, quality });
          };
          const copies = {
            "as it is": blob, "JPEG 0.5": await copy("image/jpeg", 0.5), "JPEG 0.75": await copy("image/jpeg", 0.75), "JPEG 0.92": await copy("image/jpeg", 0.92),
            WebP: await copy("image/webp", 0.8), small: await copy("image/jpeg", 0.7, { side: 320 }), grey: await copy("image/png", 1, { filter: "grayscale(1)" }),
            dark: await copy("image/png", 1, { filter: "brightness(0.4)" }),
          };
          for (let i = 0; crops && i < 9; i++) copies[`part ${i}`] = await copy("image/jpeg", 0.9, { part: [(i % 3) / 3, Math.floor(i / 3) / 3, 1 / 3, 1 / 3] });
          for (const [what, file] of Object.entries(copies)) all[`${name}, ${what}`] = await isPhotograph(file);
        }
        return all;
      }, [host.site, host.server.origin, crops]);
    } finally {
      await tab.close();
    }
  }
  const wrong = (all, right) => Object.entries(all).filter(([, is]) => is !== right).map(([name]) => name);

  test("photographs: what is missed", async (t) => {
    const all = await told(`async (site, origin) => Object.fromEntries(await Promise.all(["astronaut.png", "chelsea.png", "coffee.jpg", "coffee_tall.jpg"].map(async (name) =>
      [name, await (await fetch(origin + "/golden/images/" + name)).blob()])))`, { crops: true });
    const missed = wrong(all, true);
    t.diagnostic(`${missed.length} of ${Object.keys(all).length} missed: ${missed.join("; ")}`);
    assert.equal(Object.keys(all).length, 4 * 17);
    // Seen: 2, an astronaut in the strongest compression, and a corner of her picture that is all but black.
    assert.ok(missed.length <= 3, missed.join("; "));
    assert.ok(missed.every((name) => /JPEG 0\.5|part/.test(name)), missed.join("; "));
  });

  test("drawings: what is taken for a photograph", async (t) => {
    const all = await told(`async (site, origin) => {
      const pictures = {};
      for (const name of ["pets", "fruit", "travel"]) pictures[name] = await (await fetch(new URL("examples/" + name + ".png", site))).blob();
      const draw = async (name, side, paint) => {
        const canvas = new OffscreenCanvas(side, side);
        const context = canvas.getContext("2d");
        context.fillStyle = "#fff";
        context.fillRect(0, 0, side, side);
        paint(context, side);
        pictures[name] = await canvas.convertToBlob();
      };
      const shapes = (context, side) => ["#d33", "#2a6", "#26c", "#fb2", "#839"].forEach((colour, i) => {
        context.fillStyle = colour;
        context.beginPath();
        context.ellipse(side * (0.2 + 0.15 * i), side * (0.3 + 0.1 * (i % 3)), side * 0.12, side * (0.08 + 0.02 * i), i, 0, 7);
        context.fill();
      });
      const shaded = (context, side) => {
        const shade = context.createLinearGradient(0, 0, side, side * 0.7);
        shade.addColorStop(0, "#0b3d91");
        shade.addColorStop(1, "#f7c59f");
        context.fillStyle = shade;
        context.fillRect(0, 0, side, side);
        shapes(context, side);
        const ball = context.createRadialGradient(side * 0.6, side * 0.65, 2, side * 0.65, side * 0.7, side * 0.2);
        ball.addColorStop(0, "#fff");
        ball.addColorStop(1, "#900");
        context.fillStyle = ball;
        context.beginPath();
        context.arc(side * 0.65, side * 0.7, side * 0.2, 0, 7);
        context.fill();
      };
      for (const side of [200, 512, 1200]) {
        await draw("shapes " + side, side, shapes);
        await draw("shaded " + side, side, shaded);
        await draw("lines " + side, side, (context) => {
          context.lineWidth = side / 100;
          for (let i = 0; i < 12; i++) {
            context.beginPath();
            context.moveTo(side * Math.abs(Math.sin(i * 7)), side * Math.abs(Math.sin(i * 5)));
            context.bezierCurveTo(side * Math.abs(Math.sin(i * 3)), side * Math.abs(Math.sin(i * 11)), side * 0.5, side * 0.2, side * Math.abs(Math.sin(i * 13)), side * Math.abs(Math.sin(i * 17)));
            context.stroke();
          }
        });
        await draw("words " + side, side, (context) => {
          context.fillStyle = "#111";
          context.font = side / 16 + "px sans-serif";
          for (let i = 1; i < 10; i++) context.fillText("A line of words " + i, side / 20, (i * side) / 10);
        });
        await draw("bars " + side, side, (context) => {
          for (let i = 0; i < 8; i++) {
            context.fillStyle = "hsl(" + i * 40 + " 60% 50%)";
            context.fillRect(side * (0.05 + i * 0.115), side * (0.9 - 0.08 * ((i * 5) % 9)), side * 0.09, side * 0.08 * ((i * 5) % 9));
          }
        });
      }
      return pictures;
    }`);
    const taken = wrong(all, false);
    t.diagnostic(`${taken.length} of ${Object.keys(all).length} taken for photographs: ${taken.join("; ")}`);
    assert.equal(Object.keys(all).length, 18 * 8);
    // Seen: 8, all of them shaded from edge to edge, and compressed, small or grey.
    assert.ok(taken.length <= 9, taken.join("; "));
    assert.ok(taken.every((name) => /^shaded .*(JPEG|small|grey|WebP)/.test(name)), taken.join("; "));
  });

  test("what cannot be told: too small, no picture, a browser that gives other pixels than there are", async () => {
    const tab = await openTab(host.browser);
    await tab.page.goto(`${host.server.origin}/tests/blank.html`);
    const said = await tab.page.evaluate(async ([site, origin]) => {
      const { isPhotograph } = await import(new URL("chat/talk/photograph.js", site).href);
      const photograph = await (await fetch(`${origin}/golden/images/chelsea.png`)).blob();
      const canvas = new OffscreenCanvas(24, 24);
      canvas.getContext("2d");
      const tiny = await canvas.convertToBlob();
      const said = [await isPhotograph(photograph), await isPhotograph(tiny), await isPhotograph(new Blob(["no picture"]))];
      const { getImageData } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.getImageData = function (...area) {
        const pixels = getImageData.apply(this, area);
        for (let i = 0; i < pixels.data.length; i += 397) pixels.data[i] ^= 1;
        return pixels;
      };
      said.push(await isPhotograph(photograph));
      return said;
    }, [host.site, host.server.origin]);
    await tab.close();
    assert.deepEqual(said, [true, null, null, null]);
  });
});

describe("asked about a photograph, the page's own model", { skip: withoutEngine }, () => {
  let host;
  before(async () => {
    host = await start();
    mkdirSync(SCREENSHOTS, { recursive: true });
  });
  after(() => host?.close());

  const visit = (name, use, options = {}) => test(name, { timeout: 90_000 }, async () => {
    const tab = await openTab(host.browser, options);
    tab.page.setDefaultTimeout(20_000);
    try {
      await tab.page.goto(host.site);
      await question(tab.page).waitFor();
      await use(tab.page);
      assert.deepEqual(tab.complaints, []);
    } finally {
      await tab.close();
    }
  });
  async function attach(page, ...files) {
    const chooser = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Picture", exact: true }).click();
    await (await chooser).setFiles(files);
  }
  async function ask(page, text) {
    await question(page).fill(text);
    await question(page).press("Enter");
    await page.locator(".turn .note").last().filter({ hasText: "tokens in" }).waitFor();
  }

  visit("says so with the answer, and the model for photographs answers the same question about the same picture", async (page) => {
    await page.evaluate(([model, mmproj]) => {
      const chat = document.querySelector("llava-chat");
      chat.models = [chat.models[0], { name: "Eyes", family: "idefics3", purpose: "photographs", goodAt: "Sees.", licence: "CC0", model, mmproj, bytes: 2e6, memory: 1e7 }];
      globalThis.asked = [];
      chat.addEventListener("llava-message", ({ detail }) => globalThis.asked.push(detail.role));
    }, ["tiny-smolvlm-q4_0.gguf", "mmproj-f16.gguf"].map((name) => `${host.server.origin}/golden/tiny-smolvlm/${name}`));
    await page.getByRole("region", { name: "For photographs: Eyes" }).waitFor();
    await attach(page, golden("images/chelsea.png"));
    await ask(page, "What animal is this?");
    await remark(page).getByText("This looks like a photograph. The loaded model knows drawings only, and is guessing here. Eyes understands photographs (2 MB to download).").waitFor();
    // It stands with the answer, in nobody's way: it is read out with it, and the focus is where it was.
    assert.equal(await question(page).evaluate((node) => node.getRootNode().activeElement === node), true);
    await page.waitForFunction(() => /to download\)\.$/.test(document.querySelector("llava-chat").shadowRoot.querySelector("[aria-live=polite]").textContent));
    const first = await page.locator(".answer").textContent();
    assert.ok(first.length > 3);
    // By keyboard: behind the answer's own buttons.
    await remark(page).getByRole("button", { name: "Ask Eyes" }).focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction((first) => {
      const chat = document.querySelector("llava-chat");
      const answer = chat.shadowRoot.querySelector(".answer")?.textContent ?? "";
      return chat.engine?.info.vision?.projector === "idefics3" && answer !== "" && answer !== first;
    }, first);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
    assert.deepEqual(await page.locator(".question").allTextContents(), ["What animal is this?"]);
    assert.equal(await page.getByRole("img", { name: /chelsea\.png/ }).count(), 1);
    assert.equal(await remark(page).isVisible(), false, "this one knows photographs");
    // Asked once by the person, answered twice.
    assert.deepEqual(await page.evaluate(() => globalThis.asked), ["user", "assistant", "assistant"]);
  });

  visit("says nothing about a drawing, and of several pictures that one is a photograph", async (page) => {
    await attach(page, path.join(WWW, "examples/pets.png"));
    await ask(page, "Is there a dog?");
    await attach(page, path.join(WWW, "examples/fruit.png"), golden("images/coffee.jpg"));
    await ask(page, "What is in these pictures?");
    await remark(page).getByText("One of these looks like a photograph.").waitFor();
    // What was told by then of the first is what is told of it.
    assert.equal(await remark(page).count(), 1);
    await remark(page).getByRole("button", { name: "Close this message" }).click();
    assert.equal(await remark(page).count(), 0);
    // The way to all models, and back to the conversation.
    await attach(page, golden("images/astronaut.png"));
    await ask(page, "Who is this?");
    await remark(page).getByRole("button", { name: "More models" }).click();
    await page.getByText(/^More models \(\d+\)$/).waitFor();
    await page.getByRole("button", { name: "Back to the chat" }).click();
    assert.equal(await page.locator(".question").count(), 3);
  });

  for (const [name, options] of Object.entries({
    "390-light": { viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true }, "390-dark": { viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true },
    "1280-light": { viewport: { width: 1280, height: 800 }, colorScheme: "light" }, "1280-dark": { viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  })) {
    visit(`at ${name}: nothing overflows, no accessibility rule is broken; screenshots`, async (page) => {
      const check = async (state) => {
        await settled(page);
        await page.screenshot({ path: path.join(SCREENSHOTS, `${name}-${state}.png`) });
        const found = await page.evaluate(async (axe) => {
          globalThis.axe ?? Function(axe)();
          const { violations } = await globalThis.axe.run(document);
          const root = document.querySelector("llava-chat").shadowRoot;
          const small = [...root.querySelectorAll("button, summary")].filter((node) => node.checkVisibility()).map((node) => node.getBoundingClientRect())
            .filter(({ width, height }) => Math.min(width, height) < 40);
          const cut = [...root.querySelectorAll("button, summary")].filter((node) => node.checkVisibility() && node.scrollWidth > node.clientWidth + 1).map((node) => node.textContent);
          return { overflows: document.documentElement.scrollWidth > innerWidth, violations: violations.map(({ id, nodes }) => [id, nodes.length]), small: small.length, cut };
        }, axe);
        assert.deepEqual(found, { overflows: false, violations: [], small: 0, cut: [] }, state);
      };
      await page.getByRole("region", { name: /^For photographs: / }).getByText(/first words|slow here/).waitFor();
      await check("19-offer");
      await attach(page, golden("images/chelsea.png"));
      await ask(page, "What animal is in the picture?");
      await remark(page).waitFor();
      await check("20-photograph");
      await remark(page).getByRole("button", { name: "More models" }).click();
      await page.getByText(/^More models \(\d+\)$/).waitFor();
      await check("21-more-models");
    }, options);
  }
});
