// A conversation as a file: to read (Markdown), or to go on with elsewhere (JSON in OpenAI's shape, pictures as data: addresses).

import { button, dialog, element, saveFile } from "../base/dom.js";

/** @typedef {import("../talk/turn.js").Turn} Turn */

/** @typedef {import("../../strings/language.js").Language} Language */

/**
 * @param {ShadowRoot} root
 * @param {Language} words
 * @param {{ turns: Turn[], model: string, system: string }} conversation
 */
export function showExport(root, words, { turns, model, system }) {
  const save = async (/** @type {string} */ ending, /** @type {() => Promise<string> | string} */ text, /** @type {string} */ type) => {
    saveFile(`conversation.${ending}`, await text(), type);
    box.close();
  };
  const box = dialog({ root, words, title: words.say("bar.save") }, element("div", { class: "dialog-body" },
    element("p", { class: "hint" }, words.say("export.hint")),
    element("div", { class: "card-actions" },
      button({ text: "Markdown", icon: "save", class: "primary", onclick: () => save("md", () => markdown(words, turns, model), "text/markdown") }),
      button({ text: "JSON", icon: "save", class: "plain", onclick: () => save("json", () => json(turns, model, system), "application/json") }))));
}

/**
 * @param {Language} words
 * @param {Turn[]} turns
 * @param {string} model
 */
export function markdown(words, turns, model) {
  const parts = [`# ${words.say("export.heading", { model })}`];
  for (const { question, pictures, text, finish } of turns) {
    parts.push(`## ${question.replace(/\s*\n\s*/g, " ")}`);
    for (const { name } of pictures) parts.push(String(words.say("export.picture", { name })));
    parts.push(text + (finish === "abort" ? " […]" : ""));
  }
  return `${parts.join("\n\n")}\n`;
}

/**
 * @param {Turn[]} turns
 * @param {string} model
 * @param {string} system
 */
async function json(turns, model, system) {
  /** @type {object[]} */
  const messages = system ? [{ role: "system", content: system }] : [];
  for (const { question, pictures, text } of turns) {
    const images = await Promise.all(pictures.map(async ({ file }) => ({ type: "image_url", image_url: { url: await dataUrl(file) } })));
    messages.push({ role: "user", content: images.length > 0 ? [...images, { type: "text", text: question }] : question }, { role: "assistant", content: text });
  }
  return `${JSON.stringify({ model, messages }, null, 2)}\n`;
}

/** @param {Blob} blob @returns {Promise<string>} */
function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
