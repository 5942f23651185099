// The model files in the browser's storage (OPFS), as both sides see them: the folder, each file's record, listing and deleting.
//
// A file is known by the address it came from, query and all, and kept as two: `ID.gguf` has the bytes, each at its offset, and
// `ID.log` says which of them are there. The log is lines that are only ever added, each with a checksum of its own: whatever
// ends a download, a closed tab or a power cut, the lines before it stay true, and half a line is no line.
//
//   { url, name, chunkSize }          the first line
//   { etag, size }                    which version of the file the bytes are of, and its length
//   { chunk, sum }                    chunk number `chunk` is there, with this checksum
//   { sha256 }                        every chunk was there once, and this is the whole's hash
//   { used }                          milliseconds since 1970
//
// A Web Lock named after the ID keeps tabs and workers apart: exclusive for whoever downloads, repairs or deletes, shared for
// whoever only reads.

import { LlavaError } from "../api/errors.js";
import { readableUrl } from "../fetching/http-bytes.js";
import { createSyncHandle } from "./sync-handles.js";

/**
 * What a log says.
 * @typedef {object} FileRecord
 * @property {string} url
 * @property {string} name  the last part of the address
 * @property {string | null} etag
 * @property {number | null} size  the whole file's, where the server announced it
 * @property {Map<number, string>} sums  checksum of each chunk that was written
 * @property {string | null} sha256
 * @property {number} used
 */

/** @typedef {{ name: string, url: string, bytes: number, allocated: number, total: number | null, complete: boolean, lastUsed: number, sha256?: string }} StoredModel */

const FOLDER = "llava-web";

/**
 * What is verified and fetched again as one. Small, because an unfinished one is lost with the tab; a record takes 50 bytes.
 */
export const CHUNK = 1 << 20;

/**
 * The folder, or null where the browser has no such storage for this page: a private window, `file:`, plain `http:`.
 * @param {{ create?: boolean }} [options]
 * @returns {Promise<FileSystemDirectoryHandle | null>}
 */
export async function openFolder({ create = false } = {}) {
  if (!navigator.storage?.getDirectory || !navigator.locks || !globalThis.crypto?.subtle) return null;
  try {
    return await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create });
  } catch {
    return null;
  }
}

