// The browser's database of conversations, where the person has asked for that. A conversation has an identifier of its own, so that two
// elements, two tabs and two pages of a site do not write over each other. Its pictures are stored once, however often the conversation is
// stored anew; so is what the engine had computed of it, which lets the first answer after a reload begin where the last one ended.

/**
 * @typedef {{ id: string, name: string }} StoredPicture
 * @typedef {{ question: string, pictures: StoredPicture[], answer: string, finish: string, failure?: { code: string, message: string },
 *   cost?: number, leftOut?: boolean,
 *   usage?: import("../llava-web.js").Usage, tokens?: { id: number, end: number }[] }} StoredTurn
 */
/**
 * With which model: its name, "" where its file has none; its addresses, or null where it came from files of the disk, which cannot be opened again unasked.
 * @typedef {{ name: string, sources: { model: string, mmproj?: string } | null }} StoredModel
 */
/**
 * `pictures`: every picture's identifier, for the index; `at`: when it was stored, in milliseconds since 1970; `discarded`: the person has
 * begun a new one instead, and may still undo that.
 * @typedef {{ id: string, turns: StoredTurn[], pictures: string[], model: StoredModel, at: number, discarded?: boolean }} StoredConversation
 */
/** A description of one of many pictures. @typedef {{ key: string, name: string, text: string, finish: string }} StoredAltText */

const DATABASE = "llava-web";
const VERSION = 2;
const CONVERSATIONS = "conversations";
const PICTURES = "pictures";
const SESSIONS = "sessions";
const ALT_TEXTS = "alt-texts";
const ALL = [CONVERSATIONS, PICTURES, SESSIONS];

/** As idb wraps it; its own types are not vendored. @typedef {any} Database */

/** @type {Promise<Database> | null} */
let opening = null;

/** @returns {Promise<Database>} */
function open() {
  opening ??= connect().catch((error) => {
    opening = null;
    throw error;
  });
  return opening;
}

async function connect() {
  const { openDB } = await import("../vendor/idb.js");
  const gone = () => (opening = null);
  /** @type {Database} */
  const database = await openDB(DATABASE, VERSION, {
    upgrade: async (/** @type {any} */ db, /** @type {number} */ before, /** @type {number} */ _now, /** @type {any} */ transaction) => {
      const earlier = before === 1 ? await readFirstLayout(transaction) : [];
      if (before === 1) db.deleteObjectStore(CONVERSATIONS);
      db.createObjectStore(CONVERSATIONS, { keyPath: "id" }).createIndex("pictures", "pictures", { multiEntry: true });
      for (const name of [PICTURES, SESSIONS]) db.createObjectStore(name, { keyPath: "id" });
      db.createObjectStore(ALT_TEXTS, { keyPath: "key" });
      for (const { conversation, pictures } of earlier) {
        transaction.objectStore(CONVERSATIONS).put(conversation);
        for (const picture of pictures) transaction.objectStore(PICTURES).put(picture);
      }
      await transaction.done;
    },
    // A newer version of this page, or a deletion, must not wait for this tab.
    blocking: () => {
      gone();
      database.close();
    },
    terminated: gone,
  });
  return database;
}

/**
 * The first layout had one store: at a page's path its conversation with the pictures inside, at "PATH session" the engine's session.
 * @param {any} transaction
 */
async function readFirstLayout(transaction) {
  const store = transaction.objectStore(CONVERSATIONS);
  const found = [];
  for (const key of await store.getAllKeys()) {
    const kept = await store.get(key);
    if (!Array.isArray(kept?.turns) || kept.turns.length === 0) continue;
    /** @type {{ id: string, file: Blob }[]} */
    const pictures = [];
    const turns = kept.turns.map((/** @type {any} */ turn) => ({ ...turn, pictures: turn.pictures.map((/** @type {{ file: Blob, name: string }} */ { file, name }) => {
      // Nothing can be hashed within a transaction.
      const id = newId();
      pictures.push({ id, file });
      return { id, name };
    }) }));
    const model = kept.model ?? { name: "", sources: null };
    found.push({ conversation: { id: newId(), turns, pictures: pictures.map(({ id }) => id), model, at: kept.at ?? 0 }, pictures });
  }
  return found;
}

/** An identifier that nobody else has. `crypto.randomUUID` is not there on plain http: pages. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @type {WeakMap<Blob, Promise<string>>} */
const ids = new WeakMap();

/** A picture's identifier: the same for the same bytes, where the browser can tell. @param {Blob} file @returns {Promise<string>} */
export function pictureId(file) {
  const known = ids.get(file);
  if (known) return known;
  const id = hash(file);
  ids.set(file, id);
  return id;
}

