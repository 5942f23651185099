// The storage of model files, for a panel that shows it.

import { LlavaError } from "./errors.js";
import { deleteStored, listStored } from "../storage/stored-files.js";

/** The model files kept in the browser's storage, wholly or in part. */
export async function listCachedModels() {
  return listStored();
}

/** @param {string} name  its name in the list, or its address */
export async function deleteCachedModel(name) {
  return deleteStored(name);
}

/** How much of this site's storage is used, in bytes. */
export async function storageEstimate() {
  try {
    const { usage = 0, quota = 0 } = await navigator.storage.estimate();
    return { usage, quota, persisted: await navigator.storage.persisted() };
  } catch (cause) {
    throw new LlavaError("storage", "The browser does not say how much storage there is; pages served over http: are not told.", { cause });
  }
}

/** Asks the browser not to clear this site's storage when the disk gets full. Its answer changes nothing here. */
export async function keepStorage() {
  try {
    if (!await navigator.storage.persisted()) await navigator.storage.persist();
  } catch {
    // Not every browser can be asked.
  }
}
