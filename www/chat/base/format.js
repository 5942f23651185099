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

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** How long since, in days and more. @param {number} time  milliseconds since 1970 */
export function ago(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = Math.max(0, Math.ceil((midnight - time) / 86_400_000));
  if (days < 14) return RELATIVE.format(-days, "day");
  return days < 60 ? RELATIVE.format(-Math.round(days / 7), "week") : RELATIVE.format(-Math.round(days / 30), "month");
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 0.1) return `${Math.max(1, Math.round(1000 * seconds))} ms`;
  if (seconds < 10) return `${decimals(seconds)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** @param {number} share  from 0 to 1 */
export function percent(share) {
  return share > 0 && share < 0.01 ? "less than 1%" : `${Math.round(100 * share)}%`;
}
