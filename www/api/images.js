// A caller's picture → what is sent to the worker. The page only hands things over; decoding is done on the other side.

import { LlavaError } from "./errors.js";

/** @typedef {import("../wire/protocol.js").ImageSpec} ImageSpec */

/**
 * Pictures of one request, in order, with what may be moved instead of copied.
 */
export class ImageList {
  /** @type {ImageSpec[]} */
  images = [];
  /** @type {Transferable[]} */
  transfer = [];

  /**
   * Adds a picture and gives its index.
   * @param {unknown} image
   * @param {string} where  for messages
   */
  async add(image, where) {
    const spec = await imageSpec(image, where);
    if (spec.kind === "bitmap" && spec.bitmap !== image) this.transfer.push(spec.bitmap);
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
}

/**
 * @param {unknown} image
 * @param {string} where
 * @returns {Promise<ImageSpec>}
 */
async function imageSpec(image, where) {
  if (typeof image === "string" || image instanceof URL) return urlSpec(String(image), where);
  if (image instanceof Blob) return { kind: "blob", blob: image };
  if (image instanceof ArrayBuffer || image instanceof Uint8Array) return { kind: "blob", blob: new Blob([/** @type {BlobPart} */ (image)]) };
  if (image instanceof ImageData) {
    if (!(image.data instanceof Uint8ClampedArray)) {
      throw new LlavaError("invalid_image", `${where} is an ImageData with other than 8 bits a channel. Make it with the pixel format "rgba-unorm8".`);
    }
    return { kind: "pixels", width: image.width, height: image.height, data: image.data };
  }
  if (image instanceof ImageBitmap) return { kind: "bitmap", bitmap: image };
  if (isDrawable(image)) return { kind: "bitmap", bitmap: await bitmapOf(image, where) };
  throw new LlavaError("invalid_request",
    `${where} must be a File, Blob, ImageBitmap, ImageData, an <img>, a <canvas> or an OffscreenCanvas.`);
}

/**
 * @param {unknown} image
 * @returns {image is HTMLImageElement | HTMLCanvasElement | OffscreenCanvas}
 */
function isDrawable(image) {
  return (typeof HTMLImageElement !== "undefined" && image instanceof HTMLImageElement) ||
    (typeof HTMLCanvasElement !== "undefined" && image instanceof HTMLCanvasElement) ||
    (typeof OffscreenCanvas !== "undefined" && image instanceof OffscreenCanvas);
}

/**
 * @param {HTMLImageElement | HTMLCanvasElement | OffscreenCanvas} image
 * @param {string} where
 */
async function bitmapOf(image, where) {
  try {
    if ("decode" in image) await image.decode();
    return await createImageBitmap(image);
  } catch (cause) {
    throw new LlavaError("invalid_image",
      `${where} could not be read: ${cause instanceof Error ? cause.message : cause} An <img> must have loaded, and a canvas must not be empty.`,
      { cause });
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
  if (url.startsWith("data:")) return { kind: "url", url };
  let parsed;
  try {
    parsed = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new LlavaError("invalid_request", `${where} is "${url}", which is not an address. Check it.`, { cause });
  }
  if (!["https:", "http:", "blob:"].includes(parsed.protocol)) {
    throw new LlavaError("invalid_request", `${where} is "${url}": only https:, data: and blob: addresses can be read.`);
  }
  return { kind: "url", url: parsed.href };
}
