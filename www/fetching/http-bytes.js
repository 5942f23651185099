// A file on a server, read as one stream: what connections and servers do wrong, and when a part counts as a part of the same file.

import { LlavaError } from "../api/errors.js";

/** @typedef {import("./source-reader.js").ReaderOptions} ReaderOptions */

/** Statuses after which the same request may succeed a little later. */
const PASSING_STATUSES = new Set([408, 429, 500, 502, 503, 504]);

/** A failure that a new attempt may get over. */
class Dropped extends Error {
  /**
   * @param {LlavaError} error  what to say where attempts run out
   * @param {{ retryAfter?: number, retries?: number }} [options]
   */
  constructor(error, options = {}) {
    super(error.message);
    this.error = error;
    this.retryAfter = options.retryAfter ?? 0;
    this.retries = options.retries ?? Infinity;
  }
}

/**
 * A part of a file whose beginning is there from another time.
 * @typedef {object} Resume
 * @property {number} from  the first byte that is wanted
 * @property {number} [to]  the byte after the last one; default: to the end
 * @property {number} size  the whole file's
 * @property {string | null} etag
 * @property {boolean} checked  whether the bytes are proven otherwise, so that a server need not show its ETag
 */

/**
 * A file on a server, as one streaming GET: a server without ranges serves as well as any. A dropped connection goes on
 * where it stopped, but only where the server proves that it is the same file.
 */
export class HttpBytes {
  /** The offset in the file of the next byte that is given. */
  position = 0;
  /** Whether the server goes on where it was asked to. */
  resumed = false;
  /** Whether the answer came from another address than was asked. */
  redirected = false;
  #url;
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

  /**
   * @param {{ url: string, name: string }} spec
   * @param {ReaderOptions} options
   * @param {Resume | null} [resume]  where the server does not go on there, the file is read from its start: see `resumed`
   */
  constructor({ url, name }, options, resume = null) {
    this.#url = url;
    this.#resume = resume;
    this.#options = { retries: 5, retryDelay: 500, stallLimit: 60_000, ...options };
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
    const first = await this.some(length);
    if (first.length === length || first.length === 0) return first;
    const whole = new Uint8Array(length);
    whole.set(first);
    let filled = first.length;
    while (filled < length) {
      const bytes = await this.some(length - filled);
      if (bytes.length === 0) return whole.subarray(0, filled);
      whole.set(bytes, filled);
      filled += bytes.length;
    }
    return whole;
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
    while (count > 0) {
      const bytes = await this.some(count);
      if (bytes.length === 0) return;
      count -= bytes.length;
    }
  }

