// Model files on their way through the browser's storage, in the worker: what is there is read from it, what is missing is
// downloaded, given to the engine and kept, chunk by chunk. stored-files.js has the layout.
//
// Who is asked: a file that is all there is used without asking anybody, so a model that was loaded once starts without a network,
// and stays the version it was; giving a `sha256` of another version, or deleting it, fetches it anew. A download goes on
// at the chunk where it stood if the host proves that it still has the same file (a 206 with the same strong ETag and length, or
// bytes that are proven by a hash); else it begins again.
//
// What is run: every chunk is compared with the checksum it was stored with before the engine sees it. One that is damaged or cut off
// is fetched again, alone. The SHA-256 of the whole is computed as it is downloaded, and compared with the caller's, or with what the host
// says it is.
//
// Several tabs: one downloads; others that want the same file wait for it and then read what it stored. Any number read at once.

import { LlavaError } from "./errors.js";
import { HttpBytes, isStrong, readableUrl } from "./source-reader.js";
import {
  checksum, CHUNK, chunkLength, fileId, listStored, lockFile, logLine, openFolder, presentBytes, readRecord, removeFile, whenFree,
} from "./stored-files.js";

/** @typedef {import("./protocol.js").SourceSpec} SourceSpec */
/** @typedef {import("./source-reader.js").ReaderOptions} ReaderOptions */
/** @typedef {import("./source-reader.js").ByteSource} ByteSource */
/** @typedef {import("./stored-files.js").FileRecord} FileRecord */
/** @typedef {Extract<SourceSpec, { kind: "url" }>} UrlSpec */
/** @typedef {{ read(buffer: Uint8Array, options: { at: number }): number, write(buffer: Uint8Array, options: { at: number }): number,
 *   truncate(size: number): void, getSize(): number, flush(): void, close(): void }} SyncHandle */

/** After so many bytes the system is asked to write them to the disk: as much is lost in a power cut. */
const FLUSH_AFTER = 16 << 20;
/** A gap that is rather read through than asked for around. */
const SKIP_THROUGH = 4 << 20;
/** What the records and the file system's own book-keeping take, beside the bytes. */
const OVERHEAD = 1 << 20;
/** How often a waiting tab looks how far the other one has come, in milliseconds. */
const LOOK_EVERY = 500;
/** A Git LFS pointer is some 130 bytes long. */
const MAX_POINTER = 1024;

/**
 * The stored files of one load. They are locked from here to `close`, in an order that is the same in every tab, so that no two
 * loads wait for each other.
 */
export class ModelStore {
  /** What the person should know though it is no error. @type {string[]} */
  warnings = [];
  /** Whether this load was the first to store anything. */
  firstStored = false;
  /** @type {Map<SourceSpec, StoredFile>} */
  #files = new Map();
  #required;

  /** @param {boolean} required  whether storing was asked for expressly: then it is an error where there is no room */
  constructor(required) {
    this.#required = required;
  }

