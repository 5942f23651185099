// What the renderers of browsers on this machine hold, which is the tab with its workers (Linux).

import { readdirSync, readFileSync } from "node:fs";

/** MB of the largest renderer: its own pages, and those that it shares divided among the sharers. 0 where there is none. */
function largest() {
  let most = 0;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("--type=renderer")) continue;
      const [, kilobytes] = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"));
      most = Math.max(most, Math.round(Number(kilobytes) / 1000));
    } catch { /* It has ended meanwhile. */ }
  }
  return most;
}

/** Looks twice a second until `stop()`, which returns the most that was seen, in MB. */
export function watchRenderers() {
  let most = 0;
  const look = () => { most = Math.max(most, largest()); };
  const timer = setInterval(look, 500);
  return { stop() { look(); clearInterval(timer); return most; } };
}
