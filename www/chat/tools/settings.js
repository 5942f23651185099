// What a person sets: how answers are written, on what they are computed, what is kept. Remembered by the browser for this site.

import { Complaint } from "../../strings/language.js";
import { button, dialog, element, setAttribute, setText } from "../base/dom.js";

/**
 * What was set; what is not there is as the model or the element has it.
 * @typedef {object} Settings
 * @property {string} [system]
 * @property {number} [temperature]
 * @property {number} [top_p]
 * @property {number} [top_k]
 * @property {number} [min_p]
 * @property {number} [repetition_penalty]
 * @property {number} [max_tokens]
 * @property {number} [seed]
 * @property {"auto" | "webgpu" | "cpu"} [device]
 * @property {number} [threads]
 * @property {number} [contextSize]
 * @property {"f16" | "q8_0"} [kvFormat]  how keys and values are kept
 * @property {ImageDetail} [detail]
 * @property {boolean} [json]  whether answers are JSON
 * @property {string} [schema]  the JSON schema that they satisfy, as it was written
 * @property {boolean} [keep]  whether the conversation is kept on this device
 */

/** @typedef {import("../../llava-web.js").ImageDetail} ImageDetail */
/** @typedef {import("../../strings/language.js").Key} Key */
/** @typedef {import("../../strings/language.js").Language} Language */

const KEY = "llava-web settings";

/** How finely pictures are looked at, and what it is called. @type {[ImageDetail, Key][]} */
const DETAILS = [["auto", "set.automatic"], ["high", "set.detailHigh"], ["low", "set.detailLow"]];

/**
 * A text as one of them; on a page people wait for, so that what is not said is left to the engine.
 * @param {string} text
 * @returns {ImageDetail}
 */
export function detailOf(text) {
  return DETAILS.find(([name]) => name === text)?.[0] ?? "auto";
}

/** What a request takes, of these. */
const SAMPLING = /** @type {const} */ (["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"]);

/** @type {{ name: Exclude<keyof Settings, "system" | "device" | "kvFormat" | "detail" | "json" | "schema" | "keep">, label: Key, hint: Key, min: number, max: number, step: number }[]} */
const NUMBERS = [
  { name: "temperature", label: "set.temperature", hint: "set.temperatureHint", min: 0, max: 2, step: 0.05 },
  { name: "top_p", label: "set.top_p", hint: "set.top_pHint", min: 0.01, max: 1, step: 0.01 },
  { name: "top_k", label: "set.top_k", hint: "set.top_kHint", min: 1, max: 1000, step: 1 },
  { name: "min_p", label: "set.min_p", hint: "set.min_pHint", min: 0, max: 1, step: 0.01 },
  { name: "repetition_penalty", label: "set.repetition_penalty", hint: "set.repetition_penaltyHint", min: 0.5, max: 2, step: 0.05 },
  { name: "max_tokens", label: "set.max_tokens", hint: "set.max_tokensHint", min: 1, max: 100_000, step: 1 },
  { name: "seed", label: "set.seed", hint: "set.seedHint", min: 0, max: 4_294_967_295, step: 1 },
];
/** @type {typeof NUMBERS} */
const MACHINE = [
  { name: "threads", label: "set.threads", hint: "set.threadsHint", min: 1, max: 64, step: 1 },
  { name: "contextSize", label: "set.contextSize", hint: "set.contextSizeHint", min: 128, max: 1_048_576, step: 128 },
];

/** @returns {Settings} */
export function loadSettings() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    /** @type {any} */
    const settings = {};
    for (const { name, min, max } of [...NUMBERS, ...MACHINE]) {
      if (typeof stored[name] === "number" && stored[name] >= min && stored[name] <= max) settings[name] = stored[name];
    }
    if (typeof stored.system === "string") settings.system = stored.system;
    if (["auto", "webgpu", "cpu"].includes(stored.device)) settings.device = stored.device;
    if (["f16", "q8_0"].includes(stored.kvFormat)) settings.kvFormat = stored.kvFormat;
    if (DETAILS.some(([name]) => name === stored.detail)) settings.detail = stored.detail;
    if (stored.keep === true) settings.keep = true;
    if (stored.json === true) settings.json = true;
    if (typeof stored.schema === "string") settings.schema = stored.schema;
    return settings;
  } catch {
    return {};
  }
}

