// Requests for a model's files, with the caller's headers where there are some: a token, where a model is gated. They are for the host that the
// file's address names and for nobody else; but redirects are followed by the browser, which tells a page of them only when it has gone there.
// So it must not go with more than it takes off again on its way to another origin: `Authorization` (Fetch standard, "HTTP-redirect fetch").

import { LlavaError } from "../api/errors.js";
import { readableUrl } from "./address.js";

/** By their names in small letters. @typedef {Record<string, string>} RequestHeaders */

/**
 * @param {string} url
 * @param {RequestHeaders | undefined} given  by the caller
 * @param {RequestInit & { headers?: Record<string, string> }} init
 * @returns {Promise<Response>}
 */
export async function ask(url, given, init) {
  const options = /** @type {const} */ ({ referrerPolicy: "no-referrer", ...init });
  const names = Object.keys(given ?? {});
  if (names.length === 0) return fetch(url, options);
  const staying = takesAuthorizationOff() ? names.filter((name) => name !== "authorization") : names;
  const response = await fetch(url, { ...options, headers: { ...given, ...init.headers }, redirect: staying.length === 0 ? "follow" : "manual" });
  if (response.type === "opaqueredirect") {
    throw new LlavaError("network",
      `${readableUrl(url)} answers with a redirect. It was not followed, for it may lead to another host, to which the browser would send the ` +
      `header ${staying.join(", ")} too. ${takesAuthorizationOff() ? "Give the token as Authorization, which no other host is sent," : "Update the browser,"} or give the address where the file is.`);
  }
  return response;
}

/** Chromium does since version 119; the oldest versions of the other browsers in which the engine runs do. */
function takesAuthorizationOff() {
  const [, version] = /Chrome\/(\d+)/.exec(navigator.userAgent) ?? [];
  return version === undefined || Number(version) >= 119;
}
