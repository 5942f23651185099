// A host of models that behaves as Hugging Face does, on localhost. What it has it does not send itself:
//
//   /OWNER/NAME/resolve/main/FILE   302 to another origin, with a signature that holds for some requests only; HEAD likewise. The file's size and
//                                   hash are headers of this answer, which pages that follow it do not see
//   /OWNER/NAME/raw/main/FILE       the Git LFS pointer: the file's hash and size
//   a gated repository              401, X-Error-Code: GatedRepo; 401 without that code where the token is another one
//   no such repository              401, X-Error-Code: RepoNotFound: it might be somebody's private one
//   no such revision, no such file  404, X-Error-Code: RevisionNotFound, EntryNotFound
//
// The other origin is a server of serve.mjs, with its ways to misbehave.

import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";

import { signed } from "./serve.mjs";

/**
 * `file`: where it is on disk; `at`: its path on the other origin; `query`: how that misbehaves.
 * @typedef {{ file: string, at: string, query?: Record<string, string> }} HubFile
 */
/**
 * `gated`: only for who has accepted its terms, which is the one with this value of `authorization`, if anybody; `uses`: how many requests a signature holds for; `isOpen`: whether pages of other origins may read
 * what this host says.
 * @typedef {{ gated?: boolean | string, uses?: number, isOpen?: boolean, files: Record<string, HubFile> }} Repository
 */

/** As Hugging Face exposes them. */
const EXPOSED = "X-Repo-Commit, X-Request-Id, X-Error-Code, X-Error-Message, X-Total-Count, ETag, Link, Accept-Ranges, Content-Range, X-Linked-Size, X-Linked-ETag, X-Xet-Hash";
const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** @param {{ repositories: Record<string, Repository>, elsewhere: string }} options  `elsewhere`: the origin that files come from */
export async function hub({ repositories, elsewhere }) {
  /** @type {{ method: string, url: string, range: string | undefined, authorization: string | undefined, headers: import("node:http").IncomingHttpHeaders }[]} */
  const requests = [];
  const server = createServer((request, response) => {
    const { method = "", url = "", headers: { range, authorization, origin } } = request;
    requests.push({ method, url, range, authorization, headers: request.headers });
    const [, name = "", how, revision, file = ""] = /^\/([\w.-]+\/[\w.-]+)\/(resolve|raw)\/([^/]+)\/(.+?)(?:\?.*)?$/.exec(url) ?? [];
    const repository = repositories[name];
    /** @type {Record<string, string | number>} */
    const headers = repository?.isOpen === false ? {} : { "access-control-allow-origin": origin ?? "*", vary: "Origin", "access-control-expose-headers": EXPOSED };
    const refuse = (/** @type {number} */ status, /** @type {string} */ code, /** @type {string} */ message) =>
      response.writeHead(status, { ...headers, "x-error-code": code, "x-error-message": message, "content-type": "text/plain; charset=utf-8" }).end(message);
    if (method === "OPTIONS") return void response.writeHead(204, { ...headers, "access-control-allow-headers": "authorization, range, x-api-key" }).end();
    if (!repository) return void refuse(401, "RepoNotFound", "Invalid username or password.");
    if (revision !== "main") return void refuse(404, "RevisionNotFound", "Invalid rev id");
    if (typeof repository.gated === "string" && authorization !== undefined && authorization !== repository.gated) return void refuse(401, "", "Invalid credentials in Authorization header");
    if (repository.gated && authorization !== repository.gated) return void refuse(401, "GatedRepo", `Access to model ${name} is restricted. You must have access to it and be authenticated to access it.`);
    const found = repository.files[file];
    if (!found) return void refuse(404, "EntryNotFound", "Entry not found");
    const { size } = statSync(found.file);
    const sha256 = createHash("sha256").update(readFileSync(found.file)).digest("hex");
    if (how === "raw") return void response.writeHead(200, { ...headers, "content-type": "text/plain; charset=utf-8" }).end(`version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${size}\n`);
    const to = new URL(found.at, elsewhere);
    for (const [key, value] of Object.entries({ ...found.query, ...signed(found.at, repository.uses ?? 1) })) to.searchParams.set(key, value);
    response.writeHead(302, {
      ...headers, location: to.href, "x-repo-commit": COMMIT, "x-linked-size": size, "x-linked-etag": `"${sha256}"`, "x-xet-hash": sha256.split("").reverse().join(""),
      "accept-ranges": "bytes", "cache-control": "no-cache", "content-type": "text/plain; charset=utf-8",
    }).end(method === "HEAD" ? undefined : `Found. Redirecting to ${to.href}`);
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(undefined));
  });
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    origin: `http://127.0.0.1:${address.port}`,
    requests,
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}
