// No picture and no question becomes part of a request: addresses that hold the picture are read here, as the browser's own fetch reads them,
// and the watch over all requests that every suite has is shown to see them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { openTab, start } from "./support.mjs";

describe("the watch over requests", () => {
  /** What `close` says of a browser in which this was done. @param {(page: import("playwright-core").Page, origin: string) => Promise<unknown>} act */
  async function complaintOf(act, options = {}) {
    const host = await start(options);
    const { page } = await openTab(host.browser);
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await act(page, host.server.origin);
    return host.close().then(() => null, ({ message }) => message);
  }

  test("a page file, a model file and an address that was given are none of its business", async () => {
    assert.equal(await complaintOf((page, origin) => page.evaluate(async (origin) => {
      await fetch("/some/folder/llava-web.js");
      await fetch("/golden/tiny-llava/tiny-llava-q4_0.gguf?drop=5&times=1").then((response) => response.text()).catch(() => {});
      await fetch(`${origin}/nowhere.png`);
      await fetch("data:text/plain,hello");
    }, origin), { given: [/\/nowhere\.png$/] }), null);
  });

  test("it sees all else, whoever asks for it", async () => {
    const complaint = await complaintOf((page) => page.evaluate(async () => {
      await fetch("/some/folder/icon.svg?q=question-in-a-query");
      await fetch("/some/folder/icon.svg?etag=question%20in%20a%20known%20query");
      await fetch(`/tests/${"iVBORw0KGgo".repeat(5)}`);
      await fetch("/some/folder/not-published.js");
      await fetch("/some/folder/icon.svg", { method: "POST", body: "question" });
      navigator.sendBeacon("/some/folder/beacon", "question");
      await fetch("https://elsewhere.invalid/").catch(() => {});
      await new Promise((resolve) => {
        const image = new Image();
        image.onerror = resolve;
        image.src = "/for-an-image.png";
      });
      // A worker's worker.
      await new Promise((resolve) => {
        const inner = `postMessage(await fetch("${location.origin}/for-a-worker").then(({ status }) => status))`;
        const outer = `const w = new Worker(URL.createObjectURL(new Blob([${JSON.stringify(inner)}], { type: "text/javascript" })), { type: "module" }); w.onmessage = ({ data }) => postMessage(data);`;
        new Worker(URL.createObjectURL(new Blob([outer], { type: "text/javascript" })), { type: "module" }).onmessage = resolve;
      });
      const registration = await navigator.serviceWorker.register("/tests/fetching-service-worker.js");
      const worker = registration.installing ?? registration.waiting ?? registration.active;
      await new Promise((resolve) => {
        const look = () => worker.state === "activated" && resolve();
        worker.addEventListener("statechange", look);
        look();
      });
    }));
    for (const leak of ["q=question-in-a-query", "question%20in%20a%20known", "iVBORw0KGgoiVBORw0KGgo", "not-published.js", "POST", "/beacon", "elsewhere.invalid",
      "for-an-image.png", "for-a-worker", "for-a-service-worker"]) assert.ok(complaint?.includes(leak), `${leak} in ${complaint}`);
  });
});