/** @param {string} url */
export async function fileId(url) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return Array.from(new Uint8Array(digest, 0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Gives a lock back, and resolves when that is done.
 * @typedef {() => Promise<void>} Release
 */

/**
 * Holds a file's lock until it is given back; null where `ifAvailable` and somebody else has it.
 * @param {string} id
 * @param {LockOptions} options
 * @returns {Promise<Release | null>}
 */
export function lockFile(id, options) {
  return new Promise((resolve, reject) => {
    /** @type {Promise<any>} */
    const done = navigator.locks.request(`${FOLDER}:${id}`, options, (lock) => {
      if (!lock) return resolve(null);
      return new Promise((end) => resolve(() => {
        end(undefined);
        return done;
      }));
    });
    done.catch(reject);
  });
}

/**
 * A checksum of some bytes. Not a cryptographic one: it is to find damage, at several gigabytes a second.
 * Every step is a bijection of the state, so no single changed word can go unseen.
 * @param {Uint8Array} bytes
 */
export function checksum(bytes) {
  const whole = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const words = new Uint32Array(whole.buffer, whole.byteOffset, whole.length >> 2);
  const n = words.length & ~3;
  const odd = 0x85eb_ca77;
  let [a, b, c, d] = [bytes.length, 0x2545_f491, 0x6c07_8965, 0x1656_67b1];
  for (let i = 0; i < n; i += 4) {
    a = Math.imul(a ^ words[i], odd);
    b = Math.imul(b ^ words[i + 1], odd);
    c = Math.imul(c ^ words[i + 2], odd);
    d = Math.imul(d ^ words[i + 3], odd);
    a = (a << 13) | (a >>> 19);
    b = (b << 13) | (b >>> 19);
    c = (c << 13) | (c >>> 19);
    d = (d << 13) | (d >>> 19);
  }
  for (let i = 4 * n; i < bytes.length; i++) {
    a = Math.imul(a ^ bytes[i], odd);
    a = (a << 13) | (a >>> 19);
  }
  return [a, b, c, d].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
}

/** @param {object} entry */
export function logLine(entry) {
  const text = JSON.stringify(entry);
  return `${lineSum(text)} ${text}\n`;
}

/** @param {string} text */
function lineSum(text) {
  const lanes = checksum(new TextEncoder().encode(text)).match(/.{8}/g) ?? [];
  return (lanes.reduce((sum, lane) => sum ^ parseInt(lane, 16), 0) >>> 0).toString(16).padStart(8, "0");
}

/**
 * @param {string} text
 * @returns {FileRecord | null}  null where the first line is not one
 */
export function parseLog(text) {
  /** @type {FileRecord | null} */
  let record = null;
  for (const line of text.split("\n")) {
    const json = line.slice(9);
    if (line.slice(0, 8) !== lineSum(json)) continue;
    const entry = JSON.parse(json);
    if (entry.url !== undefined && entry.chunkSize === CHUNK) {
      record = { url: entry.url, name: entry.name, etag: null, size: null, sums: new Map(), sha256: null, used: 0 };
    } else if (!record) {
      return null;
    } else if (entry.chunk !== undefined) {
      record.sums.set(entry.chunk, entry.sum);
    } else if (entry.size !== undefined) {
      record.etag = entry.etag;
      record.size = entry.size;
    } else if (entry.sha256 !== undefined) {
      record.sha256 = entry.sha256;
    } else if (entry.used !== undefined) {
      record.used = entry.used;
    }
  }
  return record;
}

/**
 * How many bytes chunk `i` has, in a file of this size.
 * @param {number} i
 * @param {number} size
 */
export function chunkLength(i, size) {
  return Math.max(0, Math.min(CHUNK, size - i * CHUNK));
}

/**
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} id
 * @returns {Promise<{ record: FileRecord, length: number } | null>}  `length`: how many bytes the file really has
 */
export async function readRecord(folder, id) {
  try {
    const log = await (await folder.getFileHandle(`${id}.log`)).getFile();
    const record = parseLog(await log.text());
    if (!record) return null;
    // While another tab writes, its length is what that tab has flushed.
    const { size } = await (await folder.getFileHandle(`${id}.gguf`)).getFile();
    return { record, length: size };
  } catch {
    return null;
  }
}

/**
 * @param {FileRecord} record
 * @param {number} length
 */
export function presentBytes({ sums, size }, length) {
  let bytes = 0;
  for (const i of sums.keys()) {
    const n = chunkLength(i, size ?? length);
    if (i * CHUNK + n <= length) bytes += n;
  }
  return bytes;
}

/**
 * Every file that is there, wholly or in part; what was used last comes first.
 * @returns {Promise<StoredModel[]>}
 */
export async function listStored() {
  const folder = await openFolder();
  if (!folder) return [];
  /** @type {{ record: FileRecord, length: number }[]} */
  const files = [];
  for await (const fileName of folder.keys()) {
    if (!fileName.endsWith(".log")) continue;
    const found = await readRecord(folder, fileName.slice(0, -".log".length));
    if (found) files.push(found);
  }
  const count = (/** @type {(record: FileRecord) => string} */ key, /** @type {FileRecord} */ record) =>
    files.filter((other) => key(other.record) === key(record)).length;
  const nameOf = (/** @type {FileRecord} */ { name }) => name;
  const whereOf = (/** @type {FileRecord} */ { url }) => readableUrl(url);
  return files.map(({ record, length }) => {
    const bytes = presentBytes(record, length);
    return {
      // Several repositories have a "ggml-model-q4_k.gguf": then the address tells them apart.
      name: count(nameOf, record) === 1 ? record.name : count(whereOf, record) === 1 ? whereOf(record) : record.url,
      url: record.url,
      bytes,
      allocated: length,
      total: record.size,
      complete: record.size !== null && bytes === record.size,
      lastUsed: record.used,
      ...(record.sha256 === null ? {} : { sha256: record.sha256 }),
    };
  }).sort((a, b) => b.lastUsed - a.lastUsed || a.name.localeCompare(b.name, "en", { numeric: true }));
}

/**
 * Deletes a file by its name in the list, or by its address.
 * @param {string} name
 */
export async function deleteStored(name) {
  if (typeof name !== "string" || name === "") {
    throw new LlavaError("invalid_request", "deleteCachedModel takes a name or an address of listCachedModels().");
  }
  const models = await listStored();
  const model = models.find((model) => model.name === name || model.url === name);
  const folder = await openFolder();
  if (!model || !folder) {
    throw new LlavaError("invalid_request",
      `There is no such model in the cache: ${JSON.stringify(name)}. ` +
      (models.length > 0 ? `There are ${models.map((model) => model.name).join(", ")}.` : "The cache is empty."));
  }
  const id = await fileId(model.url);
  const release = await lockFile(id, { ifAvailable: true });
  if (!release) {
    throw new LlavaError("storage",
      `'${model.name}' is being loaded or downloaded, in this tab or another one. Wait until that is done or stop it, then delete the model.`);
  }
  try {
    await removeFile(folder, id);
  } catch (cause) {
    throw new LlavaError("storage", `'${model.name}' could not be deleted: another tab of this site has it open. Close that tab and try again.`, { cause });
  } finally {
    await release();
  }
}

/**
 * The chunks of a record that can be read.
 * @param {FileRecord} record
 * @param {number} length  how many bytes the file really has
 * @returns {Set<number>}
 */
export function presentChunks({ sums, size }, length) {
  const isThere = (/** @type {number} */ i) => size !== null && chunkLength(i, size) > 0 && i * CHUNK + chunkLength(i, size) <= length;
  return new Set([...sums.keys()].filter(isThere));
}

/**
 * Where the last of these chunks ends.
 * @param {Set<number>} chunks
 * @param {number | null} size
 */
export function endOf(chunks, size) {
  let last = -1;
  for (const i of chunks) last = Math.max(last, i);
  return last < 0 ? 0 : last * CHUNK + chunkLength(last, size ?? Infinity);
}

/**
 * Cuts off what was reserved behind the last chunk that is there; the file's lock is held exclusively. Fails for nobody.
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} id
 * @param {FileRecord} record
 * @param {number} length
 * @returns {Promise<number>}  how long the file is now
 */
export async function trim(folder, id, record, length) {
  const end = record.size === null ? length : endOf(presentChunks(record, length), record.size);
  if (end >= length) return length;
  try {
    const data = await whenFree(async () => createSyncHandle(await folder.getFileHandle(`${id}.gguf`)));
    try {
      await data.truncate(end);
    } finally {
      await data.close();
    }
    return end;
  } catch {
    return length;
  }
}

/** Gives back what loads that were ended in the middle had reserved. In workers only. */
export async function giveBackAbandoned() {
  const folder = await openFolder();
  if (!folder) return;
  for await (const fileName of folder.keys()) {
    if (!fileName.endsWith(".log")) continue;
    const id = fileName.slice(0, -".log".length);
    const release = await lockFile(id, { ifAvailable: true });
    if (!release) continue;
    try {
      const found = await readRecord(folder, id);
      if (found) await trim(folder, id, found.record, found.length);
    } finally {
      await release();
    }
  }
}

/**
 * Removes a file and its record; its lock is held exclusively.
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} id
 */
export async function removeFile(folder, id) {
  // The bytes first: a record without bytes is an empty entry, bytes without a record would be found by nobody.
  for (const fileName of [`${id}.gguf`, `${id}.log`]) {
    await whenFree(() => folder.removeEntry(fileName).catch((error) => {
      if (error.name !== "NotFoundError") throw error;
    }));
  }
}

/**
 * Tries again for a moment: the handles of a worker that was ended go a little later than its locks.
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {number} [patience]  milliseconds
 * @returns {Promise<T>}
 */
export async function whenFree(attempt, patience = 2000) {
  const until = performance.now() + patience;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (/** @type {Error} */ (error).name !== "NoModificationAllowedError" || performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
