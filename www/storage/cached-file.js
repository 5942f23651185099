// One model file in the browser's storage, in the worker: what is there is read, what is missing is downloaded and kept.
// load-files.js has the rules, stored-files.js the layout, read-ahead.js the downloads beside the one that is being read.

import { LlavaError } from "../api/errors.js";
import { hostHash } from "../fetching/host-hash.js";
import { isStrong, readableUrl } from "../fetching/http-bytes.js";
import { remoteBytes } from "../fetching/pieces.js";
import { ReadAhead } from "./read-ahead.js";
import { checksum, CHUNK, chunkLength, endOf, lockFile, logLine, presentBytes, presentChunks, readRecord, removeFile, trim, whenFree } from "./stored-files.js";
import { createSyncHandle, isFull, writeAll } from "./sync-handles.js";

/** @typedef {import("../fetching/source-reader.js").ReaderOptions} ReaderOptions */
/** @typedef {import("../fetching/source-reader.js").ByteSource} ByteSource */
/** @typedef {import("./stored-files.js").FileRecord} FileRecord */
/** @typedef {import("../fetching/pieces.js").RemoteBytes} RemoteBytes */
/** @typedef {import("./sync-handles.js").SyncHandle} SyncHandle */
/** @typedef {import("./load-files.js").UrlSpec} UrlSpec */

/** After so many bytes the system is asked to write them to the disk: as much is lost in a power cut. */
const FLUSH_AFTER = 16 << 20;
/** A gap that is rather read through than asked for around. */
const SKIP_THROUGH = 4 << 20;
/** What the records and the file system's own book-keeping take, beside the bytes. */
export const OVERHEAD = 1 << 20;
/** How often a waiting tab looks how far the other one has come, in milliseconds. */
const LOOK_EVERY = 500;

/** One file, stored or being stored. @implements {ByteSource} */
export class StoredFile {
  /** The length in bytes where it is known beforehand. @type {number | undefined} */
  size;
  /** Whether nothing of it was there before this load. */
  isNew = false;
  /** Whether this load stored anything of it. */
  hasStored = false;
  #folder;
  #id;
  #spec;
  #hasRoom;
  #onNotStored;
  /** @type {ReaderOptions} */
  #options = {};
  /** @type {import("./stored-files.js").Release | null} */
  #release = null;
  #exclusive = false;
  /** @type {FileRecord} */
  #record;
  /** How long the stored bytes are. */
  #length = 0;
  /** The chunks that can be read, as far as is known. @type {Set<number>} */
  #present = new Set();
  /** The record no longer holds, and begins anew with the first chunk that is written. */
  #anew = true;
  #writable = true;
  /** The first failure to write is being told, or was. */
  #writeFailed = false;
  /** @type {SyncHandle | null} */
  #data = null;
  /** Reads where no handle can be had: in browsers that give one only to one tab. @type {Blob | null} */
  #blob = null;
  /** @type {SyncHandle | null} */
  #log = null;
  #unflushed = 0;
  /** @type {{ net: RemoteBytes, end: number }[]} */
  #connections = [];
  /** The downloads beside it, once it is known that there is something to download. @type {ReadAhead | null} */
  #readAhead = null;
  /** Chunks that those have stored and nobody has read yet. @type {Set<number>} */
  #fresh = new Set();
  /** Why the load cannot go on, where a download beside the reader's own found out. @type {unknown} */
  #failure = null;
  /** @type {Promise<void> | null} */
  #closing = null;
  /** @type {Promise<SyncHandle> | null} */
  #opening = null;
  /** @type {import("../fetching/source-reader.js").Hasher | null} */
  #hasher = null;
  /** Chunks that went through the hasher. */
  #hashed = 0;
  /** What the host says the file's SHA-256 is. @type {string | null} */
  #hostHash = null;
  /** @type {{ index: number, bytes: Uint8Array } | null} */
  #current = null;
  #position = 0;
  /** Stored chunks are read into this: new memory for each would take longer than all the rest. */
  #chunkBuffer = new Uint8Array(0);
  /** What is put together from several chunks. */
  #takeBuffer = new Uint8Array(0);

  /**
   * @param {FileSystemDirectoryHandle} folder
   * @param {string} id
   * @param {UrlSpec} spec
   * @param {{ hasRoom: () => Promise<boolean>, onNotStored: (cause: unknown) => Promise<void> }} load  `hasRoom` is waited for before
   *   anything is read, and says whether the whole file is wanted; `onNotStored` throws where that ends the load
   */
  constructor(folder, id, spec, { hasRoom, onNotStored }) {
    this.#folder = folder;
    this.#id = id;
    this.#spec = spec;
    this.#hasRoom = hasRoom;
    this.#onNotStored = onNotStored;
    this.#record = { url: spec.url, name: spec.name, etag: null, size: null, sums: new Map(), sha256: null, used: 0 };
  }

