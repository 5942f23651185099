// Evaluation as LLaVA's papers do it: ScienceQA's accuracy by subject, context and grade, and LLaVA-Bench's score relative to
// reference answers. training/evaluate.py is the same for a shell; training/tests/data/scoring.json holds both to each other.

import { LlavaError } from "../api/errors.js";
import { Complaint } from "../strings/language.js";

/**
 * @typedef {{ question: string, choices: string[], answer: number, hint?: string, image?: string | null, subject?: string, grade?: string }} Problem
 * @typedef {{ id: string, prompt: string, image: File | null, choices: string[], answer: number, kinds: string[] }} Choice
 * @typedef {{ id: string, prompt: string, image: File, reference: string, context: string, category: string }} Open
 * @typedef {{ kind: "scienceqa", splits: Record<string, Choice[]> } | { kind: "llava-bench", questions: Open[] }} Dataset
 * @typedef {(prompt: string, image: File | null) => Promise<string>} Ask
 */

const LETTERS = "ABCDE";
/** @type {Record<string, string>} */
const SUBJECTS = { "natural science": "NAT", "social science": "SOC", "language science": "LAN" };
/** The order of the paper's table. */
export const COLUMNS = ["all", "NAT", "SOC", "LAN", "other", "TXT", "IMG", "NO", "G1-6", "G7-12"];

/** LLaVA's prompt. @param {Problem} problem */
export function scienceQaPrompt(problem) {
  const options = problem.choices.map((choice, i) => `(${LETTERS[i]}) ${choice}`).join(" ");
  const context = problem.hint?.trim() || "N/A";
  return `Context: ${context}\nQuestion: ${problem.question}\nOptions: ${options}\nAnswer with the option's letter from the given choices directly.`;
}

/** The option that an answer means, or null where it means none. @param {string} answer @param {string[]} choices */
export function chosen(answer, choices) {
  const text = answer.trim();
  const letters = LETTERS.slice(0, choices.length);
  const patterns = [`^\\(?([${letters}])\\)?[.:]?$`, `^\\(?([${letters}])[).:]\\s`, `[Aa]nswer is:? \\(?([${letters}])\\b`];
  for (const pattern of patterns) {
    const found = new RegExp(pattern).exec(text);
    if (found?.[1]) return letters.indexOf(found[1]);
  }
  const plain = text.replace(/\.+$/, "").toLowerCase();
  const same = choices.flatMap((choice, i) => (choice.trim().toLowerCase() === plain ? [i] : []));
  return same.length === 1 ? same[0] ?? null : null;
}

/** The columns that a problem counts in. @param {Problem} problem */
export function kindsOf(problem) {
  const context = [...(problem.hint?.trim() ? ["TXT"] : []), ...(problem.image ? ["IMG"] : [])];
  const grade = Number((problem.grade ?? "").replace(/\D/g, ""));
  return [SUBJECTS[problem.subject ?? ""] ?? "other", ...(context.length > 0 ? context : ["NO"]), ...(grade === 0 ? [] : grade <= 6 ? ["G1-6"] : ["G7-12"])];
}

const SMALL_WORDS = new Set("a an the is are was were be of in on at to and or it its this that there with by for from as no not i you".split(" "));

/** 1 to 10: how many words the two share, as F1. @param {string} reference @param {string} answer */
export function keywordScore(reference, answer) {
  const words = (/** @type {string} */ text) => new Set((text.toLowerCase().match(/[a-z0-9]+/g) ?? []).filter((word) => !SMALL_WORDS.has(word)));
  const [a, b] = [words(reference), words(answer)];
  if (a.size === 0 || b.size === 0) return a.size === b.size ? 10 : 1;
  const shared = [...a].filter((word) => b.has(word)).length;
  return 1 + (9 * 2 * shared) / (a.size + b.size);
}

/**
 * Finds out which of the two sets a folder's files are.
 * @param {File[]} files  with `webkitRelativePath`, as a folder chooser gives them
 * @returns {Promise<Dataset>}  fails with a Complaint
 */
