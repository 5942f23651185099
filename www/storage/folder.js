// The folder of the stored model files (OPFS), as pages and workers see it. A file is kept as two: `ID.gguf` has the bytes, each at its
// offset, and `ID.log` says which of them are there: see file-log.js.

import { endOf, LogReader, presentChunks } from "./file-log.js";
import { createSyncHandle } from "./sync-handles.js";

/** @typedef {import("./file-log.js").FileRecord} FileRecord */

export const FOLDER = "llava-web";

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

/**
 * The ID under which a file of this address is kept, unless it is there under another one already: see catalogue.js.
 * @param {string} address
 */
export async function fileId(address) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(address));
  return Array.from(new Uint8Array(digest, 0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The IDs of all files that have a log.
 * @param {FileSystemDirectoryHandle} folder
 */
export async function* fileIds(folder) {
  for await (const name of folder.keys()) if (name.endsWith(".log")) yield name.slice(0, -".log".length);
}

/** What was read of each log, to read on from there: a large model's has thousands of lines. @type {Map<string, { head: string, size: number, modified: number, at: number, reader: LogReader }>} */
const followed = new Map();

/**
 * A file's record, which is not to be changed, and how many bytes the file really has; null where there is none.
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} id
 * @returns {Promise<{ record: FileRecord, length: number } | null>}
 */
export async function readRecord(folder, id) {
  for (let attempts = 5; attempts > 0; attempts--) {
    try {
      return await readOnce(folder, id);
    } catch (error) {
      // While another tab adds to it, what was opened a moment ago can no longer be read.
      if (/** @type {Error} */ (error).name !== "NotReadableError") return null;
    }
  }
  return null;
}

/**
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} id
 */
async function readOnce(folder, id) {
  const log = await (await folder.getFileHandle(`${id}.log`)).getFile();
  // The checksum of the first line, which is another one in each log.
  const head = await log.slice(0, 8).text();
  let known = followed.get(id);
  // Nobody but this program adds to it, and it only ever adds.
  const isOther = known && (known.head !== head || known.at > log.size || (known.size === log.size && known.modified !== log.lastModified));
  if (!known || isOther) {
    known = { head, size: 0, modified: 0, at: 0, reader: new LogReader() };
    followed.set(id, known);
  }
  known.size = log.size;
  known.modified = log.lastModified;
  const { at } = known;
  const bytes = new Uint8Array(await log.slice(at).arrayBuffer());
  const end = bytes.lastIndexOf(10) + 1;
  // Somebody else may have read it meanwhile.
  if (known.at === at) {
    known.reader.add(new TextDecoder().decode(bytes.subarray(0, end)));
    known.at = at + end;
  }
  const { record } = known.reader;
  if (!record) return null;
  // While another tab writes, its length is what that tab has flushed.
  const { size } = await (await folder.getFileHandle(`${id}.gguf`)).getFile();
  return { record, length: size };
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

/** How browsers say that a file is open elsewhere. */
const BUSY = new Set(["NoModificationAllowedError", "InvalidStateError"]);

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
      if (!BUSY.has(/** @type {Error} */ (error).name) || performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
