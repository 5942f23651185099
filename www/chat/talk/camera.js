// Takes a photo with the device's camera.

import { button, dialog, element } from "../base/dom.js";

export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/**
 * Shows the camera's picture until a photo is taken.
 * @param {ShadowRoot} root
 * @returns {Promise<File | null>}
 */
export function takePhoto(root) {
  return new Promise((resolve) => {
    const video = element("video", { class: "camera", autoplay: true, playsinline: true, "aria-label": "Camera preview" });
    video.muted = true;
    const problem = element("p", { class: "problem", role: "alert" });
    /** @type {File | null} */
    let file = null;
    let closed = false;
    /** @type {MediaStream | null} */
    let stream = null;
    const take = button({ text: "Take photo", icon: "camera", class: "primary", onclick: async () => {
      const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d")?.drawImage(video, 0, 0);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
      if (blob) file = new File([blob], "photo.jpg", { type: "image/jpeg" });
      box.close();
    } });
    take.disabled = true;
    const box = dialog({ root, title: "Take a photo", onclose: () => {
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
        "This page may not use the camera. Allow it in the browser’s settings, or choose a file instead." :
        "No camera found. Choose a file instead.";
    });
  });
}