  get name() {
    return this.#spec.name;
  }

  /** Bytes that will have to be stored, as far as is known. */
  get missing() {
    const { size } = this.#record;
    if (!this.#writable || size === null) return 0;
    return [...this.#present].reduce((rest, i) => rest - chunkLength(i, size), size);
  }

  /** Room that is wanted for them, beside what the file takes already. */
  get room() {
    return this.#writable && this.#record.size !== null && !this.#isComplete ? Math.max(0, this.#record.size - this.#length) : 0;
  }

  /** Bytes that are there of a file of which nothing was there before this load. */
  get begun() {
    return this.isNew ? endOf(this.#present, this.#record.size) : 0;
  }

  /** Whether it is all there, and was found to be what it should be. */
  get isProven() {
    return this.#isComplete && this.#record.sha256 !== null;
  }

  /** Bytes that this load has downloaded and not read yet. */
  get ahead() {
    return [...this.#fresh].reduce((sum, i) => sum + chunkLength(i, this.#record.size ?? 0), 0);
  }

  /** @param {ReaderOptions} options */
  configure(options) {
    this.#options = options;
  }

  /**
   * Shared where the file is complete, else exclusive.
   * @param {(loaded: number, total: number) => void} onWaiting
   */
  async lock(onWaiting) {
    for (;;) {
      this.#release = await this.#request("shared", onWaiting);
      await this.#look();
      if (this.#isComplete) return;
      await this.#release();
      this.#release = await this.#request("exclusive", onWaiting);
      await this.#look();
      this.#exclusive = !this.#isComplete;
      if (this.#exclusive) {
        // What was taken for a load that was ended in the middle.
        if (!this.isNew) this.#length = await trim(this.#folder, this.#id, this.#record, this.#length);
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
      return /** @type {import("./stored-files.js").Release} */ (await lockFile(this.#id, { mode }));
    } finally {
      clearInterval(timer);
    }
  }

  /** Reads the record, and what of it still holds. */
  async #look() {
    const found = await readRecord(this.#folder, this.#id);
    this.isNew = found === null;
    this.#present.clear();
    this.#length = found?.length ?? 0;
    if (!found) return;
    this.#record = found.record;
    this.#anew = false;
    this.#present = presentChunks(found.record, this.#length);
  }

  get #isComplete() {
    const { size } = this.#record;
    return size !== null && size > 0 && this.#present.size === Math.ceil(size / CHUNK);
  }

  async open() {
    const expected = this.#options.sha256?.toLowerCase();
    if (expected && this.#record.sha256 && this.#record.sha256 !== expected) this.#forget(null, null);
    if (this.#isComplete) {
      this.size = /** @type {number} */ (this.#record.size);
      // A tab that was closed after the last chunk and before the hash.
      if (!this.#record.sha256) this.#hasher = this.#createHasher();
      return;
    }
    let first = 0;
    while (this.#present.has(first)) first += 1;
    const net = await this.#connect(first);
    if (!net.resumed) this.#forget(net.etag, net.size ?? null);
    this.size = this.#record.size ?? undefined;
    if (!this.#record.sha256) this.#hasher = this.#createHasher();
    if (!expected) this.#hostHash = await hostHash(this.#spec.url, net);
    this.#readAhead = new ReadAhead({
      count: () => Math.ceil((this.#record.size ?? 0) / CHUNK),
      isMissing: (i) => !this.#present.has(i),
      length: (i) => chunkLength(i, this.#record.size ?? 0),
      connect: (from, to) => this.#connectAhead(from, to),
      keep: async (i, bytes) => {
        await this.#keep(i, bytes);
        if (!this.#present.has(i)) throw new DOMException("It is not stored.", "QuotaExceededError");
        this.#fresh.add(i);
      },
    });
  }

  #createHasher() {
    return this.#options.createHasher?.() ?? null;
  }

  /**
   * What is stored is of no use.
   * @param {string | null} etag
   * @param {number | null} size
   */
  #forget(etag, size) {
    this.#record = { ...this.#record, etag, size, sums: new Map(), sha256: null };
    this.#present.clear();
    this.#anew = true;
  }

  /**
   * Takes the room for the whole file, as far as there is room.
   * @returns {Promise<{ wanted: number, got: number }>}  bytes
   */
  async reserve() {
    const { size } = this.#record;
    if (!this.#writable || size === null || this.#isComplete) return { wanted: 0, got: 0 };
    let data;
    try {
      data = await this.#openForWriting();
    } catch (cause) {
      if (!isFull(cause)) await this.#write(() => Promise.reject(cause));
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

  /**
   * Stores no more, and gives back the room that was taken for more.
   * @param {{ undo?: boolean }} [options]  `undo`: also what this load began to store
   */
  async keepNothing({ undo = false } = {}) {
    this.#writable = false;
    try {
      if (this.#exclusive && (this.#present.size === 0 || (undo && this.isNew))) {
        await this.#closeHandles();
        await removeFile(this.#folder, this.#id);
        this.#present.clear();
        this.hasStored = false;
        this.#anew = true;
      } else {
        await this.#trim();
      }
    } catch {
      // What is there is right, if more than need be.
    }
    // Without anything to compare it with, a hash is only for what is stored.
    if (this.#options.sha256 || this.#hostHash) return;
    this.#hasher?.free?.();
    this.#hasher = null;
  }

  /** Gives back what was taken for bytes that did not come. */
  async giveBack() {
    try {
      if (!this.#exclusive || this.#isComplete) return;
      if (this.#present.size > 0) {
        await this.#trim();
      } else if (!this.#anew || this.#log) {
        await this.#closeHandles();
        await removeFile(this.#folder, this.#id);
      }
    } catch {
      // The next load of it does that.
    }
  }

  async #trim() {
    if (this.#log) await this.#data?.truncate(endOf(this.#present, this.#record.size));
  }

  /** @param {number} length */
  async take(length) {
    const first = await this.some(length);
    if (first.length === length || first.length === 0) return first;
    if (this.#takeBuffer.length < length) this.#takeBuffer = new Uint8Array(length);
    const whole = this.#takeBuffer.subarray(0, length);
    whole.set(first);
    let filled = first.length;
    while (filled < length) {
      const bytes = await this.some(length - filled);
      if (bytes.length === 0) return whole.subarray(0, filled);
      whole.set(bytes, filled);
      filled += bytes.length;
    }
    // Of a model of many parts, only the one that is read has such a buffer.
    if (this.#position === this.size) this.#takeBuffer = new Uint8Array(0);
    return whole;
  }

  /** @param {number} limit */
  async some(limit) {
    if (limit <= 0 || (this.size !== undefined && this.#position >= this.size)) return new Uint8Array(0);
    const index = Math.floor(this.#position / CHUNK);
    // The hash is of all bytes, also of those the engine leaves out.
    while (this.#hasher && this.#hashed < index) await this.#load(this.#hashed);
    const chunk = this.#current?.index === index ? this.#current.bytes : await this.#load(index);
    const from = this.#position - index * CHUNK;
    const bytes = chunk.subarray(from, from + limit);
    this.#position += bytes.length;
    return bytes;
  }

  /** @param {number} count */
  async skip(count) {
    this.#position += count;
  }

  /** The rest of the download, and the hash of the whole. */
  async finish() {
    if (this.#hasher) {
      while (this.size === undefined || this.#hashed * CHUNK < this.size) await this.#load(this.#hashed);
    }
    if (this.#hasher) {
      const found = this.#hasher.digestHex().toLowerCase();
      const expected = this.#options.sha256?.toLowerCase();
      if (found !== (expected ?? this.#hostHash ?? found)) {
        await this.discard();
        throw new LlavaError("integrity",
          `The file '${this.name}' has the SHA-256 ${found}, but ${expected ? `${expected} was asked for` : `its host says ${this.#hostHash}`}. ` +
          "It was damaged or exchanged on the way, or the expected hash is of another version. What was stored of it has been deleted: " +
          "download it again or correct the hash.");
      }
      if (this.#writable) await this.#write(() => this.#append({ etag: this.#record.etag, size: this.size ?? null }, { sha256: found }));
    } else if (this.#writable && this.size !== undefined) {
      // A repaired file that the engine has not wholly read.
      for (let i = 0; i * CHUNK < this.size; i++) if (!this.#present.has(i)) await this.#load(i);
    }
    await this.#markUsed();
  }

  /** Removes what is stored, as far as nobody else reads it. */
  async discard() {
    this.#writable = false;
    this.#readAhead?.close();
    await this.#closeHandles();
    this.#forget(null, null);
    if (await this.#becomeExclusive()) await removeFile(this.#folder, this.#id);
  }

  /** @returns {Promise<void>} */
  close() {
    return (this.#closing ??= this.#end());
  }

  async #end() {
    this.#writable = false;
    this.#readAhead?.close();
    for (const { net } of this.#connections) net.close();
    this.#connections = [];
    await this.giveBack();
    await this.#closeHandles();
    this.#hasher?.free?.();
    this.#hasher = null;
    this.#current = null;
    await this.#release?.();
    this.#release = null;
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

  /**
   * One chunk, from the storage if it is whole there, else from the host.
   * @param {number} index
   */
  async #load(index) {
    const { size, etag } = this.#record;
    // Without either, nothing would show that parts that come side by side are of one file.
    const isProven = isStrong(etag) || this.#options.sha256 !== undefined;
    // Until the header is accepted, nobody knows whether more than it is wanted.
    const isWanted = await this.#hasRoom();
    if (isWanted && this.#writable && size !== null && isProven) this.#readAhead?.start(index, this.#connections.length > 0);
    let bytes = await this.#readStored(index);
    if (!bytes && this.#readAhead?.isComing(index)) {
      // The reader's own connection has come to where another one began.
      for (const { net } of this.#connections.splice(0)) net.close();
      await this.#readAhead.bring(index);
      bytes = await this.#readStored(index);
    }
    if (this.#failure) throw this.#failure;
    if (this.#closing) throw new LlavaError("aborted", "Loading the model was stopped.");
    if (!bytes) bytes = await this.#fetch(index);
    else if (!this.#fresh.delete(index)) this.#options.onBytes?.(bytes.length, true);
    if (this.#hasher && this.#hashed === index) {
      this.#hasher.update(bytes);
      this.#hashed += 1;
    }
    this.#current = { index, bytes };
    return bytes;
  }

  /** @param {number} index */
  async #readStored(index) {
    if (!this.#present.has(index)) return null;
    try {
      if (this.#chunkBuffer.length === 0) this.#chunkBuffer = new Uint8Array(CHUNK);
      const bytes = this.#chunkBuffer.subarray(0, chunkLength(index, /** @type {number} */ (this.#record.size)));
      await this.#openForReading();
      if (this.#data) {
        if (this.#data.read(bytes, { at: index * CHUNK }) !== bytes.length) throw new RangeError("The stored file is too short.");
      } else {
        bytes.set(new Uint8Array(await /** @type {Blob} */ (this.#blob).slice(index * CHUNK, index * CHUNK + bytes.length).arrayBuffer()));
      }
      if (checksum(bytes) === this.#record.sums.get(index)) return bytes;
    } catch {
      // Cleared by the person or the browser while it was read: as good as damaged.
    }
    this.#present.delete(index);
    return null;
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

  /**
   * Downloads a chunk and stores it.
   * @param {number} index
   */
  async #fetch(index) {
    const at = index * CHUNK;
    this.#connections = this.#connections.filter(({ net, end }) => {
      const open = net.position < end;
      if (!open) net.close();
      return open;
    });
    let net = this.#connections.find(({ net, end }) => net.position <= at && at < end && at - net.position <= SKIP_THROUGH)?.net;
    if (!net) {
      net = await this.#connect(index);
      if (!net.resumed && index > 0 && !this.#isSameFile(net)) await this.#failChanged();
    }
    await net.skip(at - net.position);
    const bytes = await net.take(this.size === undefined ? CHUNK : chunkLength(index, this.size));
    if (bytes.length < CHUNK && this.size === undefined) this.size = this.#record.size = at + bytes.length;
    await this.#keep(index, bytes);
    return bytes;
  }

  /**
   * Stores a chunk that has come.
   * @param {number} index
   * @param {Uint8Array} bytes
   */
  async #keep(index, bytes) {
    const sum = checksum(bytes);
    const known = this.#record.sums.get(index);
    if (known !== undefined && known !== sum) await this.#failChanged();
    if (this.#writable && bytes.length > 0) {
      await this.#write(async () => {
        const data = await this.#openForWriting();
        writeAll(data, bytes, index * CHUNK);
        await this.#append({ chunk: index, sum });
        this.#record.sums.set(index, sum);
        this.#present.add(index);
        this.hasStored = true;
        this.#length = Math.max(this.#length, index * CHUNK + bytes.length);
        this.#unflushed += bytes.length;
        if (this.#unflushed >= FLUSH_AFTER) {
          await data.flush();
          await this.#log?.flush();
          this.#unflushed = 0;
        }
      });
    }
  }

  /**
   * A connection that brings these chunks of the very file that is stored, and nothing else.
   * @param {number} from
   * @param {number} to
   */
  async #connectAhead(from, to) {
    const { etag } = this.#record;
    const size = /** @type {number} */ (this.#record.size);
    const resume = { from: from * CHUNK, to: to * CHUNK < size ? to * CHUNK : undefined, size, etag, checked: this.#options.sha256 !== undefined };
    const net = remoteBytes(this.#spec, { ...this.#options, retries: 2 }, resume);
    try {
      await net.open();
      if (!net.resumed) throw new RangeError("The host does not send parts of this file.");
    } catch (error) {
      net.close();
      throw error;
    }
    return net;
  }

  /**
   * A connection that begins with a chunk and ends before the next one that is there, if the host will have it so.
   * @param {number} index
   */
  async #connect(index) {
    const { size, etag, sums } = this.#record;
    let next = index + 1;
    const last = size === null ? 0 : Math.ceil(size / CHUNK);
    // Chunks that were there once are proven by their checksums.
    let known = sums.has(index);
    while (next < last && !this.#present.has(next)) {
      known &&= sums.has(next);
      next += 1;
    }
    const checked = known || this.#options.sha256 !== undefined;
    const to = next < last ? next * CHUNK : undefined;
    const isFirst = index === 0 && to === undefined;
    const resume = size === null || isFirst || !(isStrong(etag) || checked) ? null : { from: index * CHUNK, to, size, etag, checked };
    const net = remoteBytes(this.#spec, this.#options, resume);
    // Known before it is open, so that it is closed with the file.
    const connection = { net, end: Infinity };
    this.#connections.push(connection);
    try {
      await net.open();
    } catch (error) {
      this.#connections = this.#connections.filter((other) => other !== connection);
      throw error;
    }
    if (net.resumed && to !== undefined) connection.end = to;
    return net;
  }

  /** @param {RemoteBytes} net */
  #isSameFile(net) {
    const { etag, size } = this.#record;
    return isStrong(etag) && net.etag === etag && (net.size ?? size) === size;
  }

  /** @returns {Promise<never>} */
  async #failChanged() {
    await this.discard();
    throw new LlavaError("integrity",
      `What was stored of '${this.name}' is damaged, and ${readableUrl(this.#spec.url)} has another version of the file by now. ` +
      "The stored one has been deleted: load the model again to download it anew.");
  }

  /**
   * Runs something that writes; where it fails, nothing more is written, and what was stays as it is.
   * @param {() => Promise<void>} write
   */
  async #write(write) {
    try {
      await write();
    } catch (cause) {
      // What is written late, by a download that is being ended, is nobody's loss.
      if (!this.#writable || this.#writeFailed) return;
      this.#writeFailed = true;
      try {
        await this.#onNotStored(cause);
      } catch (error) {
        this.#failure = error;
        throw error;
      }
      await this.keepNothing();
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
    const [log, data] = await Promise.all(["log", "gguf"].map((extension) => whenFree(async () =>
      createSyncHandle(await this.#folder.getFileHandle(`${this.#id}.${extension}`, { create: true })))));
    this.#log = log;
    this.#data = data;
    if (this.#anew) {
      await log.truncate(0);
      await data.truncate(0);
      await this.#append({ url: this.#record.url, name: this.#record.name, chunkSize: CHUNK }, { etag: this.#record.etag, size: this.#record.size }, { used: Date.now() });
      this.#anew = false;
    } else {
      // After half a line that somebody was kept from finishing.
      log.write(new TextEncoder().encode("\n"), { at: await log.getSize() });
    }
    return data;
  }

  /** @param {...object} entries */
  async #append(...entries) {
    const log = /** @type {SyncHandle} */ (this.#log ?? (await this.#openForWriting(), this.#log));
    const bytes = new TextEncoder().encode(entries.map(logLine).join(""));
    writeAll(log, bytes, await log.getSize());
  }

  /**
   * Never waits: whoever holds other locks must not.
   * @returns {Promise<boolean>}
   */
  async #becomeExclusive() {
    if (this.#exclusive) return true;
    await this.#release?.();
    this.#release = await lockFile(this.#id, { ifAvailable: true });
    this.#exclusive = this.#release !== null;
    return this.#exclusive;
  }

  async #markUsed() {
    try {
      if (this.#log) return await this.#append({ used: Date.now() });
      if (this.#anew) return;
      const log = await createSyncHandle(await this.#folder.getFileHandle(`${this.#id}.log`));
      log.write(new TextEncoder().encode(`\n${logLine({ used: Date.now() })}`), { at: await log.getSize() });
      await log.close();
    } catch {
      // Another tab is just writing the same.
    }
  }
}
