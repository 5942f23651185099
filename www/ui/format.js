// Quantities as people read them.

const UNITS = ["bytes", "kB", "MB", "GB"];

/** Decimal units, as model hosts and file managers show sizes. @param {number} count */
export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : decimals(value)} ${UNITS[unit]}`;
}

/** Three figures at most. @param {number} value */
export function decimals(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(2).replace(/\.?0+$/, "");
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 10) return `${decimals(seconds)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}
