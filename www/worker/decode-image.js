// Pictures as the engine takes them, in the worker: the bytes of an encoded file, or RGBA.

import { LlavaError } from "../api/errors.js";
import { readableUrl, refused, unreachable } from "../fetching/http-bytes.js";

/** An encoded picture beyond this is not read; the engine's own limits are tighter. */
const MAX_ENCODED = 256 << 20;

/**
 * @param {import("../wire/protocol.js").ImageSpec} image
 * @param {AbortSignal} [signal]
 * @returns {Promise<Uint8Array | { width: number, height: number, data: Uint8Array }>}
 */
export async function decodeImage(image, signal) {
  switch (image.kind) {
    case "blob":
      return readBlob(image.blob);
    case "url":
      return image.url.startsWith("data:") ? dataUrlBytes(image.url) : fetchImage(image.url, signal);
    case "pixels":
      return { width: image.width, height: image.height, data: new Uint8Array(image.data.buffer, image.data.byteOffset, image.data.byteLength) };
    case "bitmap":
      return bitmapPixels(image.bitmap);
  }
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
 * Decoded here, since a page's security policy need not allow fetching `data:` addresses.
 * @param {string} url
 */
function dataUrlBytes(url) {
  const comma = url.indexOf(",");
  const isBase64 = comma >= 0 && /;\s*base64\s*$/i.test(url.slice(0, comma));
  try {
    if (comma < 0) throw new Error("no comma");
    const body = decodeURIComponent(url.slice(comma + 1));
    const binary = isBase64 ? atob(body) : body;
    return Uint8Array.from(binary, (char) => char.charCodeAt(0));
  } catch (cause) {
    throw new LlavaError("invalid_image",
      "The picture's data: address is damaged: it must be data:image/…;base64, followed by base64.", { cause });
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
    if (signal?.aborted) throw new LlavaError("aborted", "Loading the picture was stopped.", { cause });
    throw unreachable(where, url, cause);
  }
  if (!response.ok) throw refused(where, response.status);
  if (Number(response.headers.get("content-length")) > MAX_ENCODED) throw tooLarge();
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    throw new LlavaError("network", `The download of ${where} broke off. Check the connection and try again.`, { cause });
  }
}

/** @param {ImageBitmap} bitmap */
function bitmapPixels(bitmap) {
  const { width, height } = bitmap;
  try {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("no 2d context");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    return { width, height, data: new Uint8Array(data.buffer) };
  } catch (cause) {
    throw new LlavaError("invalid_image",
      `The picture of ${width} × ${height} pixels could not be read. If it comes from another site, that site must allow it (CORS); otherwise try a smaller one.`,
      { cause });
  } finally {
    bitmap.close();
  }
}

function tooLarge() {
  return new LlavaError("invalid_image", `The picture's file is larger than ${MAX_ENCODED >> 20} MiB. Choose a smaller one.`);
}
