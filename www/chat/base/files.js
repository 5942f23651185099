// Files by what they are, not by whose they are: those of another frame are made by another class of the same name.

/** @param {unknown} value */
const kindOf = (value) => Object.prototype.toString.call(value).slice("[object ".length, -1);

/** @param {unknown} value @returns {value is File} */
export function isFile(value) {
  return kindOf(value) === File.name;
}

/** @param {unknown} value @returns {value is Blob} */
export function isBlob(value) {
  return isFile(value) || kindOf(value) === Blob.name;
}
