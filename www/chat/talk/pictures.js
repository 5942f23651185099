// Pictures on their way to a question: from files, the camera, an address; and shown small above the question.

import { button, dialog, element } from "../base/dom.js";

/** What the engine decodes itself; anything else the browser can show is handed over as pixels. */
const DECODED_BY_ENGINE = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];
/** More would fill any context with picture tokens. */
export const MAX_PICTURES = 8;
/** Of an address's picture: as many bytes as no camera's file has. */
const MAX_BYTES = 100e6;

/**
 * A picture somebody attached.
 * @typedef {{ file: Blob, name: string, url: string, image: Blob | HTMLImageElement }} Picture
 */

/**
 * @param {Blob} file
 * @param {string} [name]
 * @returns {Promise<Picture>}  fails with a sentence for the person
 */
export async function openPicture(file, name = file instanceof File ? file.name : "picture") {
  const url = URL.createObjectURL(file);
  const preview = element("img", { alt: "" });
  preview.src = url;
  try {
    await preview.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`“${name}” could not be opened as a picture. Choose a PNG, JPEG, WebP, GIF or BMP file.`);
  }
  return { file, name, url, image: DECODED_BY_ENGINE.includes(file.type) ? file : preview };
}

/** The same picture with an address of its own, which lives as long as it is needed. @param {Picture} picture @returns {Picture} */
export function samePicture(picture) {
  return { ...picture, url: URL.createObjectURL(picture.file) };
}

/** @param {DataTransfer | null} data */
export function pictureFiles(data) {
  return [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));
}

/**
 * Asks for a picture's address and fetches it.
 * @param {ShadowRoot} root
 * @returns {Promise<File | null>}  null where the person changed their mind
 */
export function askForAddress(root) {
  return new Promise((resolve) => {
    const input = element("input", { type: "url", class: "field", id: "picture-address", autocomplete: "off", placeholder: "https://…", "aria-describedby": "picture-address-hint" });
    const problem = element("p", { class: "problem", role: "alert" });
    const get = button({ text: "Get the picture", class: "primary", type: "submit" });
    /** @type {File | null} */
    let file = null;
    const controller = new AbortController();
    const form = element("form", { class: "dialog-body", novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      problem.textContent = "";
      get.disabled = true;
      try {
        file = await fetchPicture(input.value.trim(), controller.signal);
        box.close();
      } catch (error) {
        problem.textContent = /** @type {Error} */ (error).message;
        input.focus();
      }
      get.disabled = false;
    } },
      element("label", { for: "picture-address" }, "The picture’s address"), input,
      element("p", { class: "hint", id: "picture-address-hint" }, "It is fetched from that host by this browser. Hosts that do not let other pages read their files refuse."),
      problem, element("div", { class: "card-actions" }, get));
    const box = dialog({ root, title: "Picture from an address", onclose: () => {
      controller.abort();
      resolve(file);
    } }, form);
  });
}

/**
 * @param {string} address
 * @param {AbortSignal} [signal]
 * @returns {Promise<File>}  fails with a sentence for the person
 */
export async function fetchPicture(address, signal) {
  let url;
  try {
    url = new URL(address, document.baseURI);
  } catch {
    throw new Error("That is no address. It begins with https://");
  }
  if (!["http:", "https:", "data:"].includes(url.protocol)) throw new Error("That is no address. It begins with https://");
  let response;
  try {
    response = await fetch(url, { signal, referrerPolicy: "no-referrer", credentials: "omit" });
  } catch {
    throw new Error("The picture could not be fetched: there is no connection, or the host does not let other pages read it. Save it and choose the file.");
  }
  if (!response.ok) throw new Error(`The host answered with status ${response.status}. Check the address.`);
  const blob = await response.blob();
  if (blob.size > MAX_BYTES) throw new Error("That is more than 100 MB. Choose a smaller picture.");
  const name = url.protocol === "data:" ? "picture" : url.pathname.split("/").pop() || url.hostname;
  // What hosts call a file may be wrong: whether it is a picture is seen when it is opened.
  const file = new File([blob], name, { type: blob.type });
  const { url: preview } = await openPicture(file);
  URL.revokeObjectURL(preview);
  return file;
}

export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/**
 * Shows what the camera sees until a picture is taken.
 * @param {ShadowRoot} root
 * @returns {Promise<File | null>}
 */
export function takePhoto(root) {
  return new Promise((resolve) => {
    const video = element("video", { class: "camera", autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
    video.muted = true;
    const problem = element("p", { class: "problem", role: "alert" });
    /** @type {File | null} */
    let file = null;
    let closed = false;
    /** @type {MediaStream | null} */
    let stream = null;
    const take = button({ text: "Take the picture", icon: "camera", class: "primary", onclick: async () => {
      const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d")?.drawImage(video, 0, 0);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
      if (blob) file = new File([blob], "photo.jpg", { type: "image/jpeg" });
      box.close();
    } });
    take.disabled = true;
    const box = dialog({ root, title: "Take a picture", onclose: () => {
      closed = true;
      // The lamp goes out.
      for (const track of stream?.getTracks() ?? []) track.stop();
      resolve(file);
    } }, element("div", { class: "dialog-body" }, video, problem, element("div", { class: "card-actions" }, take)));
    navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } }).then(async (got) => {
      stream = got;
      if (closed) return got.getTracks().forEach((track) => track.stop());
      video.srcObject = got;
      await video.play().catch(() => {});
      take.disabled = false;
      take.focus();
    }, (error) => {
      problem.textContent = error.name === "NotAllowedError" ?
        "The browser was not allowed to use the camera. Allow it for this page, or choose a file." :
        "There is no camera that can be used. Choose a file.";
    });
  });
}
