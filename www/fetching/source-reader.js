// Model files as the engine reads them, in the worker: ascending offsets, nothing buffered beyond what is asked for, every
// byte hashed on the way where a hash was given.

import { LlavaError } from "../api/errors.js";
import { remoteBytes } from "./pieces.js";

/** @typedef {import("../wire/protocol.js").SourceSpec} SourceSpec */
/** @typedef {{ update(bytes: Uint8Array): void, digestHex(): string, free?(): void }} Hasher */

/**
 * Where a reader's bytes come from. What it gives may be overwritten by the next call.
 * @typedef {object} ByteSource
 * @property {number | undefined} size  in bytes, where it is known
 * @property {() => Promise<void>} open
 * @property {(length: number) => Promise<Uint8Array>} take  fewer bytes than asked for only at the end
 * @property {(limit: number) => Promise<Uint8Array>} some  at least one byte but at the end
 * @property {(count: number) => Promise<void>} skip
 * @property {() => Promise<void>} [finish]  where it has a check of its own
 * @property {() => void} close
 */

/**
 * @typedef {object} ReaderOptions
 * @property {string} [sha256]  expected hash of the whole file, hex
 * @property {boolean} [checked]  whether the whole is compared with a hash in the end, though not with `sha256`
 * @property {() => Hasher} [createHasher]
 * @property {ByteSource | null} [stored]  the file's place in the browser's storage: it downloads, keeps and checks by itself
 * @property {(count: number, stored?: boolean) => void} [onBytes]  told of bytes as they arrive, from the network or a disk
 * @property {number} [retries]  attempts in a row that may fail without one new byte
 * @property {number} [throttledRetries]  the same where the host says that it gets too many requests
 * @property {number} [retryDelay]  milliseconds before the first new attempt; doubles with each
 * @property {number} [stallLimit]  milliseconds without a byte after which a connection counts as dropped
 */

/** Blob slices that are read only to be hashed. */
const HASH_SLICE = 4 << 20;

/**
 * One file. `read` serves the engine; `finish` reads what it left over where a hash wants it.
 */
export class SourceReader {
  /** @type {ByteSource} */
  #bytes;
  #hasher;
  #expected;
  #position = 0;

  /**
   * @param {SourceSpec} spec
   * @param {ReaderOptions} [options]
   */
  static async open(spec, options = {}) {
    const reader = new SourceReader(spec, options);
    try {
      await reader.open();
    } catch (error) {
      reader.close();
      throw error;
    }
    return reader;
  }

  /**
   * To be opened before it is read, and to be closed in any case.
   * @param {SourceSpec} spec
   * @param {ReaderOptions} [options]
   */
  constructor(spec, options = {}) {
    this.spec = spec;
    this.name = spec.name;
    /** The length in bytes where it is known beforehand. @type {number | undefined} */
    this.size = undefined;
    /** The first failure, as it was before it went through the engine. @type {LlavaError | null} */
    this.failure = null;
    /** Whether the engine found that what this file says cannot be loaded. */
    this.isRefused = false;
    this.#bytes = options.stored ?? (spec.kind === "blob" ? new BlobBytes(spec, options) : remoteBytes(spec, options));
    // The storage hashes what it keeps by itself.
    this.#expected = options.stored ? undefined : options.sha256?.toLowerCase();
    this.#hasher = this.#expected && options.createHasher ? options.createHasher() : null;
  }

  async open() {
    try {
      await this.#bytes.open();
    } catch (error) {
      this.failure ??= error instanceof LlavaError ? error : null;
      throw error;
    }
    this.size = this.#bytes.size;
  }

  /**
   * The bytes from `offset` on, exactly `length` of them, as they are until the next call. Offsets ascend from call to call; gaps
   * are skipped.
   * @param {number} offset
   * @param {number} length
   * @returns {Promise<Uint8Array>}
   */
  async read(offset, length) {
    try {
      if (offset < this.#position) {
        throw new LlavaError("internal", `${this.name} is read backwards, from byte ${this.#position} to ${offset}.`);
      }
      await this.#skip(offset - this.#position);
      const bytes = await this.#bytes.take(length);
      this.#hasher?.update(bytes);
      this.#position += bytes.length;
      if (bytes.length < length) {
        throw new LlavaError("invalid_gguf",
          `The file '${this.name}' ends at byte ${this.#position}, but bytes ${offset} to ${offset + length} are needed: ` +
          "it is truncated. Download or copy it again.");
      }
      return bytes;
    } catch (error) {
      this.failure ??= error instanceof LlavaError ? error : null;
      throw error;
    }
  }

  /** Called by the engine. */
  refuse() {
    this.isRefused = true;
  }

  /** Reads to the file's end and compares the hash, where one was given. */
  async finish() {
    try {
      await this.#bytes.finish?.();
    } catch (error) {
      this.failure ??= error instanceof LlavaError ? error : null;
      throw error;
    }
    if (!this.#hasher) return;
    await this.#skip(Infinity);
    const found = this.#hasher.digestHex().toLowerCase();
    if (found !== this.#expected) {
      throw new LlavaError("integrity",
        `The file '${this.name}' has the SHA-256 ${found}, but ${this.#expected} was asked for. It was damaged or exchanged ` +
        "on the way, or the expected hash is of another version. Download it again or correct the hash.");
    }
  }

  /** Lets go of the connection and the hasher. */
  close() {
    this.#bytes.close();
    this.#hasher?.free?.();
    this.#hasher = null;
  }

  /** @param {number} count  Infinity: to the end */
  async #skip(count) {
    if (!this.#hasher) {
      await this.#bytes.skip(count);
      this.#position += count;
      return;
    }
    while (count > 0) {
      const bytes = await this.#bytes.some(Math.min(count, HASH_SLICE));
      if (bytes.length === 0) return;
      this.#hasher.update(bytes);
      this.#position += bytes.length;
      count -= bytes.length;
    }
  }
}

/** A local file: the browser reads the slices that are asked for. */
class BlobBytes {
  #blob;
  #name;
  #onBytes;
  #position = 0;

  /**
   * @param {{ blob: Blob, name: string }} spec
   * @param {ReaderOptions} options
   */
  constructor({ blob, name }, options) {
    this.#blob = blob;
    this.#name = name;
    this.#onBytes = options.onBytes;
    /** @type {number | undefined} */
    this.size = blob.size;
  }

  async open() {}

  /** @param {number} length */
  async take(length) {
    const slice = this.#blob.slice(this.#position, this.#position + length);
    let bytes;
    try {
      bytes = new Uint8Array(await slice.arrayBuffer());
    } catch (cause) {
      throw new LlavaError("storage",
        `The file '${this.#name}' can no longer be read: it was changed, moved or removed after it was chosen. Choose it again.`,
        { cause });
    }
    this.#position += bytes.length;
    this.#onBytes?.(bytes.length);
    return bytes;
  }

  /** @param {number} limit */
  some(limit) {
    return this.take(limit);
  }

  /** @param {number} count */
  async skip(count) {
    this.#position = Math.min(this.#position + count, this.#blob.size);
  }

  close() {}
}
