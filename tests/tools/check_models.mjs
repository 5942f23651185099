// Whether the addresses of the page's models still hold: asks each host what a visitor's browser would ask. Nothing is downloaded but the first
// bytes of each file.
//
// usage: node check_models.mjs [--list FILE.js] [--hub ORIGIN] [NAME...]
//   --list   the module whose MODELS are checked; default: www/models.js
//   --hub    in place of https://huggingface.co
//   NAME     only models whose names contain this
//
// For each file: that it is there for everybody; that every host on the way lets pages of other origins read it (CORS); that ranges are known, and
// what a resumed download needs is shown; that it is a GGUF file, as large as the list says. Ends with status 1 where anything is at fault.

import { readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
/** A page that is of none of the hosts. */
const ORIGIN = "https://page.example";
/** A browser follows more. */
const MAX_HOPS = 5;
/** How far a rounded size may be off. */
const ROUNDED = 0.06;
const PATIENCE = 30_000;

/** @typedef {import("../../www/chat/model/catalogue.js").KnownModel} KnownModel */
/** @typedef {{ model: string, file: "model" | "mmproj", address: string, bytes: number | null, faults: string[] }} Checked */

/**
 * Every file of a list of models.
 * @param {KnownModel[]} models
 * @param {{ hub?: string, root?: string }} [options]  `root`: the folder that relative addresses are in
 * @returns {Promise<Checked[]>}
 */
export async function checkModels(models, { hub = "https://huggingface.co", root = path.join(here, "../../www") } = {}) {
  /** @type {Checked[]} */
  const all = [];
  for (const { name, model, mmproj, bytes, roundedBytes = false } of models) {
    /** @type {Checked[]} */
    const files = [];
    for (const file of /** @type {const} */ (["model", "mmproj"])) {
      const address = { model, mmproj }[file];
      if (!address) continue;
      const expected = typeof bytes === "number" ? null : bytes[file];
      const { size, faults, at } = await checkFile(address, { hub, root });
      const wrong = size !== null && expected !== null && !isSize(size, expected, roundedBytes);
      files.push({ model: name, file, address: at, bytes: size, faults: wrong ? [...faults, sizeFault(size, expected)] : faults });
    }
    // Where only the sum is told.
    const sum = files.reduce((sum, { bytes }) => (sum === null || bytes === null ? null : sum + bytes), /** @type {number | null} */ (0));
    if (typeof bytes === "number" && sum !== null && !isSize(sum, bytes, roundedBytes)) files.at(-1)?.faults.push(`both files together: ${sizeFault(sum, bytes)}`);
    all.push(...files);
  }
  return all;
}

/** @param {number} size @param {number} expected @param {boolean} isRounded */
function isSize(size, expected, isRounded) {
  return isRounded ? Math.abs(size - expected) <= ROUNDED * expected : size === expected;
}

/** @param {number} size @param {number} expected */
function sizeFault(size, expected) {
  return `${size} bytes, where the list says ${expected}: write the new size, if the file is still the same model`;
}

/**
 * @param {string} source
 * @param {{ hub: string, root: string }} options
 * @returns {Promise<{ at: string, size: number | null, faults: string[] }>}
 */
async function checkFile(source, { hub, root }) {
  if (!/^(hf|https?):/.test(source)) return checkLocal(path.join(root, source));
  const [, owner, repository, file] = /^hf:([^/]+)\/([^/]+)\/(.+)$/.exec(source) ?? [];
  const at = owner ? `${hub}/${owner}/${repository}/resolve/main/${file}` : source;
  const tree = owner ? `${hub}/${owner}/${repository}/tree/main` : "its host";
  /** @type {string[]} */
  const faults = [];
  /** @type {number | null} */
  let size = null;
  try {
    const head = await asked(at, "HEAD", {});
    faults.push(...head.faults);
    const refusal = refused(head.response, tree);
    if (refusal) return { at, size, faults: [...faults, refusal] };
    // As the other hosts say it, or as Hugging Face says it before it sends the browser on.
    size = number(head.linkedSize) ?? number(head.response.headers.get("content-length"));
    const range = await asked(at, "GET", { range: "bytes=0-3" });
    const { response } = range;
    const late = refused(response, tree);
    if (late) return { at, size, faults: [...new Set([...faults, ...range.faults, late])] };
    const bytes = await firstBytes(response, 4);
    if (response.status !== 206) faults.push("ranges are not known: a download that breaks off begins anew");
    const total = number(/\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1] ?? null);
    if (total !== null && size !== null && total !== size) faults.push(`a range is of ${total} bytes, HEAD says ${size}`);
    size ??= total;
    const exposed = (response.headers.get("access-control-expose-headers") ?? "").toLowerCase().split(/\s*,\s*/);
    for (const name of ["etag", "content-range"]) {
      if (!exposed.includes(name) && !exposed.includes("*")) faults.push(`pages are not shown ${name}: a download that breaks off begins anew`);
    }
    if (bytes !== "GGUF") faults.push(`no GGUF file: it begins with ${JSON.stringify(bytes)}`);
    return { at, size, faults: [...new Set([...faults, ...range.faults])] };
  } catch (error) {
    const { message, cause } = /** @type {Error} */ (error);
    return { at, size, faults: [...faults, `could not be asked: ${cause instanceof Error ? cause.message : message}`] };
  }
}

