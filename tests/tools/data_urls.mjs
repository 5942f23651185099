// How long a picture of 12 MB takes that comes as a data: address: the decoding alone, beside the browser's own fetch of the same address.
//
// usage: node tests/tools/data_urls.mjs

import { openTab, start } from "../browser/support.mjs";

const host = await start();
const { page } = await openTab(host.browser);
await page.goto(`${host.server.origin}/tests/blank.html`);
const measured = await page.evaluate(async (site) => {
  const { dataUrlBytes } = await import(`${site}fetching/data-url.js`);
  const bytes = new Uint8Array(12e6);
  for (let at = 0; at < bytes.length; at += 60_000) crypto.getRandomValues(bytes.subarray(at, at + 60_000));
  const base64 = bytes.toBase64();
  const spellings = {
    base64: `data:image/jpeg;base64,${base64}`,
    "base64 in lines of 76": `data:image/jpeg;base64,${base64.replace(/.{76}/g, "$&\n")}`,
    "base64 with the alphabet of URLs": `data:image/jpeg;base64,${base64.replace(/\+/g, "-").replace(/\//g, "_")}`,
    "percent-encoded": `data:image/jpeg,${Array.from(bytes.subarray(0, 12_000), (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("").repeat(1000)}`,
  };
  const median = async (work) => {
    const times = [];
    for (let run = 0; run < 5; run++) {
      const from = performance.now();
      await work();
      times.push(performance.now() - from);
    }
    return Math.round(times.sort((a, b) => a - b)[2]);
  };
  const { fromBase64 } = Uint8Array;
  const table = {};
  for (const [name, url] of Object.entries(spellings)) {
    if (dataUrlBytes(url).length !== bytes.length) throw new Error(name);
    const ours = await median(() => dataUrlBytes(url));
    delete Uint8Array.fromBase64;
    const withoutFromBase64 = await median(() => dataUrlBytes(url));
    Uint8Array.fromBase64 = fromBase64;
    const fetched = await median(() => fetch(url).then((response) => response.arrayBuffer()).catch(() => {}));
    table[name] = { ours, withoutFromBase64, fetch: fetched };
  }
  return table;
}, host.site);
console.table(measured);
await host.close();
