// Draws pictures for the engine's worker: an SVG, or a file that this browser decodes in documents alone. As in an <img>, nothing that a drawing
// names is loaded, and no script of it runs.

import { reason } from "./errors.js";

/**
 * @param {Blob} blob  with its type
 * @returns {Promise<ImageBitmap>}  fails with a reason that a person can read
 */
export async function draw(blob) {
  if (typeof globalThis.Image !== "function") throw new Error("only a page can draw it, and the engine was created outside of one.");
  const url = URL.createObjectURL(blob);
  try {
    return await bitmapOf(url);
  } catch {
    // A page's security policy may allow pictures from data: only, and some browsers let no one read a drawing with HTML in it that comes from blob:.
    return await bitmapOf(await dataUrl(blob));
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** @param {string} url */
async function bitmapOf(url) {
  const image = new Image();
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("it is damaged, or this page's security policy (img-src) allows neither blob: nor data: pictures."));
    image.src = url;
  });
  // Not `createImageBitmap`, which Chromium lets nobody read of a drawing with HTML in it.
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("there is not enough memory for it.");
  context.drawImage(image, 0, 0);
  try {
    context.getImageData(0, 0, 1, 1);
  } catch {
    throw new Error("the browser lets nobody read its pixels.");
  }
  return canvas.transferToImageBitmap();
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error(reason(reader.error)));
    reader.readAsDataURL(blob);
  });
}
