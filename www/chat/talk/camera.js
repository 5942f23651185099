// Takes a photo with the device's camera.

import { button, dialog, element, setText } from "../base/dom.js";
import { takeFrame } from "./pictures.js";

/** Whether a page may ask for the camera's picture: not over plain http:. */
const canPreview = () => Boolean(navigator.mediaDevices?.getUserMedia);
/** Whether choosing a file can open the camera itself: on phones. */
const canCapture = () => "capture" in HTMLInputElement.prototype && matchMedia("(hover: none) and (pointer: coarse)").matches;

export function hasCamera() {
  return canPreview() || canCapture();
}

/**
 * Shows the camera's picture until a photo is taken; where the page may not, the phone's own camera is opened.
 * @param {ShadowRoot} root
 * @param {import("../../strings/language.js").Language} words
 * @returns {Promise<File | null>}
 */
export function takePhoto(root, words) {
  return canPreview() ? preview(root, words) : capture();
}

/** @returns {Promise<File | null>} */
function capture() {
  return new Promise((resolve) => {
    const input = element("input", { type: "file", accept: "image/*", capture: "environment", onchange: () => resolve(input.files?.[0] ?? null), oncancel: () => resolve(null) });
    input.click();
  });
}

/**
 * @param {ShadowRoot} root
 * @param {import("../../strings/language.js").Language} words
 * @returns {Promise<File | null>}
 */
function preview(root, words) {
  return new Promise((resolve) => {
    const video = element("video", { class: "camera", autoplay: true, playsinline: true, "aria-label": words.say("camera.preview") });
    video.muted = true;
    const problem = element("p", { class: "problem", role: "alert" });
    /** @type {File | null} */
    let file = null;
    let closed = false;
    /** @type {MediaStream | null} */
    let stream = null;
    /** The side of the device that is looked at; phones have a camera on each. */
    let facing = "environment";
    // The lamp goes out.
    const end = () => stream?.getTracks().forEach((track) => track.stop());
    const take = button({ text: words.say("camera.take"), icon: "camera", class: "primary", onclick: async () => {
      const canvas = takeFrame(video);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
      if (blob) file = new File([blob], "photo.jpg", { type: "image/jpeg" });
      box.close();
    } });
    const other = button({ text: words.say("camera.switch"), icon: "again", class: "plain", onclick: () => {
      facing = facing === "environment" ? "user" : "environment";
      show();
    } });
    other.hidden = true;
    const box = dialog({ root, words, title: words.say("camera.title"), onclose: () => {
      closed = true;
      end();
      resolve(file);
    } }, element("div", { class: "dialog-body" }, video, problem, element("div", { class: "card-actions" }, take, other)));

    async function show() {
      take.disabled = true;
      // Phones do not open the second camera while the first one runs.
      end();
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, width: { ideal: 1920 } } });
        if (closed) return end();
        video.srcObject = stream;
        await video.play().catch(() => {});
        take.disabled = false;
        // Only who may use a camera is told how many there are.
        const devices = await navigator.mediaDevices.enumerateDevices();
        other.hidden = devices.filter(({ kind }) => kind === "videoinput").length < 2;
        if (!closed && !box.contains(root.activeElement?.closest(".card-actions") ?? null)) take.focus();
      } catch (error) {
        setText(problem, words.say(/** @type {Error} */ (error).name === "NotAllowedError" ? "camera.notAllowed" : "camera.none"));
      }
    }
    show();
  });
}