export async function readDataset(files) {
  const path = (/** @type {File} */ file) => (file.webkitRelativePath || file.name).split("/");
  const at = new Map(files.map((file) => [path(file).slice(1).join("/"), file]));
  const named = (/** @type {string} */ name) => at.get(name) ?? files.find((file) => path(file).at(-1) === name);
  const [problems, splits, questions, answers] = ["problems.json", "pid_splits.json", "questions.jsonl", "answers.jsonl"].map(named);
  try {
    if (problems && splits) return { kind: "scienceqa", splits: scienceQa(JSON.parse(await problems.text()), JSON.parse(await splits.text()), at) };
    if (questions && answers) {
      const lines = async (/** @type {File | undefined} */ file) =>
        ((await file?.text()) ?? "").split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
      const references = new Map((await lines(answers)).map((answer) => [answer.question_id, answer.text]));
      const contexts = new Map((await lines(named("context.jsonl"))).map((context) => [context.image, context.caption]));
      return {
        kind: "llava-bench",
        questions: (await lines(questions)).map((question) => ({
          id: String(question.question_id),
          prompt: question.text,
          image: pictureOf(at, `images/${question.image}`),
          reference: references.get(question.question_id) ?? missing("eval.lacksAnswer", { id: String(question.question_id) }),
          context: contexts.get(question.image) ?? "(none)",
          category: question.category ?? "other",
        })),
      };
    }
  } catch (error) {
    if (error instanceof Complaint) throw error;
    throw new Complaint("eval.noJson", { why: error instanceof Error ? error.message : String(error) }, { cause: error });
  }
  throw new Complaint("eval.neither");
}

/**
 * @param {import("../strings/language.js").Key} key
 * @param {Record<string, string>} [values]
 * @returns {never}
 */
function missing(key, values) {
  throw new Complaint(key, values);
}

/** @param {Map<string, File>} at @param {string} path */
function pictureOf(at, path) {
  return at.get(path) ?? missing("eval.lacksPicture", { path });
}

/**
 * @param {Record<string, Problem>} problems
 * @param {Record<string, string[]>} splits
 * @param {Map<string, File>} at
 */
function scienceQa(problems, splits, at) {
  /** @type {Record<string, Choice[]>} */
  const out = {};
  for (const [split, ids] of Object.entries(splits)) {
    // The published set comes one split at a time: those whose pictures are not here are left out.
    const pictures = ids.filter((id) => problems[id]?.image);
    if (pictures.length > 0 && !pictures.some((id) => at.has(`${split}/${id}/${problems[id]?.image}`))) continue;
    out[split] = ids.map((id) => {
      const problem = problems[id] ?? missing("eval.lacksProblem", { id });
      const image = problem.image ? pictureOf(at, `${split}/${id}/${problem.image}`) : null;
      return { id, prompt: scienceQaPrompt(problem), image, choices: problem.choices, answer: problem.answer, kinds: ["all", ...kindsOf(problem)] };
    });
  }
  if (Object.keys(out).length === 0) missing("eval.lacksPictures");
  return out;
}

/**
 * Asks all questions of a ScienceQA split. A second answerer joins as GPT-4 did in the paper: `complement` where the first names no
 * option, `judge` to decide where the two differ.
 * @param {Choice[]} questions
 * @param {Ask} ask
 * @param {{ second?: Ask | null, ensemble?: "judge" | "complement", onAnswer?: (done: number) => void, signal?: AbortSignal }} [options]
 */
