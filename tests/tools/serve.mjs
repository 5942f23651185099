// A static server on localhost, for `build.sh serve` and for the tests. It knows ranges, and how to misbehave: the query
// of a request names what goes wrong with it.
//
//   ?drop=N          the connection breaks after N bytes of the body; with &times=M only the first M connections
//   ?stall=N         nothing more comes after N bytes; with &times=M likewise
//   ?noranges        the Range header is ignored
//   ?rate=N          N bytes a second
//   ?announce=N      Content-Length says N, whatever is sent
//   ?chunked         no Content-Length
//   ?newetag         another ETag with every request
//   ?noetag          no ETag and no date
//   ?etag=X          this ETag, whatever the file is
//   ?hashetag        the file's SHA-256 as its ETag, as hosts with Git LFS have it
//   ?etags=X|Y|Z     these ETags, as they stand there, for the first request, the second, and so on
//   ?hidden          of the headers, a page of another origin sees none that CORS does not show by itself
//   ?gzip            the body is compressed, whatever was asked for, and no ranges are known; with &ranges only where none is asked for
//   ?most=N          no more than N bytes of a range at once
//   ?signed=N        302 to the same path on this server's `elsewhere`, with a signature that holds for N requests; then 403
//   ?rangefails      the connection breaks where the beginning of a file is asked for with a range
//   ?wrongrange      a 206 that starts elsewhere
//   ?status=N        this status; with &times=M likewise, with &retryafter=S that header
//   ?connections=N   429 for whoever asks while N answers to this address are on their way
//   ?html            a web page with status 200
//   ?redirect        302 to the same path without a query
//   ?nocors          no CORS headers
//   ?needs=N:V       401 without the header N: V
//   ?allow=N,M       pages of other origins may send these headers, beside Range
//
// usage: node serve.mjs [--port N] [--host H] [--isolated] [ROOT]
// A root may have mounts: { "/models/": "somewhere/else" }. Isolated, pages are cut off from other sites as threads want it
// (crossOriginIsolated): by headers, which most static hosts do not send.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8", ".json": "application/json", ".webmanifest": "application/manifest+json",
  ".wasm": "application/wasm", ".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".ts": "text/plain; charset=utf-8",
};

/**
 * @param {{ root: string, mounts?: Record<string, string>, host?: string, port?: number, isolated?: boolean, elsewhere?: string, bare?: boolean }} options
 *   `elsewhere`: the origin that signed addresses lead to; `bare`: pages are shown without the ending of their names
 */
export async function serve({ root, mounts = {}, host = "127.0.0.1", port = 0, isolated = false, elsewhere = "", bare = false }) {
  /** What was asked for, how much of it was sent, and between which times. @type {{ method: string, url: string, range: string | undefined, sent: number, from: number, to: number, headers: import("node:http").IncomingHttpHeaders }[]} */
  const requests = [];
  const server = createServer((request, response) => {
    const record = { method: request.method ?? "", url: request.url ?? "", range: request.headers.range, headers: request.headers, sent: 0, from: performance.now(), to: Infinity };
    requests.push(record);
    response.once("close", () => {
      record.to = performance.now();
    });
    const times = requests.filter(({ url, method }) => url === request.url && method === request.method).length;
    const open = requests.filter(({ url, to }) => url === request.url && to === Infinity).length - 1;
    answer(request, response, { root, mounts, isolated, elsewhere, bare, times, open, record }).catch((error) => {
      if (!response.headersSent) response.writeHead(500, { "content-type": "text/plain" });
      response.end(String(error));
    });
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve(undefined));
  });
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    origin: `http://${host === "0.0.0.0" ? "127.0.0.1" : host}:${address.port}`,
    requests,
    /** Whether there is such a file here. */
    has: async (/** @type {URL} */ url) => {
      const file = fileOf(url.pathname, { root, mounts });
      return Boolean(file && (await stat(file).catch(() => null))?.isFile());
    },
    close: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

