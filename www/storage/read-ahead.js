// Downloads beside the one that a file is read from: several ranges of it at once, straight into the storage, from where the reader
// takes them in order. One connection is often not given all of what the line has.
//
// It only ever helps: whatever goes wrong with one of these downloads (a host that knows no ranges, allows no more connections, or has
// another version of the file) ends the reading ahead, and the reader's own connection goes on, repeats what must be repeated and says
// what is to be said.

/** @typedef {import("../fetching/pieces.js").RemoteBytes} RemoteBytes */
/** Chunks `from` to `to`, the latter not included; `from` moves on as they come. @typedef {{ from: number, to: number, net: RemoteBytes | null }} Lane */

/**
 * @typedef {object} Ahead
 * @property {() => number} count  how many chunks the file has
 * @property {(index: number) => boolean} isMissing
 * @property {(from: number, to: number) => Promise<RemoteBytes>} connect  fails where the host does not send just these chunks of the same file
 * @property {(index: number, bytes: Uint8Array) => Promise<void>} keep  fails where it is not stored
 * @property {(index: number) => number} length  a chunk's, in bytes
 */

/** The reader's own among them. Browsers open six to a host that speaks HTTP/1.1, and other files want some. */
const CONNECTIONS = 4;
/** Chunks that are asked for at once: little is lost when a host says no, and few requests are made. */
const SEGMENT = 16;

export class ReadAhead {
  #file;
  /** @type {Lane[]} */
  #lanes = [];
  #ended = false;
  #closed = false;
  /** Who waits for something to come. @type {(() => void)[]} */
  #waiting = [];

  /** @param {Ahead} file */
  constructor(file) {
    this.#file = file;
  }

  /**
   * Fills the free places.
   * @param {number} reader  the chunk that is read next
   * @param {boolean} hasOwn  whether the reader has a connection that goes on from there
   */
  start(reader, hasOwn) {
    let at = hasOwn ? reader + SEGMENT : reader;
    for (let free = CONNECTIONS - this.#lanes.length - (hasOwn ? 1 : 0); free > 0 && !this.#ended; free--) {
      const lane = this.#next(at);
      if (!lane) return;
      at = lane.to;
      this.#lanes.push(lane);
      this.#run(lane);
    }
  }

  /**
   * Waits for a chunk that is being downloaded.
   * @param {number} index
   * @returns {Promise<boolean>}  whether it was; it may have failed
   */
  async bring(index) {
    let was = false;
    while (this.#lanes.some(({ from, to }) => from <= index && index < to)) {
      was = true;
      await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
    }
    return was;
  }

  /** @param {number} index */
  isComing(index) {
    return this.#lanes.some(({ from, to }) => from <= index && index < to);
  }

  close() {
    this.#ended = this.#closed = true;
    for (const { net } of this.#lanes) net?.close();
  }

  /**
   * The next chunks that are neither there nor on their way.
   * @param {number} at
   * @returns {Lane | null}
   */
  #next(at) {
    const count = this.#file.count();
    const free = (/** @type {number} */ i) => i < count && this.#file.isMissing(i) && !this.isComing(i);
    let from = at;
    while (from < count && !free(from)) from += 1;
    let to = from;
    while (to - from < SEGMENT && free(to)) to += 1;
    return to > from ? { from, to, net: null } : null;
  }

  /** @param {Lane} lane */
  async #run(lane) {
    try {
      lane.net = await this.#file.connect(lane.from, lane.to);
      while (lane.from < lane.to && !this.#closed) {
        const length = this.#file.length(lane.from);
        const bytes = await lane.net.take(length);
        if (bytes.length < length) throw new RangeError("The host sent less than it announced.");
        await this.#file.keep(lane.from, bytes);
        lane.from += 1;
        this.#tell();
      }
    } catch {
      this.#ended = true;
    } finally {
      lane.net?.close();
      this.#lanes = this.#lanes.filter((other) => other !== lane);
      this.#tell();
    }
  }

  #tell() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
