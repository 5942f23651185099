// Which of the files somebody chose is the language model and which the vision file.

const ARCHITECTURE_KEY = "general.architecture";
/** The key is the first or one of the first in every file that converters write. */
const LOOK_AT = 4096;

/**
 * What a chosen file seems to be. Only a glance: the engine reads the file properly.
 * @param {File} file
 * @returns {Promise<"model" | "mmproj" | "other">}
 */
export async function kindOfFile(file) {
  const head = new Uint8Array(await file.slice(0, LOOK_AT).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (!text.startsWith("GGUF")) return "other";
  const at = text.indexOf(ARCHITECTURE_KEY) + ARCHITECTURE_KEY.length;
  // After the key: the value's type (4 bytes), its length (8), its characters.
  if (at >= ARCHITECTURE_KEY.length && at + 16 <= text.length) return text.startsWith("clip", at + 12) ? "mmproj" : "model";
  return kindOfName(file.name);
}

/** @param {string} name */
export function kindOfName(name) {
  return /mmproj|clip|vision|projector/i.test(name) ? "mmproj" : "model";
}

/**
 * Sorts files into the two places. Several language model files are taken as the parts of a split one.
 * @param {File[]} files
 */
export async function sortFiles(files) {
  /** @type {{ model: File[], mmproj: File[], other: File[] }} */
  const sorted = { model: [], mmproj: [], other: [] };
  for (const file of files) sorted[await kindOfFile(file)].push(file);
  const byName = (/** @type {File} */ a, /** @type {File} */ b) => a.name.localeCompare(b.name, "en", { numeric: true });
  sorted.model.sort(byName);
  sorted.mmproj.sort(byName);
  return sorted;
}
