// A caller's picture → what is sent to the worker. The page only hands things over; decoding is done on the other side.

import { base64Bytes, isBase64Picture, isDataUrl, isTooLongForPath } from "../fetching/data-url.js";
import { kindOf } from "./checks.js";
import { LlavaError, reason, shown } from "./errors.js";

/** @typedef {import("../wire/protocol.js").ImageSpec} ImageSpec */

/** What the browser turns into pixels by itself, and what must be asked of it first. */
const DRAWABLE = ["HTMLImageElement", "HTMLCanvasElement", "OffscreenCanvas", "HTMLVideoElement", "VideoFrame", "SVGImageElement"];
/** Pixels a side of a drawing that has no size of its own. */
const SIDE_OF_DRAWING = 1024;

/**
 * Pictures of one request, in order, with what may be moved instead of copied. Whoever made it gives it back with `dispose` once it was sent,
 * or will not be.
 */
export class ImageList {
  /** @type {ImageSpec[]} */
  images = [];
  /** @type {Transferable[]} */
  transfer = [];
  /** Pixels that were made for this list. @type {ImageBitmap[]} */
  #bitmaps = [];

  /**
   * Adds a picture and gives its index.
   * @param {unknown} image
   * @param {string} where  for messages
   */
  async add(image, where) {
    const spec = await imageSpec(image, where);
    if (spec.kind === "bitmap" && spec.bitmap !== image) {
      this.transfer.push(spec.bitmap);
      this.#bitmaps.push(spec.bitmap);
    }
    return this.images.push(spec) - 1;
  }

  /**
   * Adds the picture at an address.
   * @param {unknown} url
   * @param {string} where
   */
  addUrl(url, where) {
    return this.images.push(urlSpec(url, where)) - 1;
  }

  /** Gives back the pixels that were made for it. Those that were sent belong to the worker by now, which this does not touch. */
  dispose() {
    for (const bitmap of this.#bitmaps.splice(0)) bitmap.close();
  }
}

/**
 * @param {any} image
 * @param {string} where
 * @returns {Promise<ImageSpec>}
 */
async function imageSpec(image, where) {
  if (typeof image === "string" || kindOf(image) === "URL") return urlSpec(String(image), where);
  const kind = kindOf(image);
  if (kind === "Blob" || kind === "File") return { kind: "blob", blob: image };
  if (kind === "ArrayBuffer" || ArrayBuffer.isView(image)) return { kind: "blob", blob: new Blob([/** @type {BlobPart} */ (image)]) };
  if (kind === "ImageData") {
    if (kindOf(image.data) !== "Uint8ClampedArray") {
      throw new LlavaError("invalid_image", `${where} is an ImageData with other than 8 bits a channel. Make it with the pixel format "rgba-unorm8".`);
    }
    return { kind: "pixels", width: image.width, height: image.height, data: image.data };
  }
  if (kind === "ImageBitmap") return { kind: "bitmap", bitmap: image };
  if (DRAWABLE.includes(kind)) return { kind: "bitmap", bitmap: await bitmapOf(image, where) };
  throw new LlavaError("invalid_request",
    `${where} must be a File, Blob, ImageBitmap, ImageData, VideoFrame, an <img>, <video>, <canvas>, an SVG <image> or an OffscreenCanvas.`);
}

/**
 * @param {any} image  of one of the kinds that can be drawn
 * @param {string} where
 * @returns {Promise<ImageBitmap>}
 */
async function bitmapOf(image, where) {
  try {
    if (typeof image.decode === "function") await image.decode();
  } catch (cause) {
    throw new LlavaError("invalid_image", `${where} could not be read: its picture has not loaded, or is damaged. Wait for it, or choose another one.`, { cause });
  }
  try {
    return await createImageBitmap(image);
  } catch (cause) {
    const sized = kindOf(image) === "HTMLImageElement" ? await withoutSize(image) : null;
    if (sized) return sized;
    throw new LlavaError("invalid_image",
      `${where} could not be read: ${reason(cause)} An <img> must have loaded, a <video> must have a frame, and a canvas must not be empty.`,
      { cause });
  }
}

/**
 * A drawing without a size of its own, at one that vision towers are content with.
 * @param {HTMLImageElement} image
 * @returns {Promise<ImageBitmap | null>}
 */
async function withoutSize(image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const scale = SIDE_OF_DRAWING / Math.max(width, height, 1);
  const side = (/** @type {number} */ natural) => (width > 0 && height > 0 ? Math.max(1, Math.round(natural * scale)) : SIDE_OF_DRAWING);
  try {
    return await createImageBitmap(image, { resizeWidth: side(width), resizeHeight: side(height) });
  } catch {
    return null;
  }
}

/**
 * @param {unknown} url
 * @param {string} where
 * @returns {ImageSpec}
 */
function urlSpec(url, where) {
  if (typeof url !== "string" || url === "") {
    throw new LlavaError("invalid_request", `${where} must be the picture's address: https:, data: or blob:.`);
  }
  // Parsing megabytes of base64 as a URL would only cost time.
  if (isDataUrl(url)) return { kind: "url", url };
  // Resolved against the page, the picture itself would be sent to its host as a path. No address begins as a drawing's text does.
  if (/^\s*</.test(url.slice(0, 1000))) return { kind: "blob", blob: new Blob([url]) };
  if (isBase64Picture(url)) return { kind: "blob", blob: new Blob([base64Bytes(url)]) };
  if (isTooLongForPath(url)) {
    throw new LlavaError("invalid_image",
      `${where} is neither an address nor a picture in base64 of a kind that is known: "${shown(url)}". Give it as data:image/…;base64, followed by the base64, or as a Blob.`);
  }
  let parsed;
  try {
    parsed = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new LlavaError("invalid_request", `${where} is "${shown(url)}", which is not an address. Check it.`, { cause: hidden(cause) });
  }
  if (!["https:", "http:", "blob:", "data:"].includes(parsed.protocol)) {
    throw new LlavaError("invalid_request", `${where} is "${shown(url)}": only https:, data: and blob: addresses can be read.`);
  }
  return { kind: "url", url: parsed.href };
}

/**
 * The browser's own account of an address that is none has the whole of it.
 * @param {unknown} cause
 */
function hidden(cause) {
  return new Error(reason(cause));
}
