// Pictures as the engine takes them, in the worker: the bytes of an encoded file, or RGBA.

import { LlavaError, reason } from "../api/errors.js";
import { dataUrlBytes, isDataUrl } from "../fetching/data-url.js";
import { readableUrl } from "../fetching/address.js";
import { refused, unreachable, wholeBody } from "../fetching/http-answers.js";
import { drawnByPage } from "./drawn.js";
import { svgDrawing } from "./svg.js";

/** @typedef {import("../wire/protocol.js").ImageSpec} ImageSpec */
/** @typedef {Uint8Array | { width: number, height: number, data: Uint8Array }} Decoded */

/** An encoded picture beyond this is not read; the engine's own limits are tighter. */
const MAX_ENCODED = 256 << 20;
/** The engine's own limits, held against before a canvas of that size is made. */
const MAX_SIDE = 16_384;
const MAX_PIXELS = 64 << 20;

/**
 * One after another: each takes several times its size while it is read.
 * @param {ImageSpec[]} images
 * @param {AbortSignal} [signal]
 */
export async function decodeImages(images, signal) {
  const decoded = [];
  for (const image of images) decoded.push(await decodeImage(image, signal));
  return decoded;
}

/**
 * @param {ImageSpec} image
 * @param {AbortSignal} [signal]
 * @returns {Promise<Decoded>}
 */
export async function decodeImage(image, signal) {
  if (signal?.aborted) throw stopped();
  switch (image.kind) {
    case "blob":
      return readable(await readBlob(image.blob), signal);
    case "url":
      return readable(isDataUrl(image.url) ? dataUrlBytes(image.url) : await fetchImage(image.url, signal), signal);
    case "pixels":
      return { width: image.width, height: image.height, data: new Uint8Array(image.data.buffer, image.data.byteOffset, image.data.byteLength) };
    case "bitmap":
      return bitmapPixels(image.bitmap);
  }
}

/**
 * A file as it is, where the engine knows its format. Of others the browser may: SVG, AVIF, HEIC and what is yet to come. What a file is called,
 * and what type it is said to have, says nothing.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {AbortSignal} [signal]
 * @returns {Promise<Decoded>}
 */
async function readable(bytes, signal) {
  if (isKnown(bytes)) return bytes;
  const drawing = svgDrawing(bytes);
  try {
    return bitmapPixels(drawing ? await drawnByPage(drawing.blob, signal) : await decodedByBrowser(bytes, signal));
  } catch (cause) {
    if (signal?.aborted) throw stopped(cause);
    if (cause instanceof LlavaError) throw cause;
    if (drawing) {
      throw new LlavaError("invalid_image", `The picture is an SVG drawing that could not be drawn: ${reason(cause)} Save it as a PNG file, or mend it.`, { cause });
    }
    // The engine says what it reads, and what this is instead.
    return bytes;
  }
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {AbortSignal} [signal]
 */
async function decodedByBrowser(bytes, signal) {
  const blob = new Blob([bytes], { type: typeOf(bytes) });
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch (error) {
    // What is no picture need not be tried twice.
    if (blob.type === "") throw error;
    return await drawnByPage(blob, signal);
  }
}

/** @param {Uint8Array} bytes */
function startOf(bytes) {
  return String.fromCharCode(...bytes.subarray(0, 32));
}

/**
 * Whether the engine decodes it.
 * @param {Uint8Array} bytes
 */
function isKnown(bytes) {
  const start = startOf(bytes);
  return start.startsWith("\xff\xd8\xff") || start.startsWith("\x89PNG\r\n\x1a\n") || /^GIF8[79]a/.test(start) || /^RIFF[^]{4}WEBP/.test(start) ||
    // Two letters are little to go by; the second header has one of a few known lengths.
    (start.startsWith("BM") && [12, 16, 40, 52, 56, 64, 108, 124].includes(start.charCodeAt(14)) && start.startsWith("\0\0\0", 15));
}

/**
 * The type of a picture that some browsers decode, where it is one: not all of them look for themselves.
 * @param {Uint8Array} bytes
 */
function typeOf(bytes) {
  const start = startOf(bytes);
  if (/^[^]{4}ftypavi[fs]/.test(start)) return "image/avif";
  if (/^[^]{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)/.test(start)) return "image/heic";
  if (/^(?:\xff\x0a|\0\0\0\x0cJXL )/.test(start)) return "image/jxl";
  if (/^(?:II\*\0|MM\0\*)/.test(start)) return "image/tiff";
  if (/^\0\0[\x01\x02]\0/.test(start)) return "image/x-icon";
  if (/^\0\0\0\x0cjP {2}\r\n/.test(start)) return "image/jp2";
  return "";
}

/** @param {Blob} blob */
async function readBlob(blob) {
  if (blob.size > MAX_ENCODED) throw tooLarge();
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (cause) {
    throw new LlavaError("invalid_image", "The picture's file can no longer be read: it was changed, moved or removed. Choose it again.", { cause });
  }
}

/**
 * @param {string} url
 * @param {AbortSignal} [signal]
 */
async function fetchImage(url, signal) {
  const where = readableUrl(url);
  let response;
  try {
    response = await fetch(url, { signal, referrerPolicy: "no-referrer" });
  } catch (cause) {
    if (signal?.aborted) throw stopped(cause);
    throw unreachable(where, url, cause);
  }
  if (!response.ok) {
    await response.body?.cancel();
    throw refused(where, response.status);
  }
  try {
    const bytes = await wholeBody(response, MAX_ENCODED);
    if (!bytes) throw tooLarge();
    return bytes;
  } catch (cause) {
    if (cause instanceof LlavaError) throw cause;
    if (signal?.aborted) throw stopped(cause);
    throw new LlavaError("network", `The download of ${where} broke off. Check the connection and try again.`, { cause });
  }
}

/** @param {ImageBitmap} bitmap */
function bitmapPixels(bitmap) {
  const { width, height } = bitmap;
  try {
    if (width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS) {
      throw new LlavaError("invalid_image", `The picture is ${width} × ${height} pixels; at most ${MAX_SIDE} a side and ${Math.floor(MAX_PIXELS / 1e6)} megapixels in all are read. Choose a smaller one.`);
    }
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("no 2d context");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    return { width, height, data: new Uint8Array(data.buffer) };
  } catch (cause) {
    if (cause instanceof LlavaError) throw cause;
    throw new LlavaError("invalid_image",
      `The picture of ${width} × ${height} pixels could not be read. If it comes from another site, that site must allow it (CORS); otherwise try a smaller one.`,
      { cause });
  } finally {
    bitmap.close();
  }
}

/** @param {unknown} [cause] */
function stopped(cause) {
  return new LlavaError("aborted", "The request was stopped by its signal.", { cause });
}

function tooLarge() {
  return new LlavaError("invalid_image", `The picture's file is larger than ${MAX_ENCODED >> 20} MiB. Choose a smaller one.`);
}
