// A generation, step by step. Before each step the event loop gets a turn, so that an abort is seen within a token.

import { toJson } from "../wire/json.js";
import { noUsage } from "../wire/protocol.js";
import { decodeImages } from "./decode-image.js";
import { nextTask } from "./next-task.js";
import { Interrupted } from "./recovery.js";

/** @typedef {import("../wire/protocol.js").GenerationEvent} GenerationEvent */
/** @typedef {{ started: () => void, event: (event: GenerationEvent) => void }} Listener */

/** The one event of a generation that was stopped before it began. @returns {GenerationEvent} */
export function stoppedBefore() {
  return { type: "done", text: "", finish_reason: "abort", usage: noUsage() };
}

/**
 * @param {import("./host.js").EngineHost} host
 * @param {Extract<import("../wire/protocol.js").Request, { method: "startChat" | "startCompletion" }>} request
 * @param {AbortSignal} signal
 * @param {Listener} tell
 */
export async function generate(host, { method, request, images }, signal, tell) {
  /** @type {any[]} */
  let decoded = [];
  try {
    decoded = await decodeImages(images, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  if (signal.aborted) {
    tell.started();
    tell.event(stoppedBefore());
    return;
  }
  let started = false;
  const waiting = {
    signal,
    onProgress: (/** @type {number} */ done, /** @type {number} */ total) => tell.event({ type: "progress", stage: "recovering", done, total }),
  };
  try {
    const json = toJson(request);
    await host.surviving((engine) => engine[method](json, decoded), waiting);
    tell.started();
    started = true;
    let told = false;
    for (;;) {
      await nextTask();
      if (signal.aborted && !told) {
        host.abort();
        told = true;
      }
      const event = JSON.parse(await host.surviving((engine) => engine.step(), waiting));
      tell.event(event);
      if (event.type === "done") return;
    }
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    const last = started ? await host.endInterrupted() : null;
    if (!started) tell.started();
    tell.event(last ?? stoppedBefore());
  }
}
