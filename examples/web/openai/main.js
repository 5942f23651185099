// The official client, unmodified: all that differs from a program for OpenAI's servers is the `fetch`.

import OpenAI from "openai";

import { openaiFetch } from "llava-web/openai";

/** The built-in mini model, which vite.config.js serves. Put in the URLs of another one, or hf:owner/repo/file.gguf. */
const MODEL = { model: "house.gguf", mmproj: "house-mmproj.gguf" };

const client = new OpenAI({
  apiKey: "none",
  baseURL: "http://llava-web.invalid/v1",
  fetch: openaiFetch(MODEL),    // the first request loads the model
  dangerouslyAllowBrowser: true,
});

const input = /** @type {HTMLInputElement} */ (document.querySelector("input"));
const output = /** @type {HTMLOutputElement} */ (document.querySelector("output"));
const json = /** @type {HTMLPreElement} */ (document.querySelector("pre"));

/** A file as a data: URL, the form in which OpenAI's requests carry pictures. @param {File} file @returns {Promise<string>} */
const dataUrl = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(/** @type {string} */ (reader.result));
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});

input.addEventListener("change", async () => {
  const file = input.files?.[0];
  if (!file) return;
  /** @type {OpenAI.ChatCompletionContentPart} */
  const picture = { type: "image_url", image_url: { url: await dataUrl(file) } };
  output.textContent = json.textContent = "";
  try {
    const stream = await client.chat.completions.create({
      model: "any",
      messages: [{ role: "user", content: [picture, { type: "text", text: "What is in this picture?" }] }],
      temperature: 0,
      stream: true,
    });
    for await (const chunk of stream) output.textContent += chunk.choices[0]?.delta.content ?? "";

    const reply = await client.chat.completions.create({
      model: "any",
      messages: [{ role: "user", content: [picture, { type: "text", text: "Is there an animal?" }] }],
      temperature: 0,
      response_format: {
        type: "json_schema",
        json_schema: { name: "animal", schema: { type: "object", properties: { animal: { type: "boolean" } }, required: ["animal"] } },
      },
    });
    json.textContent = reply.choices[0]?.message.content ?? "";
  } catch (error) {
    output.textContent = error instanceof Error ? error.message : String(error);
  }
});