/** @param {Blob} file */
async function hash(file) {
  if (!crypto.subtle) return newId();
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** All conversations that are not discarded, the newest first. @returns {Promise<StoredConversation[]>} */
export async function listConversations() {
  /** @type {StoredConversation[]} */
  const all = await (await open()).getAll(CONVERSATIONS);
  return all.filter(({ discarded }) => !discarded).sort((a, b) => b.at - a.at);
}

/** @param {string} id @returns {Promise<StoredConversation | undefined>} */
export async function getConversation(id) {
  return (await open()).get(CONVERSATIONS, id);
}

/** The files of these pictures, in this order. @param {string[]} wanted @returns {Promise<Blob[]>} */
export async function getPictures(wanted) {
  const transaction = (await open()).transaction(PICTURES);
  const found = await Promise.all(wanted.map((id) => transaction.store.get(id)));
  const lost = found.findIndex((entry) => entry === undefined);
  if (lost >= 0) throw new Error(`The picture ${wanted[lost]} is not stored.`);
  // Stored anew, it is not another picture.
  for (const { id, file } of found) ids.set(file, Promise.resolve(id));
  return found.map(({ file }) => file);
}

/**
 * Stores a conversation, those of its pictures that are not there yet, and drops pictures that no conversation has any more.
 * @param {StoredConversation} conversation
 * @param {Map<string, Blob>} files  by identifier
 */
export async function putConversation(conversation, files) {
  const transaction = (await open()).transaction([CONVERSATIONS, PICTURES], "readwrite");
  const [conversations, pictures] = [transaction.objectStore(CONVERSATIONS), transaction.objectStore(PICTURES)];
  await conversations.put(conversation);
  for (const [id, file] of files) if (await pictures.count(id) === 0) await pictures.put({ id, file });
  await dropPictures(conversations, pictures);
  await transaction.done;
}

/** @param {any} conversations @param {any} pictures */
async function dropPictures(conversations, pictures) {
  const index = conversations.index("pictures");
  for (const id of await pictures.getAllKeys()) if (await index.count(id) === 0) await pictures.delete(id);
}

/** Marks a conversation as one that is to be deleted, should the tab be closed before it is. @param {string} id */
export async function markDiscarded(id) {
  const transaction = (await open()).transaction(CONVERSATIONS, "readwrite");
  const conversation = await transaction.store.get(id);
  if (conversation) await transaction.store.put({ ...conversation, discarded: true });
  await transaction.done;
}

/** Deletes conversations with their sessions, and the pictures that only they had. @param {string[]} ids */
export async function deleteConversations(ids) {
  const transaction = (await open()).transaction(ALL, "readwrite");
  const [conversations, pictures, sessions] = ALL.map((name) => transaction.objectStore(name));
  for (const id of ids) await Promise.all([conversations.delete(id), sessions.delete(id)]);
  await dropPictures(conversations, pictures);
  await transaction.done;
}

/** Deletes what the person discarded and a closed tab could not delete any more. */
export async function deleteDiscarded() {
  /** @type {StoredConversation[]} */
  const all = await (await open()).getAll(CONVERSATIONS);
  const ids = all.filter(({ discarded }) => discarded).map(({ id }) => id);
  if (ids.length > 0) await deleteConversations(ids);
}

/** Deletes every conversation, picture and session of this site. */
export async function deleteEverything() {
  const transaction = (await open()).transaction(ALL, "readwrite");
  for (const name of ALL) await transaction.objectStore(name).clear();
  await transaction.done;
}

/** Whether there may be something to delete, without making a database only to look. */
export async function mayExist() {
  if (!indexedDB.databases) return true;
  return (await indexedDB.databases()).some(({ name }) => name === DATABASE);
}

/**
 * What the engine had computed; null: nothing any more.
 * @param {string} id  the conversation's
 * @param {Uint8Array | null} bytes
 */
export async function putSession(id, bytes) {
  const database = await open();
  if (bytes) await database.put(SESSIONS, { id, bytes });
  else await database.delete(SESSIONS, id);
}

/** @param {string} id @returns {Promise<Uint8Array | undefined>} */
export async function getSession(id) {
  return (await (await open()).get(SESSIONS, id))?.bytes;
}

/** @returns {Promise<StoredAltText[]>} */
export async function listAltTexts() {
  if (!await mayExist()) return [];
  return (await open()).getAll(ALT_TEXTS);
}

/** @param {StoredAltText} item */
export async function putAltText(item) {
  await (await open()).put(ALT_TEXTS, item);
}

/** @param {string[]} keys */
export async function deleteAltTexts(keys) {
  const transaction = (await open()).transaction(ALT_TEXTS, "readwrite");
  for (const key of keys) transaction.store.delete(key);
  await transaction.done;
}