/** @param {Settings} settings */
function storeSettings(settings) {
  try {
    if (Object.keys(settings).length === 0) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // In some private windows; then they hold until the page is closed.
  }
}

/** Those that go with a request. @param {Settings} settings @returns {import("../../llava-web.js").Sampling} */
export function sampling(settings) {
  return Object.fromEntries(SAMPLING.filter((name) => settings[name] !== undefined).map((name) => [name, settings[name]]));
}

/**
 * The form that answers are to have.
 * @param {Language} words
 * @param {Settings} settings
 * @returns {import("../../llava-web.js").ResponseFormat | undefined}
 */
export function responseFormat(words, { json, schema = "" }) {
  if (!json) return undefined;
  if (schema.trim() === "") return { type: "json_object" };
  const { value, fault } = parsedSchema(words, schema);
  if (fault) throw new Complaint("set.schemaWhere", { fault });
  return { type: "json_schema", json_schema: { schema: value } };
}

/**
 * What somebody typed, as a schema, or what is wrong with it. Only the engine knows whether it can be held to.
 * @param {Language} words
 * @param {string} text
 * @returns {{ value: any, fault: import("../base/dom.js").Text }}
 */
function parsedSchema(words, text) {
  try {
    const value = JSON.parse(text);
    const isSchema = typeof value === "boolean" || (typeof value === "object" && value !== null && !Array.isArray(value));
    return { value, fault: isSchema ? "" : words.say("set.notSchema") };
  } catch (error) {
    return { value: undefined, fault: words.say("set.schemaFault", { why: error instanceof Error ? error.message : String(error) }) };
  }
}

/**
 * Shows the settings; what is changed holds at once.
 * @param {ShadowRoot} root
 * @param {Language} words
 * @param {{ settings: Settings, system: string, device: string, detail: ImageDetail, onChange: (settings: Settings) => void }} options
 *   `system`, `device`, `detail`: as the element's attributes have them
 */
