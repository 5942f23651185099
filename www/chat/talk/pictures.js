// Files that are pictures: found out by their content, and made into something that the engine, other programs and this browser can all read.

import { Complaint } from "../../strings/language.js";
import { element } from "../base/dom.js";
import { isFile } from "../base/files.js";

/** More would fill any context with picture tokens. */
export const MAX_PICTURES = 8;
/** Enough to tell every format below. */
const HEAD_BYTES = 512;
/** The longer side of what is drawn anew, in pixels: several times what any vision tower takes in. */
const MAX_SIDE = 2048;
/** For a drawing that says nothing of its size. */
const DEFAULT_SIDE = 1024;

/** A picture that somebody attached: `file` is PNG, JPEG, WebP, GIF or BMP, and says so. @typedef {{ file: Blob, name: string }} Picture */

/** @param {Blob} file */
async function headOf(file) {
  const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  return String.fromCharCode(...bytes);
}

/**
 * The type of what the engine decodes, by its first bytes; "" for all else.
 * @param {string} head
 */
function decodableType(head) {
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "image/png";
  if (head.startsWith("\xff\xd8\xff")) return "image/jpeg";
  if (head.startsWith("GIF8")) return "image/gif";
  if (head.startsWith("BM")) return "image/bmp";
  if (head.startsWith("RIFF") && head.startsWith("WEBP", 8)) return "image/webp";
  return "";
}

/**
 * Whether a file is worth opening as a picture. Not every system knows the type of AVIF or HEIC files: then the content decides.
 * @param {Blob} file
 */
export async function looksLikePicture(file) {
  if (file.type.startsWith("image/")) return true;
  const head = await headOf(file).catch(() => "");
  return decodableType(head) !== "" || /^.{4}ftyp(avi[fs]|hei[cfsx]|he[iv][cmsx]|mif1|msf1)/s.test(head) || /^\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg[\s>]/s.test(head);
}

/**
 * @param {Blob} file
 * @param {string} [name]
 * @returns {Promise<Picture>}  fails with a Complaint
 */
export async function openPicture(file, name = isFile(file) ? file.name : "") {
  const url = URL.createObjectURL(file);
  const image = element("img", { alt: "" });
  image.src = url;
  try {
    await image.decode();
    const type = decodableType(await headOf(file));
    if (type === "") return { file: await redrawn(image), name };
    return { file: file.type === type ? file : file.slice(0, file.size, type), name };
  } catch (cause) {
    throw new Complaint("picture.unreadable", { name }, { cause });
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** What only the browser decodes (AVIF, SVG, on some systems HEIC), as a PNG. @param {HTMLImageElement} image @returns {Promise<Blob>} */
async function redrawn(image) {
  const [width, height] = [image.naturalWidth || DEFAULT_SIDE, image.naturalHeight || DEFAULT_SIDE];
  const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
  const canvas = element("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  const context = canvas.getContext("2d");
  if (!context) throw new Error("There is no canvas to draw on.");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) => canvas.toBlob(resolve, "image/png"));
  // Its pixels are given back at once, not when somebody cleans up.
  canvas.width = canvas.height = 0;
  if (!blob) throw new Error("The picture is too large to be drawn.");
  return blob;
}

/**
 * The frame that a video shows.
 * @param {HTMLVideoElement} video
 * @param {HTMLCanvasElement | null} [canvas]  to draw it on, where there is one already
 * @returns {HTMLCanvasElement}
 */
export function takeFrame(video, canvas) {
  const taken = canvas ?? element("canvas");
  const { videoWidth, videoHeight } = video;
  if (taken.width !== videoWidth || taken.height !== videoHeight) [taken.width, taken.height] = [videoWidth, videoHeight];
  taken.getContext("2d")?.drawImage(video, 0, 0);
  return taken;
}

/** @param {DataTransfer | null} data */
export function filesIn(data) {
  return [...(data?.files ?? [])];
}
