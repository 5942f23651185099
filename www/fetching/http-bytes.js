// A file on a server, read as one stream: what connections and servers do wrong, and when a part counts as a part of the same file.

import { LlavaError } from "../api/errors.js";
import { readableUrl } from "./address.js";
import { ask } from "./ask.js";
import { announcedLength, contentRange, isOtherVersion, isStrong, proves, refused, retryAfter, unreachable } from "./http-answers.js";
import { skipBytes, takeBytes } from "./reading.js";

/** @typedef {import("./source-reader.js").ReaderOptions} ReaderOptions */
/** @typedef {import("./http-answers.js").Resume} Resume */

export { readableUrl } from "./address.js";
export { refused, unreachable } from "./http-answers.js";

/** Statuses after which the same request may succeed a little later. */
const PASSING_STATUSES = new Set([408, 429, 500, 502, 503, 504]);
/** Statuses that say that a signature no longer holds, where they come after a redirect or in the middle of a file. */
const EXPIRED_STATUSES = new Set([401, 403, 410]);
/** Attempts to get a new signature from the address that redirects to a signed one. */
const RENEWALS = 3;
/**
 * Waiting times after each refusal for too many requests, where the host does not say or CORS hides how long to wait, in units of
 * `retryDelay`: with half a second, five minutes in all, which is the window that Hugging Face counts in.
 */
const THROTTLED = [2, 10, 30, 90, 480];

/** A failure that a new attempt may get over. */
class Dropped extends Error {
  /**
   * @param {LlavaError} error  what to say where attempts run out
   * @param {{ retryAfter?: number, retries?: number, isThrottled?: boolean }} [options]
   */
  constructor(error, { retryAfter = 0, retries = Infinity, isThrottled = false } = {}) {
    super(error.message);
    this.error = error;
    this.retryAfter = retryAfter;
    this.retries = retries;
    this.isThrottled = isThrottled;
  }
}

/**
 * A file on a server, as one streaming GET: a server without ranges serves as well as any. A dropped connection goes on
 * where it stopped, but only where the server shows the same file, or a hash of the whole will.
 *
 * The first request asks for a range already, of all bytes: such an answer is never compressed, and says how long the file is.
 */
export class HttpBytes {
  /** The offset in the file of the next byte that is given. */
  position = 0;
  /** Whether the server goes on where it was asked to. */
  resumed = false;
  /** Whether the answer came from another address than was asked. */
  redirected = false;
  #url;
  /** The caller's, for the host of `#url`. */
  #headers;
  #options;
  /** @type {ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | null} */
  #body = null;
  /** @type {AbortController | null} */
  #connection = null;
  /** What came but was not asked for yet. */
  #pending = new Uint8Array(0);
  /** Bytes of the file received so far, over all connections. */
  #received = 0;
  /** Bytes that a body restarted from the file's beginning will repeat. */
  #repeated = 0;
  #ended = false;
  #closed = false;
  #failures = 0;
  /** What identifies the file's version, from the first answer. @type {{ etag: string | null, modified: string | null } | null} */
  #version = null;
  /** @type {Resume | null} */
  #resume;
  /** The byte after the last one that is wanted, where that is not the file's end. @type {number | undefined} */
  #to;
  /** Where the body that is being read ends in the file, where the answer said so. @type {number | null} */
  #bodyEnd = null;
  /** Whether the file's beginning is asked for without a range, for hosts and browsers that cannot do with one. */
  #isPlain;
  /** Whether a hash of the whole proves the bytes in the end. */
  #isChecked;
  /** Ends a wait between two attempts. @type {() => void} */
  #wake = () => {};

  /**
   * @param {{ url: string, name: string, headers?: import("./ask.js").RequestHeaders }} spec
   * @param {ReaderOptions} options
   * @param {Resume | null} [resume]  where the server does not go on there, the file is read from its start: see `resumed`
   */
  constructor({ url, name, headers }, options, resume = null) {
    this.#url = url;
    this.#headers = headers;
    this.#resume = resume;
    this.#options = { retries: 5, retryDelay: 500, stallLimit: 60_000, ...options };
    this.#isPlain = !/^https?:/.test(url);
    this.#isChecked = options.sha256 !== undefined || options.checked === true;
    this.name = name;
    /** @type {number | undefined} */
    this.size = undefined;
  }

  /** The file's ETag, where the server shows one. */
  get etag() {
    return this.#version?.etag ?? null;
  }

  async open() {
    await this.#persist(() => this.#connect());
  }

  /** @param {number} length */
  async take(length) {
    return takeBytes(this, length);
  }

