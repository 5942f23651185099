// Frames as they are looked at: drawn no larger than the vision tower has use for, and a tiny copy that tells whether there is anything new.

import { LlavaError, reason } from "./errors.js";

/** Pixels a side of the tiny copy. */
const SIDE = 32;
/** Frames are compared by the part of the picture that changed most: so that something small counts, and a camera's noise does not. */
const PART = 1 / 16;

/**
 * What a frame was when it was drawn. `tiny`: red, green, blue and alpha of the tiny copy.
 * @typedef {{ pixels: ImageData, tiny: Uint8ClampedArray }} Drawn
 */

/** Draws frames one after another, on the same two canvases. */
export class Drawing {
  #canvas = new OffscreenCanvas(1, 1);
  #tiny = new OffscreenCanvas(SIDE, SIDE);
  #most;

  /** @param {number} most  pixels of the longer side */
  constructor(most) {
    this.#most = most;
  }

  /**
   * @param {import("./frames.js").Frame} frame  that can be drawn
   * @returns {Drawn}
   */
  draw({ image, width, height }) {
    const scale = Math.min(1, this.#most / Math.max(width, height));
    const [wide, high] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    const canvas = this.#canvas;
    if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
    try {
      return { pixels: drawn(canvas, image), tiny: drawn(this.#tiny, canvas).data };
    } catch (cause) {
      throw new LlavaError("invalid_image",
        `A frame could not be read: ${reason(cause)} If it shows something of another site, that site must allow it (CORS, the crossorigin attribute).`, { cause });
    }
  }
}

/**
 * @param {OffscreenCanvas} canvas
 * @param {CanvasImageSource} image
 */
function drawn(canvas, image) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("there is no canvas to draw on.");
  const { width, height } = canvas;
  context.imageSmoothingQuality = "high";
  // What is transparent in this one must not show the one before.
  context.globalCompositeOperation = "copy";
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/**
 * How much two frames differ, from 0 to 1: the mean difference of those places of the tiny copies that differ most, each by the channel in which
 * it differs most.
 * @param {Uint8ClampedArray} a
 * @param {Uint8ClampedArray} b
 */
export function difference(a, b) {
  const differences = new Uint8Array(SIDE * SIDE);
  for (let i = 0; i < differences.length; i++) {
    let most = 0;
    for (let channel = 0; channel < 4; channel++) most = Math.max(most, Math.abs(/** @type {number} */ (a[4 * i + channel]) - /** @type {number} */ (b[4 * i + channel])));
    differences[i] = most;
  }
  const changed = differences.sort().subarray(-SIDE * SIDE * PART);
  return changed.reduce((sum, value) => sum + value, 0) / changed.length / 255;
}
