// Live: what the camera, a shared screen or a video shows is asked about again and again, with the question that stands in the composer.

import { LlavaError } from "../llava-web.js";
import { setText } from "./base/dom.js";
import { Complaint } from "../strings/language.js";
import { takeFrame } from "./talk/pictures.js";
import { responseFormat, sampling } from "./tools/settings.js";

/** @typedef {import("./element.js").Chat} Chat */
/** @typedef {import("./talk/live.js").Kind} Kind */
/** @typedef {import("./state.js").Watching} WatchingState */
/** @typedef {import("../strings/language.js").Key} Key */
/** @typedef {import("../llava-web.js").WatchAnswer} WatchAnswer */

/** Pixels of a camera's width that are asked for; what the tower sees is less. */
const CAMERA_WIDTH = 1280;
/** Answers follow one another no faster than this, in milliseconds: nobody could read them, and a battery lasts longer. */
const INTERVAL = 100;
/** A page that was hidden for less, in milliseconds, need not say so. */
const HIDDEN_FOR = 2000;
/** Why there is no camera, by what browsers call it. @type {Record<string, Key>} */
const CAMERA_FAULTS = { NotAllowedError: "live.notAllowed", SecurityError: "live.notAllowed", NotReadableError: "live.busy", AbortError: "live.busy" };

export class Watching {
  #chat;
  /** The side of the device that is looked at; phones have a camera on each. */
  #facing = "environment";
  /** What the composer's question is told to. @type {import("../llava-web.js").Watch | null} */
  #watch = null;
  /** The frame that is being answered, and the one that was, with its answer. @type {HTMLCanvasElement | null} */
  #next = null;
  /** @type {{ canvas: HTMLCanvasElement, answer: WatchAnswer } | null} */
  #answered = null;
  #kept = 0;
  /** Whether the person is being asked for permission. */
  #isAsking = false;
  /** Ends when nothing is watched any more. @type {Promise<void>} */
  #running = Promise.resolve();

  /** @param {Chat} chat */
  constructor(chat) {
    this.#chat = chat;
  }

  open() {
    const { state, view, answering, words } = this.#chat;
    if (state.now.is !== "ready") return;
    if (answering.isEditing) answering.endEdit();
    view.showLive(true);
    // What the model is good at, where nobody has written a question.
    view.composer.setPrompt(String(view.known?.questions?.[0] ?? words.say("start.describe")));
  }

  close() {
    const { state, view, host } = this.#chat;
    state.stop();
    view.composer.setPrompt(host.prompt);
    view.showLive(false);
  }

  /**
   * @param {Kind} kind
   * @param {File} [file]  the video
   */
  async begin(kind, file) {
    const { state, view } = this.#chat;
    const { live } = view;
    if (this.#isAsking || state.now.is !== "ready") return;
    view.alert.hide();
    const { engine } = state.now;
    this.#isAsking = true;
    live.setAsking(true);
    /** @type {MediaStream | null} */
    let stream = null;
    try {
      stream = kind === "video" ? null : await this.#ask(kind);
    } catch (error) {
      live.end(this.#fault(kind, error));
      return;
    } finally {
      this.#isAsking = false;
      live.setAsking(false);
    }
    // Meanwhile somebody may have gone elsewhere.
    const { now } = state;
    if (now.is !== "ready" || now.engine !== engine || !view.isLive) {
      endStream(stream);
      return;
    }
    this.#running = this.#run(state.watch(), kind, stream, file);
  }

  /** @param {"camera" | "screen"} kind */
  #ask(kind) {
    const { mediaDevices } = navigator;
    if (kind === "screen") return mediaDevices.getDisplayMedia({ video: true });
    return mediaDevices.getUserMedia({ video: { facingMode: this.#facing, width: { ideal: CAMERA_WIDTH } } });
  }

  /**
   * @param {Kind} kind
   * @param {unknown} error
   */
  #fault(kind, error) {
    const { words } = this.#chat;
    if (kind === "screen") return words.say("live.notShared");
    return words.say(CAMERA_FAULTS[/** @type {Error} */ (error).name] ?? "live.noCamera");
  }

  /**
   * @param {WatchingState} watching
   * @param {Kind} kind
   * @param {MediaStream | null} stream
   * @param {File} [file]
   */
  async #run(watching, kind, stream, file) {
    const { state, view, settings, loading, answering, words } = this.#chat;
    const { live, composer } = view;
    const { video } = live;
    loading.stopMeasuring();
    const question = composer.question || String(view.known?.questions?.[0] ?? words.say("start.describe"));
    live.begin(kind, question);
    view.render();
    const url = file ? URL.createObjectURL(file) : "";
    if (url) video.src = url;
    else video.srcObject = stream;
    video.play().catch(() => {});
    if (kind === "camera") this.#offerOther(watching);
    const hidden = this.#listenForHiding();
    view.announce(words.say("live.begun"));
    /** @type {import("./base/dom.js").Text} */
    let why = "";
    try {
      this.#watch = watching.engine.watch(video, {
        question, ...view.known?.sampling, ...sampling(settings), response_format: responseFormat(words, settings), system: answering.system, detail: settings.detail ?? "low", interval: INTERVAL,
        signal: watching.abort.signal, onAnswer: (answer) => this.#told(answer),
      });
      const how = await this.#watch.ended;
      if (how === "source") why = words.say(kind === "screen" ? "live.sharingStopped" : "live.unplugged");
    } catch (error) {
      const isStopped = error instanceof LlavaError && error.code === "aborted";
      if (!isStopped) why = words.explain(error);
      // What is none of the known failures is also for the page's author to see.
      if (!(error instanceof LlavaError || error instanceof Complaint)) console.error(error);
    } finally {
      this.#watch = this.#next = this.#answered = null;
      hidden.abort();
      // The lamp goes out.
      endStream(/** @type {MediaStream | null} */ (video.srcObject));
      video.pause();
      video.srcObject = null;
      video.removeAttribute("src");
      video.load();
      if (url) URL.revokeObjectURL(url);
      live.end(why);
      state.watched(watching);
      if (!String(why)) view.announce(words.say("state.stopped"));
    }
  }

