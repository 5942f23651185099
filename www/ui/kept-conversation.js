// The conversation in the browser's database, where the person has asked for that: the last one, with its pictures.

/**
 * @typedef {{ question: string, pictures: { file: Blob, name: string }[], answer: string, finish: string, usage?: import("../llava-web.js").Usage }} KeptTurn
 */

const DATABASE = "llava-web";
const STORE = "conversations";
/** One for each page of a site. */
const key = () => location.pathname;

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

/** @param {KeptTurn[]} turns */
export function keepConversation(turns) {
  return within("readwrite", (store) => store.put({ turns, at: Date.now() }, key()));
}

/** @returns {Promise<KeptTurn[]>} */
export async function keptConversation() {
  return (await within("readonly", (store) => store.get(key())))?.turns ?? [];
}

export function forgetConversation() {
  return within("readwrite", (store) => store.delete(key()));
}
