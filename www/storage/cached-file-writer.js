// The bytes of one model file in the browser's storage, in the worker: its lock, its handles and its log. What is asked for and when is
// cached-file.js's matter.

import { checksum, CHUNK, chunkLength, endOf, logLine, newRecord, presentBytes, presentChunks } from "./file-log.js";
import { readRecord, removeFile, trim, whenFree } from "./folder.js";
import { lockFile } from "./locks.js";
import { createSyncHandle, isFull, writeAll } from "./sync-handles.js";

/** @typedef {import("./file-log.js").FileRecord} FileRecord */
/** @typedef {import("./sync-handles.js").SyncHandle} SyncHandle */
/** @typedef {import("./locks.js").Release} Release */

/** After so many bytes the system is asked to write them to the disk: as much is lost in a power cut. */
const FLUSH_AFTER = 16 << 20;
/** What the records and the file system's own book-keeping take, beside the bytes. */
export const OVERHEAD = 1 << 20;
/** What is read at once where there is no handle. */
const BLOB_SLICE = 16 << 20;
/** How often a waiting tab looks how far the other one has come, in milliseconds. */
const LOOK_EVERY = 500;

export class StoredBytes {
  /** @type {FileRecord} */
  record;
  /** The chunks that can be read, as far as is known. @type {Set<number>} */
  present = new Set();
  /** Whether nothing of it was there before this load. */
  isNew = false;
  /** Whether this load stored anything of it. */
  hasStored = false;
  #folder;
  #id;
  #url;
  /** @type {Release | null} */
  #release = null;
  #isExclusive = false;
  /** How long the stored bytes are. */
  #length = 0;
  /** The record no longer holds, and begins anew with the first chunk that is written. */
  #isAnew = true;
  /** @type {SyncHandle | null} */
  #data = null;
  /** Reads where no handle can be had: in browsers that give one only to one tab. @type {Blob | null} */
  #blob = null;
  /** What was read of it last. */
  #blobPart = { from: 0, bytes: new Uint8Array(0) };
  /** @type {SyncHandle | null} */
  #log = null;
  #unflushed = 0;
  /** @type {Promise<SyncHandle> | null} */
  #opening = null;
  /** Stored chunks are read into this: new memory for each would take longer than all the rest. */
  #buffer = new Uint8Array(0);

  /**
   * @param {FileSystemDirectoryHandle} folder
   * @param {string} id
   * @param {{ url: string, name: string }} spec
   */
  constructor(folder, id, { url, name }) {
    this.#folder = folder;
    this.#id = id;
    this.#url = url;
    this.record = newRecord(url, name);
  }

  get isComplete() {
    const { size } = this.record;
    return size !== null && size > 0 && this.present.size === Math.ceil(size / CHUNK);
  }

  /** Bytes that are not there yet, as far as is known. */
  get missing() {
    const { size } = this.record;
    if (size === null) return 0;
    return [...this.present].reduce((rest, i) => rest - chunkLength(i, size), size);
  }

