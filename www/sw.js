// The service worker of a packaged page: it works offline, and is cross-origin isolated where it asks for that.
//
// A version of the page is one folder, named after a hash of all that is in it. The page is asked for from the network and taken from
// the cache where there is none; what is in such a folder never changes, so that is taken from the cache first. A page therefore has all
// of its modules from one version, whatever is published in the meantime. A new worker waits until no tab has the old one, and then
// deletes the old version.
//
// With `sw.js?isolate` the pages and their workers get the headers that make them cross-origin isolated, which threads need, on hosts that
// cannot be told to send them. Whatever else the site has in this folder is left alone, and so are models, which are kept in the
// browser's storage for files: see storage/load-files.js.

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
/** What every page of this package has in it, and the sign-in page of a hotel's network has not. */
const MARK = 'name="llava-service-worker"';

/** The pages' paths, as this worker keeps them, by the paths under which hosts show them: `/benchmark.html` is `/benchmark` on some. */
const PAGES = new Map(FILES.filter((file) => file === "./" || file.endsWith(".html")).flatMap((file) => {
  const { pathname } = new URL(file, scope);
  const bare = pathname.replace(/(index)?\.html$/, "");
  return [pathname, bare, ...(bare.endsWith("/") ? [] : [`${bare}/`])].map((path) => [path, pathname]);
}));
/** What has the same address in each version, as the icon has. */
const ASIDE = new Set(FILES.filter((file) => !file.startsWith(`${VERSION}/`)).map((file) => new URL(file, scope).pathname).filter((path) => !PAGES.has(path)));
/** A file of this version or another one. */
const VERSIONED = /^[0-9a-f]{12}\//;

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
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== scope.origin || !pathname.startsWith(scope.pathname) || request.headers.has("range")) return;
  const kept = PAGES.get(pathname);
  if (request.mode === "navigate") {
    if (kept !== undefined) event.respondWith(page(request, kept, event));
  } else if (VERSIONED.test(pathname.slice(scope.pathname.length))) {
    event.respondWith(ofVersion(request));
  } else if (ASIDE.has(pathname)) {
    event.respondWith(other(request));
  }
});

/**
 * The page itself: the newest that can be had.
 * @param {Request} request
 * @param {string} kept  its path in the cache
 * @param {WorkerEvent} event
 */
async function page(request, kept, event) {
  const cached = await (await caches.open(CACHE)).match(new URL(kept, scope), { ignoreSearch: true });
  if (!cached) return answer(await fetch(request), isolate);
  const fetched = newest(request);
  event.waitUntil(fetched);
  const late = new Promise((resolve) => setTimeout(() => resolve(null), PATIENCE));
  return answer((await Promise.race([fetched, late])) ?? cached, isolate);
}

/**
 * The page from the network; null where what comes is something else: an error, or the page of a network that wants to be paid first.
 * @param {Request} request
 * @returns {Promise<Response | null>}
 */
async function newest(request) {
  try {
    // Redirects are followed here: where they lead out of the site, it is not the page.
    const response = await fetch(request.url, { credentials: "same-origin", redirect: "follow", cache: "no-cache" });
    if (!response.ok || new URL(response.url).origin !== scope.origin) return null;
    const text = await response.clone().text();
    return text.includes(MARK) ? response : null;
  } catch {
    return null;
  }
}

/** @param {Request} request */
async function ofVersion(request) {
  const isWorker = isolate && /worker$/.test(request.destination);
  // Of any version: a page that has come from the network may be newer than this worker.
  const cached = await caches.match(request, { ignoreSearch: true });
  if (cached) return answer(cached, isWorker);
  const response = await fetch(request);
  if (response.ok && new URL(request.url).pathname.startsWith(new URL(`${VERSION}/`, scope).pathname)) {
    await (await caches.open(CACHE)).put(request, response.clone()).catch(() => {});
  }
  return answer(response, isWorker);
}

/** @param {Request} request */
async function other(request) {
  const cached = () => caches.match(request, { ignoreSearch: true });
  try {
    const response = await fetch(request);
    return response.ok ? response : await cached() ?? response;
  } catch (error) {
    const response = await cached();
    if (!response) throw error;
    return answer(response, false);
  }
}

/**
 * An answer as it can be given. One that came by a redirect is refused by navigations, which wanted to follow it themselves.
 * @param {Response} response
 * @param {boolean} isIsolated
 */
function answer(response, isIsolated) {
  // An opaque answer has no headers that could be changed, a redirect must stay one.
  if (response.status === 0 || (!isIsolated && !response.redirected)) return response;
  const headers = new Headers(response.headers);
  if (isIsolated) {
    headers.set("Cross-Origin-Opener-Policy", "same-origin");
    headers.set("Cross-Origin-Embedder-Policy", EMBEDDER_POLICY);
  }
  const hasBody = ![101, 204, 205, 304].includes(response.status);
  return new Response(hasBody ? response.body : null, { status: response.status, statusText: response.statusText, headers });
}

/**
 * Without credentials, pictures and frames of other sites need no header of their own. Browsers that do not know the word would take it for
 * no policy at all, and cannot be asked whether they know it.
 */
const EMBEDDER_POLICY = knowsCredentialless() ? "credentialless" : "require-corp";

function knowsCredentialless() {
  const { userAgent } = navigator;
  const version = (/** @type {RegExp} */ name) => Number(name.exec(userAgent)?.[1] ?? 0);
  return version(/Chrome\/(\d+)/) >= 96 || (version(/ Firefox\/(\d+)/) >= 119 && !userAgent.includes("Android"));
}
