// What the Prompt API tells of a download.

import { EventHandlers } from "./event-handlers.js";

export class CreateMonitor extends EventTarget {
  #handlers = new EventHandlers(this);

  get [Symbol.toStringTag]() {
    return "CreateMonitor";
  }

  get ondownloadprogress() {
    return this.#handlers.get("downloadprogress");
  }

  set ondownloadprogress(handler) {
    this.#handlers.set("downloadprogress", handler);
  }
}

/**
 * Tells how much is there.
 * @param {EventTarget} monitor
 * @param {number} loaded  0 to 1
 */
export function tellProgress(monitor, loaded) {
  const event = new ProgressEvent("downloadprogress", { lengthComputable: true, loaded, total: 1 });
  // Browsers before 2025 know whole numbers there alone.
  if (event.loaded !== loaded) Object.defineProperty(event, "loaded", { value: loaded });
  monitor.dispatchEvent(event);
}
