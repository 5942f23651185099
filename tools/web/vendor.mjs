// The libraries of the page, from npm into www/vendor: as they were published, beside their licences.

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.join(here, "node_modules");
const vendor = path.join(here, "../../www/vendor");

const LIBRARIES = [
  { name: "marked", file: "lib/marked.esm.js", licence: "LICENSE", types: "export const Marked: any;" },
  { name: "idb", file: "build/index.js", licence: "LICENSE", types: "export const openDB: any;" },
  { name: "dompurify", file: "dist/purify.es.mjs", licence: "LICENSE", types: "declare const DOMPurify: any;\nexport default DOMPurify;" },
];

rmSync(vendor, { recursive: true, force: true });
mkdirSync(vendor, { recursive: true });
const notes = LIBRARIES.map(({ name, file, licence, types }) => {
  const folder = path.join(modules, name);
  const { version, license, homepage = "" } = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
  cpSync(path.join(folder, file), path.join(vendor, `${name}.js`));
  // Its source map is not published with it.
  const text = readFileSync(path.join(vendor, `${name}.js`), "utf8").replace(/^\/\/# sourceMappingURL=.*$/m, "");
  writeFileSync(path.join(vendor, `${name}.js`), text);
  // One function of each is used, in one place.
  writeFileSync(path.join(vendor, `${name}.d.ts`), `${types}\n`);
  return `${name} ${version} (${license}) ${homepage}\n\n${readFileSync(path.join(folder, licence), "utf8").trim()}\n`;
});
writeFileSync(path.join(vendor, "LICENSES.txt"), notes.join(`\n${"-".repeat(80)}\n\n`));