export function showSettings(root, words, { settings, system, device, detail, onChange }) {
  /** @type {any} */
  let now = { ...settings };
  const change = (/** @type {string} */ name, /** @type {unknown} */ value) => {
    now = { ...now };
    if (value === undefined) delete now[name];
    else now[name] = value;
    storeSettings(now);
    onChange(now);
  };
  const number = (/** @type {(typeof NUMBERS)[number]} */ { name, label, hint, min, max, step }) => {
    const input = element("input", {
      type: "number", id: `set-${name}`, class: "field", min, max, step, value: now[name] ?? null, placeholder: words.say("set.modelDefault"), "aria-describedby": `set-${name}-hint`,
      inputmode: step < 1 ? "decimal" : "numeric",
      onchange: () => {
        const { valueAsNumber: value } = input;
        if (Number.isNaN(value)) return change(name, undefined);
        const kept = Math.min(max, Math.max(min, step === 1 ? Math.round(value) : value));
        if (kept !== value) input.valueAsNumber = kept;
        change(name, kept);
      },
    });
    if (["threads", "contextSize", "max_tokens", "seed"].includes(name)) setAttribute(input, "placeholder", words.say("set.automatic"));
    return element("div", { class: "setting" },
      element("label", { for: `set-${name}` }, words.say(label)), input, element("p", { class: "hint", id: `set-${name}-hint` }, words.say(hint)));
  };
  const body = element("div", { class: "dialog-body settings" });
  const fill = () => {
    const prompt = element("textarea", { id: "set-system", class: "field", rows: "3", dir: "auto", "aria-describedby": "set-system-hint", oninput: () => change("system", prompt.value || undefined) });
    prompt.value = now.system ?? "";
    setAttribute(prompt, "placeholder", system || words.say("set.systemExample"));
    const choice = element("select", { id: "set-device", class: "field", onchange: () => change("device", choice.value === (device || "auto") ? undefined : choice.value) },
      ...(/** @type {const} */ ([["auto", "set.automatic"], ["webgpu", "set.gpu"], ["cpu", "set.cpu"]])).map(([value, text]) => element("option", { value }, words.say(text))));
    choice.value = now.device ?? (device || "auto");
    const bits = element("select", {
      id: "set-kvFormat", class: "field", "aria-describedby": "set-kvFormat-hint", onchange: () => change("kvFormat", bits.value || undefined),
    }, ...(/** @type {const} */ ([["", "set.modelDefault"], ["f16", "set.kv16"], ["q8_0", "set.kv8"]])).map(([value, text]) => element("option", { value }, words.say(text))));
    bits.value = now.kvFormat ?? "";
    const finely = element("select", {
      id: "set-detail", class: "field", "aria-describedby": "set-detail-hint", onchange: () => change("detail", finely.value === detail ? undefined : finely.value),
    }, ...DETAILS.map(([value, text]) => element("option", { value }, words.say(text))));
    finely.value = now.detail ?? detail;
    const keep = element("input", { type: "checkbox", id: "set-keep", onchange: () => change("keep", keep.checked || undefined) });
    keep.checked = now.keep === true;
    const json = element("input", { type: "checkbox", id: "set-json", onchange: () => {
      change("json", json.checked || undefined);
      showSchema();
    } });
    json.checked = now.json === true;
    const schema = element("textarea", { id: "set-schema", class: "field code", rows: "6", spellcheck: "false", autocapitalize: "off", dir: "ltr", "aria-describedby": "set-schema-hint set-schema-fault",
      oninput: () => {
        change("schema", schema.value || undefined);
        showSchema();
      } });
    schema.value = now.schema ?? "";
    schema.placeholder = '{ "type": "object", "properties": { "animal": { "type": "string" }, "count": { "type": "integer" } } }';
    const fault = element("p", { class: "problem", id: "set-schema-fault", role: "status" });
    const schemaSetting = element("div", { class: "setting" },
      element("label", { for: "set-schema" }, words.say("set.schema")), schema, fault,
      element("p", { class: "hint", id: "set-schema-hint" }, words.say("set.schemaHint")));
    const showSchema = () => {
      schemaSetting.hidden = !json.checked;
      setText(fault, schema.value.trim() === "" ? "" : parsedSchema(words, schema.value).fault);
      fault.hidden = fault.textContent === "";
      schema.setAttribute("aria-invalid", String(!fault.hidden));
    };
    showSchema();
    body.replaceChildren(
      element("div", { class: "setting" },
        element("label", { for: "set-system" }, words.say("set.system")), prompt,
        element("p", { class: "hint", id: "set-system-hint" }, words.say("set.systemHint"))),
      element("div", { class: "setting" },
        element("label", { for: "set-detail" }, words.say("set.detail")), finely,
        element("p", { class: "hint", id: "set-detail-hint" }, words.say("set.detailHint"))),
      element("h3", {}, words.say("set.sampling")),
      element("div", { class: "setting-grid" }, ...NUMBERS.map(number)),
      element("h3", {}, words.say("set.format")),
      element("label", { class: "check", for: "set-json" }, json, element("span", {}, words.say("set.json"))),
      schemaSetting,
      element("h3", {}, words.say("set.hardware")),
      element("p", { class: "hint" }, words.say("set.hardwareHint")),
      element("div", { class: "setting-grid" },
        element("div", { class: "setting" }, element("label", { for: "set-device" }, words.say("set.device")), choice), ...MACHINE.map(number),
        element("div", { class: "setting" },
          element("label", { for: "set-kvFormat" }, words.say("set.kvFormat")), bits,
          element("p", { class: "hint", id: "set-kvFormat-hint" }, words.say("set.kvFormatHint")))),
      element("h3", {}, words.say("set.data")),
      element("label", { class: "check", for: "set-keep" }, keep, element("span", {}, words.say("set.keep"))),
      element("div", { class: "card-actions" }, button({ text: words.say("set.reset"), class: "plain", onclick: () => {
        now = {};
        storeSettings(now);
        onChange(now);
        fill();
        body.querySelector("textarea")?.focus();
      } })));
  };
  fill();
  dialog({ root, words, title: words.say("bar.settings") }, body);
}
