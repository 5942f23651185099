// The service worker of a packaged page: it works offline, and is cross-origin isolated where it asks for that.
//
// A version of the page is one folder, named after a hash of all that is in it. The page is asked for from the network and taken from
// the cache where there is none; what is in its folder never changes, so that is taken from the cache first. A page therefore has all of
// its modules from one version, whatever is published in the meantime. A new worker waits until no tab has the old one, and then
// deletes the old version.
//
// With `sw.js?isolate` answers get the headers that make the page cross-origin isolated, which threads need, on hosts that cannot be
// told to send them. Models are not kept here but in the browser's storage for files: see storage/load-files.js.

/** @typedef {{ waitUntil(promise: Promise<unknown>): void, respondWith(response: Promise<Response>): void, request: Request, clientId: string }} WorkerEvent */

import { hasRelaxedSimd } from "./api/devices.js";

/**
 * The folder of this version, what is needed without a network, and the modules of the engine, of which a browser takes one; filled in
 * by tools/web/package.mjs. Without it this is no service worker.
 * @type {{ version: string, files: string[], engine: string[] }}
 */
const { version: VERSION, files: FILES, engine: ENGINE } = /** @type {any} */ (globalThis).LLAVA_WEB_BUILD;

const CACHE = `llava-web ${VERSION}`;
const isolate = new URL(location.href).searchParams.has("isolate");
const scope = new URL("./", location.href);
/** How long the network may take to give the page where there is one in the cache, in milliseconds. */
const PATIENCE = 4000;

const worker = /** @type {any} */ (self);

worker.addEventListener("install", (/** @type {WorkerEvent} */ event) => {
  event.waitUntil(install());
});

async function install() {
  const cache = await caches.open(CACHE);
  // Past the HTTP cache for what has the same address in each version.
  await cache.addAll(FILES.map((file) => new Request(new URL(file, scope), { cache: file.startsWith(VERSION) ? "default" : "reload" })));
  const isRelaxed = hasRelaxedSimd();
  // The rest, threads among it, comes in when it is used.
  await Promise.allSettled(ENGINE.filter((file) => file.includes("relaxed") === isRelaxed && !file.includes("threads")).map((file) => cache.add(new URL(file, scope))));
}

worker.addEventListener("activate", (/** @type {WorkerEvent} */ event) => {
  event.waitUntil(activate());
});

async function activate() {
  for (const name of await caches.keys()) if (name.startsWith("llava-web ") && name !== CACHE) await caches.delete(name);
  await worker.clients.claim();
}

worker.addEventListener("fetch", (/** @type {WorkerEvent} */ event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname) || request.headers.has("range")) return;
  if (request.mode === "navigate") event.respondWith(page(request, event));
  else if (url.pathname.startsWith(new URL(`${VERSION}/`, scope).pathname)) event.respondWith(ofVersion(request));
  else event.respondWith(other(request));
});

/**
 * The page itself: the newest that can be had.
 * @param {Request} request
 * @param {WorkerEvent} event
 */
async function page(request, event) {
  const cached = await (await caches.open(CACHE)).match(request, { ignoreSearch: true });
  const fetched = fetch(request);
  if (!cached) return isolated(await fetched);
  const late = new Promise((resolve) => setTimeout(() => resolve(null), PATIENCE));
  event.waitUntil(fetched.catch(() => {}));
  const response = await Promise.race([fetched.catch(() => null), late]);
  return isolated(response && response.status < 500 ? response : cached);
}

/** @param {Request} request */
async function ofVersion(request) {
  const cache = await caches.open(CACHE);
  const cached = await cache.match(request, { ignoreSearch: true });
  if (cached) return isolated(cached);
  const response = await fetch(request);
  if (response.ok) await cache.put(request, response.clone()).catch(() => {});
  return isolated(response);
}

/**
 * What has the same address in each version, as the icon has.
 * @param {Request} request
 */
async function other(request) {
  try {
    return isolated(await fetch(request));
  } catch (error) {
    const cached = await (await caches.open(CACHE)).match(request, { ignoreSearch: true });
    if (!cached) throw error;
    return isolated(cached);
  }
}

/** @param {Response} response */
function isolated(response) {
  // An opaque answer has no headers that could be changed, a redirect must stay one.
  if (!isolate || response.type === "opaqueredirect" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const hasBody = ![101, 204, 205, 304].includes(response.status);
  return new Response(hasBody ? response.body : null, { status: response.status, statusText: response.statusText, headers });
}