  /**
   * At least one and at most `limit` bytes; none at the end.
   * @param {number} limit
   */
  async some(limit) {
    if (limit <= 0) return new Uint8Array(0);
    while (this.#pending.length === 0 && !this.#ended) await this.#persist(() => this.#receive());
    const bytes = this.#pending.subarray(0, limit);
    this.#pending = this.#pending.subarray(bytes.length);
    this.position += bytes.length;
    return bytes;
  }

  /** @param {number} count */
  async skip(count) {
    await skipBytes(this, count);
  }

  close() {
    this.#closed = true;
    this.#wake();
    this.#disconnect();
    this.#pending = new Uint8Array(0);
    this.#ended = true;
  }

  /**
   * Runs an attempt until it succeeds, waiting ever longer between attempts that bring nothing new.
   * @param {() => Promise<void>} attempt
   */
  async #persist(attempt) {
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        this.#disconnect();
        if (!(error instanceof Dropped)) throw error;
        this.#failures += 1;
        if (this.#closed || this.#failures > Math.min(this.#options.retries, error.retries)) throw error.error;
        const { retryDelay } = this.#options;
        const step = error.isThrottled ? THROTTLED[Math.min(this.#failures, THROTTLED.length) - 1] : 2 ** (this.#failures - 1);
        await this.#wait(error.retryAfter || retryDelay * (step ?? 1));
        if (this.#closed) throw error.error;
      }
    }
  }

  /** @param {number} delay  milliseconds */
  async #wait(delay) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    await new Promise((resolve) => {
      this.#wake = () => resolve(undefined);
      timer = setTimeout(this.#wake, delay);
    });
    clearTimeout(timer);
  }

