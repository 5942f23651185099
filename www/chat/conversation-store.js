// The conversation in the browser's database, where the person has asked for that: the last one, with its pictures, and what the engine
// had computed of it where that is not too much, so that the first answer after a reload does not begin from nothing.

/**
 * @typedef {{ question: string, pictures: { file: Blob, name: string }[], answer: string, finish: string, usage?: import("../llava-web.js").Usage,
 *   tokens?: { id: number, end: number }[] }} KeptTurn
 */

/**
 * Larger sessions are not kept: each answer would write as much to the disk. A conversation of 1500 tokens with a model of some hundred
 * million parameters is within it; with LLaVA-1.5-7B no picture is, and where that runs, a GPU reads the conversation again in a second.
 */
export const MAX_SESSION_BYTES = 64 << 20;

const DATABASE = "llava-web";
const STORE = "conversations";
/** One for each page of a site. */
const key = () => location.pathname;
const sessionKey = () => `${location.pathname} session`;

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} use
 * @returns {Promise<T>}
 */
async function within(mode, use) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode);
      const request = use(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error ?? request.error);
    });
  } finally {
    database.close();
  }
}

/**
 * With which model: its addresses, or null where it was no address, for files of the disk cannot be opened again unasked.
 * @typedef {{ name: string, sources: { model: string, mmproj?: string } | null }} KeptModel
 */

/**
 * @param {KeptTurn[]} turns
 * @param {KeptModel} model
 */
export function keepConversation(turns, model) {
  return within("readwrite", (store) => store.put({ turns, model, at: Date.now() }, key()));
}

/** @returns {Promise<{ turns: KeptTurn[], model?: KeptModel }>} */
export async function keptConversation() {
  const { turns = [], model } = (await within("readonly", (store) => store.get(key()))) ?? {};
  return { turns, model };
}

/**
 * What the engine had computed; null: nothing any more.
 * @param {Uint8Array | null} session
 */
export function keepSession(session) {
  return within("readwrite", (store) => /** @type {IDBRequest<any>} */ (session ? store.put(session, sessionKey()) : store.delete(sessionKey())));
}

/** @returns {Promise<Uint8Array | undefined>} */
export function keptSession() {
  return within("readonly", (store) => store.get(sessionKey()));
}

export function forgetConversation() {
  return within("readwrite", (store) => {
    store.delete(sessionKey());
    return store.delete(key());
  });
}
