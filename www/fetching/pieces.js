// A model in pieces: for hosts that limit the size of a file. `llava-web pack` cuts it and writes a manifest, whose address stands for the
// file. To the rest of the loader the pieces are one file, with the manifest's hash.

import { LlavaError, shownJson } from "../api/errors.js";
import { readableUrl } from "./address.js";
import { ask } from "./ask.js";
import { refused, unreachable, wholeBody } from "./http-answers.js";
import { HttpBytes } from "./http-bytes.js";
import { CHUNK } from "../storage/file-log.js";
import { skipBytes, takeBytes } from "./reading.js";

/** @typedef {import("../wire/protocol.js").SourceSpec} SourceSpec */
/** @typedef {import("./http-answers.js").Resume} Resume */
/** @typedef {import("./source-reader.js").ReaderOptions} ReaderOptions */
/** `at`: where it begins in the file. @typedef {{ url: string, at: number, size: number, sha256: string }} Piece */
/** @typedef {{ size: number, sha256: string, list: Piece[] }} Pieces */

const ENDING = ".pieces.json";
const FORMAT = "llava-web pieces 1";
/** A manifest of the most pieces there can be is smaller. */
const MAX_MANIFEST = 32e6;
/** How long it may take, in milliseconds. */
const PATIENCE = 30_000;
const HASH = /^[0-9a-f]{64}$/;

/** What a connection to a file, whole or in pieces, is to whoever reads from it. @typedef {HttpBytes | PieceBytes} RemoteBytes */

/**
 * @param {{ url: string, name: string, headers?: import("./ask.js").RequestHeaders, pieces?: Pieces }} spec
 * @param {ReaderOptions} options
 * @param {Resume | null} [resume]
 * @returns {RemoteBytes}
 */
export function remoteBytes(spec, options, resume = null) {
  return spec.pieces ? new PieceBytes({ ...spec, pieces: spec.pieces }, options, resume) : new HttpBytes(spec, options, resume);
}

/**
 * Reads the manifests among the files. One that cannot be reached is left as it is: the file may be kept on this device.
 * @param {SourceSpec[]} specs
 * @returns {Promise<SourceSpec[]>}
 */
export function withPieces(specs) {
  return Promise.all(specs.map(async (spec) => {
    if (spec.kind !== "url" || !new URL(spec.url).pathname.endsWith(ENDING)) return spec;
    const name = spec.name.endsWith(ENDING) ? spec.name.slice(0, -ENDING.length) : spec.name;
    try {
      return { ...spec, name, pieces: await readManifest(spec.url, spec.headers) };
    } catch (error) {
      if (error instanceof LlavaError && error.code === "network") return { ...spec, name };
      throw error;
    }
  }));
}

/**
 * @param {string} url
 * @param {import("./ask.js").RequestHeaders} [headers]
 * @returns {Promise<Pieces>}
 */
async function readManifest(url, headers) {
  const where = readableUrl(url);
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), PATIENCE);
  let response;
  let bytes;
  try {
    response = await ask(url, headers, { cache: "no-cache", signal: controller.signal });
    bytes = await wholeBody(response, MAX_MANIFEST);
  } catch (cause) {
    if (cause instanceof LlavaError) throw cause;
    throw unreachable(where, url, cause, headers);
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok) throw refused(where, response.status, { url, answer: response.headers, sent: headers ?? {} });
  if (!bytes) throw invalid(where, "it is too large");
  let manifest;
  try {
    manifest = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw invalid(where, "it isn't JSON");
  }
  if (manifest?.format !== FORMAT) throw invalid(where, `its format is ${shownJson(manifest?.format)}, not "${FORMAT}"`);
  const { size, sha256, pieces } = manifest;
  if (!HASH.test(sha256) || !Array.isArray(pieces) || pieces.length === 0) throw invalid(where, "it has no hash or no pieces");
  let at = 0;
  const list = pieces.map((piece, i) => {
    const isLast = i === pieces.length - 1;
    if (typeof piece?.file !== "string" || !HASH.test(piece.sha256) || !Number.isSafeInteger(piece.size) || piece.size <= 0 || (!isLast && piece.size % CHUNK !== 0)) {
      throw invalid(where, `piece ${i + 1} has no name, no hash, or a size that is not of whole MiB`);
    }
    const part = { url: new URL(encodeURIComponent(piece.file), url).href, at, size: piece.size, sha256: piece.sha256 };
    at += piece.size;
    return part;
  });
  if (at !== size) throw invalid(where, `its pieces have ${at} bytes together, the file ${size}`);
  return { size, sha256, list };
}

