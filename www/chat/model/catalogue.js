// The models that a page offers: which of them the engine loads, which fit this machine, and which to suggest for photographs. Only reckoning:
// what is known of the machine comes from facts.js.

/** @typedef {import("../base/dom.js").Text} Text */
/**
 * A model that a page offers.
 *
 * `family`: a word of FAMILIES; without it the model is offered whatever the engine loads. `purpose`: what its pictures are; the smallest one
 * for photographs that fits is suggested first. `bytes`: of both files together, or of each. `roundedBytes`: whether those are rounded, as
 * lists for people have them. `memory`: bytes for weights, a context of 2048 tokens and scratch. `needsGpu`: whether it is offered only where
 * there is one, because a CPU would take minutes for a picture. `options`: for the engine, where the person
 * has set nothing else; `sampling`: for its answers, likewise. `work`: what it computes, to tell how fast it will be: weights of the language
 * model, and of a picture in one piece the operations of the vision tower and the rows that it becomes. `sha256`: of each file, so that a newer
 * version at the same address is not taken for the one that this browser keeps. `description`: a few words; `goodAt`: one sentence; `about`:
 * one line for who has it before them; `questions` and `examples`: what to ask it.
 * @typedef {{
 *   name: Text, family?: string, purpose?: "drawings" | "photographs" | "documents", description?: Text, goodAt?: Text,
 *   licence?: Text, model: string, mmproj?: string, bytes: number | { model: number, mmproj: number }, roundedBytes?: boolean, memory?: number, needsGpu?: boolean,
 *   options?: Pick<import("../../llava-web.js").EngineOptions, "contextSize" | "chatTemplate" | "quantizeMmproj" | "kvFormat">,
 *   sampling?: Pick<import("../../llava-web.js").Sampling, "temperature" | "top_p" | "top_k" | "min_p" | "repetition_penalty" | "presence_penalty">,
 *   work?: { weights: number, picture: number, rows: number },
 *   sha256?: { model: string, mmproj?: string }, about?: Text, questions?: string[], examples?: Example[],
 * }} KnownModel
 */

/** A picture to begin with, by its address, and what is asked about it. @typedef {{ picture: string, alt: Text, question: string }} Example */

/**
 * What is known of this machine; null where the browser does not tell. `memory`: of the machine, in bytes; `isAtLeast`: whether it may have
 * more than that; `free`: bytes of storage; `kept`: the addresses of the files that are stored whole; `rate`: operations a second, see speed.js.
 * @typedef {{ gpu: boolean, memory: number | null, isAtLeast: boolean, free: number | null, kept: Set<string>, rate: number | null }} Facts
 */

/** @typedef {import("../../strings/language.js").Language} Language */
/** How a model and this machine go together. @typedef {"fits" | "unknown" | "tight" | "too large"} Fit */

/** The families that the engine loads, each by the name of its projector. A model of another one is not offered. */
export const FAMILIES = new Set(["llava", "idefics3", "internvl", "ldp", "ldpv2", "lfm2", "qwen2vl", "qwen3vl", "gemma3"]);

/** What WebAssembly's memory of 4 GiB has room for, beside the engine itself. */
const CPU_MEMORY = 4.1e9;
/** The same where only the size of the files is known: beside them there are keys, values and scratch. */
const CPU_FILES = 3e9;
/** The share of a machine's memory that a tab can count on. */
const SHARE = 0.5;

/** Of both files. @param {KnownModel} model */
export function totalBytes({ bytes }) {
  return typeof bytes === "number" ? bytes : bytes.model + bytes.mmproj;
}

/** Whether the engine loads it. @param {KnownModel} model @param {Set<string>} [families] */
export function isLoadable({ family }, families = FAMILIES) {
  return family === undefined || families.has(family);
}

/**
 * Whether this machine has the memory. Browsers tell little: a part of the machine's memory at most, and nothing of a GPU's.
 * @param {KnownModel} model
 * @param {Facts} facts
 * @returns {Fit}
 */
export function fit(model, { gpu, memory, isAtLeast }) {
  const needed = model.memory ?? totalBytes(model) * 1.2;
  const forCpu = model.memory === undefined ? totalBytes(model) <= CPU_FILES : needed <= CPU_MEMORY;
  if (!gpu && (!forCpu || model.needsGpu)) return "too large";
  // What any machine has that runs such a browser.
  if (needed < 64e6) return "fits";
  if (memory === null) return "unknown";
  if (needed > memory * SHARE) return isAtLeast ? "unknown" : "tight";
  // Beyond what the CPU could take over, all depends on the GPU's own memory.
  return forCpu ? "fits" : "unknown";
}

/** @type {Record<Fit, import("../../strings/language.js").Key>} */
const FIT_WORDS = { fits: "fit.fits", unknown: "fit.unknown", tight: "fit.tight", "too large": "fit.tooLarge" };

/**
 * @param {Language} words
 * @param {KnownModel} model
 * @param {Facts} facts
 */
export function fitWords(words, model, facts) {
  return words.say(FIT_WORDS[fit(model, facts)]);
}

/**
 * Seconds from the question to the first words about a picture in one piece, at most: measured with another model, which is smaller and so
 * makes less of the machine. Null where nothing was measured.
 * @param {KnownModel} model
 * @param {Facts} facts
 */
export function secondsToFirstWord({ work }, { rate }) {
  if (!work || rate === null) return null;
  /** Tokens of a question with what the template puts around it. */
  const question = 30;
  return (work.picture + 2 * work.weights * (work.rows + question)) / rate;
}

/** Seconds to the first words within which a model is called fast. */
const FAST_SECONDS = 4;

/**
 * How fast it is here, in plain words.
 * @param {Language} words
 * @param {KnownModel} model
 * @param {Facts} facts
 */
export function speedWords(words, model, facts) {
  const seconds = secondsToFirstWord(model, facts);
  if (seconds === null) return words.say("speed.unknown");
  if (seconds <= FAST_SECONDS) return words.say("speed.fast", { time: words.duration(FAST_SECONDS) });
  if (seconds < 55) return words.say("speed.moderate", { time: words.duration(seconds < 15 ? Math.ceil(seconds) : Math.ceil(seconds / 5) * 5) });
  return words.say("speed.slow", { time: words.say("unit.minutes", { value: Math.ceil(seconds / 60) }) });
}

/** @param {KnownModel} model @param {Facts} facts */
export function hasRoom(model, { free }) {
  return free === null || free >= totalBytes(model);
}

/**
 * The models for photographs to suggest, the best first: those that fit before those of which it is not known and those that may be too
 * large; among these what is kept here already, then what there is room to keep, then the smallest. What is too large is left out.
 * @param {KnownModel[]} models
 * @param {Facts} facts
 * @param {(model: KnownModel) => boolean} [isHere]  whether it is kept in this browser
 */
export function forPhotographs(models, facts, isHere = () => false) {
  /** @type {Fit[]} */
  const order = ["fits", "unknown", "tight"];
  /** @param {KnownModel} model */
  const rank = (model) => [order.indexOf(fit(model, facts)), isHere(model) ? 0 : 1, hasRoom(model, facts) ? 0 : 1, totalBytes(model)];
  return models
    .filter((model) => model.purpose === "photographs" && isLoadable(model) && fit(model, facts) !== "too large")
    .map((model) => ({ model, rank: rank(model) }))
    .sort((a, b) => a.rank.reduce((order, value, i) => order || value - /** @type {number} */ (b.rank[i]), 0))
    .map(({ model }) => model);
}
