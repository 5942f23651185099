// Object URLs of the pictures that are shown. Each pins its file in memory until it is revoked, so that somebody has to know them all.

export class ImageUrls {
  /** @type {Map<HTMLImageElement, { file: Blob, url: string }>} */
  #shown = new Map();
  #isSuspended = false;

  /**
   * Shows a file in an image, until one of the methods below takes it away.
   * @param {HTMLImageElement} image
   * @param {Blob} file
   */
  show(image, file) {
    const entry = { file, url: "" };
    this.#shown.set(image, entry);
    if (!this.#isSuspended) this.#open(image, entry);
  }

  /** Gives back the URLs of all images in here: they will not be shown again. @param {Node} root */
  release(root) {
    for (const [image, entry] of this.#shown) {
      if (!root.contains(image)) continue;
      this.#close(image, entry);
      this.#shown.delete(image);
    }
  }

  /** Gives all of them back while nobody sees the images. */
  suspend() {
    this.#isSuspended = true;
    for (const [image, entry] of this.#shown) this.#close(image, entry);
  }

  resume() {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    for (const [image, entry] of this.#shown) this.#open(image, entry);
  }

  /**
   * @param {HTMLImageElement} image
   * @param {{ file: Blob, url: string }} entry
   */
  #open(image, entry) {
    entry.url = URL.createObjectURL(entry.file);
    image.src = entry.url;
  }

  /**
   * @param {HTMLImageElement} image
   * @param {{ file: Blob, url: string }} entry
   */
  #close(image, entry) {
    // One that is still to be loaded would be reported as missing.
    image.removeAttribute("src");
    URL.revokeObjectURL(entry.url);
  }
}
