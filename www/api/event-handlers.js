// Attributes like `onclick` of objects that are made here.

/** The handlers of one target, each in the place among its listeners that it was first given. */
export class EventHandlers {
  #target;
  /** @type {Map<string, { handler: ((event: Event) => unknown) | null }>} */
  #all = new Map();

  /** @param {EventTarget} target */
  constructor(target) {
    this.#target = target;
  }

  /** @param {string} type */
  get(type) {
    return this.#all.get(type)?.handler ?? null;
  }

  /**
   * @param {string} type
   * @param {unknown} given  whatever is no function is none
   */
  set(type, given) {
    const handler = typeof given === "function" ? /** @type {(event: Event) => unknown} */ (given) : null;
    const known = this.#all.get(type);
    if (known) {
      known.handler = handler;
    } else if (handler) {
      const added = { handler: /** @type {((event: Event) => unknown) | null} */ (handler) };
      this.#all.set(type, added);
      this.#target.addEventListener(type, (event) => added.handler?.call(this.#target, event));
    }
  }
}
