// `data:` addresses, read here: a page's security policy need not allow fetching them, and no picture needs to pass through anything that
// fetches. They are read as the Fetch standard has it ("data: URL processor"), and base64 with the alphabet of URLs beside that.

import { LlavaError } from "../api/errors.js";

/**
 * Whether a text is a `data:` address. Line breaks and tabs may stand anywhere, even in its scheme.
 * @param {string} text
 */
export function isDataUrl(text) {
  return /^[\0-\x20]*d[\t\n\r]*a[\t\n\r]*t[\t\n\r]*a[\t\n\r]*:/i.test(text.slice(0, 1000));
}

/**
 * The bytes of a `data:` address.
 * @param {string} url
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function dataUrlBytes(url) {
  const fragment = url.indexOf("#");
  const whole = fragment < 0 ? trimmed(url) : url.slice(0, fragment);
  const comma = whole.indexOf(",");
  if (comma < 0) throw damaged("it has no comma between its type and its data");
  const type = unbroken(whole.slice(whole.indexOf(":") + 1, comma)).replace(/[\t\n\f\r ]+$/, "");
  const body = whole.slice(comma + 1);
  if (/; *base64$/i.test(type)) return base64Bytes(body.includes("%") ? latin1(percentDecoded(body)) : body);
  return percentDecoded(unbroken(body));
}

/**
 * Without tabs and line breaks, which the URL standard leaves out. (Chromium's `URL` does too, its `fetch` does not.)
 * @param {string} text
 */
function unbroken(text) {
  return text.replace(/[\t\n\r]+/g, "");
}

/**
 * The bytes of base64 with either alphabet; blanks and line breaks are skipped, padding may be missing.
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function base64Bytes(text) {
  const plain = /[-_]/.test(text) ? text.replace(/-/g, "+").replace(/_/g, "/") : text;
  try {
    const { fromBase64 } = /** @type {any} */ (Uint8Array);
    if (fromBase64) return fromBase64.call(Uint8Array, plain);
    const binary = atob(plain);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  } catch (cause) {
    throw damaged("its base64 is not valid", cause);
  }
}

/**
 * Base64 as somebody has it who took a picture for its address: what such a text begins with where it is PNG, JPEG, WebP, GIF, BMP, or a file
 * of the kind of AVIF and HEIC, or SVG.
 */
const PICTURE_IN_BASE64 = /^(?:iVBORw0KGgo|PHN2Zy|PD94bWwg|\/9j\/|UklGR|R0lGOD|Qk[0-3]|AAAA[A-Za-z0-9+/][GWm2]Z0eX)/;
/** What base64 is not made of, but for the padding at its end. */
const NOT_BASE64 = /[^A-Za-z0-9+/_\s-]/;
/** No address that a page has of its own files is longer. */
const LONGEST_PATH = 2000;

/**
 * Whether a text that should be an address is the picture itself, in base64.
 *
 * An address relative to the page may look alike ("/9j/photo.jpg"), but has a dot or a question mark, and is short.
 * @param {string} text
 */
export function isBase64Picture(text) {
  const start = text.slice(0, 100).trimStart();
  if (!PICTURE_IN_BASE64.test(start)) return false;
  if (NOT_BASE64.test(trimmed(text).replace(/={1,2}$/, ""))) return text.length > 200 && /^[A-Za-z0-9+/_\s-]{64}/.test(start);
  // Two letters are little to go by: the rest of a bitmap's head must be right too.
  return !start.startsWith("Qk") || isBitmapHead(start);
}

/**
 * Whether a text can be an address relative to a page at all.
 * @param {string} text
 */
export function isTooLongForPath(text) {
  return text.length > LONGEST_PATH && !/^[\0-\x20]*[a-z][a-z0-9+.-]*:/i.test(text.slice(0, 100));
}

/**
 * Without C0 controls and blanks at its end. (An expression would look at each run of blanks once for each of them.)
 * @param {string} text
 */
function trimmed(text) {
  let end = text.length;
  while (end > 0 && text.charCodeAt(end - 1) <= 0x20) end--;
  return text.slice(0, end);
}

/** @param {string} start  of a bitmap's base64 */
function isBitmapHead(start) {
  const digits = start.replace(/\s+/g, "").slice(0, 24);
  if (digits.length < 24 || digits.includes("=")) return false;
  const head = base64Bytes(digits);
  // Two reserved numbers, and the length of the header that follows.
  return head.subarray(6, 10).every((byte) => byte === 0) && [12, 40, 52, 56, 64, 108, 124].includes(/** @type {number} */ (head[14])) && head[15] === 0;
}

/**
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer>}
 */
function percentDecoded(text) {
  const bytes = new TextEncoder().encode(text);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    let byte = /** @type {number} */ (bytes[i]);
    if (byte === 0x25) {
      const high = hexDigit(bytes[i + 1]);
      const low = hexDigit(bytes[i + 2]);
      if (high >= 0 && low >= 0) {
        byte = high << 4 | low;
        i += 2;
      }
    }
    bytes[length++] = byte;
  }
  return bytes.slice(0, length);
}

/** @param {number | undefined} code  of a character; −1 where it is no digit */
function hexDigit(code = 0) {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}

/** @param {Uint8Array} bytes */
function latin1(bytes) {
  // `TextDecoder("latin1")` is windows-1252; base64 is ASCII, and anything else in it is refused either way.
  return new TextDecoder("latin1").decode(bytes);
}

/**
 * @param {string} why
 * @param {unknown} [cause]
 */
function damaged(why, cause) {
  return new LlavaError("invalid_image", `The picture's data: address is damaged: ${why}. It must be data:image/…;base64, followed by base64.`, { cause });
}