  #disconnect() {
    this.#connection?.abort();
    this.#connection = null;
    this.#body = null;
  }

  /** Takes the next piece of the body, connecting first where there is no connection. */
  async #receive() {
    if (!this.#body) await this.#connect();
    const body = /** @type {ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>} */ (this.#body);
    const { done, value } = await this.#withinStallLimit(body.read().catch((cause) => {
      throw this.#interrupted(cause);
    }));
    const end = this.#to ?? this.size;
    if (done) {
      if (this.#bodyEnd !== null && this.#received === this.#bodyEnd && this.#received < (end ?? 0)) {
        // All that the host sends at once. The rest is there for the asking.
        this.#disconnect();
        return;
      }
      if (end !== undefined && this.#received < end) throw this.#interrupted();
      this.#disconnect();
      this.#ended = true;
      this.size ??= this.#received;
      return;
    }
    this.#options.onBytes?.(value.length);
    const known = Math.min(this.#repeated, value.length);
    this.#repeated -= known;
    if (known === value.length) return;
    this.#pending = value.subarray(known);
    this.#received += this.#pending.length;
    this.#failures = 0;
    if (this.#to !== undefined && this.#received >= this.#to) {
      // A server that knows no ranges would go on to the file's end.
      this.#pending = this.#pending.subarray(0, this.#pending.length - (this.#received - this.#to));
      this.#received = this.#to;
      this.#disconnect();
      this.#ended = true;
    } else if (end !== undefined && this.#received > end) {
      throw new LlavaError("integrity",
        `${this.#where()} sent more than the ${end} bytes it announced. Try again, or download the file and choose it from disk.`);
    }
  }

  /**
   * Opens a connection at `#received`, or where it is to go on.
   * @returns {Promise<void>}
   */
  async #connect() {
    const from = this.#resume?.from ?? this.#received;
    const to = this.#resume ? this.#resume.to : this.#to;
    const etag = this.#resume ? this.#resume.etag : this.#version?.etag;
    const isChecked = this.#resume ? this.#resume.checked : this.#isChecked;
    const sameOrigin = new URL(this.#url).origin === globalThis.location?.origin;
    /** @type {Record<string, string>} */
    const headers = {};
    if (from > 0 || to !== undefined || !this.#isPlain) {
      headers.Range = `bytes=${from}-${to === undefined ? "" : to - 1}`;
      // Across origins the header would ask for a preflight that many hosts refuse; the comparison below does without it.
      // Nor is it sent where another ETag would not matter.
      if (sameOrigin && isStrong(etag) && from > 0 && !isChecked) headers["If-Range"] = etag;
    }
    this.#connection = new AbortController();
    let response;
    try {
      response = await this.#withinStallLimit(ask(this.#url, this.#headers, {
        headers,
        signal: this.#connection.signal,
        // Gigabytes that are read once would only push everything else out of the HTTP cache.
        cache: "no-store",
      }));
    } catch (cause) {
      if (cause instanceof Dropped || cause instanceof LlavaError) throw cause;
      // Older browsers ask whether the header may be sent, and hosts that do not expect the question refuse it.
      if (from === 0 && to === undefined) this.#isPlain = !this.#isPlain || !/^https?:/.test(this.#url);
      throw new Dropped(unreachable(this.#where(), this.#url, cause, this.#headers), { retries: this.#received > 0 ? Infinity : 2 });
    }
    if (this.#resume && (response.ok || response.status === 416)) {
      const resume = this.#resume;
      this.#resume = null;
      if (proves(response, resume)) {
        this.resumed = true;
        this.position = this.#received = resume.from;
        this.#to = resume.to;
        this.size = resume.size;
        this.#version = { etag: response.headers.get("etag") ?? resume.etag, modified: response.headers.get("last-modified") };
      } else if (response.status !== 200) {
        this.#disconnect();
        return this.#connect();
      }
    }
    if (response.status === 416 && from === 0 && this.#received === 0 && !this.#isPlain) {
      // An empty file has no first byte.
      this.#disconnect();
      this.#isPlain = true;
      return this.#connect();
    }
    this.redirected ||= response.redirected;
    this.#check(response, this.#received);
    this.#bodyEnd = response.status === 206 ? contentRange(response)?.end ?? null : null;
    this.#body = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body).getReader();
  }

  /**
   * Refuses an answer that is not the file, or not the same file as before.
   * @param {Response} response
   * @param {number} from
   */
  #check(response, from) {
    const { status } = response;
    if (status === 416) throw this.#changed("it is shorter now");
    if (!response.ok || !response.body) {
      const error = refused(this.#where(), status, { url: this.#url, answer: response.headers, sent: this.#headers ?? {} });
      if (PASSING_STATUSES.has(status)) throw new Dropped(error, { retryAfter: retryAfter(response), isThrottled: status === 429, retries: status === 429 ? this.#options.throttledRetries : undefined });
      // A signature that the host itself has handed out can be renewed where it did.
      if (EXPIRED_STATUSES.has(status) && (response.redirected || from > 0)) throw new Dropped(error, { retries: RENEWALS });
      throw error;
    }
    if ((response.headers.get("content-type") ?? "").startsWith("text/html")) {
      throw new LlavaError("network",
        `${this.#where()} is a web page, not a model file. Use the address of the file itself: on Hugging Face, that of the download button.`);
    }
    const announced = announcedLength(response);
    const range = contentRange(response);
    const version = { etag: response.headers.get("etag"), modified: response.headers.get("last-modified") };
    if (this.#version === null) {
      this.#version = version;
      if (status !== 206) this.size = announced;
    } else if (!this.#isChecked) {
      // Hosts move files between places that have ETags of their own; what is compared with a hash in the end need not care.
      if (isOtherVersion(this.#version.etag, version.etag)) throw this.#changed("its ETag is another one");
      if (!version.etag && isOtherVersion(this.#version.modified, version.modified)) throw this.#changed("its date is another one");
    }
    if (from === 0 && status !== 206) return;
    if (status === 206) {
      if (range ? range.from !== from : announced === undefined && from > 0) {
        throw new LlavaError("integrity", `${this.#where()} answered with another part of the file than was asked for. Try again.`);
      }
      const total = range ? range.size ?? undefined : announced === undefined || this.#to !== undefined ? undefined : from + announced;
      if (this.size !== undefined && total !== undefined && total !== this.size) throw this.#changed(`it has ${total} bytes, not ${this.size}`);
      this.size ??= total;
      this.#repeated = 0;
    } else {
      // The server knows no ranges: the whole file comes again.
      if (announced !== undefined && this.size !== undefined && announced !== this.size) {
        throw this.#changed(`it has ${announced} bytes, not ${this.size}`);
      }
      this.#repeated = from;
    }
  }

  /**
   * @template T
   * @param {Promise<T>} promise
   * @returns {Promise<T>}
   */
  async #withinStallLimit(promise) {
    const connection = this.#connection;
    let stalled = false;
    const timer = setTimeout(() => {
      stalled = true;
      connection?.abort();
    }, this.#options.stallLimit);
    try {
      return await promise;
    } catch (cause) {
      throw stalled ? this.#interrupted(cause) : cause;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @param {unknown} [cause] */
  #interrupted(cause) {
    const of = this.size === undefined ? "" : ` of ${this.size}`;
    return new Dropped(new LlavaError("network",
      `The download of ${this.#where()} broke off after ${this.#received}${of} bytes, and did not go on after several attempts. ` +
      "Check the connection and try again.", { cause }));
  }

  /** @param {string} how */
  #changed(how) {
    return new LlavaError("integrity",
      `The file at ${this.#where()} changed while it was being downloaded: ${how}. Start the download again.`);
  }

  #where() {
    return readableUrl(this.#url);
  }
}
