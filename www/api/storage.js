// The storage of model files, for a panel that shows it.

import { LlavaError } from "./errors.js";
import { deleteStored, listStored } from "../storage/catalogue.js";

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

/** A smaller model is soon downloaded again; a browser that asks the person should not do so for that. In bytes. */
const WORTH_ASKING = 100e6;
/** The person's next action is waited for. */
let waiting = false;

/**
 * Asks the browser not to clear this site's storage when the disk gets full, where that would cost a large download. Browsers ask the
 * person or decide by what he has done on the page, so this comes after he has done something. The answer changes nothing here.
 * @param {number} kept  the size in bytes of the files that were just stored
 */
export async function keepStorage(kept) {
  if (kept < WORTH_ASKING || waiting) return;
  try {
    if (await navigator.storage.persisted()) return;
    if (navigator.userActivation?.hasBeenActive === false) await firstAction();
    await navigator.storage.persist();
  } catch {
    // Not every browser can be asked.
  }
}

/** Resolves once the person has clicked, touched or pressed something. */
async function firstAction() {
  waiting = true;
  const controller = new AbortController();
  await new Promise((resolve) => {
    for (const type of ["pointerup", "keydown"]) addEventListener(type, resolve, { capture: true, signal: controller.signal });
  });
  controller.abort();
  waiting = false;
}
