// What is known of one stored model file: a log, which is only ever added to. Each line has a checksum of its own, so whatever ends a
// download, a closed tab or a power cut, the lines before it stay true, and half a line is no line.
//
//   { url, name, chunkSize, began }   the first line; `began` tells one log of a file from the next
//   { etag, size }                    which version of the file the bytes are of, and its length
//   { expected }                      the SHA-256 that the whole is to have, where the caller or the host's repository says
//   { chunk, sum }                    chunk number `chunk` is there, with this checksum
//   { sha256 }                        every chunk was there once, and this is the whole's hash; null where the host's ETag says otherwise
//   { used, address }                 milliseconds since 1970, and the address it was asked for by then

/** What is verified and fetched again as one. Small, because an unfinished one is lost with the tab; a record takes 50 bytes. */
export const CHUNK = 1 << 20;

/**
 * What a log says.
 * @typedef {object} FileRecord
 * @property {string} url
 * @property {string} name  the last part of the address
 * @property {string | null} etag
 * @property {number | null} size  the whole file's, where the server announced it
 * @property {string | null} expected
 * @property {Map<number, string>} sums  checksum of each chunk that was written
 * @property {string | null} sha256
 * @property {boolean} isHashed  whether it was all there once, and hashed
 * @property {number} used
 */

/**
 * @param {string} url
 * @param {string} name
 * @returns {FileRecord}
 */
export function newRecord(url, name) {
  return { url, name, etag: null, size: null, expected: null, sums: new Map(), sha256: null, isHashed: false, used: 0 };
}

/**
 * A checksum of some bytes. Not a cryptographic one: it is to find damage, at several gigabytes a second.
 * Every step is a bijection of the state, so no single changed word can go unseen.
 * @param {Uint8Array} bytes
 */
export function checksum(bytes) {
  const whole = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  const words = new Uint32Array(whole.buffer, whole.byteOffset, whole.length >> 2);
  const n = words.length & ~3;
  const odd = 0x85eb_ca77;
  let [a, b, c, d] = [bytes.length, 0x2545_f491, 0x6c07_8965, 0x1656_67b1];
  for (let i = 0; i < n; i += 4) {
    a = Math.imul(a ^ /** @type {number} */ (words[i]), odd);
    b = Math.imul(b ^ /** @type {number} */ (words[i + 1]), odd);
    c = Math.imul(c ^ /** @type {number} */ (words[i + 2]), odd);
    d = Math.imul(d ^ /** @type {number} */ (words[i + 3]), odd);
    a = (a << 13) | (a >>> 19);
    b = (b << 13) | (b >>> 19);
    c = (c << 13) | (c >>> 19);
    d = (d << 13) | (d >>> 19);
  }
  for (let i = 4 * n; i < bytes.length; i++) {
    a = Math.imul(a ^ /** @type {number} */ (bytes[i]), odd);
    a = (a << 13) | (a >>> 19);
  }
  return [a, b, c, d].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
}

/** @param {object} entry */
export function logLine(entry) {
  const text = JSON.stringify(entry);
  return `${lineSum(text)} ${text}\n`;
}

/** @param {string} text */
function lineSum(text) {
  const lanes = checksum(new TextEncoder().encode(text)).match(/.{8}/g) ?? [];
  return (lanes.reduce((sum, lane) => sum ^ parseInt(lane, 16), 0) >>> 0).toString(16).padStart(8, "0");
}

/** Reads a log, whole or as it grows. */
export class LogReader {
  /** Null until there is a first line. @type {FileRecord | null} */
  record = null;
  #isOther = false;

  /** @param {string} text  whole lines */
  add(text) {
    for (const line of text.split("\n")) {
      const json = line.slice(9);
      if (line.slice(0, 8) === lineSum(json)) this.#entry(JSON.parse(json));
    }
  }

  /** @param {any} entry */
  #entry(entry) {
    if (this.#isOther) return;
    if (entry.url !== undefined && entry.chunkSize === CHUNK) {
      this.record = newRecord(entry.url, entry.name);
    } else if (!this.record) {
      // Without its first line, or of chunks of another size.
      this.#isOther = true;
    } else if (entry.chunk !== undefined) {
      this.record.sums.set(entry.chunk, entry.sum);
    } else if (entry.size !== undefined) {
      this.record.etag = entry.etag;
      this.record.size = entry.size;
    } else if (entry.expected !== undefined) {
      this.record.expected = entry.expected;
    } else if (entry.sha256 !== undefined) {
      this.record.sha256 = entry.sha256;
      this.record.isHashed = true;
    } else if (entry.used !== undefined) {
      this.record.used = entry.used;
      this.record.url = entry.address ?? this.record.url;
    }
  }
}

/**
 * How many bytes chunk `i` has, in a file of this size.
 * @param {number} i
 * @param {number} size
 */
export function chunkLength(i, size) {
  return Math.max(0, Math.min(CHUNK, size - i * CHUNK));
}

/**
 * The chunks of a record that can be read.
 * @param {FileRecord} record
 * @param {number} length  how many bytes the file really has
 * @returns {Set<number>}
 */
export function presentChunks({ sums, size }, length) {
  const isThere = (/** @type {number} */ i) => size !== null && chunkLength(i, size) > 0 && i * CHUNK + chunkLength(i, size) <= length;
  return new Set([...sums.keys()].filter(isThere));
}

/**
 * @param {FileRecord} record
 * @param {number} length
 */
export function presentBytes({ sums, size }, length) {
  let bytes = 0;
  for (const i of sums.keys()) {
    const n = chunkLength(i, size ?? length);
    if (i * CHUNK + n <= length) bytes += n;
  }
  return bytes;
}

/**
 * Where the last of these chunks ends.
 * @param {Set<number>} chunks
 * @param {number | null} size
 */
export function endOf(chunks, size) {
  let last = -1;
  for (const i of chunks) last = Math.max(last, i);
  return last < 0 ? 0 : last * CHUNK + chunkLength(last, size ?? Infinity);
}
