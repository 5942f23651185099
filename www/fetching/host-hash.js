// The SHA-256 that a host gives out with a file, where it does.

import { ask } from "./ask.js";
import { wholeBody } from "./http-answers.js";

/** A Git LFS pointer is some 130 bytes long. */
const MAX_POINTER = 1024;
/** How long the pointer is waited for, in milliseconds: it helps, but nothing depends on it. */
const PATIENCE = 5000;

/**
 * What a repository on Hugging Face says that the file's hash is, in hex; null where it does not. There a file is sent from elsewhere, with
 * an ETag of that place's own; the pointer in the repository has the hash.
 * @param {{ url: string, headers?: import("./ask.js").RequestHeaders }} file
 * @returns {Promise<string | null>}
 */
export async function lfsHash({ url, headers }) {
  const { hostname, pathname } = new URL(url);
  const file = /^(huggingface\.co|hf\.co)$/.test(hostname) && /^(\/[^/]+\/[^/]+)\/resolve\/(.+)$/.exec(pathname);
  if (!file) return null;
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), PATIENCE);
  try {
    const response = await ask(`https://huggingface.co${file[1]}/raw/${file[2]}`, hostname === "huggingface.co" ? headers : undefined, { signal: controller.signal });
    const pointer = response.ok ? await wholeBody(response, MAX_POINTER) : null;
    return pointer && (/^oid sha256:([0-9a-f]{64})$/m.exec(new TextDecoder().decode(pointer))?.[1] ?? null);
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}

/**
 * What an ETag says where it has the form of a SHA-256. It may be anything else.
 * @param {string | null} etag
 */
export function etagHash(etag) {
  return /^"([0-9a-f]{64})"$/i.exec(etag ?? "")?.[1]?.toLowerCase() ?? null;
}
