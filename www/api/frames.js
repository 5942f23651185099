// Where the frames of a watched source come from. A source never queues: whoever asks gets the newest frame that was not given before.

import { invalid, kindOf } from "./checks.js";
import { LlavaError, reason } from "./errors.js";

/**
 * A frame. `drawable`: something that can be drawn; else it is handed on as it is. `mediaTime`: in seconds, where it has one. `close`: gives it back.
 * @typedef {{ drawable: boolean, image: any, width: number, height: number, mediaTime: number | null, close: () => void }} Frame
 */

/**
 * `take`: the newest frame, null where there is none that was not given before; throws where there never will be one. `hasEnded`: whether no
 * other will come. `close`: lets go of the source.
 * @typedef {{ take: () => Frame | null, readonly hasEnded: boolean, close: () => void }} Frames
 */

/** What happens to a video after which there may be another frame. */
const VIDEO_EVENTS = ["loadeddata", "play", "playing", "pause", "seeked", "ended", "emptied", "error"];
/** Pictures that a stream's reader has to give back. */
const CLOSABLE = ["VideoFrame", "ImageBitmap"];
/** Pictures that stay as they are; all else that a part of a message may have is said by the request itself. */
const STILL = ["Blob", "File", "URL", "ArrayBuffer", "ImageData", "ImageBitmap", "VideoFrame", "SVGImageElement"];

/**
 * @param {any} source
 * @param {() => void} poke  called when there may be something new
 * @returns {Frames}
 */
export function framesOf(source, poke) {
  const kind = kindOf(source);
  // A canvas's and a shared tab's have longer names.
  if (kind.includes("MediaStreamTrack")) return ofTracks(null, [source], poke);
  switch (kind) {
    case "HTMLVideoElement":
      return new VideoFrames(source, poke);
    case "MediaStream":
      return ofTracks(source, source.getVideoTracks(), poke);
    case "ReadableStream":
      return new StreamFrames(source, poke);
    case "HTMLCanvasElement":
    case "OffscreenCanvas":
      return new DrawnFrames(source, () => [source.width, source.height]);
    case "HTMLImageElement":
      return new DrawnFrames(source, () => sizeOfImage(source));
  }
  if (typeof source === "string" || STILL.includes(kind) || ArrayBuffer.isView(source)) return new StillFrame(source);
  throw invalid("watch takes a <video>, a MediaStream or its video track, a canvas, a ReadableStream of VideoFrames, or any picture that a message may have.");
}

/** @param {HTMLImageElement} image */
function sizeOfImage({ complete, currentSrc, naturalWidth, naturalHeight }) {
  if (complete && currentSrc !== "" && naturalWidth === 0) {
    throw new LlavaError("invalid_image", "The watched <img> could not be loaded, or has no size of its own. Check its address, or draw it on a canvas.");
  }
  return complete ? [naturalWidth, naturalHeight] : [0, 0];
}

/**
 * A camera, a shared screen, whatever else comes as a track.
 * @param {MediaStream | null} stream
 * @param {MediaStreamTrack[]} tracks
 * @param {() => void} poke
 * @returns {Frames}
 */
function ofTracks(stream, tracks, poke) {
  const [track] = tracks;
  if (track?.kind !== "video") throw invalid("What is to be watched has no video track. Ask getUserMedia or getDisplayMedia for video.");
  if (globalThis.document) {
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = stream ?? new MediaStream([track]);
    // Where it may not begin by itself, it begins when the page may play something.
    video.play().catch(() => {});
    return new VideoFrames(video, poke, true);
  }
  const { MediaStreamTrackProcessor } = /** @type {any} */ (globalThis);
  if (!MediaStreamTrackProcessor) throw new LlavaError("unsupported_browser", "This browser reads tracks in documents only. Call watch there, or give it a ReadableStream of VideoFrames.");
  return new StreamFrames(new MediaStreamTrackProcessor({ track }).readable, poke);
}

/** What is drawn anew whenever somebody does: nobody tells when, so that each look is at another frame. @implements {Frames} */
class DrawnFrames {
  hasEnded = false;
  #image;
  #size;

  /**
   * @param {any} image
   * @param {() => number[]} size  width and height in pixels; 0 as long as there is nothing to see
   */
  constructor(image, size) {
    this.#image = image;
    this.#size = size;
  }

  take() {
    const [width = 0, height = 0] = this.#size();
    if (width === 0 || height === 0) return null;
    return { drawable: true, image: this.#image, width, height, mediaTime: null, close() {} };
  }

  close() {}
}

/** @implements {Frames} */
class VideoFrames {
  #video;
  /** Whether it was made to watch a stream. */
  #isOwn;
  #listening = new AbortController();
  /** Which frame was given last of a video that stands still. */
  #given = "";

