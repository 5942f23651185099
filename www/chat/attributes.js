// The attributes of <llava-chat> as properties.

/** On a server there are no elements: importing this does nothing there. @type {typeof HTMLElement} */
const Base = globalThis.HTMLElement ?? /** @type {any} */ (class {});

export class ChatAttributes extends Base {
  static observedAttributes = ["model", "mmproj", "device", "system", "prompt", "image-detail", "autoload", "lang"];

  get model() {
    return this.getAttribute("model") ?? "";
  }

  set model(value) {
    reflect(this, "model", value);
  }

  get mmproj() {
    return this.getAttribute("mmproj") ?? "";
  }

  set mmproj(value) {
    reflect(this, "mmproj", value);
  }

  get device() {
    return this.getAttribute("device") ?? "";
  }

  set device(value) {
    reflect(this, "device", value);
  }

  get system() {
    return this.getAttribute("system") ?? "";
  }

  set system(value) {
    reflect(this, "system", value);
  }

  get prompt() {
    return this.getAttribute("prompt") ?? "";
  }

  set prompt(value) {
    reflect(this, "prompt", value);
  }

  /** How finely pictures are looked at, where the settings do not say it. */
  get imageDetail() {
    return this.getAttribute("image-detail") ?? "";
  }

  set imageDetail(value) {
    reflect(this, "image-detail", value);
  }

  get autoload() {
    return this.hasAttribute("autoload");
  }

  set autoload(value) {
    this.toggleAttribute("autoload", Boolean(value));
  }
}

/**
 * Hands over to the accessors of the same name what a page set before the element's class was known, and what would hide them.
 * @param {HTMLElement} element
 * @param {string[]} names
 */
export function takeEarlierProperties(element, names) {
  const own = /** @type {Record<string, any>} */ (/** @type {unknown} */ (element));
  for (const name of names) {
    if (!Object.hasOwn(own, name)) continue;
    const value = own[name];
    delete own[name];
    own[name] = value;
  }
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {string | null | undefined} value
 */
function reflect(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else element.setAttribute(name, value);
}