export async function runScienceQa(questions, ask, { second = null, ensemble = "judge", onAnswer, signal } = {}) {
  /** @type {{ id: string, answer: string, choice: number | null, right: boolean, kinds: string[] }[]} */
  const records = [];
  for (const question of questions) {
    signal?.throwIfAborted();
    const answer = await ask(question.prompt, question.image);
    let choice = chosen(answer, question.choices);
    if (second && (ensemble === "judge" || choice === null)) {
      const other = chosen(await second(question.prompt, ensemble === "complement" ? question.image : null), question.choices);
      if (choice === null) choice = other;
      else if (ensemble === "judge" && other !== null && other !== choice) {
        const verdict = await second(
          `${question.prompt}\nTwo answers were given: ${LETTERS.charAt(choice)} by a model that sees the picture, and ${LETTERS.charAt(other)} by one that reads the text alone. ` +
            "Which one is right? Answer with its letter directly.",
          null,
        );
        const decided = chosen(verdict, question.choices);
        if (decided === other) choice = other;
      }
    }
    records.push({ id: question.id, answer, choice, right: choice === question.answer, kinds: question.kinds });
    onAnswer?.(records.length);
  }
  const rows = COLUMNS.flatMap((kind) => {
    const counted = records.filter((record) => record.kinds.includes(kind));
    return counted.length === 0 ? [] : [{ kind, value: counted.filter((record) => record.right).length / counted.length, of: counted.length }];
  });
  return { rows, records, unread: records.filter((record) => record.choice === null).length };
}

/** @param {Open} question @param {string} answer */
export function judgePrompt(question, answer) {
  return `You compare two assistants that answered a question about a picture. You do not see the picture; this is a description of it:
${question.context}

Question: ${question.prompt}

Answer of assistant 1: ${question.reference}

Answer of assistant 2: ${answer}

Rate helpfulness, relevance, accuracy and detail of each on a scale of 1 to 10. Write the two numbers alone on the first line, separated by a space, then your reasons.`;
}

/**
 * Asks LLaVA-Bench's questions; without a judge the words shared with the reference count.
 * @param {Open[]} questions
 * @param {Ask} ask
 * @param {{ judge?: Ask | null, onAnswer?: (done: number) => void, signal?: AbortSignal }} [options]
 */
export async function runBench(questions, ask, { judge = null, onAnswer, signal } = {}) {
  /** @type {{ id: string, answer: string, reference_points: number, points: number, kinds: string[] }[]} */
  const records = [];
  let unread = 0;
  for (const question of questions) {
    signal?.throwIfAborted();
    const answer = await ask(question.prompt, question.image);
    let points = [10, keywordScore(question.reference, answer)];
    if (judge) {
      const verdict = await judge(judgePrompt(question, answer), null);
      points = ((verdict.split("\n")[0] ?? "").match(/\d+(?:\.\d+)?/g) ?? []).map(Number);
    }
    const [reference_points, own] = points;
    if (reference_points === undefined || own === undefined) unread += 1;
    else records.push({ id: question.id, answer, reference_points, points: own, kinds: ["all", question.category] });
    onAnswer?.(records.length + unread);
  }
  const rows = [...new Set(records.flatMap((record) => record.kinds))].map((kind) => {
    const counted = records.filter((record) => record.kinds.includes(kind));
    const sum = (/** @type {"points" | "reference_points"} */ of) => counted.reduce((total, record) => total + record[of], 0);
    return { kind, value: sum("points") / sum("reference_points"), of: counted.length };
  });
  return { rows, records, unread };
}

/**
 * An OpenAI-compatible endpoint as one that answers.
 * @param {{ url: string, model: string, key?: string }} endpoint
 * @param {AbortSignal} [signal]
 * @returns {Ask}
 */
export function askEndpoint({ url, model, key }, signal) {
  return async (prompt, image) => {
    const content = image
      ? [{ type: "image_url", image_url: { url: await dataUrl(image) } }, { type: "text", text: prompt }]
      : prompt;
    let reply;
    try {
      reply = await fetch(`${url.replace(/\/+$/, "")}/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) },
        body: JSON.stringify({ model, messages: [{ role: "user", content }], temperature: 0 }),
        signal,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new LlavaError("network", `${url} cannot be reached. Is it running, and does it allow this page (CORS)?`, { cause: error });
    }
    const text = (await reply.json().catch(() => null))?.choices?.[0]?.message?.content;
    if (!reply.ok || typeof text !== "string") {
      throw new LlavaError("network", `${url} answered ${reply.status} and no chat completion. Check the address, the model's name and the key.`);
    }
    return text;
  };
}

/** @param {File} file @returns {Promise<string>} */
function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new LlavaError("invalid_image", `'${file.name}' cannot be read.`, { cause: reader.error }));
    reader.readAsDataURL(file);
  });
}