  /**
   * @param {SourceSpec[]} specs
   * @param {{ required: boolean, onWaiting: (file: { name: string, loaded: number, total: number }) => void }} options
   */
  static async lock(specs, { required, onWaiting }) {
    const store = new ModelStore(required);
    /** @type {Map<string, UrlSpec>} */
    const wanted = new Map();
    for (const spec of specs) {
      // A file that is given twice is stored once; the other reader goes to the network.
      if (spec.kind === "url" && /^https?:/.test(spec.url)) wanted.set(await storedId(spec), spec);
    }
    if (wanted.size === 0) return store;
    const folder = await openFolder({ create: true });
    if (!folder) {
      store.warnings.push("The browser keeps no files for this page (a private window, or not https:), so the model will be downloaded again the next time.");
      return store;
    }
    try {
      store.firstStored = (await folder.keys().next()).done === true;
      for (const id of [...wanted.keys()].sort()) {
        const spec = /** @type {UrlSpec} */ (wanted.get(id));
        const file = new StoredFile(folder, id, spec, (cause) => store.#notStored(cause));
        store.#files.set(spec, file);
        await file.lock((loaded, total) => onWaiting({ name: spec.name, loaded, total }));
      }
    } catch (error) {
      store.close();
      throw error;
    }
    return store;
  }

  /**
   * Where a file's bytes come from; null where it is not one that is stored.
   * @param {SourceSpec} spec
   * @param {ReaderOptions} options
   * @returns {ByteSource | null}
   */
  bytes(spec, options) {
    const file = this.#files.get(spec);
    file?.configure(options);
    return file ?? null;
  }

  /** Before the first byte is stored: whether all that is missing will fit. The files are open. */
  async makeRoom() {
    const files = [...this.#files.values()];
    this.firstStored &&= files.some((file) => file.missing > 0);
    const missing = files.reduce((sum, file) => sum + file.room, 0);
    if (missing === 0) return;
    const { usage = 0, quota = Infinity } = await navigator.storage.estimate().catch(() => ({ usage: 0, quota: Infinity }));
    let free = Math.max(0, quota - usage);
    if (missing + OVERHEAD <= free) {
      // Browsers round what they say, or say the same to everybody. Only taking the room shows that it is there.
      let taken = 0;
      let lacking = false;
      for (const file of files) {
        const { wanted, got } = await file.reserve();
        taken += got;
        lacking = got < wanted;
        if (lacking) break;
      }
      if (!lacking) return;
      free = taken;
    }
    for (const file of files) await file.keepNothing();
    if (this.#required) throw await this.#noRoom(missing, free);
    this.firstStored = false;
    this.warnings.push(`The model was not kept in the browser's storage, and will be downloaded again the next time: ${await this.#figures(missing, free)}`);
  }

  /**
   * After a load that failed. What this load began to store is of no use where it is no model that can be loaded.
   * @param {LlavaError} error
   */
  async failed(error) {
    for (const file of this.#files.values()) {
      const useless = ["unsupported_architecture", "unsupported_quantization", "mmproj_mismatch"].includes(error.code);
      const broken = error.code === "invalid_gguf";
      if ((file.isNew && (useless || broken)) || (broken && error.message.includes(file.name))) await file.discard().catch(() => {});
    }
  }

  close() {
    for (const file of this.#files.values()) file.close();
  }

  /**
   * Something could not be written: the load goes on without storing, unless that was asked for.
   * @param {unknown} cause
   */
  async #notStored(cause) {
    const full = isFull(cause);
    const missing = [...this.#files.values()].reduce((sum, file) => sum + file.missing, 0);
    const { usage = 0, quota = 0 } = await navigator.storage.estimate().catch(() => ({ usage: 0, quota: 0 }));
    const free = Math.max(0, quota - usage);
    if (full && this.#required) throw await this.#noRoom(missing, free, cause);
    this.firstStored = false;
    const why = full ? await this.#figures(missing, free) : `the browser's storage failed (${cause instanceof Error ? cause.message : cause}).`;
    this.warnings.push(`The model was not wholly kept in the browser's storage: ${why}`);
  }

  /**
   * @param {number} missing
   * @param {number} free
   * @param {unknown} [cause]
   */
  async #noRoom(missing, free, cause) {
    return new LlavaError("storage",
      `There is no room for the model in the browser's storage: ${await this.#figures(missing, free)} Or load it with cache: "none".`, { cause });
  }

  /**
   * @param {number} missing
   * @param {number} free
   */
  async #figures(missing, free) {
    const mine = new Set([...this.#files.keys()].map((spec) => (spec.kind === "url" ? spec.url : "")));
    const others = (await listStored()).filter(({ url }) => !mine.has(url)).sort((a, b) => a.lastUsed - b.lastUsed);
    const advice = others.length === 0 ? "Free space on this device, or choose a smaller model." :
      `Delete a model that is kept: ${others.map(({ name, bytes, lastUsed }) => `'${name}' (${size(bytes)}${lastUsed ? `, last used ${new Date(lastUsed).toISOString().slice(0, 10)}` : ""})`).join(", ")}.`;
    return `${size(missing)} (${missing} bytes) are needed and ${size(free)} (${free} bytes) are free for this site. ${advice}`;
  }
}

/** One file, stored or being stored. @implements {ByteSource} */
class StoredFile {
  /** The length in bytes where it is known beforehand. @type {number | undefined} */
  size;
  /** Whether nothing of it was there before this load. */
  isNew = false;
  #folder;
  #id;
  #spec;
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
  /** @type {SyncHandle | null} */
  #data = null;
  /** Reads where no handle can be had: in browsers that give one only to one tab. @type {Blob | null} */
  #blob = null;
  /** @type {SyncHandle | null} */
  #log = null;
  #unflushed = 0;
  /** @type {{ net: HttpBytes, end: number }[]} */
  #connections = [];
  /** @type {import("./source-reader.js").Hasher | null} */
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
   * @param {(cause: unknown) => Promise<void>} onNotStored  throws where that ends the load
   */
  constructor(folder, id, spec, onNotStored) {
    this.#folder = folder;
    this.#id = id;
    this.#spec = spec;
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
      if (this.#exclusive) return;
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
    const { sums, size } = found.record;
    for (const i of sums.keys()) {
      if (size !== null && i * CHUNK + chunkLength(i, size) <= this.#length && chunkLength(i, size) > 0) this.#present.add(i);
    }
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
    const before = data.getSize();
    const wanted = Math.max(0, size - before);
    const fits = (/** @type {number} */ count) => {
      try {
        data.truncate(before + count);
        // Not every browser throws where there is no room.
        return data.getSize() === before + count;
      } catch {
        return false;
      }
    };
    if (wanted === 0 || fits(wanted)) return { wanted, got: wanted };
    // For the message: how much there is, to the megabyte.
    let [got, tooMuch] = [0, wanted];
    while (tooMuch - got > OVERHEAD) {
      const middle = Math.floor((got + tooMuch) / 2);
      if (fits(middle)) got = middle;
      else tooMuch = middle;
    }
    data.truncate(before);
    return { wanted, got };
  }

  /** Stores no more, and gives back the room that was taken for more. */
  async keepNothing() {
    this.#writable = false;
    try {
      if (this.#present.size === 0 && this.#exclusive) {
        this.#closeHandles();
        await removeFile(this.#folder, this.#id);
        this.#anew = true;
      } else if (this.#log) {
        this.#data?.truncate((Math.max(-1, ...this.#present) + 1) * CHUNK);
      }
    } catch {
      // What is there is right, if more than need be.
    }
    // Without anything to compare it with, a hash is only for what is stored.
    if (this.#options.sha256 || this.#hostHash) return;
    this.#hasher?.free?.();
    this.#hasher = null;
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
    this.#closeHandles();
    this.#writable = false;
    this.#forget(null, null);
    if (await this.#becomeExclusive()) await removeFile(this.#folder, this.#id);
  }

  close() {
    for (const { net } of this.#connections) net.close();
    this.#connections = [];
    this.#closeHandles();
    this.#hasher?.free?.();
    this.#hasher = null;
    this.#current = null;
    this.#release?.();
    this.#release = null;
  }

  #closeHandles() {
    for (const handle of [this.#data, this.#log]) {
      try {
        handle?.flush();
      } catch {
        // The record says less than was written, or the handle only reads.
      }
      handle?.close();
    }
    this.#data = this.#log = this.#blob = null;
  }

  /**
   * One chunk, from the storage if it is whole there, else from the host.
   * @param {number} index
   */
  async #load(index) {
    let bytes = await this.#readStored(index);
    if (bytes) this.#options.onBytes?.(bytes.length, true);
    else bytes = await this.#fetch(index);
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
    const sum = checksum(bytes);
    const known = this.#record.sums.get(index);
    if (known !== undefined && known !== sum) await this.#failChanged();
    if (this.#writable && bytes.length > 0) {
      await this.#write(async () => {
        const data = await this.#openForWriting();
        writeAll(data, bytes, at);
        await this.#append({ chunk: index, sum });
        this.#record.sums.set(index, sum);
        this.#present.add(index);
        this.#unflushed += bytes.length;
        if (this.#unflushed >= FLUSH_AFTER) {
          data.flush();
          this.#log?.flush();
          this.#unflushed = 0;
        }
      });
    }
    return bytes;
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
    const net = new HttpBytes(this.#spec, this.#options, resume);
    await net.open();
    this.#connections.push({ net, end: (net.resumed ? to : undefined) ?? Infinity });
    return net;
  }

  /** @param {HttpBytes} net */
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
      await this.#onNotStored(cause);
      await this.keepNothing();
    }
  }

  async #openForWriting() {
    if (this.#log && this.#data) return this.#data;
    if (!await this.#becomeExclusive()) throw new DOMException("Another tab reads the file.", "NoModificationAllowedError");
    this.#closeHandles();
    const [log, data] = await Promise.all(["log", "gguf"].map((extension) => whenFree(async () =>
      createSyncHandle(await this.#folder.getFileHandle(`${this.#id}.${extension}`, { create: true })))));
    this.#log = log;
    this.#data = data;
    if (this.#anew) {
      log.truncate(0);
      data.truncate(0);
      await this.#append({ url: this.#record.url, name: this.#record.name, chunkSize: CHUNK }, { etag: this.#record.etag, size: this.#record.size }, { used: Date.now() });
      this.#anew = false;
    } else {
      // After half a line that somebody was kept from finishing.
      log.write(new TextEncoder().encode("\n"), { at: log.getSize() });
    }
    return data;
  }

  /** @param {...object} entries */
  async #append(...entries) {
    const log = /** @type {SyncHandle} */ (this.#log ?? (await this.#openForWriting(), this.#log));
    const bytes = new TextEncoder().encode(entries.map(logLine).join(""));
    writeAll(log, bytes, log.getSize());
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
      log.write(new TextEncoder().encode(`\n${logLine({ used: Date.now() })}`), { at: log.getSize() });
      log.close();
    } catch {
      // Another tab is just writing the same.
    }
  }
}

/**
 * @param {FileSystemFileHandle} file
 * @param {{ mode?: string }} [options]
 * @returns {Promise<SyncHandle>}
 */
function createSyncHandle(file, options) {
  // TypeScript knows the method in workers only, and this folder is checked as a page's.
  return /** @type {any} */ (file).createSyncAccessHandle(options);
}

/**
 * @param {SyncHandle} handle
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function writeAll(handle, bytes, at) {
  // In private windows Chromium throws nothing where there is no room, and gives back an error's number as a count.
  if (handle.write(bytes, { at }) !== bytes.length) throw new DOMException("Only a part was written.", "QuotaExceededError");
}

/** @param {unknown} cause */
function isFull(cause) {
  return cause instanceof Error && cause.name === "QuotaExceededError";
}

/** @param {UrlSpec} spec */
function storedId(spec) {
  return fileId(spec.url);
}

/**
 * The SHA-256 that a host gives out with a file, where it does.
 * @param {string} url
 * @param {HttpBytes} net
 * @returns {Promise<string | null>}
 */
async function hostHash(url, net) {
  const { hostname, pathname } = new URL(url);
  const onHuggingFace = hostname === "huggingface.co" && /^(\/[^/]+\/[^/]+)\/resolve\/(.+)$/.exec(pathname);
  // There a file is sent from elsewhere, with an ETag of that place's own. The pointer in the repository has the hash.
  if (onHuggingFace) return pointerHash(`https://huggingface.co${onHuggingFace[1]}/raw/${onHuggingFace[2]}`);
  if (net.redirected) return null;
  return /^"([0-9a-f]{64})"$/i.exec(net.etag ?? "")?.[1].toLowerCase() ?? null;
}

/**
 * @param {string} url
 * @returns {Promise<string | null>}
 */
async function pointerHash(url) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), 5000);
  try {
    const response = await fetch(url, { signal: controller.signal, referrerPolicy: "no-referrer" });
    if (!response.ok || !(Number(response.headers.get("content-length") ?? Infinity) <= MAX_POINTER)) return null;
    return /^oid sha256:([0-9a-f]{64})$/m.exec(await response.text())?.[1] ?? null;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}

/** @param {number} bytes */
function size(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
