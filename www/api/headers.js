// The option `headers`: what is sent with the requests for a model's files, each file's to its own host. They are kept in memory alone.

import { checkHeaders, invalid } from "./checks.js";

/** @typedef {import("../wire/protocol.js").SourceSpec} SourceSpec */

/**
 * Gives each file that comes from a host the headers to ask for it with.
 * @param {(SourceSpec[] | null)[]} sources
 * @param {unknown} headers  the option: the same for all, or a function of a file's address
 */
export async function addHeaders(sources, headers) {
  if (headers === undefined || headers === null) return;
  const remote = sources.flatMap((specs) => specs ?? []).filter((spec) => spec.kind === "url" && /^https?:/.test(spec.url));
  const files = /** @type {Extract<SourceSpec, { kind: "url" }>[]} */ (remote);
  if (typeof headers !== "function") {
    const same = checkHeaders(headers, "headers");
    const [first, ...others] = new Set(files.map(({ url }) => new URL(url).origin));
    // One host's token is not for another one to see.
    if (others.length > 0 && Object.keys(same).length > 0) {
      throw invalid(`The files come from ${first} and ${others.join(", ")}, and headers does not say for which of them it is. Give a function: headers: (url) => new URL(url).origin === ${JSON.stringify(first)} ? { … } : {}.`);
    }
    for (const file of files) file.headers = same;
    return;
  }
  for (const file of files) {
    const own = await headers(file.url);
    if (own !== undefined && own !== null) file.headers = checkHeaders(own, "What headers returned");
  }
}
