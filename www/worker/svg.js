// SVG drawings, told by what is in them. A drawing has no pixels of its own: how large it is to be drawn is settled here, from what its root
// element says, and written into it, for browsers differ in what they make of a drawing without a size.

/** A drawing as a file that says its size. @typedef {{ blob: Blob, width: number, height: number }} Drawing */

/** The root element comes within so many bytes, whatever stands before it. */
const HEAD = 256 << 10;
/** The longer side of a drawing that says nothing of its size but its proportions, in pixels: as much as vision towers take in. */
const SIDE = 1024;
/** A drawing is drawn no larger, on either side. */
const MAX_SIDE = 4096;
/** Of a drawing that says nothing at all: the size of replaced elements in CSS 2.2, section 10.3.2. */
const DEFAULT = { width: 300, height: 150 };

/** CSS pixels in a unit; those that depend on a font are taken as in a page without styles. @type {Record<string, number>} */
const UNITS = { "": 1, px: 1, pt: 4 / 3, pc: 16, mm: 96 / 25.4, cm: 96 / 2.54, q: 96 / 101.6, in: 96, em: 16, rem: 16, ex: 8, ch: 8 };

/**
 * The drawing that a file is; null where it is none.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Drawing | null}
 */
export function svgDrawing(bytes) {
  const encoding = encodingOf(bytes);
  const head = decoded(bytes.subarray(0, HEAD), encoding);
  const root = head === null ? null : rootElement(head);
  if (!root) return null;
  const { width, height, viewBox } = sizeOf(root.attributes);
  const isAsStated = pixels(root.attributes.get("width")) === width && pixels(root.attributes.get("height")) === height;
  if (isAsStated) return { blob: new Blob([bytes], { type: "image/svg+xml" }), width, height };
  const text = /** @type {string} */ (decoded(bytes, encoding));
  const tag = text.slice(root.start, root.end)
    .replace(/\s(?:width|height|viewBox)\s*=\s*(?:"[^"]*"|'[^']*')/g, "")
    .replace(/^<[^\s/>]+/, (name) => `${name} width="${width}" height="${height}" viewBox="${viewBox.join(" ")}"`);
  // It is written as UTF-8, whatever it was.
  const before = text.slice(0, root.start).replace(/^\s*<\?xml[^]*?\?>\s*/, "");
  return { blob: new Blob([before, tag, text.slice(root.end)], { type: "image/svg+xml" }), width, height };
}

/**
 * By its first bytes, or by what its XML declaration says.
 * @param {Uint8Array} bytes
 */
function encodingOf(bytes) {
  const [a, b] = bytes;
  if (a === 0xff && b === 0xfe || a === 0x3c && b === 0) return "utf-16le";
  if (a === 0xfe && b === 0xff || a === 0 && b === 0x3c) return "utf-16be";
  const start = String.fromCharCode(...bytes.subarray(0, 200));
  return /^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*\sencoding\s*=\s*["']([\w.:-]+)["']/.exec(start)?.[1] ?? "utf-8";
}

/**
 * @param {Uint8Array} bytes
 * @param {string} encoding
 * @returns {string | null}  null where it is no text
 */
function decoded(bytes, encoding) {
  let text;
  try {
    text = new TextDecoder(encoding).decode(bytes);
  } catch {
    // A name that nobody knows: all that matters is ASCII.
    text = new TextDecoder().decode(bytes);
  }
  return /^\s*</.test(text.slice(0, 1000)) ? text : null;
}

/**
 * The root element's tag, where it is SVG's.
 * @param {string} text
 * @returns {{ start: number, end: number, attributes: Map<string, string> } | null}
 */
function rootElement(text) {
  // Declarations, comments and a document type may come before it.
  const before = /\s+|<\?[^]*?\?>|<!--[^]*?-->|<!DOCTYPE\s[^[>]*(?:\[[^]*?\]\s*)?>/iy;
  let start = 0;
  while (before.test(text)) start = before.lastIndex;
  const tag = /<(?:[\w.-]+:)?svg(?=[\s/>])(?:[^>"']|"[^"]*"|'[^']*')*>/y;
  tag.lastIndex = start;
  const found = tag.exec(text)?.[0];
  if (found === undefined) return null;
  const attributes = new Map([...found.matchAll(/\s([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g)].map(([, name = "", double, single]) => [name, double ?? single ?? ""]));
  return { start, end: start + found.length, attributes };
}

/**
 * How large a drawing is to be drawn, in pixels, and what part of its plane is.
 * @param {Map<string, string>} attributes  of its root
 * @returns {{ width: number, height: number, viewBox: number[] }}
 */
function sizeOf(attributes) {
  const stated = { width: pixels(attributes.get("width")), height: pixels(attributes.get("height")) };
  const box = (attributes.get("viewBox") ?? "").trim().split(/[\s,]+/).map(Number);
  const [, , boxWidth = 0, boxHeight = 0] = box;
  const hasBox = box.length === 4 && box.every(Number.isFinite) && boxWidth > 0 && boxHeight > 0;
  let { width, height } = stated;
  if (hasBox && !width && !height) {
    const scale = SIDE / Math.max(boxWidth, boxHeight);
    [width, height] = [boxWidth * scale, boxHeight * scale];
  } else if (hasBox) {
    width ??= (height ?? 0) * boxWidth / boxHeight;
    height ??= width * boxHeight / boxWidth;
  }
  width ??= DEFAULT.width;
  height ??= DEFAULT.height;
  const viewBox = hasBox ? box : [0, 0, width, height];
  const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)), viewBox };
}

/**
 * A length in pixels; null where it is none, or a share of something that is not known.
 * @param {string | undefined} length
 */
function pixels(length) {
  const [, number, unit = ""] = /^\s*\+?(\d*\.?\d+(?:e[+-]?\d+)?)\s*([a-z]*)\s*$/i.exec(length ?? "") ?? [];
  const factor = UNITS[unit.toLowerCase()];
  const size = Number(number) * (factor ?? NaN);
  return Number.isFinite(size) && size > 0 ? size : null;
}