/** The file of a URL's path, or null where it leads outside. */
function fileOf(pathname, { root, mounts }) {
  const mount = Object.keys(mounts).find((prefix) => pathname.startsWith(prefix));
  const base = path.resolve(mount ? mounts[mount] : root);
  let relative = decodeURIComponent(mount ? pathname.slice(mount.length) : pathname);
  if (relative === "" || relative.endsWith("/")) relative += "index.html";
  const file = path.join(base, relative);
  return file === base || file.startsWith(base + path.sep) ? file : null;
}

/** How often each signature may still be used. @type {Map<string, number>} */
const signatures = new Map();

/**
 * The parameters of a signed address: as many requests with them are answered, all later ones refused.
 * @param {string} pathname
 * @param {number} uses
 * @returns {Record<string, string>}
 */
export function signed(pathname, uses) {
  const signature = `${pathname}-${signatures.size}`;
  signatures.set(signature, uses);
  return { "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Expires": "3600", "X-Amz-Signature": signature };
}

async function answer(request, response, { root, mounts, isolated, elsewhere, bare, times, open, record }) {
  const url = new URL(request.url, "http://localhost");
  const has = (name) => url.searchParams.has(name);
  const number = (name) => Number(url.searchParams.get(name));
  /** @type {Record<string, string | number>} */
  const headers = { "cache-control": "no-store" };
  if (isolated) {
    headers["cross-origin-opener-policy"] = "same-origin";
    headers["cross-origin-embedder-policy"] = "require-corp";
    headers["cross-origin-resource-policy"] = "cross-origin";
  }
  if (!has("nocors")) {
    headers["access-control-allow-origin"] = "*";
    headers["access-control-allow-headers"] = ["range", ...url.searchParams.getAll("allow")].join(", ");
    if (!has("hidden")) headers["access-control-expose-headers"] = "etag, content-range, accept-ranges, retry-after";
  }
  if (has("rangefails") && request.headers.range === "bytes=0-") return void response.destroy();
  if (request.method === "OPTIONS") return void response.writeHead(204, headers).end();
  const [needed, value] = (url.searchParams.get("needs") ?? "").split(":");
  if (needed && request.headers[needed] !== value) return void response.writeHead(401, { ...headers, "content-type": "text/plain" }).end("not without it");
  const still = !has("times") || times <= number("times");
  if (has("status") && still) {
    if (has("retryafter")) headers["retry-after"] = number("retryafter");
    return void response.writeHead(number("status"), { ...headers, "content-type": "text/plain" }).end([204, 304].includes(number("status")) ? undefined : "refused");
  }
  if (has("connections") && open >= number("connections")) {
    return void response.writeHead(429, { ...headers, "content-type": "text/plain" }).end("too many");
  }
  if (has("signed")) {
    const to = new URL(url.pathname, elsewhere);
    for (const [name, value] of url.searchParams) if (name !== "signed") to.searchParams.set(name, value);
    for (const [name, value] of Object.entries(signed(url.pathname, number("signed")))) to.searchParams.set(name, value);
    return void response.writeHead(302, { ...headers, location: to.href }).end();
  }
  const signature = url.searchParams.get("X-Amz-Signature");
  if (signature !== null) {
    const left = signatures.get(signature) ?? 0;
    if (left <= 0) return void response.writeHead(403, { ...headers, "content-type": "application/xml" }).end("<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>");
    signatures.set(signature, left - 1);
  }
  if (has("redirect")) return void response.writeHead(302, { ...headers, location: url.pathname }).end();
  if (has("html")) {
    return void response.writeHead(200, { ...headers, "content-type": TYPES[".html"] }).end("<!doctype html><title>Sign in</title>");
  }

  if (bare && url.pathname.endsWith(".html")) return void response.writeHead(308, { ...headers, location: url.pathname.replace(/(index)?\.html$/, "") + url.search }).end();
  const isBare = bare && /\/[^./]+$/.test(url.pathname);
  const file = fileOf(isBare ? `${url.pathname}.html` : url.pathname, { root, mounts });
  const info = file && await stat(file).catch(() => null);
  if (!file || !info?.isFile()) return void response.writeHead(404, { ...headers, "content-type": "text/plain" }).end("not found");

  headers["content-type"] = TYPES[path.extname(file)] ?? "application/octet-stream";
  if (!has("noetag")) {
    const listed = url.searchParams.get("etags")?.split("|") ?? [];
    headers.etag = has("etags") ? listed[Math.min(times, listed.length) - 1] : has("newetag") ? `"${times}"` : has("etag") ? `"${url.searchParams.get("etag")}"` : has("hashetag") ? `"${await sha256(file)}"` : `"${info.size}-${Math.round(info.mtimeMs)}"`;
    headers["last-modified"] = info.mtime.toUTCString();
  }
  let [start, end, status] = [0, info.size - 1, 200];
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const current = !request.headers["if-range"] || request.headers["if-range"] === headers.etag;
  if (has("gzip") && !(has("ranges") && range)) {
    const bytes = gzipSync(await readFile(file), { level: 1 });
    response.writeHead(200, { ...headers, "content-encoding": "gzip", "content-length": bytes.length });
    return void response.end(bytes, () => (record.sent = bytes.length));
  }
  if (!has("noranges")) {
    headers["accept-ranges"] = "bytes";
    if (range && current) {
      start = Number(range[1]);
      if (range[2]) end = Math.min(end, Number(range[2]));
      if (has("most")) end = Math.min(end, start + number("most") - 1);
      if (start > end) return void response.writeHead(416, { ...headers, "content-range": `bytes */${info.size}` }).end();
      status = 206;
      if (has("wrongrange")) start = 0;
      headers["content-range"] = `bytes ${start}-${end}/${has("announce") ? number("announce") : info.size}`;
    }
  }
  if (!has("chunked")) headers["content-length"] = has("announce") && start === 0 ? number("announce") : end - start + 1;
  response.writeHead(status, headers);
  if (request.method === "HEAD" || info.size === 0) return void response.end();
  await send(response, file, start, end, record, {
    drop: has("drop") && still ? number("drop") : Infinity,
    stall: has("stall") && still ? number("stall") : Infinity,
    rate: has("rate") ? number("rate") : Infinity,
  });
}

