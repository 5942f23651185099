// What a browser asked the network for, as its own log has it: of pages, of workers and their workers, of service workers, and of what no
// page can see. Nothing that a person asked or showed may be among it.

import { existsSync, readFileSync } from "node:fs";

/** What a query may hold: how the tests' server is to misbehave, and the parameters of the project's own pages. */
const QUERY = new Set(["drop", "times", "stall", "noranges", "rate", "announce", "chunked", "newetag", "noetag", "etag", "hashetag", "wrongrange", "status",
  "connections", "html", "needs", "allow", "redirect", "nocors", "model", "mmproj", "device", "isolate", "worker", "download", "v"]);

/** @typedef {{ method: string, url: string }} Asked */

/**
 * The requests of an ended browser that was started with `--log-net-log=FILE`, without its own (for updates and the like) and without
 * addresses that somebody typed.
 * @param {string} file
 * @returns {Asked[]}
 */
export function loggedRequests(file) {
  if (!existsSync(file)) throw new Error(`The browser wrote no log of its requests to ${file}.`);
  const text = readFileSync(file, "utf8");
  /** @type {any} */
  let log;
  try {
    log = JSON.parse(text);
  } catch {
    // A browser that was killed has not closed its list.
    log = JSON.parse(`${text.trimEnd().replace(/,$/, "")}]}`);
  }
  const start = log.constants.logEventTypes.URL_REQUEST_START_JOB;
  return log.events
    .filter((/** @type {any} */ { type, params }) => type === start && params?.url && /^(https?|wss?|file):/.test(params.initiator))
    .map((/** @type {any} */ { params }) => ({ method: params.method, url: params.url }));
}

/**
 * Why a request should not have been made; null where it is of a file that is published, or of an address that was given.
 * @param {Asked} request
 * @param {{ isFile: (url: URL) => Promise<boolean>, given: (string | RegExp)[] }} known  `given`: addresses that the tests gave, though there is no such file
 * @returns {Promise<string | null>}
 */
export async function objection({ method, url }, { isFile, given }) {
  if (!["GET", "HEAD", "OPTIONS"].includes(method)) return `${method} sends something`;
  const parsed = new URL(url);
  // What is read from memory asks nobody.
  if (["data:", "blob:", "about:", "chrome-extension:"].includes(parsed.protocol)) return null;
  // Browsers ask every host for one by themselves.
  if (parsed.pathname === "/favicon.ico" && parsed.search === "") return null;
  if (given.some((address) => (typeof address === "string" ? url === address : address.test(url)))) return null;
  if (url.length > 300) return `its address has ${url.length} characters`;
  // A model's address is the caller's, with whatever its host wants to see in it.
  const isModel = /\.(gguf|json)$/.test(parsed.pathname) && await isFile(parsed);
  for (const [name, value] of isModel ? [] : parsed.searchParams) {
    if (!QUERY.has(name)) return `its query has ${JSON.stringify(name)}`;
    if (!/^[\w.:/-]{0,80}$/.test(value)) return `its query has ${JSON.stringify(value)}`;
  }
  return await isFile(parsed) ? null : "there is no such file, and nobody gave this address";
}
