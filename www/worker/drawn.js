// Pictures that the page decodes for the worker: SVG, which only documents draw, and what a browser decodes in documents alone.

/** @typedef {import("../wire/protocol.js").Drawn} Drawn */

/** Those that the page has been asked for. @type {Map<number, (drawn: Drawn) => void>} */
const asked = new Map();
let nextId = 1;

/**
 * A picture's pixels, as the page draws it. Rejects with the page's reason where it cannot.
 * @param {Blob} blob  with its type
 * @param {AbortSignal} [signal]
 * @returns {Promise<ImageBitmap>}
 */
export function drawnByPage(blob, signal) {
  return new Promise((resolve, reject) => {
    const drawing = nextId++;
    const stop = () => reject(signal?.reason);
    signal?.addEventListener("abort", stop, { once: true });
    asked.set(drawing, ({ bitmap, why }) => {
      signal?.removeEventListener("abort", stop);
      // Nobody wants it any more.
      if (signal?.aborted) bitmap?.close();
      else if (bitmap) resolve(bitmap);
      else reject(new Error(why));
    });
    self.postMessage({ kind: "draw", drawing, blob });
  });
}

/** The page's answer. @param {Drawn} drawn */
export function takeDrawn(drawn) {
  asked.get(drawn.drawn)?.(drawn);
  asked.delete(drawn.drawn);
}
