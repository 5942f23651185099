// Whether a model can be loaded without its host.

import { fileAddress } from "../fetching/address.js";
import { listStored } from "../storage/catalogue.js";
import { sourceSpecs } from "./sources.js";

/**
 * Whether all of these model files are in the browser's storage, or never were on a network.
 * @param {unknown[]} sources  as `createEngine` takes them; null and undefined are none
 */
export async function isKept(sources) {
  const files = sources.filter((source) => source !== undefined && source !== null).flatMap((source) => sourceSpecs(source, "model"));
  const addresses = files.flatMap((file) => (file.kind === "url" && /^https?:/.test(file.url) ? [file.url] : []));
  if (addresses.length === 0) return true;
  const stored = await listStored();
  return addresses.every((url) => stored.some((entry) => entry.complete && fileAddress(entry.url) === fileAddress(url)));
}
