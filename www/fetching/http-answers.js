// What a server's answer says: which part of which version of a file it is, and what its refusals mean.

import { LlavaError } from "../api/errors.js";
import { isSigned } from "./address.js";

/**
 * A part of a file whose beginning is there from another time.
 * @typedef {object} Resume
 * @property {number} from  the first byte that is wanted
 * @property {number} [to]  the byte after the last one; default: to the end
 * @property {number} size  the whole file's
 * @property {string | null} etag
 * @property {boolean} checked  whether the bytes are compared with a hash in the end, so that a server need not prove them
 */

/**
 * Whether an ETag stands for one sequence of bytes only.
 * @param {string | null | undefined} etag
 * @returns {etag is string}
 */
export function isStrong(etag) {
  return typeof etag === "string" && etag !== "" && !etag.startsWith("W/");
}

/**
 * Whether two ETags are both there and speak of different versions. A weak one and a strong one, and those that servers give to a
 * file and to its compressed form, speak of the same version.
 * @param {string | null} before
 * @param {string | null} now
 */
export function isOtherVersion(before, now) {
  const version = (/** @type {string} */ etag) => etag.replace(/^W\//, "").replace(/(--?|;)(gzip|br|zstd|deflate)"$/, '"');
  return before !== null && now !== null && version(before) !== version(now);
}

/**
 * The part of the file that an answer's body is, where the answer says so. `end`: the byte after the last one.
 * @param {Response} response
 * @returns {{ from: number, end: number, size: number | null } | null}
 */
export function contentRange(response) {
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  return range && { from: Number(range[1]), end: Number(range[2]) + 1, size: range[3] === "*" ? null : Number(range[3]) };
}

/**
 * The length of the body in bytes, where it is known. A compressed body's Content-Length says nothing about the file's, and a page sees
 * only of its own origin whether a body is compressed; a part of a file is sent as it is.
 * @param {Response} response
 */
export function announcedLength(response) {
  const length = response.headers.get("content-length");
  if (length === null || response.headers.get("content-encoding")) return undefined;
  if (response.type === "cors" && response.status !== 206) return undefined;
  return Number(length);
}

/**
 * Whether an answer is the wanted part of the very file that a part is there of. Some hosts send less at once than was asked for.
 * @param {Response} response
 * @param {Resume} resume
 */
export function proves(response, { from, to, size, etag, checked }) {
  if (response.status !== 206) return false;
  const shown = response.headers.get("etag");
  if (!checked && !(isStrong(etag) && shown === etag)) return false;
  const range = contentRange(response);
  // Where CORS hides the range, its length still has to be right.
  if (!range) return announcedLength(response) === (to ?? size) - from;
  return range.from === from && range.end > from && range.end <= (to ?? size) && (range.size === null || range.size === size);
}

/**
 * Milliseconds to wait, at most five minutes; 0 where the server does not say, or CORS hides it.
 * @param {Response} response
 */
export function retryAfter(response) {
  const header = response.headers.get("retry-after");
  if (header === null) return 0;
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 300) * 1000 : 0;
}

const TOKEN = 'with a token in headers ({ Authorization: "Bearer …" })';

/**
 * What Hugging Face says beside the status, in a header that pages may read. It answers with 401 for a repository that is not there, too: that
 * might be somebody's private one.
 * @type {Record<string, string>}
 */
const HUB_ERRORS = {
  GatedRepo: `gated: its publisher wants the terms accepted first. Sign in there, accept them, then load it ${TOKEN}, or download the file and choose it from disk.`,
  RepoNotFound: "there is no such repository, or it is private. It may have been renamed: look for the model there.",
  RevisionNotFound: "the repository has no such version. Check the address.",
  EntryNotFound: "the repository has no such file. It may have been renamed: look at its list of files.",
};

/**
 * @param {string} where
 * @param {number} status
 * @param {{ url?: string, answer?: Headers, sent?: import("./ask.js").RequestHeaders }} [more]  `answer`: its headers; `sent`: the caller's, where it
 *   is a file that they can be given for
 */
export function refused(where, status, { url, answer, sent } = {}) {
  const hub = HUB_ERRORS[answer?.get("x-error-code") ?? ""];
  const isExpired = (status === 401 || status === 403) && url !== undefined && isSigned(url);
  const why =
    hub ? hub :
    isExpired ? "the address is signed, and the signature no longer holds. Get a new address of the file; what is stored of it is used." :
    status === 404 || status === 410 ? "there is no such file. Check the address." :
    status === 401 || status === 403 ? notAllowed(sent) :
    status === 429 ? "the host is receiving too many requests right now. Wait a few minutes and try again." :
    status === 204 || status === 205 ? "it sent no file. Check the address." :
    status >= 500 ? "the host has a problem right now. Try again later." :
    "check the address.";
  return new LlavaError("network", `${where} answered with status ${status}: ${why}`);
}

/** @param {import("./ask.js").RequestHeaders} [sent] */
function notAllowed(sent) {
  if (!sent) return "this file isn't public. Download it while signed in there, and choose it from disk.";
  if (Object.keys(sent).length === 0) {
    return `this file isn't public: the model may be gated or private. Load it ${TOKEN} of an account that may read it, or download it while signed in there and choose it from disk.`;
  }
  return "the headers that were sent do not open it. The token may be wrong or have expired, or the model may be gated and its terms not accepted by that account.";
}

/**
 * @param {string} where
 * @param {string} url
 * @param {unknown} cause
 * @param {import("./ask.js").RequestHeaders} [sent]  the caller's
 */
export function unreachable(where, url, cause, sent = {}) {
  const mixed = globalThis.location?.protocol === "https:" && url.startsWith("http:");
  const names = Object.keys(sent);
  return new LlavaError("network",
    `${where} could not be fetched. ` + (mixed ?
      "A page loaded over https: cannot read http: addresses. Use an https: address, or download the file and choose it from disk." :
      "Either there is no connection, or the host does not exist, or it does not let web pages read its files (CORS)" +
      `${names.length > 0 ? ` or send it ${names.join(", ")} (Access-Control-Allow-Headers)` : ""}. ` +
      "Check the address and the connection, or download the file and choose it from disk."),
    { cause });
}

/**
 * A whole body, but not one that is longer than it may be; what the server announces is not relied on.
 * @param {Response} response
 * @param {number} limit  in bytes
 * @returns {Promise<Uint8Array<ArrayBuffer> | null>}  null where it is longer
 */
export async function wholeBody(response, limit) {
  const body = /** @type {ReadableStream<Uint8Array<ArrayBuffer>> | null} */ (response.body);
  if (!body) return new Uint8Array(0);
  const reader = body.getReader();
  const pieces = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > limit) {
      await reader.cancel().catch(() => {});
      return null;
    }
    pieces.push(value);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
