// A Web Lock for each stored file keeps tabs and workers apart: exclusive for whoever downloads, repairs or deletes it, shared for whoever
// only reads.

import { FOLDER } from "./folder.js";

/**
 * Gives a lock back, and resolves when that is done.
 * @typedef {() => Promise<void>} Release
 */

/**
 * Holds a file's lock until it is given back; null where `ifAvailable` and somebody else has it.
 * @param {string} id
 * @param {LockOptions} options
 * @returns {Promise<Release | null>}
 */
export function lockFile(id, options) {
  return new Promise((resolve, reject) => {
    /** @type {Promise<any>} */
    const done = navigator.locks.request(`${FOLDER}:${id}`, options, (lock) => {
      if (!lock) return resolve(null);
      return new Promise((end) => resolve(() => {
        end(undefined);
        return done;
      }));
    });
    done.catch(reject);
  });
}