/** @param {string} file */
function checkLocal(file) {
  try {
    const { size } = statSync(file);
    const begin = readFileSync(file).toString("latin1", 0, 4);
    return { at: file, size, faults: begin === "GGUF" ? [] : [`no GGUF file: it begins with ${JSON.stringify(begin)}`] };
  } catch {
    return { at: file, size: null, faults: ["there is no such file in this folder"] };
  }
}

/**
 * Asks as a page would, and looks at every answer on the way.
 * @param {string} url
 * @param {string} method
 * @param {Record<string, string>} headers
 */
async function asked(url, method, headers) {
  /** @type {string[]} */
  const faults = [];
  /** @type {string | null} */
  let linkedSize = null;
  // From a redirect to another origin on, browsers tell none: so that no host can send a page's word on to another one.
  let origin = ORIGIN;
  for (let hop = 0; ; hop++) {
    const response = await fetch(url, { method, headers: { ...headers, origin, "accept-encoding": "identity" }, redirect: "manual", signal: AbortSignal.timeout(PATIENCE) });
    const allowed = response.headers.get("access-control-allow-origin");
    if (allowed !== "*" && allowed !== origin) faults.push(`${new URL(url).host} does not let pages of other origins read it (CORS)`);
    linkedSize ??= response.headers.get("x-linked-size");
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || !location) return { response, faults, linkedSize };
    await response.body?.cancel();
    if (hop === MAX_HOPS) throw new Error(`more than ${MAX_HOPS} redirects`);
    const next = new URL(location, url);
    if (next.origin !== new URL(url).origin) origin = "null";
    url = next.href;
  }
}

/**
 * What a status means for who keeps the list; null where the file is there.
 * @param {Response} response
 * @param {string} tree
 */
function refused({ status, headers, ok }, tree) {
  if (ok) return null;
  const code = headers.get("x-error-code") ?? "";
  if (code === "GatedRepo") return `gated (${status}): its terms have to be accepted first, so that no visitor can load it with a click. Take another repository`;
  if (code === "RepoNotFound") return `no such repository, or a private one (${status}). Look for its new name`;
  if (status === 404 || status === 410) return `no such file (${status}). Look at ${tree} for its new name`;
  if (status === 401 || status === 403) return `not public (${status})`;
  return `status ${status}`;
}

/** @param {string | null} text */
function number(text) {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

/** @param {Response} response @param {number} count */
async function firstBytes(response, count) {
  const reader = response.body?.getReader();
  let text = "";
  while (reader && text.length < count) {
    const { done, value } = await reader.read();
    if (done) break;
    text += String.fromCharCode(...value.subarray(0, count - text.length));
  }
  await reader?.cancel();
  return text;
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  /** @param {string} name */
  const option = (name) => (args.includes(name) ? args.splice(args.indexOf(name), 2)[1] : undefined);
  const list = option("--list") ?? path.join(here, "../../www/models.js");
  const hub = option("--hub");
  const { MODELS } = await import(pathToFileURL(path.resolve(list)).href);
  const wanted = MODELS.filter((/** @type {KnownModel} */ { name }) => args.length === 0 || args.some((part) => String(name).toLowerCase().includes(part.toLowerCase())));
  const checked = await checkModels(wanted, { hub, root: path.dirname(path.resolve(list)) });
  for (const { model, file, address, bytes, faults } of checked) {
    console.log(`${faults.length === 0 ? "ok   " : "FAULT"} ${model}, ${file}: ${bytes === null ? "size unknown" : `${bytes} bytes`}, ${address}`);
    for (const fault of faults) console.log(`        ${fault}`);
  }
  const faulty = checked.filter(({ faults }) => faults.length > 0).length;
  console.log(`${checked.length} files of ${wanted.length} models, ${faulty} at fault`);
  if (faulty > 0 || checked.length === 0) process.exit(1);
}