  close() {
    this.#closed = true;
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
        const delay = Math.max(this.#options.retryDelay * 2 ** (this.#failures - 1), error.retryAfter);
        await new Promise((resolve) => setTimeout(resolve, delay));
        if (this.#closed) throw error.error;
      }
    }
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
    const sameOrigin = new URL(this.#url).origin === globalThis.location?.origin;
    /** @type {Record<string, string>} */
    const headers = {};
    if (from > 0 || to !== undefined) {
      headers.Range = `bytes=${from}-${to === undefined ? "" : to - 1}`;
      // Across origins the header would ask for a preflight that many hosts refuse; the comparison below does without it.
      if (sameOrigin && isStrong(etag)) headers["If-Range"] = etag;
    }
    this.#connection = new AbortController();
    let response;
    try {
      response = await this.#withinStallLimit(fetch(this.#url, {
        headers,
        signal: this.#connection.signal,
        // Gigabytes that are read once would only push everything else out of the HTTP cache.
        cache: "no-store",
        referrerPolicy: "no-referrer",
      }));
    } catch (cause) {
      if (cause instanceof Dropped) throw cause;
      throw new Dropped(unreachable(this.#where(), this.#url, cause), { retries: this.#received > 0 ? Infinity : 2 });
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
    this.redirected ||= response.redirected;
    this.#check(response, this.#received);
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
    if (!response.ok) {
      const error = refused(this.#where(), status);
      if (!PASSING_STATUSES.has(status)) throw error;
      throw new Dropped(error, { retryAfter: retryAfter(response.headers.get("retry-after")) });
    }
    if ((response.headers.get("content-type") ?? "").startsWith("text/html")) {
      throw new LlavaError("network",
        `${this.#where()} is a web page, not a model file. Use the address of the file itself: on Hugging Face, that of the download button.`);
    }
    const announced = announcedLength(response);
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
    const version = { etag: response.headers.get("etag"), modified: response.headers.get("last-modified") };
    if (this.#version === null) {
      this.#version = version;
      this.size = announced;
    } else {
      if (differs(this.#version.etag, version.etag)) throw this.#changed("its ETag is another one");
      if (!version.etag && differs(this.#version.modified, version.modified)) throw this.#changed("its date is another one");
    }
    if (from === 0 && status !== 206) return;
    if (status === 206) {
      if (range ? Number(range[1]) !== from : announced === undefined) {
        throw new LlavaError("integrity", `${this.#where()} answered with another part of the file than was asked for. Try again.`);
      }
      const total = range && range[2] !== "*" ? Number(range[2]) : announced === undefined || this.#to !== undefined ? undefined : from + announced;
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

/**
 * Whether an ETag stands for one sequence of bytes only.
 * @param {string | null | undefined} etag
 * @returns {etag is string}
 */
export function isStrong(etag) {
  return typeof etag === "string" && etag !== "" && !etag.startsWith("W/");
}

/**
 * Whether an answer is the wanted part of the very file that a part is there of.
 * @param {Response} response
 * @param {Resume} resume
 */
function proves(response, { from, to, size, etag, checked }) {
  if (response.status !== 206) return false;
  const shown = response.headers.get("etag");
  if (!(shown === null ? checked : checked && etag === null ? true : isStrong(etag) && shown === etag)) return false;
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  // Where CORS hides the range, its length still has to be right.
  if (!range) return announcedLength(response) === (to ?? size) - from;
  return Number(range[1]) === from && Number(range[2]) === (to ?? size) - 1 && (range[3] === "*" || Number(range[3]) === size);
}

/**
 * Bytes of the body where the answer says; a compressed body's length says nothing about the file's.
 * @param {Response} response
 */
function announcedLength(response) {
  const length = response.headers.get("content-length");
  if (length === null || response.headers.get("content-encoding")) return undefined;
  return Number(length);
}

/**
 * Whether two header values are both there and unlike. One that is missing (hidden by CORS) proves nothing.
 * @param {string | null} before
 * @param {string | null} now
 */
function differs(before, now) {
  return before !== null && now !== null && before !== now;
}

/**
 * Milliseconds to wait, at most half a minute.
 * @param {string | null} header
 */
function retryAfter(header) {
  const seconds = Number(header);
  return header !== null && Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 30) * 1000 : 0;
}

/**
 * An address for messages: without the query, which may hold somebody's access token.
 * @param {string} url
 */
export function readableUrl(url) {
  if (url.startsWith("data:")) return "the data: address";
  const parsed = new URL(url);
  return parsed.protocol === "blob:" ? "the blob: address" : parsed.origin + parsed.pathname;
}

/**
 * @param {string} where
 * @param {number} status
 */
export function refused(where, status) {
  const why =
    status === 404 || status === 410 ? "there is no such file. Check the address." :
    status === 401 || status === 403 ? "the host does not give this file to everybody. Download it while signed in there, and choose it from disk." :
    status === 429 ? "the host gets too many requests at the moment. Wait a few minutes and try again." :
    status >= 500 ? "the host has a problem at the moment. Try again later." :
    "check the address.";
  return new LlavaError("network", `${where} answered with status ${status}: ${why}`);
}

/**
 * @param {string} where
 * @param {string} url
 * @param {unknown} cause
 */
export function unreachable(where, url, cause) {
  const mixed = globalThis.location?.protocol === "https:" && url.startsWith("http:");
  return new LlavaError("network",
    `${where} could not be fetched. ` + (mixed ?
      "A page loaded over https: cannot read http: addresses. Use an https: address, or download the file and choose it from disk." :
      "Either there is no connection, or the host does not exist, or it does not let web pages read its files (CORS). " +
      "Check the address and the connection, or download the file and choose it from disk."),
    { cause });
}
