// The SHA-256 that a host gives out with a file, where it does.

/** A Git LFS pointer is some 130 bytes long. */
const MAX_POINTER = 1024;

/**
 * In hex; null where it gives out none.
 * @param {string} url
 * @param {import("./pieces.js").RemoteBytes} net
 * @returns {Promise<string | null>}
 */
export async function hostHash(url, net) {
  const { hostname, pathname } = new URL(url);
  const onHuggingFace = hostname === "huggingface.co" && /^(\/[^/]+\/[^/]+)\/resolve\/(.+)$/.exec(pathname);
  // There a file is sent from elsewhere, with an ETag of that place's own. The pointer in the repository has the hash.
  if (onHuggingFace) return pointerHash(`https://huggingface.co${onHuggingFace[1]}/raw/${onHuggingFace[2]}`);
  if (net.redirected) return null;
  return /^"([0-9a-f]{64})"$/i.exec(net.etag ?? "")?.[1].toLowerCase() ?? null;
}

/**
 * @param {string} url
 * @returns {Promise<string | null>}
 */
async function pointerHash(url) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), 5000);
  try {
    const response = await fetch(url, { signal: controller.signal, referrerPolicy: "no-referrer" });
    if (!response.ok || !(Number(response.headers.get("content-length") ?? Infinity) <= MAX_POINTER)) return null;
    return /^oid sha256:([0-9a-f]{64})$/m.exec(await response.text())?.[1] ?? null;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}
