// The files of the browser's storage as a worker writes them: synchronously, at any offset.

/** @typedef {{ read(buffer: Uint8Array, options: { at: number }): number, write(buffer: Uint8Array, options: { at: number }): number,
 *   truncate(size: number): void | Promise<void>, getSize(): number | Promise<number>, flush(): void | Promise<void>, close(): void | Promise<void> }} SyncHandle */
// Chrome 102 to 107 have promises for all but reading and writing.

/**
 * @param {FileSystemFileHandle} file
 * @param {{ mode?: string }} [options]
 * @returns {Promise<SyncHandle>}
 */
export function createSyncHandle(file, options) {
  // TypeScript knows the method in workers only, and this folder is checked as a page's.
  return /** @type {any} */ (file).createSyncAccessHandle(options);
}

/**
 * @param {SyncHandle} handle
 * @param {Uint8Array} bytes
 * @param {number} at
 */
export function writeAll(handle, bytes, at) {
  // In private windows Chromium throws nothing where there is no room, and gives back an error's number as a count.
  if (handle.write(bytes, { at }) !== bytes.length) throw new DOMException("Only a part was written.", "QuotaExceededError");
}

/** @param {unknown} cause */
export function isFull(cause) {
  return cause instanceof Error && cause.name === "QuotaExceededError";
}
