// How far a load is: the bytes of the files, as the engine takes them and as they come in.

/** How often progress is told while nothing but bytes come in, in milliseconds. */
const TELL_EVERY = 200;

/** Puts together what the engine says of its tensors and the readers of their bytes. */
export class Progress {
  #tell;
  #speed = new Speed();
  #stored = false;
  /** @type {any} */
  #last = { stage: "header", file: "", loaded: 0, total: 0 };
  /** How many bytes were downloaded beyond what the engine has read. @type {() => number} */
  ahead = () => 0;
  /** Bytes that came since the engine last said something. */
  #since = 0;
  #toldAt = 0;
  /** The most that was told of this stage. */
  #sent = 0;
  /** @type {any} */
  #ready = null;

  /** @param {(progress: import("../wire/protocol.js").LoadProgress) => void} tell */
  constructor(tell) {
    this.#tell = tell;
  }

  /** @param {{ name: string, loaded: number, total: number }} file  what another tab is downloading */
  waiting({ name, loaded, total }) {
    this.#tell({ stage: "header", file: name, loaded, total, bytesPerSecond: 0, cached: false });
  }

  /**
   * @param {number} count
   * @param {boolean} stored  whether they come from the browser's storage
   */
  bytes(count, stored) {
    if (stored !== this.#stored) {
      // A disk's speed says nothing of what the network will take.
      this.#stored = stored;
      this.#speed = new Speed();
    }
    this.#speed.add(count);
    this.#since += count;
    // The engine asks for megabytes at a time; on a slow connection one would see nothing for long.
    if (this.#last.total > 0 && performance.now() - this.#toldAt > TELL_EVERY) this.#send(this.#last);
  }

  /** @param {any} progress */
  engine(progress) {
    if (progress.stage !== this.#last.stage || progress.file !== this.#last.file) this.#sent = 0;
    this.#last = progress;
    this.#since = 0;
    // Its word that it is ready is held back until the hashes are compared.
    if (progress.stage === "ready") this.#ready = progress;
    else this.#send(progress);
  }

  /** @param {string} file */
  ready(file) {
    this.#send(this.#ready ?? { stage: "ready", file, loaded: 0, total: 0 });
  }

  /** @param {any} progress */
  #send(progress) {
    // What is read ahead of the engine counts once.
    const loaded = progress.loaded + Math.max(this.#since, this.ahead());
    this.#sent = Math.max(this.#sent, Math.min(loaded, progress.total));
    this.#toldAt = performance.now();
    this.#tell({ ...progress, loaded: this.#sent, bytesPerSecond: this.#speed.perSecond(), cached: this.#stored });
  }
}

/** Bytes per second over the last few seconds. */
class Speed {
  /** @type {{ at: number, bytes: number }} */
  #first = { at: performance.now(), bytes: 0 };
  /** Those behind the first; the last one grows. @type {{ at: number, bytes: number }[]} */
  #samples = [];
  #bytes = 0;

  /** @param {number} count */
  add(count) {
    const at = performance.now();
    this.#bytes += count;
    const last = this.#samples.at(-1);
    const before = this.#samples.at(-2) ?? this.#first;
    // Ten samples a second at most, over three seconds.
    if (last && at - before.at < 100) {
      last.at = at;
      last.bytes = this.#bytes;
    } else {
      this.#samples.push({ at, bytes: this.#bytes });
    }
    while (this.#samples.length > 1 && at - this.#first.at > 3000) this.#first = this.#samples.shift() ?? this.#first;
  }

  perSecond() {
    const seconds = (performance.now() - this.#first.at) / 1000;
    // Less says nothing yet: what had piled up in buffers comes all at once.
    return seconds > 0.2 ? Math.round((this.#bytes - this.#first.bytes) / seconds) : 0;
  }
}
