// One model file that is kept in the browser's storage, in the worker: what is there is read, what is missing is downloaded and kept.
// load-files.js has the rules, cached-file-writer.js the storage, read-ahead.js the downloads beside the one that is being read.

import { LlavaError } from "../api/errors.js";
import { readableUrl } from "../fetching/address.js";
import { etagHash, lfsHash } from "../fetching/host-hash.js";
import { isStrong } from "../fetching/http-answers.js";
import { remoteBytes } from "../fetching/pieces.js";
import { StoredBytes } from "./cached-file-writer.js";
import { checksum, CHUNK, chunkLength } from "./file-log.js";
import { ReadAhead } from "./read-ahead.js";

/** @typedef {import("../fetching/source-reader.js").ReaderOptions} ReaderOptions */
/** @typedef {import("../fetching/source-reader.js").ByteSource} ByteSource */
/** @typedef {import("../fetching/pieces.js").RemoteBytes} RemoteBytes */
/** @typedef {import("./load-files.js").UrlSpec} UrlSpec */

/** A gap that is rather read through than asked for around. */
const SKIP_THROUGH = 4 << 20;

/** A file that was put together from parts of different times, and is not the one that it should be. */
export class WrongParts extends LlavaError {}

/** One file, stored or being stored. @implements {ByteSource} */
export class StoredFile {
  /** The length in bytes where it is known beforehand. @type {number | undefined} */
  size;
  #stored;
  #spec;
  #hasRoom;
  #onNotStored;
  /** @type {ReaderOptions} */
  #options = {};
  #isWritable = true;
  /** The first failure to write is being told, or was. */
  #writeFailed = false;
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
  /** @type {import("../fetching/source-reader.js").Hasher | null} */
  #hasher = null;
  /** Chunks that went through the hasher. */
  #hashed = 0;
  /** The SHA-256 that the whole is to have: the caller's, or what the host's repository says. @type {string | null} */
  #expected = null;
  /** Whether chunks of an earlier load were there when this one began. */
  #hadParts = false;
  /** @type {{ index: number, bytes: Uint8Array } | null} */
  #current = null;
  #position = 0;
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
    this.#stored = new StoredBytes(folder, id, spec);
    this.#spec = spec;
    this.#hasRoom = hasRoom;
    this.#onNotStored = onNotStored;
  }

  get name() {
    return this.#spec.name;
  }

  /** Whether nothing of it was there before this load. */
  get isNew() {
    return this.#stored.isNew;
  }

  /** Whether this load stored anything of it. */
  get hasStored() {
    return this.#stored.hasStored;
  }

  /** Bytes that will have to be stored, as far as is known. */
  get missing() {
    return this.#isWritable ? this.#stored.missing : 0;
  }

  /** Room that is wanted for them, beside what the file takes already. */
  get room() {
    return this.#isWritable ? this.#stored.room : 0;
  }

  /** Bytes that are there of a file of which nothing was there before this load. */
  get begun() {
    return this.#stored.begun;
  }

  /** Whether it is all there, and was found to be what it should be. */
  get isProven() {
    return this.#stored.isComplete && this.#stored.record.sha256 !== null;
  }

  /** Bytes that this load has downloaded and not read yet. */
  get ahead() {
    return [...this.#fresh].reduce((sum, i) => sum + chunkLength(i, this.#stored.record.size ?? 0), 0);
  }

  /** @param {ReaderOptions} options */
  configure(options) {
    this.#options = options;
  }

  /**
   * Shared where the file is complete, else exclusive.
   * @param {(loaded: number, total: number) => void} onWaiting
   */
  lock(onWaiting) {
    return this.#stored.lock(onWaiting);
  }

  async open() {
    const stored = this.#stored;
    const asked = this.#options.sha256?.toLowerCase() ?? null;
    this.#expected = asked;
    const { sha256, expected } = stored.record;
    if (asked && (sha256 ?? expected ?? asked) !== asked) stored.forget(null, null);
    if (stored.isComplete) {
      this.size = /** @type {number} */ (stored.record.size);
      // A tab that was closed after the last chunk and before the hash.
      if (!stored.record.isHashed) this.#hasher = this.#createHasher();
      return;
    }
    const pointer = asked ? null : lfsHash(this.#spec);
    this.#hadParts = stored.present.size > 0;
    if (this.#hadParts) {
      this.#expected ??= await pointer;
      // The repository has another version by now.
      if (this.#expected && (expected ?? this.#expected) !== this.#expected) stored.forget(null, null);
    }
    let first = 0;
    while (stored.present.has(first)) first += 1;
    const net = await this.#connect(first);
    if (!net.resumed) {
      stored.forget(net.etag, net.size ?? null);
      this.#hadParts = false;
    }
    this.size = stored.record.size ?? undefined;
    this.#expected ??= await pointer;
    if (this.#expected && this.#expected !== stored.record.expected) {
      stored.record.expected = this.#expected;
      // A record that begins anew has it among its first lines.
      if (net.resumed) await this.#write(() => stored.append({ expected: this.#expected }));
    }
    if (!stored.record.isHashed) this.#hasher = this.#createHasher();
    this.#readAhead = new ReadAhead({
      count: () => Math.ceil((stored.record.size ?? 0) / CHUNK),
      isMissing: (i) => !stored.present.has(i),
      length: (i) => chunkLength(i, stored.record.size ?? 0),
      connect: (from, to) => this.#connectAhead(from, to),
      keep: async (i, bytes) => {
        await this.#keep(i, bytes);
        if (!stored.present.has(i)) throw new DOMException("It is not stored.", "QuotaExceededError");
        this.#fresh.add(i);
      },
    });
  }

  #createHasher() {
    return this.#options.createHasher?.() ?? null;
  }

  /** Takes the room for the whole file, as far as there is room. @returns {Promise<{ wanted: number, got: number }>}  bytes */
  async reserve() {
    if (!this.#isWritable) return { wanted: 0, got: 0 };
    try {
      return await this.#stored.reserve();
    } catch (cause) {
      await this.#write(() => Promise.reject(cause));
      return { wanted: 0, got: 0 };
    }
  }

  /**
   * Stores no more, and gives back the room that was taken for more.
   * @param {{ undo?: boolean }} [options]  `undo`: also what this load began to store
   */
  async keepNothing({ undo = false } = {}) {
    this.#isWritable = false;
    await (undo ? this.#stored.undo() : this.#stored.giveBack());
    // Without anything to compare it with, a hash is only for what is stored.
    if (this.#expected) return;
    this.#hasher?.free?.();
    this.#hasher = null;
  }

  /** Gives back what was taken for bytes that did not come. */
  giveBack() {
    return this.#stored.giveBack();
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
    const stored = this.#stored;
    if (this.#hasher) {
      while (this.size === undefined || this.#hashed * CHUNK < this.size) await this.#load(this.#hashed);
    }
    if (this.#hasher) {
      const found = this.#hasher.digestHex().toLowerCase();
      if (found !== (this.#expected ?? found)) await this.#failHash(found);
      // What looks like the host's hash of the file may be another hash, or of another thing: it proves, but it does not disprove.
      const shown = this.#connections.some(({ net }) => net.redirected) ? null : etagHash(stored.record.etag);
      const sha256 = this.#expected || shown === null || shown === found ? found : null;
      if (this.#isWritable) {
        await this.#write(async () => {
          await stored.append({ etag: stored.record.etag, size: this.size ?? null }, { sha256 });
          stored.record.sha256 = sha256;
          stored.record.isHashed = true;
        });
      }
    } else if (this.#isWritable && this.size !== undefined) {
      // A repaired file that the engine has not wholly read.
      for (let i = 0; i * CHUNK < this.size; i++) if (!stored.present.has(i)) await this.#load(i);
    }
    await stored.markUsed();
  }

  /**
   * @param {string} found
   * @returns {Promise<never>}
   */
  async #failHash(found) {
    await this.discard();
    const message = `The file '${this.name}' has the SHA-256 ${found}, but ` +
      `${this.#options.sha256 ? `${this.#expected} was asked for` : `its host says ${this.#expected}`}. ` +
      "It was damaged or replaced in transit, or the expected hash is of another version. What was stored of it has been deleted: " +
      "download it again or correct the hash.";
    throw this.#hadParts ? new WrongParts("integrity", message) : new LlavaError("integrity", message);
  }

  /** Removes what is stored, as far as nobody else reads it. */
  async discard() {
    this.#isWritable = false;
    this.#readAhead?.close();
    await this.#stored.discard();
  }

  /** @returns {Promise<void>} */
  close() {
    return (this.#closing ??= this.#end());
  }

  async #end() {
    this.#isWritable = false;
    this.#readAhead?.close();
    for (const { net } of this.#connections) net.close();
    this.#connections = [];
    this.#hasher?.free?.();
    this.#hasher = null;
    this.#current = null;
    await this.#stored.close();
  }

  /**
   * One chunk, from the storage if it is whole there, else from the host.
   * @param {number} index
   */
  async #load(index) {
    // Until the header is accepted, nobody knows whether more than it is wanted.
    const isWanted = await this.#hasRoom();
    const stored = this.#stored;
    const { size, etag } = stored.record;
    // Without either, nothing would show that parts that come side by side are of one file.
    const isProven = isStrong(etag) || this.#expected !== null;
    if (isWanted && this.#isWritable && size !== null && isProven) this.#readAhead?.start(index, this.#connections.length > 0);
    let bytes = await stored.read(index);
    if (!bytes && this.#readAhead?.isComing(index)) {
      // The reader's own connection has come to where another one began.
      for (const { net } of this.#connections.splice(0)) net.close();
      await this.#readAhead.bring(index);
      bytes = await stored.read(index);
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

  /**
   * Downloads a chunk and stores it.
   * @param {number} index
   */
  async #fetch(index) {
    const at = index * CHUNK;
    this.#connections = this.#connections.filter(({ net, end }) => {
      const isOpen = net.position < end;
      if (!isOpen) net.close();
      return isOpen;
    });
    let net = this.#connections.find(({ net, end }) => net.position <= at && at < end && at - net.position <= SKIP_THROUGH)?.net;
    if (!net) {
      net = await this.#connect(index);
      if (!net.resumed && index > 0 && !this.#isSameFile(net)) await this.#failChanged();
    }
    await net.skip(at - net.position);
    const bytes = await net.take(this.size === undefined ? CHUNK : chunkLength(index, this.size));
    if (bytes.length < CHUNK && this.size === undefined) this.size = this.#stored.record.size = at + bytes.length;
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
    const known = this.#stored.record.sums.get(index);
    if (known !== undefined && known !== sum) await this.#failChanged();
    if (this.#isWritable && bytes.length > 0) await this.#write(() => this.#stored.write(index, bytes, sum));
  }

  /**
   * A connection that brings these chunks of the very file that is stored, and nothing else.
   * @param {number} from
   * @param {number} to
   */
  async #connectAhead(from, to) {
    const { etag, size: known } = this.#stored.record;
    const size = /** @type {number} */ (known);
    const checked = this.#expected !== null;
    const resume = { from: from * CHUNK, to: to * CHUNK < size ? to * CHUNK : undefined, size, etag, checked };
    const net = remoteBytes(this.#spec, { ...this.#options, checked, retries: 2, throttledRetries: 0 }, resume);
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
    const { present, record: { size, etag, sums } } = this.#stored;
    let next = index + 1;
    const last = size === null ? 0 : Math.ceil(size / CHUNK);
    // Chunks that were there once are proven by their checksums.
    let isKnown = sums.has(index);
    while (next < last && !present.has(next)) {
      isKnown &&= sums.has(next);
      next += 1;
    }
    const checked = isKnown || this.#expected !== null;
    const to = next < last ? next * CHUNK : undefined;
    const isFirst = index === 0 && to === undefined;
    const resume = size === null || isFirst || !(isStrong(etag) || checked) ? null : { from: index * CHUNK, to, size, etag, checked };
    const net = remoteBytes(this.#spec, { ...this.#options, checked: this.#expected !== null }, resume);
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
    const { etag, size } = this.#stored.record;
    return (this.#expected !== null || (isStrong(etag) && net.etag === etag)) && (net.size ?? size) === size;
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
      if (!this.#isWritable || this.#writeFailed) return;
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
}