  /**
   * @param {HTMLVideoElement} video
   * @param {() => void} poke
   * @param {boolean} [isOwn]
   */
  constructor(video, poke, isOwn = false) {
    this.#video = video;
    this.#isOwn = isOwn;
    const { signal } = this.#listening;
    for (const type of VIDEO_EVENTS) video.addEventListener(type, poke, { signal });
    for (const track of this.#tracks ?? []) track.addEventListener("ended", poke, { signal });
  }

  /** Of a video that shows a stream; null: it shows a file. */
  get #tracks() {
    const { srcObject } = this.#video;
    return srcObject && kindOf(srcObject) === "MediaStream" ? /** @type {MediaStream} */ (srcObject).getVideoTracks() : null;
  }

  /** A file can be played again, a camera that was unplugged cannot. */
  get hasEnded() {
    return this.#tracks?.every(({ readyState }) => readyState === "ended") ?? false;
  }

  take() {
    const { error, readyState, paused, ended, seeking, currentTime, currentSrc, videoWidth: width, videoHeight: height } = this.#video;
    if (error) throw new LlavaError("invalid_image", `The watched video cannot be played: ${error.message || "its file is damaged, or of a kind that this browser does not know"}. Choose another one.`);
    // Below HAVE_CURRENT_DATA there is nothing to see.
    if (readyState < 2 || seeking || width === 0) return null;
    const isStill = paused || ended;
    const shown = isStill ? `${currentTime} ${currentSrc}` : "";
    if (isStill && shown === this.#given) return null;
    this.#given = shown;
    return { drawable: true, image: this.#video, width, height, mediaTime: this.#tracks ? null : currentTime, close() {} };
  }

  close() {
    this.#listening.abort();
    if (!this.#isOwn) return;
    this.#video.pause();
    this.#video.srcObject = null;
  }
}

/** A stream is read to its end as fast as it gives: only the newest of its pictures is kept. @implements {Frames} */
class StreamFrames {
  /** @type {ReadableStreamDefaultReader<any>} */
  #reader;
  /** @type {Frame | null} */
  #newest = null;
  #isDone = false;
  /** @type {LlavaError | null} */
  #failure = null;
  #isClosed = false;

  /**
   * @param {ReadableStream<any>} stream
   * @param {() => void} poke
   */
  constructor(stream, poke) {
    if (stream.locked) throw invalid("The stream to be watched is being read by somebody else. Give watch one of its own: see tee() and clone().");
    this.#reader = stream.getReader();
    this.#read(poke);
  }

  /** @param {() => void} poke */
  async #read(poke) {
    try {
      for (;;) {
        const { done, value } = await this.#reader.read();
        if (done) break;
        this.#newest?.close();
        this.#newest = frameOf(value);
        if (this.#isClosed) this.close();
        poke();
      }
    } catch (cause) {
      this.#failure = new LlavaError("invalid_image", `The watched stream failed: ${reason(cause)}`, { cause });
    }
    this.#isDone = true;
    poke();
  }

  get hasEnded() {
    return this.#isDone && !this.#failure && !this.#newest;
  }

  take() {
    const frame = this.#newest;
    this.#newest = null;
    if (!frame && this.#failure) throw this.#failure;
    return frame;
  }

  close() {
    this.#isClosed = true;
    this.#newest?.close();
    this.#newest = null;
    this.#reader.cancel().catch(() => {});
  }
}

/**
 * A picture that somebody gave away.
 * @param {any} value
 * @returns {Frame}
 */
function frameOf(value) {
  const kind = kindOf(value);
  if (!CLOSABLE.includes(kind)) return { drawable: false, image: value, width: 0, height: 0, mediaTime: null, close() {} };
  const isFrame = kind === "VideoFrame";
  return {
    drawable: true, image: value, width: isFrame ? value.displayWidth : value.width, height: isFrame ? value.displayHeight : value.height,
    mediaTime: isFrame ? value.timestamp / 1e6 : null, close: () => value.close(),
  };
}

/** A picture that does not change. It stays the caller's. @implements {Frames} */
class StillFrame {
  hasEnded = false;
  #image;
  #isGiven = false;

  /** @param {any} image */
  constructor(image) {
    this.#image = image;
  }

  take() {
    if (this.#isGiven) return null;
    this.#isGiven = true;
    return { drawable: false, image: this.#image, width: 0, height: 0, mediaTime: null, close() {} };
  }

  close() {}
}
