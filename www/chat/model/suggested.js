// The models that a page offers: how large each is, whether it fits this machine, whether it is kept already.

import { detectDevice, listCachedModels } from "../../llava-web.js";
import { sourceSpecs } from "../../api/sources.js";
import { button, element } from "../base/dom.js";
import { bytes } from "../base/format.js";

/**
 * A model that a page offers. `bytes`: of both files together. `sha256`: of each, so that a newer version at the same address is not
 * taken for the one that this browser keeps. `about`: one line for who has it before them; `questions` and `examples`: what to ask it;
 * `temperature`: where the person has set none.
 * @typedef {{ name: string, description?: string, model: string, mmproj?: string, bytes: number,
 *   sha256?: { model: string, mmproj?: string }, about?: string, questions?: string[], examples?: Example[],
 *   temperature?: number }} KnownModel
 */

/** A picture to begin with, by its address, and what is asked about it. @typedef {{ picture: string, alt: string, question: string }} Example */

/** The CPU's memory ends at 4 GB, and more than the weights has to go into it. */
const CPU_LIMIT = 3e9;

/**
 * Whether this browser keeps all of a model, so that nothing need be fetched for it.
 * @param {{ model: string, mmproj?: string }} sources
 * @param {import("../../llava-web.js").CachedModel[]} cached
 */
export function isKept({ model, mmproj }, cached) {
  const kept = new Set(cached.filter(({ complete }) => complete).map(({ url }) => url));
  return [model, ...(mmproj ? [mmproj] : [])].every((source) => sourceSpecs(source, "model").every((spec) => spec.kind === "url" && kept.has(spec.url)));
}

export class KnownModels {
  /** @type {KnownModel[]} */
  #models = [];
  #list = element("ul", { class: "stored-list" });
  #turn = 0;
  #onUse;

  /** @param {{ onUse: (model: KnownModel) => void }} handlers */
  constructor({ onUse }) {
    this.#onUse = onUse;
    this.element = element("section", { class: "known", part: "known", "aria-labelledby": "known-title", hidden: true },
      element("h3", { id: "known-title" }, "Suggested models"), this.#list);
  }

  get models() {
    return this.#models;
  }

  /** @param {KnownModel[]} models */
  set(models) {
    this.#models = models;
    this.refresh();
  }

  /**
   * The one that these files are.
   * @param {import("../../llava-web.js").Source} model
   * @param {import("../../llava-web.js").Source} [mmproj]
   */
  find(model, mmproj) {
    return this.#models.find((known) => known.model === model && (known.mmproj ?? "") === (mmproj ?? ""));
  }

  async refresh() {
    this.element.hidden = this.#models.length === 0;
    if (this.#models.length === 0) return;
    const turn = ++this.#turn;
    const [cached, device] = await Promise.all([listCachedModels().catch(() => []), detectDevice().catch(() => null)]);
    if (turn !== this.#turn) return;
    const gpu = device !== null && device.webgpu.available && !device.webgpu.software;
    this.#list.replaceChildren(...this.#models.map((model) => {
      const use = button({ text: "Choose", class: "plain", onclick: () => this.#onUse(model) });
      use.setAttribute("aria-label", `Choose ${model.name}`);
      return element("li", { class: "stored-row" },
        element("div", { class: "stored-text" },
          element("bdi", { class: "name" }, model.name),
          element("span", { class: "size wrap" }, [bytes(model.bytes), isKept(model, cached) ? "on this device" : "", fits(model, gpu), model.description ?? ""].filter(Boolean).join(" · "))),
        use);
    }));
  }
}

/**
 * A guess in words: browsers tell little of a machine's memory.
 * @param {KnownModel} model
 * @param {boolean} gpu
 */
function fits(model, gpu) {
  // In GB, rounded, and at most 8; not in every browser.
  const memory = /** @type {{ deviceMemory?: number }} */ (navigator).deviceMemory;
  if (!gpu && model.bytes > CPU_LIMIT) return "too large for this browser without WebGPU";
  if (memory !== undefined && memory < 8 && model.bytes > memory * 0.6e9) return "may be too large for this device";
  return "should run on this device";
}
