// What a caller may give as a model file → the list of files the worker reads, in order.

import { kindOf } from "./checks.js";
import { LlavaError, shown } from "./errors.js";

/** @typedef {import("../wire/protocol.js").SourceSpec} SourceSpec */

/**
 * @param {unknown} source  a `Source`: URL, `hf:` address, File, Blob, bytes, or an array of those
 * @param {string} option  the option's name, for messages
 * @returns {SourceSpec[]}
 */
export function sourceSpecs(source, option) {
  const parts = Array.isArray(source) ? source : [source];
  if (parts.length === 0) throw new LlavaError("invalid_request", `${option} is an empty list. Give at least one file or URL.`);
  return parts.map((part, i) => sourceSpec(part, parts.length === 1 ? option : `${option}[${i}]`));
}

/**
 * @param {unknown} source
 * @param {string} option
 * @returns {SourceSpec}
 */
function sourceSpec(source, option) {
  if (typeof source === "string") return urlSpec(source.trim(), option);
  // Whatever frame it comes from.
  const given = /** @type {any} */ (source);
  const kind = kindOf(given);
  if (kind === "URL") return urlSpec(given.href, option);
  if (kind === "File" || kind === "Blob") return { kind: "blob", blob: given, name: kind === "File" ? shown(given.name) : option };
  if (kind === "ArrayBuffer" || ArrayBuffer.isView(given)) {
    // A Blob, because it is handed over without a second copy in this page and without taking the caller's buffer away.
    return { kind: "blob", blob: new Blob([/** @type {BlobPart} */ (given)]), name: option };
  }
  throw new LlavaError("invalid_request",
    `${option} must be a URL, "hf:owner/repository/path/file.gguf", a File, a Blob, an ArrayBuffer, a Uint8Array, or an array of those.`);
}

/**
 * @param {string} text
 * @param {string} option
 * @returns {SourceSpec}
 */
function urlSpec(text, option) {
  if (text === "") throw new LlavaError("invalid_request", `${option} is an empty string. Give the URL of a GGUF file.`);
  const url = text.startsWith("hf:") ? huggingFaceUrl(text, option) : parseUrl(text, option);
  if (!["https:", "http:", "blob:", "data:"].includes(url.protocol)) {
    throw new LlavaError("invalid_request", `${option} is "${shown(text)}": only https:, http:, hf:, blob: and data: addresses can be read.`);
  }
  // Hugging Face's page about a file is what people copy; the file itself is one word away.
  if (url.hostname === "huggingface.co") url.pathname = url.pathname.replace(/^(\/[^/]+\/[^/]+)\/blob\//, "$1/resolve/");
  const last = url.pathname.split("/").pop() ?? "";
  return { kind: "url", url: url.href, name: url.protocol === "data:" ? option : shown(safeDecode(last)) || option };
}

/**
 * @param {string} text
 * @param {string} option
 */
function parseUrl(text, option) {
  try {
    // Relative to the page, not to the worker's script, which is where it will be fetched.
    return new URL(text, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new LlavaError("invalid_request", `${option} is "${shown(text)}", which is not an address. Check it.`, { cause });
  }
}

/**
 * `hf:owner/repository/path/file.gguf`, or `hf:owner/repository@revision/…`
 * @param {string} text
 * @param {string} option
 */
function huggingFaceUrl(text, option) {
  const [owner = "", named = "", ...path] = text.slice("hf:".length).split("/").filter((part) => part !== "");
  const [repository = "", revision = "main", ...rest] = named.split("@");
  if (path.length === 0 || [owner, repository, revision, ...path].some((part) => part === ".." || part === "") || rest.length > 0) {
    throw new LlavaError("invalid_request",
      `${option} is "${shown(text)}": write "hf:owner/repository/file.gguf", or "hf:owner/repository@revision/file.gguf", as the file's address on huggingface.co has it.`);
  }
  return new URL(`https://huggingface.co/${[owner, repository, "resolve", revision, ...path].map(encodeURIComponent).join("/")}`);
}

/**
 * A part of an address as a person reads it; one that is not encoded as it should be stays as it is.
 * @param {string} text
 */
export function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
