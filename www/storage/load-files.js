// Model files on their way through the browser's storage, in the worker: what is there is read from it, what is missing is
// downloaded, given to the engine and kept, chunk by chunk. folder.js and file-log.js have the layout.
//
// Who is asked: a file that is all there is used without asking anybody, so a model that was loaded once starts without a network,
// and stays the version it was; giving a `sha256` of another version, or deleting it, fetches it anew. A download goes on
// at the chunk where it stood if the host proves that it still has the same file (a 206 with the same strong ETag and length), or if a
// hash of the whole will prove it; else it begins again.
//
// What is run: every chunk is compared with the checksum it was stored with before the engine sees it. One that is damaged or cut off
// is fetched again, alone. The SHA-256 of the whole is computed as it is downloaded, and compared with the caller's, or with what the
// repository on the host says it is.
//
// How: from a host that knows ranges and shows which version it sends, several parts of a large file at once (read-ahead.js).
//
// Several tabs: one downloads; others that want the same file wait for it and then read what it stored. Any number read at once.

import { LlavaError } from "../api/errors.js";
import { fileAddress } from "../fetching/address.js";
import { StoredFile } from "./cached-file.js";
import { OVERHEAD } from "./cached-file-writer.js";
import { giveBackAbandoned, listStored, storedId } from "./catalogue.js";
import { openFolder } from "./folder.js";
import { isFull } from "./sync-handles.js";

/** @typedef {import("../wire/protocol.js").SourceSpec} SourceSpec */
/** @typedef {import("../fetching/source-reader.js").ReaderOptions} ReaderOptions */
/** @typedef {import("../fetching/source-reader.js").ByteSource} ByteSource */
/** @typedef {Extract<SourceSpec, { kind: "url" }>} UrlSpec */

/**
 * The stored files of one load. They are locked from here to `close`, in an order that is the same in every tab, so that no two
 * loads wait for each other.
 */
export class ModelStore {
  /** What the person should know though it is no error. @type {string[]} */
  warnings = [];
  /** @type {Map<SourceSpec, StoredFile>} */
  #files = new Map();
  #required;
  #accepted = false;
  /** The taking of room, once it has begun. @type {Promise<void> | null} */
  #room = null;

  /** @param {boolean} required  whether storing was asked for expressly: then it is an error where there is no room */
  constructor(required) {
    this.#required = required;
  }

  /**
   * @param {SourceSpec[]} specs
   * @param {{ required: boolean, hashOf: (spec: SourceSpec) => string | undefined,
   *   onWaiting: (file: { name: string, loaded: number, total: number }) => void }} options  `hashOf`: the SHA-256 that is asked for
   */
  static async lock(specs, { required, hashOf, onWaiting }) {
    const store = new ModelStore(required);
    const remote = specs.filter((spec) => spec.kind === "url" && /^https?:/.test(spec.url));
    if (remote.length === 0) return store;
    const folder = await openFolder({ create: true });
    if (!folder) {
      store.warnings.push("The browser keeps no files for this page (a private window, or not https:), so the model will be downloaded again the next time.");
      return store;
    }
    try {
      /** @type {Map<string, UrlSpec>} */
      const wanted = new Map();
      // A file that is given twice is stored once; the other reader goes to the network.
      for (const spec of /** @type {UrlSpec[]} */ (remote)) wanted.set(await storedId(folder, spec.url, hashOf(spec)), spec);
      for (const [id, spec] of [...wanted].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const file = new StoredFile(folder, id, spec, { hasRoom: () => store.#hasRoom(), onNotStored: (cause) => store.#notStored(cause) });
        store.#files.set(spec, file);
        await file.lock((loaded, total) => onWaiting({ name: spec.name, loaded, total }));
      }
    } catch (cause) {
      // Where the person has blocked a site's storage, some of it is there and cannot be used.
      await store.close();
      store.#files.clear();
      store.warnings.push(`The model was not kept in the browser's storage, which failed (${cause instanceof Error ? cause.message : cause}).`);
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

  /**
   * The engine has read the headers and has the memory for the model: from here on all of it will be wanted. Until then only what is
   * read is downloaded and stored, so that a model that is refused leaves no gigabytes reserved.
   */
  accept() {
    this.#accepted = true;
  }

  /** The size in bytes of the files of which this load stored something. */
  get kept() {
    return [...this.#files.values()].reduce((sum, file) => sum + (file.hasStored ? file.size ?? 0 : 0), 0);
  }

  /** Resolves once there is room for what comes next; whether all of it is wanted. */
  async #hasRoom() {
    if (!this.#accepted) return false;
    await (this.#room ??= this.#makeRoom());
    return true;
  }

  /** Takes the room for all that is missing; where there is not enough, nothing more is stored. */
  async #makeRoom() {
    const files = [...this.#files.values()];
    const missing = files.reduce((sum, file) => sum + file.room, 0);
    if (missing === 0) return;
    await giveBackAbandoned();
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
    // What this load has stored goes too, and counts as missing.
    const begun = files.reduce((sum, file) => sum + file.begun, 0);
    for (const file of files) await file.keepNothing({ undo: true });
    if (this.#required) throw await this.#noRoom(missing + begun, free + begun);
    this.warnings.push(`The model was not kept in the browser's storage, and will be downloaded again the next time: ${await this.#figures(missing + begun, free + begun)}`);
  }

  /**
   * After a load that failed: what is of no use is deleted, and the room that was taken for more is given back.
   * @param {LlavaError} error
   * @param {Set<SourceSpec>} blamed  the files that failed, where it was a file
   */
  async failed(error, blamed) {
    const isBroken = error.code === "invalid_gguf";
    const isRefused = isBroken || ["unsupported_architecture", "unsupported_quantization", "mmproj_mismatch"].includes(error.code);
    const isUnwanted = isRefused || ["out_of_memory", "invalid_request"].includes(error.code);
    for (const [spec, file] of this.#files) {
      // Of a file that was begun here there is no more than its header yet.
      const isHeader = file.isNew && !this.#accepted;
      const useless = (isHeader && isUnwanted) || (blamed.has(spec) && (isBroken || (file.isNew && isRefused)));
      // Whatever the engine made of it, a hash has shown that these are the bytes that the host has.
      if (useless && !file.isProven) await file.discard().catch(() => {});
      else await file.giveBack();
    }
  }

  /** Bytes that were downloaded and not read yet. */
  get ahead() {
    return [...this.#files.values()].reduce((sum, file) => sum + file.ahead, 0);
  }

  /** Ends all reading and writing, and gives back the room that was taken for what did not come. */
  async close() {
    await Promise.all([...this.#files.values()].map((file) => file.close()));
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
    const mine = new Set([...this.#files.keys()].map((spec) => (spec.kind === "url" ? fileAddress(spec.url) : "")));
    const others = (await listStored()).filter(({ url }) => !mine.has(fileAddress(url))).sort((a, b) => a.lastUsed - b.lastUsed);
    const advice = others.length === 0 ? "Free space on this device, or choose a smaller model." :
      `Delete a model that is kept: ${others.map(({ name, allocated, lastUsed }) => `'${name}' (${size(allocated)}${lastUsed ? `, last used ${new Date(lastUsed).toISOString().slice(0, 10)}` : ""})`).join(", ")}.`;
    return `${size(missing)} (${missing} bytes) are needed and ${size(free)} (${free} bytes) are free for this site. ${advice}`;
  }
}

/** @param {number} bytes */
function size(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
