// A caller's program, as TypeScript sees it. Compiled, never run.

import * as engines from "../../www/api/create-engine.js";
import * as devices from "../../www/api/devices.js";
import * as engine from "../../www/api/engine.js";
import * as errors from "../../www/api/errors.js";
import * as storage from "../../www/api/storage.js";
import type * as api from "../../www/llava-web.js";
import { createEngine, deleteCachedModel, detectDevice, listCachedModels, LlavaError, storageEstimate } from "../../www/llava-web.js";
import type { ChatCompletion, Engine, ErrorCode, LoadProgress, ResponseFormat, Source } from "../../www/llava-web.js";

// What is declared is what there is. `llava-web.js` itself is hidden by its declarations, so what it exports is held against them here.
const implementation = { createEngine: engines.createEngine, detectDevice: devices.detectDevice, LlavaError: errors.LlavaError, ...storage };
export const declared: Pick<typeof api, keyof typeof api> = implementation;
/** Nothing is declared that a loaded engine does not have, and nothing is there that is not declared. */
export const same: [keyof Engine, keyof engine.Engine] extends [keyof engine.Engine, keyof Engine] ? true : never = true;

export async function use(file: File, parts: Blob[], bytes: ArrayBuffer, canvas: HTMLCanvasElement): Promise<string> {
  const sources: [Source, ...Source[]] = ["hf:owner/repository/model.gguf", ["a.gguf", "b.gguf"], file, parts, bytes, new Uint8Array(bytes)];
  const engine: Engine = await createEngine({
    model: sources[0], mmproj: file, device: "auto", threads: 4, contextSize: 2048, chatTemplate: "vicuna", cache: "none",
    sha256: { model: "0".repeat(64) }, signal: new AbortController().signal, headers: async (url) => (url.startsWith("https://huggingface.co/") ? { Authorization: "Bearer …" } : null),
    onProgress: ({ stage, file, loaded, total, bytesPerSecond, cached }: LoadProgress) => console.log(stage, file, loaded / total, bytesPerSecond, cached),
  });
  const vision = engine.info.vision?.tokensPerImage ?? 0;
  const stream = await engine.chat.completions.create({
    messages: [{ role: "user", content: [{ type: "image", image: canvas }, { type: "image_url", image_url: { url: "x.png" } }, { type: "text", text: "?" }] }],
    stream: true, temperature: 0, logit_bias: { 7: -100 }, logprobs: true, top_logprobs: 5,
  });
  const format: ResponseFormat = { type: "json_schema", json_schema: { name: "colour", schema: { enum: ["red", "blue"] }, strict: true } };
  let text = "";
  for await (const chunk of stream) {
    text += chunk.choices[0].delta.content;
    const ids: number[] = chunk.choices[0].token_ids;
    text += ids.length + (chunk.usage?.cached_tokens ?? vision);
  }
  const whole: ChatCompletion = await engine.chat.completions.create({ messages: [{ role: "user", content: "Hello" }], max_tokens: 5, response_format: { type: "json_object" } });
  const raw = await engine.completions.create({ prompt: "<image>\n", images: [file], temperature: 0, response_format: format });
  const { logits, tokens } = await engine.evaluate({ tokens: await engine.tokenize("a", { bos: true }) });
  const embedding: Float32Array = (await engine.embedImage(file)).data;
  await engine.applyChatTemplate([{ role: "system", content: "x" }], { addGenerationPrompt: false });
  const session: Uint8Array = await engine.saveSession();
  await engine.restoreSession(session);
  const { images: [picture] } = await engine.lookedAt({ position: 9, token: 1 });
  if (picture) {
    const { data, salience, shape: [rows, cols], bounds, share } = picture;
    text += data.length + salience.length + rows * cols + bounds[3] * share;
  }
  const watch = engine.watch(await navigator.mediaDevices.getUserMedia({ video: true }), {
    question: "What is this?", detail: "auto", threshold: 0.1, interval: 500, system: "x", response_format: format, max_tokens: 20, signal: new AbortController().signal,
    onAnswer: ({ text, done, skipped, time, mediaTime, latency: { firstToken, whole }, usage }) => console.log(text, done, skipped, time, mediaTime ?? 0, firstToken ?? 0, whole ?? 0, usage?.image_tokens),
  });
  watch.question = "And this?";
  const how: "stopped" | "source" = await watch.ended;
  text += watch.state + how;
  // @ts-expect-error: what is asked is missing
  engine.watch(canvas, { onAnswer() {} });
  for (const { name, bytes, total, complete, lastUsed, sha256 } of await listCachedModels()) {
    text += name + bytes / (total ?? bytes) + complete + new Date(lastUsed) + (sha256 ?? "");
  }
  await Promise.all([listCachedModels(), deleteCachedModel("x"), storageEstimate(), detectDevice(), engine.reset(), engine.unload()]);
  // @ts-expect-error: the reply is no string
  const wrong: string = whole;
  // @ts-expect-error: not a device
  void createEngine({ model: "x", device: "gpu" });
  return whole.choices[0].message.content + raw.choices[0].text + logits.length + tokens.length + embedding.length + wrong;
}

export function code(error: unknown): ErrorCode | undefined {
  return error instanceof LlavaError ? error.code : undefined;
}
