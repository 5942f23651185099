// Pictures are what is in them, whatever they are called and however a page has them: what the browser decodes beside what the engine does,
// elements and frames, objects of another frame; and what is none is said to be, and what to do.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { golden, openTab, start, withoutEngine } from "./support.mjs";

const MODEL = "tiny-llava/tiny-llava-f16.gguf";
const MMPROJ = "tiny-llava/mmproj-legacy-f16.gguf";
const TEST = { timeout: 60_000 };

/** The picture of this file: red on the left, blue on the right. `size` and more go into the root. */
const svg = (size = 'width="64" height="48"', inner = "") => `<svg xmlns="http://www.w3.org/2000/svg" ${size}>
  <rect width="32" height="48" fill="rgb(220,30,30)"/><rect x="32" width="32" height="48" fill="rgb(30,60,220)"/>${inner}</svg>`;

describe("pictures by content", { skip: withoutEngine }, () => {
  let host;
  let tab;
  let page;
  before(async () => {
    host = await start();
    tab = await openTab(host.browser);
    ({ page } = tab);
    page.setDefaultTimeout(30_000);
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(prepare, { site: host.site, model: `/golden/${MODEL}`, mmproj: `/golden/${MMPROJ}` });
  });
  after(() => host?.close());

  /** Runs in the page: the engine, and what tells whether a picture is the one of this file. */
  async function prepare({ site, model, mmproj }) {
    const { createEngine } = await import(`${site}llava-web.js`);
    globalThis.engine = await createEngine({ model, mmproj, device: "cpu", cache: "none" });
    const canvas = globalThis.canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
    const context = canvas.getContext("2d");
    for (const [x, colour] of [[0, "rgb(220,30,30)"], [32, "rgb(30,60,220)"]]) {
      context.fillStyle = colour;
      context.fillRect(x, 0, 32, 48);
    }
    const { data: wanted } = await globalThis.engine.preprocessImage(context.getImageData(0, 0, 64, 48));
    /** How far a picture is from it, on average, in the vision tower's units: colours lie within two or so. */
    globalThis.distance = async (image) => {
      const { data } = await globalThis.engine.preprocessImage(image);
      if (data.length !== wanted.length) return Infinity;
      return data.reduce((sum, value, i) => sum + Math.abs(value - wanted[i]), 0) / data.length;
    };
    globalThis.outcome = (promise) => promise.then(() => null, ({ code, message }) => ({ code, message }));
    globalThis.bytesOf = async (address) => new Uint8Array(await (await fetch(address)).arrayBuffer());
  }

  /** Compression rounds, and edges fall between pixels. */
  const near = (found, bound = 0.1) => {
    for (const [name, distance] of Object.entries(found)) assert.ok(distance <= bound, `${name} is ${distance} off`);
  };

  test("what a file is called and said to be does not matter", TEST, async () => {
    near(await page.evaluate(async (svg) => {
      const avif = await globalThis.bytesOf("/golden/images/halves.avif");
      const png = await new Promise((resolve) => globalThis.canvas.toBlob(resolve));
      const found = {};
      for (const [name, image] of Object.entries({
        "an AVIF": new Blob([avif], { type: "image/avif" }),
        "an AVIF called photo.jpg": new File([avif], "photo.jpg", { type: "image/jpeg" }),
        "an AVIF's bytes": avif,
        "an AVIF at an address that says nothing": "/golden/images/halves.avif",
        "an AVIF as data: with another type": `data:image/png;base64,${btoa(String.fromCharCode(...avif))}`,
        "a PNG called notes.txt": new File([png], "notes.txt", { type: "text/plain" }),
        "a PNG said to be SVG": new Blob([png], { type: "image/svg+xml" }),
        "an SVG": new Blob([svg], { type: "image/svg+xml" }),
        "an SVG without a type": new Blob([svg]),
        "an SVG called photo.png": new File([svg], "photo.png", { type: "image/png" }),
        "an SVG as text": svg,
        "an SVG in base64": btoa(svg),
        "an SVG as data:": `data:image/svg+xml,${encodeURIComponent(svg)}`,
        "an SVG as data: in base64": `data:image/svg+xml;base64,${btoa(svg)}`,
      })) found[name] = await globalThis.distance(image);
      return found;
    }, svg()));
  });

  test("a drawing is as large as it says, or as its proportions are", TEST, async () => {
    const box = 'viewBox="0 0 64 48"';
    const drawings = {
      "with a size": [svg(), 64, 48],
      "without one": [svg(box), 1024, 768],
      "with one side": [svg(`width="32" ${box}`), 32, 24],
      "with the other": [svg(`height='96' ${box}`), 128, 96],
      "as wide as the page": [svg(`width="100%" height="100%" ${box}`), 1024, 768],
      "in points": [svg(`width="48pt" height="36pt" ${box}`), 64, 48],
      "larger than any canvas": [svg(`width="64000" height="48000" ${box}`), 4096, 3072],
      "with nothing but itself": ['<svg xmlns="http://www.w3.org/2000/svg"/>', 300, 150],
      "behind a prologue": [`\n<?xml version="1.0" encoding="UTF-8"?>\n<!-- <svg width="1"> -->\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x" [ <!ENTITY a "b"> ]>\n${svg(box)}`.trim(), 1024, 768],
      "with a prefix": [`<s:svg xmlns:s="http://www.w3.org/2000/svg" ${box} width="auto"><s:rect width="32" height="48" fill="rgb(220,30,30)"/><s:rect x="32" width="32" height="48" fill="rgb(30,60,220)"/></s:svg>`, 1024, 768],
    };
    const found = await page.evaluate(async ({ drawings, site }) => {
      const { svgDrawing } = await import(`${site}worker/svg.js`);
      const all = [];
      for (const [name, [text, width, height]] of Object.entries(drawings)) {
        const drawing = svgDrawing(new TextEncoder().encode(text));
        const image = Object.assign(new Image(), { src: URL.createObjectURL(drawing.blob) });
        await image.decode();
        all.push({ name, wanted: [width, height], said: [drawing.width, drawing.height], drawn: [image.naturalWidth, image.naturalHeight], distance: await globalThis.distance(new Blob([text])) });
      }
      const utf16 = new Uint8Array(Uint16Array.from(`\ufeff${drawings["without one"][0]}`, (character) => character.charCodeAt(0)).buffer);
      const latin1 = new Uint8Array([..."<?xml version='1.0' encoding='ISO-8859-1'?>", ...drawings["without one"][0].replace("</svg>", "<title>\u00fc</title></svg>")].map((character) => character.charCodeAt(0)));
      const none = ["<html><svg/></html>", "svg", "<svgx/>", "{}", ""].map((text) => svgDrawing(new TextEncoder().encode(text)));
      return { all, encodings: { utf16: await globalThis.distance(utf16), latin1: await globalThis.distance(latin1) }, none };
    }, { drawings, site: host.site });
    for (const { name, wanted, said, drawn, distance } of found.all) {
      assert.deepEqual([said, drawn], [wanted, wanted], name);
      if (!name.includes("nothing")) assert.ok(distance <= 0.1, `${name}: ${distance}`);
    }
    near(found.encodings);
    assert.deepEqual(found.none, [null, null, null, null, null]);
  });

  test("nothing that a drawing names is loaded, and nothing of it runs", TEST, async () => {
    const elsewhere = host.other.origin;
    const inner = `<script>fetch("${elsewhere}/script")</script><style>@import url("${elsewhere}/style.css"); rect { background: url(${elsewhere}/background.png); }</style>
      <image href="${elsewhere}/image.png" width="9" height="9"/><use href="${elsewhere}/use.svg#x"/><foreignObject width="9" height="9"><img xmlns="http://www.w3.org/1999/xhtml" src="${elsewhere}/html.png"/></foreignObject>`;
    const [before, there] = [host.server.requests.length, host.other.requests.length];
    near({ drawing: await page.evaluate((text) => globalThis.distance(new Blob([text])), svg('viewBox="0 0 64 48"', inner)) });
    assert.deepEqual(host.other.requests.slice(there), []);
    assert.deepEqual(host.server.requests.slice(before).map(({ url }) => url), []);
  });

  test("what a page has of pictures: elements, frames of a video, bitmaps", TEST, async () => {
    near(await page.evaluate(async (svg) => {
      const { canvas } = globalThis;
      const loaded = async (element, name, address) => {
        const done = new Promise((resolve, reject) => Object.assign(element, { onload: resolve, onerror: reject }));
        element.setAttribute(name, address);
        await done;
        return element;
      };
      const drawing = document.body.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
      const inSvg = drawing.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "image"));
      const video = Object.assign(document.createElement("video"), { muted: true, srcObject: canvas.captureStream() });
      const frames = setInterval(() => canvas.getContext("2d").fillRect(63, 47, 1, 1), 20);
      await video.play();
      await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
      clearInterval(frames);
      const offscreen = new OffscreenCanvas(64, 48);
      offscreen.getContext("2d").drawImage(canvas, 0, 0);
      const frame = new VideoFrame(canvas, { timestamp: 0 });
      const found = {};
      for (const [name, image] of Object.entries({
        canvas, offscreen, video, frame,
        bitmap: await createImageBitmap(canvas),
        img: await loaded(new Image(), "src", canvas.toDataURL()),
        "img of an SVG": await loaded(new Image(), "src", `data:image/svg+xml,${encodeURIComponent(svg)}`),
        "image in an SVG": await loaded(inSvg, "href", canvas.toDataURL()),
      })) found[name] = await globalThis.distance(image);
      // They stay the page's.
      if (frame.codedWidth === 0) throw new Error("the frame was closed");
      frame.close();
      return found;
    }, svg()));
  });

  test("the same of another frame", TEST, async () => {
    const { found, tokens } = await page.evaluate(async ({ svg, model, site }) => {
      const { contentWindow: other } = document.body.appendChild(document.createElement("iframe"));
      const canvas = other.document.createElement("canvas");
      [canvas.width, canvas.height] = [64, 48];
      canvas.getContext("2d").drawImage(globalThis.canvas, 0, 0);
      const png = await new Promise((resolve) => canvas.toBlob(resolve));
      const image = new other.Image();
      image.src = canvas.toDataURL();
      await image.decode();
      const found = {};
      for (const [name, picture] of Object.entries({
        canvas, image,
        blob: new other.Blob([svg]),
        file: new other.File([png], "a.txt"),
        buffer: await new other.Response(png).arrayBuffer(),
        view: new other.Uint8Array(await new other.Response(png).arrayBuffer()),
        pixels: canvas.getContext("2d").getImageData(0, 0, 64, 48),
        bitmap: await other.createImageBitmap(canvas),
        frame: new other.VideoFrame(canvas, { timestamp: 0 }),
        address: new other.URL(canvas.toDataURL()),
      })) found[name] = await globalThis.distance(picture);
      // A model too.
      const { createEngine } = await import(`${site}llava-web.js`);
      const bytes = await (await fetch(model)).arrayBuffer();
      const file = new other.File([bytes], "model.gguf");
      const buffer = new other.Uint8Array(new Uint8Array(bytes)).buffer;
      const tokens = [];
      for (const model of [file, buffer, new other.URL("/golden/tiny-llava/tiny-llava-f16.gguf", location.href)]) {
        const engine = await createEngine({ model, device: "cpu", cache: "none" });
        tokens.push((await engine.tokenize("Hello")).length);
        await engine.unload();
      }
      return { found, tokens };
    }, { svg: svg(), model: `/golden/${MODEL}`, site: host.site });
    near(found);
    assert.ok(tokens.every((count) => count > 0 && count === tokens[0]), String(tokens));
  });

  test("a JPEG whose end is missing", TEST, async () => {
    const jpeg = readFileSync(golden("images/chelsea.jpg"));
    const results = await page.evaluate(async (bytes) => {
      const jpeg = new Uint8Array(bytes);
      const whole = await globalThis.engine.preprocessImage(jpeg);
      const cut = await globalThis.engine.preprocessImage(jpeg.subarray(0, -2));
      const longer = await globalThis.engine.preprocessImage(new Blob([jpeg, new Uint8Array(1000)]));
      return { same: [cut, longer].map(({ data }) => data.every((value, i) => value === whole.data[i])), half: await globalThis.outcome(globalThis.engine.preprocessImage(jpeg.subarray(0, jpeg.length / 2))) };
    }, [...jpeg]);
    assert.deepEqual(results.same, [true, true]);
    assert.equal(results.half.code, "invalid_image");
    assert.match(results.half.message, /cut short/);
  });

  test("what is no picture is named, with what to do; the engine goes on", TEST, async () => {
    const heic = [0, 0, 0, 24, ..."ftypheic\0\0\0\0mif1heic"].map((byte) => (typeof byte === "string" ? byte.charCodeAt(0) : byte));
    const wanted = [
      [[...Buffer.from("Dear Sir, this is no picture.")], /a text file.*PNG, JPEG/],
      [[...Buffer.from("<!doctype html><html><title>404</title>")], /a web page.*address of the picture itself/],
      [heic, /an HEIC picture.*Safari.*JPEG/],
      [[0, 0, 0, 24, ...Buffer.from("ftypisom\0\0\0\0isomavc1")], /a video.*<video>/],
      [[...Buffer.from("%PDF-1.7\n%\xe2\xe3", "latin1")], /a PDF document.*PNG or JPEG/],
      [[...readFileSync(golden("images/halves.avif")).subarray(0, 200)], /an AVIF picture/],
      [[...Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><rect></svg>')], /an SVG drawing that could not be drawn.*damaged/],
      [[], /0 bytes/],
    ];
    const outcomes = await page.evaluate(async (files) => {
      const outcomes = [];
      for (const bytes of files) outcomes.push(await globalThis.outcome(globalThis.engine.embedImage(new Uint8Array(bytes))));
      const frame = new VideoFrame(globalThis.canvas, { timestamp: 0 });
      frame.close();
      for (const image of [frame, document.createElement("video"), new Image(), Object.assign(document.createElement("canvas"), { width: 0 })]) outcomes.push(await globalThis.outcome(globalThis.engine.embedImage(image)));
      return outcomes;
    }, wanted.map(([bytes]) => bytes));
    for (const [i, outcome] of outcomes.entries()) {
      assert.equal(outcome?.code, "invalid_image", `${i}: ${JSON.stringify(outcome)}`);
      if (wanted[i]) assert.match(outcome.message, wanted[i][1]);
    }
    near({ after: await page.evaluate(() => globalThis.distance(globalThis.canvas)) });
  });

  test("a drawing that is no longer wanted is not waited for", TEST, async () => {
    const outcome = await page.evaluate(async (svg) => {
      const controller = new AbortController();
      // The page itself stands still until it is too late.
      const asked = globalThis.outcome(globalThis.engine.embedImage(new Blob([svg]), { signal: controller.signal }));
      queueMicrotask(() => controller.abort());
      return [(await asked).code, await globalThis.distance(new Blob([svg])) < 0.1];
    }, svg());
    assert.deepEqual(outcome, ["aborted", true]);
  });

  for (const [policy, works] of [["img-src data:", true], ["img-src blob:", true], ["img-src 'none'", false]]) {
    test(`a drawing in a page with ${policy}`, TEST, async () => {
      const strict = await openTab(host.browser);
      try {
        await strict.page.route("**/tests/blank.html", async (route) => route.fulfill({ response: await route.fetch(), headers: { "content-type": "text/html", "content-security-policy": policy } }));
        await strict.page.goto(`${host.server.origin}/tests/blank.html`);
        await strict.page.evaluate(prepare, { site: host.site, model: `/golden/${MODEL}`, mmproj: `/golden/${MMPROJ}` });
        const { distance, failure } = await strict.page.evaluate(async (svg) => {
          const failure = await globalThis.outcome(globalThis.engine.embedImage(new Blob([svg])));
          return { failure, distance: failure ? null : await globalThis.distance(new Blob([svg])) };
        }, svg());
        if (works) near({ distance });
        else assert.match(`${failure?.code} ${failure?.message}`, /^invalid_image .*img-src/);
      } finally {
        await strict.close();
      }
    });
  }

  test("an engine that was made in a worker has no page to draw with, and says so", TEST, async () => {
    const said = await page.evaluate(async ({ site, model, mmproj, svg, origin }) => {
      const code = `
        import { createEngine } from "${site}llava-web.js";
        const engine = await createEngine({ model: "${origin}${model}", mmproj: "${origin}${mmproj}", device: "cpu", cache: "none" });
        const avif = await engine.embedImage("${origin}/golden/images/halves.avif");
        postMessage({ shape: avif.shape, ...await engine.embedImage(new Blob([${JSON.stringify(svg)}])).then(() => ({}), ({ code, message }) => ({ code, message })) });`;
      const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
      return new Promise((resolve, reject) => Object.assign(worker, { onmessage: ({ data }) => resolve(data), onerror: reject }));
    }, { site: host.site, model: `/golden/${MODEL}`, mmproj: `/golden/${MMPROJ}`, svg: svg(), origin: host.server.origin });
    assert.equal(said.shape.length, 2);
    assert.match(`${said.code} ${said.message}`, /^invalid_image .*only a page can draw it.*PNG/);
  });
});