  /** Room that is wanted for them, beside what the file takes already. */
  get room() {
    return this.record.size === null || this.isComplete ? 0 : Math.max(0, this.record.size - this.#length);
  }

  /** Bytes that are there of a file of which nothing was there before this load. */
  get begun() {
    return this.isNew ? endOf(this.present, this.record.size) : 0;
  }

  /**
   * Shared where the file is complete, else exclusive.
   * @param {(loaded: number, total: number) => void} onWaiting
   */
  async lock(onWaiting) {
    for (;;) {
      this.#release = await this.#request("shared", onWaiting);
      await this.#look();
      if (this.isComplete) return;
      await this.#release();
      this.#release = await this.#request("exclusive", onWaiting);
      await this.#look();
      this.#isExclusive = !this.isComplete;
      if (this.#isExclusive) {
        // What was taken for a load that was ended in the middle.
        if (!this.isNew) this.#length = await trim(this.#folder, this.#id, this.record, this.#length);
        return;
      }
      // Another tab has completed it in the meantime, and others are to read at the same time.
      await this.#release();
    }
  }

  /**
   * @param {LockMode} mode
   * @param {(loaded: number, total: number) => void} onWaiting
   */
  async #request(mode, onWaiting) {
    const atOnce = await lockFile(this.#id, { mode, ifAvailable: true });
    if (atOnce) return atOnce;
    const timer = setInterval(async () => {
      const found = await readRecord(this.#folder, this.#id);
      if (found?.record.size) onWaiting(presentBytes(found.record, found.record.size), found.record.size);
    }, LOOK_EVERY);
    try {
      return /** @type {Release} */ (await lockFile(this.#id, { mode }));
    } finally {
      clearInterval(timer);
    }
  }

  /** Reads the record, and what of it still holds. */
  async #look() {
    const found = await readRecord(this.#folder, this.#id);
    this.isNew = found === null;
    this.present.clear();
    this.#length = found?.length ?? 0;
    if (!found) return;
    this.record = { ...found.record, sums: new Map(found.record.sums) };
    this.#isAnew = false;
    this.present = presentChunks(found.record, this.#length);
  }

  /**
   * What is stored is of no use.
   * @param {string | null} etag
   * @param {number | null} size
   */
  forget(etag, size) {
    this.record = { ...newRecord(this.#url, this.record.name), etag, size };
    this.present.clear();
    this.#isAnew = true;
  }

  /**
   * One chunk, to be used before the next is read; null where it is not there as it was stored.
   * @param {number} index
   */
  async read(index) {
    if (!this.present.has(index)) return null;
    try {
      if (this.#buffer.length === 0) this.#buffer = new Uint8Array(CHUNK);
      const bytes = this.#buffer.subarray(0, chunkLength(index, /** @type {number} */ (this.record.size)));
      await this.#openForReading();
      if (this.#data) {
        if (this.#data.read(bytes, { at: index * CHUNK }) !== bytes.length) throw new RangeError("The stored file is too short.");
      } else {
        bytes.set(await this.#blobBytes(index * CHUNK, bytes.length));
      }
      if (checksum(bytes) === this.record.sums.get(index)) return bytes;
    } catch {
      // Cleared by the person or the browser while it was read: as good as damaged.
    }
    this.present.delete(index);
    return null;
  }

  /**
   * Many chunks at once: what each request of a Blob costs is more than the reading.
   * @param {number} from
   * @param {number} length
   */
  async #blobBytes(from, length) {
    const part = this.#blobPart;
    if (from < part.from || from + length > part.from + part.bytes.length) {
      const blob = /** @type {Blob} */ (this.#blob);
      this.#blobPart = { from, bytes: new Uint8Array(await blob.slice(from, from + Math.max(length, BLOB_SLICE)).arrayBuffer()) };
    }
    const { from: start, bytes } = this.#blobPart;
    return bytes.subarray(from - start, from - start + length);
  }

  /**
   * @param {number} index
   * @param {Uint8Array} bytes
   * @param {string} sum
   */
  async write(index, bytes, sum) {
    const data = await this.#openForWriting();
    writeAll(data, bytes, index * CHUNK);
    await this.append({ chunk: index, sum });
    this.record.sums.set(index, sum);
    this.present.add(index);
    this.hasStored = true;
    this.#length = Math.max(this.#length, index * CHUNK + bytes.length);
    this.#unflushed += bytes.length;
    if (this.#unflushed >= FLUSH_AFTER) {
      this.#unflushed = 0;
      await data.flush();
      await this.#log?.flush();
    }
  }

  /** @param {...object} entries */
  async append(...entries) {
    const log = /** @type {SyncHandle} */ (this.#log ?? (await this.#openForWriting(), this.#log));
    const bytes = new TextEncoder().encode(entries.map(logLine).join(""));
    writeAll(log, bytes, await log.getSize());
  }

  /**
   * Takes the room for the whole file, as far as there is room; fails where that has another reason.
   * @returns {Promise<{ wanted: number, got: number }>}  bytes
   */
  async reserve() {
    const { size } = this.record;
    if (size === null || this.isComplete) return { wanted: 0, got: 0 };
    let data;
    try {
      data = await this.#openForWriting();
    } catch (cause) {
      if (!isFull(cause)) throw cause;
      return { wanted: size, got: 0 };
    }
    const before = await data.getSize();
    const wanted = Math.max(0, size - before);
    const fits = async (/** @type {number} */ count) => {
      try {
        await data.truncate(before + count);
        // Not every browser throws where there is no room.
        return await data.getSize() === before + count;
      } catch {
        return false;
      }
    };
    if (wanted === 0 || await fits(wanted)) return { wanted, got: wanted };
    // For the message: how much there is, to the megabyte.
    let [got, tooMuch] = [0, wanted];
    while (tooMuch - got > OVERHEAD) {
      const middle = Math.floor((got + tooMuch) / 2);
      if (await fits(middle)) got = middle;
      else tooMuch = middle;
    }
    await data.truncate(before);
    return { wanted, got };
  }

  /** Gives back what was taken for bytes that did not come. Fails for nobody. */
  async giveBack() {
    try {
      if (!this.#isExclusive || this.isComplete) return;
      if (this.present.size === 0) {
        if (!this.#isAnew || this.#log) await this.#remove();
      } else if (this.#log) {
        await this.#data?.truncate(endOf(this.present, this.record.size));
      }
    } catch {
      // What is there is right, if more than need be. The next load of it gives that back.
    }
  }

  /** Removes what this load has begun to store. Fails for nobody. */
  async undo() {
    if (!this.isNew) return this.giveBack();
    try {
      if (this.#isExclusive) await this.#remove();
    } catch {
      // The next load of it sees what is there.
    }
  }

  /** Removes what is stored, as far as nobody else reads it. */
  async discard() {
    await this.#closeHandles();
    this.forget(null, null);
    if (await this.#becomeExclusive()) await removeFile(this.#folder, this.#id);
  }

  async #remove() {
    await this.#closeHandles();
    await removeFile(this.#folder, this.#id);
    this.present.clear();
    this.hasStored = false;
    this.#isAnew = true;
  }

  async markUsed() {
    // The newest address, whose signature holds the longest.
    const entry = { used: Date.now(), ...(this.#url === this.record.url ? {} : { address: this.#url }) };
    try {
      if (this.#log) return await this.append(entry);
      if (this.#isAnew) return;
      const log = await createSyncHandle(await this.#folder.getFileHandle(`${this.#id}.log`));
      try {
        log.write(new TextEncoder().encode(`\n${logLine(entry)}`), { at: await log.getSize() });
      } finally {
        await log.close();
      }
    } catch {
      // Another tab is just writing the same.
    }
  }

  async close() {
    await this.giveBack();
    await this.#closeHandles();
    this.#buffer = new Uint8Array(0);
    this.#blobPart = { from: 0, bytes: this.#buffer };
    const release = this.#release;
    this.#release = null;
    await release?.();
  }

  async #closeHandles() {
    const handles = [this.#data, this.#log];
    this.#data = this.#log = this.#blob = null;
    for (const handle of handles) {
      try {
        await handle?.flush();
      } catch {
        // The record says less than was written, or the handle only reads.
      }
      await handle?.close();
    }
  }

  async #openForReading() {
    if (this.#data || this.#blob) return;
    const file = await this.#folder.getFileHandle(`${this.#id}.gguf`);
    try {
      // Some fifty times as fast as a Blob. Browsers that do not know the mode give the only handle there is.
      this.#data = await whenFree(() => createSyncHandle(file, { mode: "read-only" }), 250);
    } catch {
      this.#blob = await file.getFile();
    }
  }

  /** @returns {Promise<SyncHandle>} */
  async #openForWriting() {
    if (this.#log && this.#data) return this.#data;
    this.#opening ??= this.#openHandles().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #openHandles() {
    if (!await this.#becomeExclusive()) throw new DOMException("Another tab reads the file.", "NoModificationAllowedError");
    await this.#closeHandles();
    const [log, data] = await this.#createHandles();
    this.#log = log;
    this.#data = data;
    if (this.#isAnew) {
      const { url, name, etag, size, expected } = this.record;
      await log.truncate(0);
      await data.truncate(0);
      this.#length = 0;
      await this.append({ url, name, chunkSize: CHUNK, began: `${Date.now()}-${Math.random()}` }, { etag, size }, ...(expected ? [{ expected }] : []), { used: Date.now() });
      this.#isAnew = false;
    } else {
      // After half a line that somebody was kept from finishing.
      log.write(new TextEncoder().encode("\n"), { at: await log.getSize() });
    }
    return data;
  }

  /** Both or none: one that is left open would keep everybody from the file. */
  async #createHandles() {
    const open = (/** @type {"log" | "gguf"} */ extension) => whenFree(async () =>
      createSyncHandle(await this.#folder.getFileHandle(`${this.#id}.${extension}`, { create: true })));
    const [log, data] = await Promise.allSettled([open("log"), open("gguf")]);
    if (log.status === "fulfilled" && data.status === "fulfilled") return /** @type {const} */ ([log.value, data.value]);
    for (const result of [log, data]) if (result.status === "fulfilled") await result.value.close();
    throw [log, data].find((result) => result.status === "rejected")?.reason;
  }

  /**
   * Never waits: whoever holds other locks must not.
   * @returns {Promise<boolean>}
   */
  async #becomeExclusive() {
    if (this.#isExclusive) return true;
    await this.#release?.();
    this.#release = await lockFile(this.#id, { ifAvailable: true });
    this.#isExclusive = this.#release !== null;
    return this.#isExclusive;
  }
}
