// All stored model files: which of them is the one that is asked for, listing and deleting.

import { LlavaError, shown, shownJson } from "../api/errors.js";
import { fileAddress, readableUrl } from "../fetching/address.js";
import { presentBytes } from "./file-log.js";
import { fileId, fileIds, openFolder, readRecord, removeFile, trim } from "./folder.js";
import { lockFile } from "./locks.js";

/** @typedef {import("./file-log.js").FileRecord} FileRecord */
/** @typedef {{ name: string, url: string, bytes: number, allocated: number, total: number | null, complete: boolean, lastUsed: number, sha256?: string }} StoredModel */

/**
 * The ID of the file that is kept for an address, or would be. A file is known by its hash, where one is asked for, and by its address,
 * of which a fragment or a signature is no part.
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} url
 * @param {string} [sha256]
 */
export async function storedId(folder, url, sha256) {
  const address = fileAddress(url);
  const id = await fileId(address);
  const own = (await readRecord(folder, id))?.record;
  const hash = sha256?.toLowerCase();
  const known = (/** @type {FileRecord} */ record) => record.sha256 ?? record.expected;
  if (own && (hash === undefined || known(own) === hash)) return id;
  let other = null;
  for await (const otherId of fileIds(folder)) {
    const record = otherId === id ? null : (await readRecord(folder, otherId))?.record;
    if (!record) continue;
    if (hash !== undefined && record.sha256 === hash) return otherId;
    if (hash !== undefined ? record.expected === hash : !own && fileAddress(record.url) === address) other = otherId;
  }
  return other ?? id;
}

/**
 * Every file that is there, wholly or in part, with its ID; what was used last comes first.
 * @param {FileSystemDirectoryHandle} folder
 * @returns {Promise<{ id: string, model: StoredModel }[]>}
 */
async function listFiles(folder) {
  /** @type {{ id: string, record: FileRecord, length: number }[]} */
  const files = [];
  for await (const id of fileIds(folder)) {
    const found = await readRecord(folder, id);
    if (found) files.push({ id, ...found });
  }
  const count = (/** @type {(record: FileRecord) => string} */ key, /** @type {FileRecord} */ record) =>
    files.filter((other) => key(other.record) === key(record)).length;
  const nameOf = (/** @type {FileRecord} */ { name }) => name;
  const whereOf = (/** @type {FileRecord} */ { url }) => readableUrl(url);
  return files.map(({ id, record, length }) => {
    const bytes = presentBytes(record, length);
    const model = {
      // Several repositories have a "ggml-model-q4_k.gguf": then the address tells them apart.
      name: count(nameOf, record) === 1 ? record.name : count(whereOf, record) === 1 ? whereOf(record) : record.url,
      url: record.url,
      bytes,
      allocated: length,
      total: record.size,
      complete: record.size !== null && bytes === record.size,
      lastUsed: record.used,
      ...(record.sha256 === null ? {} : { sha256: record.sha256 }),
    };
    return { id, model };
  }).sort(({ model: a }, { model: b }) => b.lastUsed - a.lastUsed || a.name.localeCompare(b.name, "en", { numeric: true }));
}

/** Every file that is there, wholly or in part; what was used last comes first. */
export async function listStored() {
  const folder = await openFolder();
  return folder ? (await listFiles(folder)).map(({ model }) => model) : [];
}

/**
 * Deletes a file by its name in the list, or by its address.
 * @param {string} name
 */
export async function deleteStored(name) {
  if (typeof name !== "string" || name === "") {
    throw new LlavaError("invalid_request", "deleteCachedModel takes a name or an address of listCachedModels().");
  }
  const folder = await openFolder();
  const files = folder ? await listFiles(folder) : [];
  const file = files.find(({ model }) => model.name === name || model.url === name) ?? files.find(({ model }) => isAddressOf(name, model.url));
  if (!file || !folder) {
    throw new LlavaError("invalid_request",
      `There is no such model in the cache: ${shownJson(name)}. ` +
      (files.length > 0 ? `There are ${shown(files.map(({ model }) => model.name).join(", "))}.` : "The cache is empty."));
  }
  const { id, model } = file;
  const release = await lockFile(id, { ifAvailable: true });
  if (!release) {
    throw new LlavaError("storage",
      `'${model.name}' is being loaded or downloaded, in this tab or another one. Wait until that is done or stop it, then delete the model.`);
  }
  try {
    await removeFile(folder, id);
  } catch (cause) {
    throw new LlavaError("storage", `'${model.name}' could not be deleted: another tab of this site has it open. Close that tab and try again.`, { cause });
  } finally {
    await release();
  }
}

/**
 * @param {string} text
 * @param {string} url
 */
function isAddressOf(text, url) {
  try {
    return fileAddress(text) === fileAddress(url);
  } catch {
    return false;
  }
}

/** Gives back what loads that were ended in the middle had reserved. In workers only. */
export async function giveBackAbandoned() {
  const folder = await openFolder();
  if (!folder) return;
  for await (const id of fileIds(folder)) {
    const release = await lockFile(id, { ifAvailable: true });
    if (!release) continue;
    try {
      const found = await readRecord(folder, id);
      if (found) await trim(folder, id, found.record, found.length);
    } finally {
      await release();
    }
  }
}
