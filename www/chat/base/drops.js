// Files that are dropped on an element, and those in folders that are.

/**
 * Calls `onFiles` with what is dropped; while something is over the element it has the class `dropping`.
 * @param {HTMLElement} target
 * @param {(files: File[]) => void} onFiles
 */
export function listenForDrops(target, onFiles) {
  // Entering a child leaves its parent: only the depth says whether the pointer is still inside.
  let depth = 0;
  const mark = (/** @type {number} */ now) => {
    depth = Math.max(0, now);
    target.classList.toggle("dropping", depth > 0);
  };
  target.addEventListener("dragenter", (event) => {
    if (event.dataTransfer?.types.includes("Files")) mark(depth + 1);
  });
  target.addEventListener("dragleave", () => mark(depth - 1));
  target.addEventListener("dragover", (event) => {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  });
  target.addEventListener("drop", (event) => {
    mark(0);
    if (!event.dataTransfer || event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    droppedFiles(event.dataTransfer).then(onFiles);
  });
}

/**
 * Files, and those in folders.
 * @param {DataTransfer} data
 * @returns {Promise<File[]>}
 */
async function droppedFiles(data) {
  // To be asked for at once: later the list is empty.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = [...data.files];
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  /** @type {File[]} */
  const found = [];
  const walk = async (/** @type {any} */ entry) => {
    if (entry?.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    if (!entry?.isDirectory) return;
    const reader = entry.createReader();
    // A hundred at a time.
    for (let batch; (batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length > 0;) {
      for (const child of batch) await walk(child);
    }
  };
  for (const entry of entries) await walk(entry).catch(() => {});
  return found;
}
