// What this browser tells of the machine it runs on.

import { detectDevice, listCachedModels, storageEstimate } from "../../llava-web.js";
import { sourceSpecs } from "../../api/sources.js";

/** @typedef {import("./catalogue.js").Facts} Facts */

/** Browsers that tell the memory at all tell no more than this, in GB. */
const MOST_TOLD = 8;

/** @returns {Promise<Omit<Facts, "rate">>} */
export async function machineFacts() {
  const [cached, device, storage] = await Promise.all([
    listCachedModels().catch(() => []), detectDevice().catch(() => null), storageEstimate().catch(() => null),
  ]);
  // In GB, rounded; not in every browser.
  const told = /** @type {{ deviceMemory?: number }} */ (navigator).deviceMemory;
  return {
    gpu: device !== null && device.webgpu.available && !device.webgpu.software,
    memory: told === undefined ? null : told * 1e9,
    isAtLeast: told !== undefined && told >= MOST_TOLD,
    free: storage && storage.quota > 0 ? Math.max(0, storage.quota - storage.usage) : null,
    kept: keptFiles(cached),
  };
}

/** @param {import("../../llava-web.js").CachedModel[]} cached */
function keptFiles(cached) {
  return new Set(cached.filter(({ complete }) => complete).map(({ url }) => url));
}

/**
 * Whether this browser keeps all of a model, so that nothing need be fetched for it.
 * @param {{ model: string, mmproj?: string }} sources
 * @param {Set<string> | import("../../llava-web.js").CachedModel[]} kept
 */
export function isKept({ model, mmproj }, kept) {
  const files = kept instanceof Set ? kept : keptFiles(kept);
  return [model, ...(mmproj ? [mmproj] : [])].every((source) => sourceSpecs(source, "model").every((spec) => spec.kind === "url" && files.has(spec.url)));
}