  /** @param {WatchAnswer} answer */
  #told(answer) {
    const { view } = this.#chat;
    const { live } = view;
    // So that what is kept is what was answered, and as fine as it was shown.
    if (answer.text === "" && !answer.done) this.#next = takeFrame(live.video, this.#next);
    if (answer.done && !answer.skipped && this.#next) {
      const before = this.#answered?.canvas ?? null;
      this.#answered = { canvas: this.#next, answer };
      this.#next = before;
    }
    live.show(answer);
    if (answer.done && !answer.skipped) view.showStatus({ ...(answer.usage && { usage: answer.usage }), ...(answer.latency.firstToken !== null && { firstTokenSeconds: answer.latency.firstToken / 1000 }) });
  }

  /** What was asked in the composer while something is watched, or is about to be. @param {string} text */
  ask(text) {
    const { view, words } = this.#chat;
    if (!this.#watch) {
      view.announce(words.say("live.choose"));
      view.live.focus();
      return;
    }
    if (text === this.#watch.question) return;
    this.#watch.question = text;
    view.live.ask(text);
    view.announce(words.say("live.asked"));
  }

  /** Puts the picture that was answered last into the conversation, with its question and answer. */
  async keep() {
    const { view, answering, words } = this.#chat;
    if (!this.#answered) return;
    const { canvas, answer } = this.#answered;
    const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    if (!blob) return view.alert.show(words.say("live.notKept"));
    this.#kept += 1;
    answering.addAnswered(answer.question, [{ file: blob, name: `live-${this.#kept}.jpg` }], answer);
    setText(view.live.note, words.say("live.kept"));
  }

  /** The camera on the device's other side. */
  async other() {
    const { state, view } = this.#chat;
    const { now } = state;
    if (now.is !== "watching") return;
    this.#facing = this.#facing === "environment" ? "user" : "environment";
    const { engine } = now;
    // Phones do not open the second camera while the first one runs.
    now.abort.abort();
    await this.#running;
    if (state.engine === engine && view.isLive) await this.begin("camera");
  }

  /** Only who may use a camera is told how many there are. @param {WatchingState} watching */
  async #offerOther(watching) {
    const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    if (this.#chat.state.now === watching) this.#chat.view.live.switch.hidden = devices.filter(({ kind }) => kind === "videoinput").length < 2;
  }

  /** Who comes back is told that nothing was looked at meanwhile. */
  #listenForHiding() {
    const { view, words } = this.#chat;
    const listening = new AbortController();
    let since = Infinity;
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") since = performance.now();
      else if (performance.now() - since > HIDDEN_FOR) setText(view.live.note, words.say("live.wasHidden"));
    }, { signal: listening.signal });
    return listening;
  }
}

/** @param {MediaStream | null} stream */
function endStream(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
