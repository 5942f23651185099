// Reading from what gives as many bytes at a time as it likes.

/** @typedef {{ some(limit: number): Promise<Uint8Array<ArrayBuffer>> }} Stream  `some`: at least one byte and at most `limit`; none at the end */

/**
 * The next `length` bytes in one array; fewer at the end.
 * @param {Stream} stream
 * @param {number} length
 * @param {(length: number) => Uint8Array<ArrayBuffer>} [room]  where they are put together, if they do not come at once
 */
export async function takeBytes(stream, length, room = (length) => new Uint8Array(length)) {
  const first = await stream.some(length);
  if (first.length === length || first.length === 0) return first;
  const whole = room(length);
  whole.set(first);
  let filled = first.length;
  while (filled < length) {
    const bytes = await stream.some(length - filled);
    if (bytes.length === 0) return whole.subarray(0, filled);
    whole.set(bytes, filled);
    filled += bytes.length;
  }
  return whole;
}

/**
 * Reads over so many bytes, or to the end.
 * @param {Stream} stream
 * @param {number} count
 */
export async function skipBytes(stream, count) {
  while (count > 0) {
    const bytes = await stream.some(count);
    if (bytes.length === 0) return;
    count -= bytes.length;
  }
}