/** @param {string} file */
async function sha256(file) {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(file)) hash.update(bytes);
  return hash.digest("hex");
}

/** Sends a part of a file, as slowly as asked, and breaks off or falls silent where asked. */
async function send(response, file, start, end, record, { drop, stall, rate }) {
  const highWaterMark = Number.isFinite(rate) ? Math.max(1, Math.min(64 << 10, Math.round(rate / 10))) : 64 << 10;
  const closed = new Promise((resolve) => response.once("close", resolve));
  for await (const bytes of createReadStream(file, { start, end, highWaterMark })) {
    if (response.destroyed) return;
    const piece = bytes.subarray(0, Math.min(drop, stall) - record.sent);
    record.sent += piece.length;
    const written = new Promise((resolve) => response.write(piece, resolve));
    await Promise.race([written, closed]);
    if (record.sent >= drop) return void response.destroy();
    if (record.sent >= stall) return void await closed;
    if (Number.isFinite(rate)) await new Promise((resolve) => setTimeout(resolve, (1000 * piece.length) / rate));
  }
  response.end();
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  /** @param {string} name @param {string} fallback */
  const option = (name, fallback) => {
    const at = args.indexOf(name);
    return at < 0 ? fallback : args.splice(at, 2)[1];
  };
  const isolated = args.includes("--isolated");
  if (isolated) args.splice(args.indexOf("--isolated"), 1);
  const port = Number(option("--port", "8080"));
  const host = option("--host", "127.0.0.1");
  const root = args[0] ?? path.join(path.dirname(fileURLToPath(import.meta.url)), "../../www");
  try {
    const { origin } = await serve({ root, host, port, isolated });
    console.log(`Serving ${path.relative(process.cwd(), root) || "."} on ${origin.replace("127.0.0.1", "localhost")}/ (Ctrl+C stops)`);
  } catch (error) {
    console.error(error.code === "EADDRINUSE" ? `Port ${port} is in use. Choose another one: --port N` : String(error));
    process.exit(1);
  }
}
