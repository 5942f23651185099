// engine.watch: what is seen changes and the answer with it, whatever the source is; what hardly differs is not looked at; it ends in every way it can, and gives everything
// back. With the page's own model, whose answers about drawings are right or wrong.

import assert from "node:assert/strict";
import { after, before, describe, test as plainTest } from "node:test";

import { openTab, start, withoutEngine } from "./support.mjs";

/** What never ends is what is looked for here. */
const test = (name, body) => plainTest(name, { timeout: 120_000 }, body);

describe("watch", { skip: withoutEngine }, () => {
  let host;
  let tab;
  let page;

  before(async () => {
    host = await start({ flags: ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--js-flags=--expose-gc"] });
    tab = await openTab(host.browser);
    page = tab.page;
    page.setDefaultTimeout(60_000);
    await page.goto(`${host.server.origin}/tests/blank.html`);
    await page.evaluate(async ({ site, origin, elsewhere }) => {
      const api = await import(`${site}llava-web.js`);
      const files = { model: `${site}models/house.gguf`, mmproj: `${site}models/house-mmproj.gguf` };
      const load = (options) => api.createEngine({ ...files, device: "cpu", cache: "none", ...options });
      const drawings = Object.fromEntries(await Promise.all(["pets", "fruit", "travel"].map(async (name) => [name, await createImageBitmap(await (await fetch(`${site}examples/${name}.png`)).blob())])));
      /** A canvas with a drawing. */
      const canvasOf = (name, side = 384) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
        show(canvas, name);
        return canvas;
      };
      const show = (canvas, name, shift = 0) => canvas.getContext("2d").drawImage(drawings[name], shift, 0, canvas.width, canvas.height);
      const until = async (is, what) => {
        for (const end = Date.now() + 30_000; !is();) {
          if (Date.now() > end) throw new Error(`not in time: ${what ?? is}`);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      /** Watches, and remembers what was told. */
      const watch = (source, { onAnswer = () => {}, engine = globalThis.engine, ...options } = {}) => {
        const told = [];
        const watching = engine.watch(source, { question: "What is in this picture?", ...options, onAnswer(answer) {
          told.push(answer);
          onAnswer(answer);
        } });
        const ended = watching.ended.then((how) => ({ how }), ({ code, message, constructor }) => ({ code, message, is: constructor === api.LlavaError }));
        return { watching, ended, told, get answers() {
          return told.filter(({ done, skipped }) => done && !skipped);
        } };
      };
      const hide = (hidden) => {
        Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (hidden ? "hidden" : "visible") });
        document.dispatchEvent(new Event("visibilitychange"));
      };
      const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      Object.assign(globalThis, { elsewhere, api, load, canvasOf, show, until, watch, hide, pause, origin, drawings, engine: await load() });
    }, { site: host.site, origin: host.server.origin, elsewhere: host.other.origin });
  });
  after(() => host?.close());

  test("the answers follow what is drawn, and are those to the same picture asked about once", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, show, until, watch, engine } = globalThis;
      const canvas = canvasOf("pets");
      const w = watch(canvas);
      const texts = [];
      for (const name of ["pets", "fruit", "travel", "pets"]) {
        show(canvas, name);
        const count = w.answers.length;
        await until(() => w.answers.length > count, name);
        const { choices: [{ message }] } = await engine.chat.completions.create({
          messages: [{ role: "user", content: [{ type: "image", image: canvas, detail: "low" }, { type: "text", text: "What is in this picture?" }] }], temperature: 0, max_tokens: 128,
        });
        texts.push({ name, watched: w.answers.at(-1).text, asked: message.content });
      }
      await w.watching.stop();
      return { texts, told: w.told, ended: await w.ended };
    });
    for (const { name, watched, asked } of seen.texts) {
      assert.match(watched, { pets: /dog/, fruit: /banana/, travel: /bus/ }[name]);
      assert.equal(watched, asked);
    }
    assert.deepEqual(seen.ended, { how: "stopped" });
    const whole = seen.told.filter(({ done, skipped }) => done && !skipped);
    assert.equal(whole.length, 4);
    for (const { finish_reason, latency, usage, question, mediaTime } of whole) {
      assert.equal(finish_reason, "stop");
      assert.ok(latency.firstToken > 0 && latency.firstToken <= latency.whole);
      assert.ok(usage.image_tokens === 64 && usage.completion_tokens > 3);
      assert.deepEqual([question, mediaTime], ["What is in this picture?", null]);
    }
    // Each frame is told when it is taken, then as its answer grows.
    const first = seen.told.slice(0, seen.told.findIndex(({ done }) => done) + 1);
    assert.deepEqual([first[0].text, first[0].latency, first[0].usage], ["", { firstToken: null, whole: null }, null]);
    assert.ok(first.length > 3 && first.every(({ text }, i) => i === 0 || text.startsWith(first[i - 1].text)));
  });

  test("frames that hardly differ are not looked at; with a threshold of 0 all are", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, until, watch } = globalThis;
      const canvas = canvasOf("fruit");
      const context = canvas.getContext("2d");
      const still = context.getImageData(0, 0, 384, 384);
      // As a camera's noise: every pixel of every frame by some steps of 256.
      const noise = () => {
        const pixels = new ImageData(new Uint8ClampedArray(still.data), 384, 384);
        for (let i = 0; i < pixels.data.length; i++) if (i % 4 !== 3) pixels.data[i] += Math.round(16 * (Math.random() - 0.5));
        context.putImageData(pixels, 0, 0);
      };
      const timer = setInterval(noise, 10);
      const w = watch(canvas);
      await until(() => w.told.filter(({ skipped }) => skipped).length > 5);
      const usual = { answers: w.answers.length, skipped: w.told.filter(({ skipped }) => skipped) };
      await w.watching.stop();
      const all = watch(canvas, { threshold: 0 });
      await until(() => all.answers.length > 4);
      await all.watching.stop();
      clearInterval(timer);
      return { usual, skipped: all.told.some(({ skipped }) => skipped), text: w.answers[0].text };
    });
    assert.equal(seen.usual.answers, 1);
    assert.equal(seen.skipped, false);
    for (const { text, done } of seen.usual.skipped) assert.deepEqual([text, done], [seen.text, true]);
    const times = seen.usual.skipped.map(({ time }) => time);
    assert.ok(times.every((time, i) => i === 0 || time > times[i - 1]));
  });

  test("a small thing that appears is noticed", async () => {
    const differ = await page.evaluate(async () => {
      const { canvasOf, drawings, until, watch } = globalThis;
      const canvas = canvasOf("fruit");
      const w = watch(canvas);
      await until(() => w.answers.length === 1);
      // A twelfth of its width: a balloon's, say.
      canvas.getContext("2d").drawImage(drawings.pets, 150, 40, 64, 64, 20, 20, 48, 48);
      await until(() => w.answers.length === 2);
      await w.watching.stop();
      return w.answers.map(({ text }) => text);
    });
    assert.equal(differ.length, 2);
  });

  test("there is no queue: of the frames that come meanwhile only the newest is looked at, and all are given back", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, show, watch } = globalThis;
      const canvas = canvasOf("pets", 128);
      const frames = [];
      const names = ["pets", "fruit", "travel"];
      const w = watch(new ReadableStream({
        async pull(controller) {
          if (frames.length === 120) return controller.close();
          show(canvas, names[Math.floor(frames.length / 2) % 3], frames.length % 2);
          const frame = new VideoFrame(canvas, { timestamp: frames.length * 1e4 });
          frames.push(frame);
          controller.enqueue(frame);
          await new Promise((resolve) => setTimeout(resolve, 2));
        },
      }), { threshold: 0 });
      const ended = await w.ended;
      return { ended, answers: w.answers.map(({ mediaTime, time, latency }) => ({ mediaTime, time, whole: latency.whole })), open: frames.filter(({ format }) => format !== null).length };
    });
    assert.deepEqual(seen.ended, { how: "source" });
    assert.equal(seen.open, 0);
    const times = seen.answers.map(({ mediaTime }) => Math.round(mediaTime * 100));
    assert.ok(times.length >= 2 && times.length < 100, times.join());
    assert.ok(times.every((time, i) => i === 0 || time > times[i - 1]), times.join());
    // The last one is looked at though the stream has ended by then.
    assert.equal(times.at(-1), 119);
    for (const [i, { time }] of seen.answers.entries()) if (i > 0) assert.ok(time >= seen.answers[i - 1].time + seen.answers[i - 1].whole - 1);
  });

  test("what is watched may be a camera, its track, a video, a canvas of either kind, an image, or a picture that stays", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, drawings, until, watch, origin } = globalThis;
      const camera = await navigator.mediaDevices.getUserMedia({ video: true });
      const video = Object.assign(document.createElement("video"), { srcObject: camera, muted: true });
      await video.play();
      const offscreen = new OffscreenCanvas(128, 128);
      offscreen.getContext("2d").drawImage(drawings.pets, 0, 0, 128, 128);
      const url = `${origin}/some/folder/examples/pets.png`;
      const image = Object.assign(new Image(), { src: url });
      const canvas = canvasOf("pets");
      const sources = {
        camera, track: camera.getVideoTracks()[0], video, canvas, offscreen, image, url, blob: await (await fetch(url)).blob(), frame: new VideoFrame(canvas, { timestamp: 0 }),
        pixels: canvas.getContext("2d").getImageData(0, 0, 384, 384), captured: canvas.captureStream(10), bitmap: await createImageBitmap(drawings.pets),
        // A stream's pictures are its reader's to close.
        stream: new ReadableStream({ start: async (controller) => controller.enqueue(await createImageBitmap(drawings.pets)) }),
        blobs: new ReadableStream({ start: async (controller) => controller.enqueue(await (await fetch(url)).blob()) }),
      };
      const texts = {};
      // A canvas's stream has a frame whenever somebody draws.
      const timer = setInterval(() => canvas.getContext("2d").drawImage(drawings.pets, 0, 0, 384, 384), 50);
      for (const [name, source] of Object.entries(sources)) {
        const w = watch(source);
        await until(() => w.answers.length > 0, name);
        await w.watching.stop();
        texts[name] = w.answers[0].text;
      }
      clearInterval(timer);
      const live = camera.getVideoTracks()[0].readyState;
      const alive = [sources.bitmap.width, sources.frame.format !== null];
      sources.frame.close();
      for (const track of camera.getTracks()) track.stop();
      return { texts, live, alive };
    });
    for (const [name, text] of Object.entries(seen.texts)) assert.match(text, ["camera", "track", "video"].includes(name) ? /\w/ : /dog/, name);
    // What was given stays the caller's.
    assert.deepEqual([seen.live, seen.alive], ["live", [512, true]]);
  });

  test("a video file: it waits while it stands still, knows where it is, and goes on when it is sought or played", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, show, until, watch, pause } = globalThis;
      // Three drawings, half a second each.
      const canvas = canvasOf("pets");
      const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: "video/webm" });
      const parts = [];
      recorder.ondataavailable = ({ data }) => parts.push(data);
      const recorded = new Promise((resolve) => (recorder.onstop = resolve));
      recorder.start();
      for (const name of ["pets", "fruit", "travel"]) for (let i = 0; i < 10; i++) {
        show(canvas, name, i % 2);
        await pause(50);
      }
      recorder.stop();
      await recorded;
      const video = Object.assign(document.createElement("video"), { src: URL.createObjectURL(new Blob(parts)), muted: true });
      await new Promise((resolve) => {
        video.onseeked = resolve;
        video.currentTime = 0.25;
      });
      const w = watch(video);
      // It stands there.
      await until(() => w.answers.length === 1);
      await until(() => w.watching.state === "waiting");
      const told = w.told.length;
      await pause(300);
      const still = w.told.length - told;
      // The same frame, another question.
      w.watching.question = "Is there a dog?";
      await until(() => w.answers.length === 2);
      w.watching.question = "What is in this picture?";
      await until(() => w.answers.length === 3);
      await video.play();
      await until(() => video.ended && w.watching.state === "waiting");
      const played = w.answers.slice(3).map(({ text, mediaTime }) => ({ text, mediaTime }));
      video.currentTime = 0.75;
      const count = w.answers.length;
      await until(() => w.answers.length > count);
      const sought = w.answers.at(-1);
      await w.watching.stop();
      const broken = Object.assign(document.createElement("video"), { src: URL.createObjectURL(new Blob(["no video"])) });
      return { still, texts: w.answers.slice(0, 3).map(({ text }) => text), played, sought, ended: await w.ended, broken: await watch(broken).ended };
    });
    assert.equal(seen.still, 0);
    assert.match(seen.texts[0], /dog/);
    assert.match(seen.texts[1], /^Yes/);
    assert.equal(seen.texts[2], seen.texts[0]);
    assert.ok(seen.played.some(({ text }) => /banana/.test(text)) && /bus/.test(seen.played.at(-1).text), JSON.stringify(seen.played));
    assert.ok(seen.played.every(({ mediaTime }, i) => i === 0 || mediaTime > seen.played[i - 1].mediaTime));
    assert.match(seen.sought.text, /banana/);
    assert.ok(Math.abs(seen.sought.mediaTime - 0.75) < 0.1);
    assert.deepEqual(seen.ended, { how: "stopped" });
    assert.deepEqual([seen.broken.code, seen.broken.is], ["invalid_image", true]);
  });

  test("the question is changed in the middle of an answer: that one is given up, and what is asked now is answered", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, until, watch } = globalThis;
      const w = watch(canvasOf("pets"), { onAnswer({ text, done }) {
        if (text !== "" && !done) w.watching.question = "What color is the balloon?";
      } });
      await until(() => w.answers.length > 0);
      await w.watching.stop();
      return { told: w.told.map(({ question, done, text }) => ({ question, done, text })), question: w.watching.question };
    });
    const [first, last] = [seen.told[0], seen.told.at(-1)];
    assert.deepEqual([first.question, first.text], ["What is in this picture?", ""]);
    assert.equal(seen.told.filter(({ question, done }) => question === first.question && done).length, 0);
    assert.equal(last.question, "What color is the balloon?");
    assert.match(seen.told.find(({ done }) => done).text, /red/);
    assert.equal(seen.question, "What color is the balloon?");
  });

  test("stopped in the middle of an answer, by stop, by the signal, before it began: nothing more is told and the engine is free", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, watch, engine, pause } = globalThis;
      const canvas = canvasOf("pets");
      const results = {};
      for (const way of ["stop", "signal", "before", "dispose"]) {
        const abort = new AbortController();
        if (way === "before") abort.abort();
        let ending = null;
        const w = watch(canvas, { signal: abort.signal, threshold: 0, onAnswer({ text, done }) {
          if (text === "" || done || ending) return;
          if (way === "stop") ending = w.watching.stop();
          else if (way === "dispose") ending = w.watching[Symbol.asyncDispose]();
          else abort.abort();
        } });
        const { how } = await w.ended;
        await ending;
        const told = w.told.length;
        const { usage } = await engine.chat.completions.create({ messages: [{ role: "user", content: "Hello" }], max_tokens: 3 });
        await pause(100);
        results[way] = { how, state: w.watching.state, whole: w.answers.length, more: w.told.length - told, told, free: usage.completion_tokens > 0 };
        // Once more does no harm.
        await w.watching.stop();
      }
      return results;
    });
    for (const [way, { told, ...result }] of Object.entries(seen)) {
      assert.deepEqual(result, { how: "stopped", state: "ended", whole: 0, more: 0, free: true }, way);
      assert.equal(told === 0, way === "before", way);
    }
  });

  test("a hidden page is not looked out of", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, show, until, watch, hide, pause } = globalThis;
      const canvas = canvasOf("pets");
      const w = watch(canvas);
      await until(() => w.answers.length === 1);
      hide(true);
      await until(() => w.watching.state === "hidden");
      const told = w.told.length;
      show(canvas, "fruit");
      await pause(300);
      const hidden = w.told.length - told;
      hide(false);
      await until(() => w.answers.length === 2);
      const text = w.answers[1].text;
      // It ends though it is hidden.
      hide(true);
      await until(() => w.watching.state === "hidden");
      await w.watching.stop();
      hide(false);
      return { hidden, text, ended: await w.ended };
    });
    assert.equal(seen.hidden, 0);
    assert.match(seen.text, /banana/);
    assert.deepEqual(seen.ended, { how: "stopped" });
  });

  test("a camera that is unplugged, or a stream that fails, ends it", async () => {
    const seen = await page.evaluate(async () => {
      const { until, watch, hide } = globalThis;
      const ways = {
        stream: (camera) => camera, track: (camera) => camera.getVideoTracks()[0],
        video: async (camera) => {
          const video = Object.assign(document.createElement("video"), { srcObject: camera, muted: true });
          await video.play();
          return video;
        },
      };
      const results = {};
      for (const [name, of] of Object.entries(ways)) {
        const camera = await navigator.mediaDevices.getUserMedia({ video: true });
        const w = watch(await of(camera));
        await until(() => w.answers.length > 0, name);
        for (const track of camera.getTracks()) track.stop();
        results[name] = await w.ended;
      }
      // Also of a page that nobody sees, where the browser tells of it.
      const camera = await navigator.mediaDevices.getUserMedia({ video: true });
      const w = watch(camera);
      hide(true);
      await until(() => w.watching.state === "hidden");
      const [track] = camera.getVideoTracks();
      track.stop();
      track.dispatchEvent(new Event("ended"));
      results.hidden = await w.ended;
      hide(false);
      results.failing = await watch(new ReadableStream({ pull: (controller) => controller.error(new Error("no more tape")) })).ended;
      return results;
    });
    const { failing, ...others } = seen;
    for (const [name, result] of Object.entries(others)) assert.deepEqual(result, { how: "source" }, name);
    assert.deepEqual([failing.code, failing.is], ["invalid_image", true]);
    assert.match(failing.message, /no more tape/);
  });

  test("two watches and other requests: all have their turn, in their order", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, until, watch, engine } = globalThis;
      const [one, two] = [watch(canvasOf("pets"), { threshold: 0 }), watch(canvasOf("fruit"), { threshold: 0 })];
      await until(() => one.answers.length > 1 && two.answers.length > 1);
      const order = [];
      const before = [one.answers.length, two.answers.length];
      const results = await Promise.all(Array.from({ length: 6 }, async (_, i) => {
        const { choices: [{ message }] } = await engine.chat.completions.create({ messages: [{ role: "user", content: [{ type: "image", image: canvasOf("travel") }, { type: "text", text: "What color is the bus?" }] }], temperature: 0 });
        order.push(i);
        return message.content;
      }));
      const meanwhile = [one.answers.length - before[0], two.answers.length - before[1]];
      const after = [one.answers.length, two.answers.length];
      await until(() => one.answers.length > after[0] + 2 && two.answers.length > after[1] + 2);
      await Promise.all([one.watching.stop(), two.watching.stop()]);
      return { order, results, meanwhile, texts: [one, two].map(({ answers }) => [...new Set(answers.map(({ text }) => text))]) };
    });
    assert.deepEqual(seen.order, [0, 1, 2, 3, 4, 5]);
    assert.deepEqual([...new Set(seen.results)], ["The bus is yellow."]);
    // What was asked at once is answered in a row, but for the answers that were under way.
    assert.ok(seen.meanwhile.every((n) => n <= 2), seen.meanwhile.join());
    assert.equal(seen.texts[0].length, 1);
    assert.equal(seen.texts[1].length, 1);
    assert.match(seen.texts[0][0], /dog/);
    assert.match(seen.texts[1][0], /banana/);
  });

  test("a listener that throws changes nothing, and is reported", async () => {
    const before = tab.complaints.length;
    const count = await page.evaluate(async () => {
      const { canvasOf, until, watch } = globalThis;
      const w = watch(canvasOf("pets"), { threshold: 0, onAnswer: () => {
        throw new Error("a listener's fault");
      } });
      await until(() => w.answers.length > 2);
      await w.watching.stop();
      return w.answers.length;
    });
    assert.ok(count > 2);
    const complaints = tab.complaints.splice(before);
    assert.ok(complaints.length > 2 && complaints.every((text) => text.includes("a listener's fault")), complaints[0]);
  });

  test("unloaded while it writes, waits, or is hidden: it ends with `aborted`, and is not an uncaught error", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, until, watch, load, hide, api } = globalThis;
      const results = {};
      for (const way of ["writing", "waiting", "hidden", "loop"]) {
        const engine = await load();
        const w = watch(way === "waiting" ? await createImageBitmap(canvasOf("pets")) : canvasOf("pets"), { engine, threshold: way === "loop" ? 0 : 0.06, onAnswer({ text, done }) {
          if (way === "writing" && text !== "" && !done) engine.unload();
        } });
        if (way !== "writing") await until(() => w.answers.length > 0);
        if (way === "waiting") await until(() => w.watching.state === "waiting");
        if (way === "hidden") {
          hide(true);
          await until(() => w.watching.state === "hidden");
        }
        if (way !== "writing") engine.unload();
        const { code, is } = await w.ended;
        hide(false);
        let after = null;
        try {
          engine.watch(canvasOf("pets"), { question: "?", onAnswer() {} });
        } catch (error) {
          after = error instanceof api.LlavaError && error.code;
        }
        results[way] = [code, is, w.watching.state, after];
      }
      // Nobody waits for this one.
      const engine = await load();
      engine.watch(canvasOf("pets"), { question: "?", onAnswer() {} });
      await engine.unload();
      await globalThis.pause(50);
      return results;
    });
    for (const [way, result] of Object.entries(seen)) assert.deepEqual(result, ["aborted", true, "ended", "invalid_request"], way);
  });

  test("what cannot be watched, asked or read is said", async () => {
    const seen = await page.evaluate(async () => {
      const { api, canvasOf, engine, load, watch, pause } = globalThis;
      const canvas = canvasOf("pets");
      const onAnswer = () => {};
      const good = { question: "What is it?", onAnswer };
      const audio = new AudioContext().createMediaStreamDestination().stream;
      const read = new ReadableStream();
      read.getReader();
      const blind = await load({ mmproj: undefined });
      const calls = {
        nothing: () => engine.watch(undefined, good), number: () => engine.watch(5, good), options: () => engine.watch(canvas), question: () => engine.watch(canvas, { onAnswer }),
        empty: () => engine.watch(canvas, { ...good, question: " " }), listener: () => engine.watch(canvas, { question: "?" }), notListener: () => engine.watch(canvas, { ...good, onAnswer: "x" }),
        threshold: () => engine.watch(canvas, { ...good, threshold: 2 }), interval: () => engine.watch(canvas, { ...good, interval: -1 }), detail: () => engine.watch(canvas, { ...good, detail: "fine" }),
        messages: () => engine.watch(canvas, { ...good, messages: [] }), unknown: () => engine.watch(canvas, { ...good, treshold: 1 }), tools: () => engine.watch(canvas, { ...good, tools: [] }),
        system: () => engine.watch(canvas, { ...good, system: 5 }), signal: () => engine.watch(canvas, { ...good, signal: {} }), audio: () => engine.watch(audio, good),
        locked: () => engine.watch(read, good), blind: () => blind.watch(canvas, good), temperature: () => engine.watch(canvas, { ...good, temperature: -1 }),
      };
      const thrown = {};
      for (const [name, call] of Object.entries(calls)) {
        try {
          call();
          thrown[name] = null;
        } catch (error) {
          thrown[name] = [error instanceof api.LlavaError, error.code, error.message];
        }
      }
      await blind.unload();
      const w = engine.watch(canvas, good);
      let asked = null;
      try {
        w.question = 7;
      } catch (error) {
        asked = error.code;
      }
      await w.stop();
      const foreign = document.createElement("canvas");
      foreign.width = foreign.height = 64;
      const image = Object.assign(new Image(), { src: `${globalThis.elsewhere}/some/folder/examples/pets.png?nocors` });
      await image.decode();
      foreign.getContext("2d").drawImage(image, 0, 0);
      const results = {
        tainted: await watch(foreign).ended, long: await watch(canvas, { question: "word ".repeat(3000) }).ended, schema: await watch(canvas, { response_format: { type: "json_schema", json_schema: { schema: { type: "odd" } } } }).ended,
        notPicture: await watch(new Blob(["no picture"])).ended, image: await watch(Object.assign(new Image(), { src: "data:image/png;base64,AAAA" })).ended,
      };
      // An empty canvas has nothing to see yet.
      const later = document.createElement("canvas");
      later.width = later.height = 0;
      const waits = watch(later);
      await pause(50);
      const state = waits.watching.state;
      later.width = later.height = 64;
      later.getContext("2d").drawImage(globalThis.drawings.pets, 0, 0, 64, 64);
      await globalThis.until(() => waits.answers.length > 0);
      await waits.watching.stop();
      return { thrown, asked, results, state };
    });
    for (const [name, error] of Object.entries(seen.thrown)) assert.deepEqual(error?.slice(0, 2), [true, "invalid_request"], name);
    assert.match(seen.thrown.unknown[2], /watch does not support treshold/);
    assert.match(seen.thrown.blind[2], /mmproj/);
    assert.equal(seen.asked, "invalid_request");
    assert.deepEqual(Object.fromEntries(Object.entries(seen.results).map(([name, { code, is }]) => [name, is && code])), {
      tainted: "invalid_image", long: "context_overflow", schema: "invalid_request", notPicture: "invalid_image", image: "invalid_image",
    });
    assert.match(seen.results.tainted.message, /CORS/);
    assert.equal(seen.state, "waiting");
  });

  test("options of a request are heeded: the system message, the form and the length of answers", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, until, watch } = globalThis;
      const canvas = canvasOf("pets");
      const results = {};
      for (const [name, options] of Object.entries({ short: { max_tokens: 2 }, json: { response_format: { type: "json_schema", json_schema: { schema: { enum: ["a dog", "a bus"] } } } }, system: { system: "You are brief." }, none: {} })) {
        const w = watch(canvas, options);
        await until(() => w.answers.length > 0);
        await w.watching.stop();
        const { text, finish_reason, usage } = w.answers[0];
        results[name] = { text, finish_reason, tokens: usage.completion_tokens, prompt: usage.prompt_tokens };
      }
      return results;
    });
    assert.deepEqual([seen.short.finish_reason, seen.short.tokens], ["length", 2]);
    assert.ok(["a dog", "a bus"].includes(JSON.parse(seen.json.text)));
    assert.ok(seen.system.prompt > seen.none.prompt);
  });

  test("many frames later the engine holds no more than the rows of those it has seen", async () => {
    const seen = await page.evaluate(async () => {
      const { canvasOf, show, until, watch, engine } = globalThis;
      const canvas = canvasOf("pets");
      const names = ["pets", "fruit", "travel"];
      let drawn = 0;
      const w = watch(canvas, { threshold: 0, onAnswer: ({ done }) => done && show(canvas, names[drawn % 3], (drawn++ % 97) / 97) });
      await until(() => w.answers.length > 10);
      const [heap, count] = [engine.info.bytes.wasmHeap, w.answers.length];
      await until(() => w.answers.length > count + 150);
      await w.watching.stop();
      return { grown: engine.info.bytes.wasmHeap - heap, answers: w.answers.length - count, fills: [...new Set(w.answers.map(({ usage }) => usage.total_tokens))] };
    });
    // 64 rows of 192 floats are 49 kB.
    assert.ok(seen.grown <= seen.answers * 60_000 + (2 << 20), `${seen.grown} bytes for ${seen.answers} answers`);
    // A conversation of its own each: the context does not fill.
    assert.ok(Math.max(...seen.fills) < 150, seen.fills.join());
  });

  // A failure that nobody waited for is reported; these were waited for. (The blank page has no icon.)
  test("nobody complained", () => assert.deepEqual(tab.complaints.filter((text) => !text.includes("404")), []));
});
