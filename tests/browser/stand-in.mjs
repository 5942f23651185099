// A stand-in for the engine, for tests of what is around it: it says what it is told to say, or what it was asked. It takes the place of the
// wasm module; the element, the worker and the wire between them are the real ones.
//
//   "say:WORDS"                     answers WORDS
//   "echo"                          answers with the request, as JSON
//   "fill: N"                       answers, and the context has N tokens then
//   "on and on"                     does not come to an end soon
//   "too long"                      fails, as a question does that does not fit into the context
//   "fail: CODE"                    fails with this code; "… once" only for the first time; "… in engine 1" in that one only

const SOURCE = `
  const ENGINE = "NUMBER";
  export default async function init() {}
  export class Sha256 { update() {} digestHex() { return ""; } free() {} }
  export class Engine {
    static async load(model, mmproj, options, onProgress, startHelpers, pause) {
      const engine = new Engine();
      engine.pause = pause;
      engine.options = options;
      engine.vision = mmproj ? { projector: "mlp", imageSize: 336, patchSize: 14, tokensPerImage: 144, featureSize: 8 } : null;
      return engine;
    }
    static simd() { return "simd128"; }
    info() {
      return JSON.stringify({ name: "Stand-in", quantization: "Q4_0", contextSize: 2048, vision: this.vision,
        device: { kind: "cpu", threads: 1 }, bytes: { weights: 1e9, kvCache: 1e8, wasmHeap: 12e8 } });
    }
    startChat(json, images) {
      const request = JSON.parse(json);
      const { content } = request.messages.at(-1);
      const text = typeof content === "string" ? content : content.find(({ type }) => type === "text").text;
      if (text === "too long") throw Object.assign(new Error("The prompt has 9999 tokens, the context 2048."), { code: "context_overflow" });
      const [, code, engine] = /^fail: (\\w+)(?: in engine (\\d+))?/.exec(text) ?? [];
      if (code && (engine ?? ENGINE) === ENGINE && !Engine.failed?.has(text)) {
        // A question that fails once is answered when it is asked again.
        if (text.includes("once")) Engine.failed = new Set([...Engine.failed ?? [], text]);
        throw Object.assign(new Error("It failed: " + code), { code });
      }
      this.aborted = false;
      this.fill = Number(/^fill: (\\d+)/.exec(text)?.[1] ?? 0);
      // What it was asked is told as a whole.
      this.most = text === "echo" || text === "on and on" ? Infinity : request.max_tokens ?? Infinity;
      this.images = images.length;
      const answer = text.startsWith("say:") ? text.slice(4) : text === "echo" ? "\`\`\`json\\n" + JSON.stringify({ ...request, images: images.length, options: this.options }) + "\\n\`\`\`" :
        text === "on and on" ? "word ".repeat(2000) : "It is **" + images.length + "**, " + text.length + ".";
      this.pieces = answer.match(/.{1,7}/gs) ?? [];
      this.count = 0;
    }
    abort() { this.aborted = true; }
    async step() {
      await new Promise((resolve) => setTimeout(resolve, 2));
      if (!this.aborted && this.count < Math.min(this.pieces.length, this.most)) return JSON.stringify({ type: "token", text: this.pieces[this.count++], token_ids: [this.count], logprobs: null });
      return JSON.stringify({ type: "done", text: "", finish_reason: this.aborted ? "abort" : this.count === this.most ? "length" : "stop", usage: {
        prompt_tokens: 9, completion_tokens: this.count, total_tokens: this.fill || 9 + this.count, image_tokens: 0, image_tiles: 0, cached_tokens: 0, image_ms: 1, prefill_ms: 1,
        decode_ms: 100, prefill_tokens_per_second: 9, decode_tokens_per_second: 12.3 } });
    }
    sessionBytes() { return 4; }
    async saveSession(out) { out.set([1, 2, 3, 4]); }
    async restoreSession(bytes) { Engine.restored = [...bytes]; }
    async lookedAt(json) {
      const { position, token } = JSON.parse(json);
      if (position !== 9 + token - 1) throw Object.assign(new Error("The context does not hold it."), { code: "invalid_request" });
      if (this.pieces.slice(token - 1, token + 1).join("").includes("lost")) throw Object.assign(new Error("The context does not hold what was written there any more."), { code: "invalid_request" });
      // As chelsea.jpg is padded; a glow at the cat's eye, one patch beside it for each token.
      const salience = Float32Array.from({ length: 576 }, (_, i) => Math.exp(-(((i % 24) - 12 - token % 5) ** 2 + (Math.floor(i / 24) - 9) ** 2) / 12));
      const image = { data: salience.map((x) => x / 300), salience, shape: [24, 24], bounds: [0, -0.2517, 1, 1.2517], share: 0.124 };
      return { layers: [10, 22], images: Array.from({ length: this.images }, () => image) };
    }
    async benchmark() {
      return JSON.stringify({ prefill_tokens_per_second: 4000, decode_tokens_per_second: 100, bytesPerSecond: 1e9 });
    }
    reset() {}
    isLost() { return false; }
    free() {}
  }`;

/** @param {number} [number]  the how manyth one it is */
export const standIn = (number = 0) => SOURCE.replace("NUMBER", String(number));

/** What is in the database of conversations. @param {import("playwright-core").Page} page */
export const stored = (page) => page.evaluate(async () => {
  // Only looking must not make one.
  if (!(await indexedDB.databases()).some(({ name }) => name === "llava-web")) return { conversations: [], pictures: [], sessions: [], altTexts: [] };
  const done = (request) => new Promise((resolve, reject) => Object.assign(request, { onsuccess: () => resolve(request.result), onerror: () => reject(request.error) }));
  const database = await done(indexedDB.open("llava-web"));
  try {
    const [conversations, pictures, sessions, altTexts] = await Promise.all(["conversations", "pictures", "sessions", "alt-texts"].map((name) =>
      done(database.transaction(name).objectStore(name).getAll())));
    return {
      conversations: conversations.map(({ id, turns, discarded }) => ({ id, questions: turns.map(({ question }) => question), discarded })),
      pictures: pictures.map(({ file }) => file.size), sessions: sessions.map(({ bytes }) => bytes.length), altTexts,
    };
  } finally {
    database.close();
  }
});

/** Waits until the database is as it is to be. @param {import("playwright-core").Page} page @param {(now: Awaited<ReturnType<typeof stored>>) => boolean} is */
export async function storedIs(page, is) {
  let now = await stored(page);
  for (const end = Date.now() + 15_000; !is(now); now = await stored(page)) {
    if (Date.now() > end) throw new Error(`The database is not as it is to be: ${JSON.stringify(now)}`);
  }
  return now;
}