/**
 * @param {string} where
 * @param {string} why
 */
function invalid(where, why) {
  return new LlavaError("integrity", `${where} cannot be used as a manifest of pieces: ${why}. Pack the model again with llava-web pack.`);
}

/** The pieces as one stream of bytes, as `HttpBytes` is for one file. */
export class PieceBytes {
  position = 0;
  resumed = false;
  redirected = false;
  #pieces;
  /** The manifest's; the pieces are of the same origin. */
  #headers;
  #options;
  /** @type {{ net: HttpBytes, piece: Piece, hasher: import("./source-reader.js").Hasher | null } | null} */
  #current = null;
  #closed = false;

  /**
   * @param {{ name: string, headers?: import("./ask.js").RequestHeaders, pieces: Pieces }} spec
   * @param {ReaderOptions} options
   * @param {Resume | null} resume
   */
  constructor({ name, headers, pieces }, options, resume) {
    this.name = name;
    this.#headers = headers;
    this.#pieces = pieces;
    this.#options = options;
    /** @type {number | undefined} */
    this.size = pieces.size;
    // The manifest says which version it is; what is there of another one is of no use.
    if (resume && resume.size === pieces.size && (resume.checked || resume.etag === this.etag)) {
      this.resumed = true;
      this.position = resume.from;
    }
  }

  /** As strong as a host's could be. @returns {string | null} */
  get etag() {
    return `"${this.#pieces.sha256}"`;
  }

  async open() {
    if (this.position < this.#pieces.size) await this.#openPiece();
  }

  /** @param {number} length */
  async take(length) {
    return takeBytes(this, length);
  }

  /** @param {number} limit */
  async some(limit) {
    if (limit <= 0 || this.#closed || this.position >= this.#pieces.size) return new Uint8Array(0);
    const { net, piece, hasher } = await this.#openPiece();
    const end = piece.at + piece.size;
    const bytes = await net.some(Math.min(limit, end - this.position));
    if (bytes.length === 0) throw damaged(piece, `it ends after ${this.position - piece.at} of ${piece.size} bytes`);
    hasher?.update(bytes);
    this.position += bytes.length;
    if (this.position === end) {
      const found = hasher?.digestHex().toLowerCase();
      this.#closePiece();
      if (found !== undefined && found !== piece.sha256) throw damaged(piece, `its SHA-256 is ${found}, not ${piece.sha256}`);
    }
    return bytes;
  }

  /** @param {number} count */
  async skip(count) {
    await skipBytes(this, count);
  }

  close() {
    this.#closed = true;
    this.#closePiece();
  }

  #closePiece() {
    this.#current?.net.close();
    this.#current?.hasher?.free?.();
    this.#current = null;
  }

  /** The piece that `position` lies in, read up to there. */
  async #openPiece() {
    if (this.#current) return this.#current;
    const { list } = this.#pieces;
    const piece = /** @type {Piece} */ (list.find(({ at, size }) => this.position < at + size));
    const from = this.position - piece.at;
    // The whole is proven by its hash, so a host need not prove a part.
    const resume = from > 0 ? { from, size: piece.size, etag: null, checked: true } : null;
    const net = new HttpBytes({ url: piece.url, name: this.name, headers: this.#headers }, this.#options, resume);
    await net.open();
    if (net.size !== undefined && net.size !== piece.size) {
      net.close();
      throw damaged(piece, `it has ${net.size} bytes, not ${piece.size}`);
    }
    if (from > 0 && !net.resumed) await net.skip(from);
    // What was begun in the middle is only hashed with the whole.
    this.#current = { net, piece, hasher: from === 0 ? this.#options.createHasher?.() ?? null : null };
    return this.#current;
  }
}

/**
 * @param {Piece} piece
 * @param {string} why
 */
function damaged({ url }, why) {
  return new LlavaError("integrity", `The piece ${readableUrl(url)} is not the one that the manifest names: ${why}. Load again; if it stays so, publish all pieces and the manifest again.`);
}