describe("pictures in their addresses", () => {
  let host;
  let page;
  before(async () => {
    host = await start();
    ({ page } = await openTab(host.browser));
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(async (site) => {
      globalThis.dataUrl = await import(`${site}fetching/data-url.js`);
    }, host.site);
  });
  after(() => host.close());

  const PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
  const GIF_IN_PERCENT = "GIF89a%01%00%01%00%80%00%00%00%00%00%FF%FF%FF%2C%00%00%00%00%01%00%01%00%00%02%02D%01%00%3B";

  test("every spelling of a data: address is read as fetch reads it", async () => {
    // Line breaks within base64 only: elsewhere Chromium's fetch keeps them, against the standard and its own URL.
    const urls = [
      `data:image/gif;base64,${PIXEL}`, `DATA:image/gif;base64,${PIXEL}`, `Data:IMAGE/GIF;BASE64,${PIXEL}`, `  \n\tdata:image/gif;base64,${PIXEL}`,
      `data:image/gif;base64,${PIXEL}  \n`, `data:image/gif;charset=utf-8;base64,${PIXEL}`, `data:image/gif; base64,${PIXEL}`, `data:image/gif;base64 ,${PIXEL}`,
      `data:image/gif;  base64  ,${PIXEL}`, `data:;base64,${PIXEL}`, `data:base64,${PIXEL}`, `data:image/gif;base64=,${PIXEL}`, `data:image/gif;xbase64,${PIXEL}`,
      `data:image/gif;base64,${PIXEL.replace(/(.{20})/g, "$1\n")}`, `data:image/gif;base64,${PIXEL.replace(/(.{20})/g, "$1\r\n ")}`,
      `data:image/gif;base64,${PIXEL.replace(/(.{20})/g, "$1%0A")}`, `data:image/gif;base64,${PIXEL.replace(/\//g, "%2F").replace(/\+/g, "%2B")}`,
      `d\na\tt\ra:image/gif;base64,${PIXEL}`, `data:image/gif;base64,${PIXEL}#fragment`, `data:image/gif,#`,
      `data:image/gif,${GIF_IN_PERCENT}`, `data:image/gif;charset=x,${GIF_IN_PERCENT.toLowerCase()}`, "data:,a%2", "data:,a%zzb%", "data:,é%C3%A9\ud83d\ude00",
      "data:,a b", "data:,  a  ", "data:,a?b=c#d", "data:text/plain,a,b", "data:,", "data:;base64,", "data:;base64,YQ", "data:;base64,YQ==", "data:;base64,YQ=",
      "data:;base64,Y", "data:;base64,Y===", "data:;base64,YR==", "data:;base64,YWJj=", "data:;base64,%59%51", "data:;base64,é", "data:;base64,Y*Q=", "data:;base64,\x00YQ==",
      "data:image/gif", "data:", "data:%2C,x", "data:,\ud800x", "data:;base64,YW\fJj", "\x01\x1f data:,x",
    ];
    const results = await page.evaluate(async (urls) => {
      const text = (/** @type {Uint8Array} */ bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const all = [];
      for (const url of urls) {
        const want = await fetch(url).then(async (response) => text(new Uint8Array(await response.arrayBuffer())), () => "refused");
        let got = "not taken for one";
        try {
          if (globalThis.dataUrl.isDataUrl(url)) got = text(globalThis.dataUrl.dataUrlBytes(url));
        } catch (error) {
          got = error.code === "invalid_image" ? "refused" : String(error);
        }
        all.push({ url, want, got });
      }
      return all;
    }, urls);
    assert.ok(results.filter(({ want }) => want === "refused").length >= 5, "some are refused");
    assert.deepEqual(results.filter(({ want, got }) => got !== want), []);
  });

  test("base64 with the alphabet of URLs is read, with and without data:", async () => {
    const result = await page.evaluate(() => {
      const bytes = Uint8Array.from({ length: 258 }, (_, i) => i);
      bytes.set([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
      const text = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
      const { base64Bytes, dataUrlBytes, isBase64Picture } = globalThis.dataUrl;
      return { letters: /[-_]/.test(text), is: isBase64Picture(text), same: [base64Bytes(text), dataUrlBytes(`data:;base64,${text}`)].map((got) => String(got) === String(bytes)) };
    });
    assert.deepEqual(result, { letters: true, is: true, same: [true, true] });
  });

  test("which texts are pictures in base64, and which are addresses", async () => {
    const base64 = (/** @type {number[]} */ head, length = 300) => Buffer.from(Uint8Array.from({ length }, (_, i) => head[i] ?? i * 7)).toString("base64");
    const bitmap = [0x42, 0x4d, 0x36, 3, 0, 0, 0, 0, 0, 0, 0x36, 0, 0, 0, 40, 0, 0, 0];
    const pictures = [
      base64([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]), base64([0xff, 0xd8, 0xff, 0xe0]), base64([0xff, 0xd8, 0xff, 0xe1]), base64([...Buffer.from("GIF89a")]),
      base64([...Buffer.from("RIFF0000WEBP")]), base64(bitmap), base64([0, 0, 0, 0x1c, ...Buffer.from("ftypavif")]), base64([0, 0, 0, 0x20, ...Buffer.from("ftypheic")]),
      "/9j/4AAQSkZJRgABAQ", ` ${base64([0xff, 0xd8, 0xff]).replace(/(.{76})/g, "$1\n")}\n`, `${base64([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10])}%%%`,
    ];
    const addresses = ["x.png", "/9j/photo.jpg", "/9j/?x=1", "Qk/picture.png", "Qk", "QkpAth", "iVBORw0KGgo.png", "https://host/iVBORw0KGgo", "blob:https://x/y", "R0lGOD.gif", "AAAA.png"];
    const found = await page.evaluate((texts) => texts.map((text) => globalThis.dataUrl.isBase64Picture(text)), [...pictures, ...addresses]);
    assert.deepEqual(found, [...pictures.map(() => true), ...addresses.map(() => false)], [...pictures, ...addresses].map((text, i) => `${text.slice(0, 20)}: ${found[i]}`).join("\n"));
  });
});
