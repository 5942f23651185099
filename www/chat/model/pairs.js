// Which vision file a language model was loaded with, so that choosing the one from the stored files brings the other along.

import { sourceSpecs } from "../../api/sources.js";

/** @typedef {import("../../llava-web.js").Source} Source */

const KEY = "llava-web pairs";
/** More are hardly stored at a time. */
const MOST = 50;

/**
 * The addresses of a source's files in one text, as the list of stored models has them; "" where they are no addresses.
 * @param {Source | null | undefined} source
 */
export function addressOf(source) {
  try {
    const specs = source ? sourceSpecs(source, "model") : [];
    return specs.map((spec) => (spec.kind === "url" ? spec.url : " ")).join(" ").trim();
  } catch {
    return "";
  }
}

/** @returns {Record<string, string>} */
function pairs() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {};
  }
}

/** @param {Source} model @param {Source | null | undefined} mmproj */
export function rememberPair(model, mmproj) {
  const [address, other] = [addressOf(model), addressOf(mmproj)];
  if (address === "" || other === "") return;
  const { [address]: _, ...others } = pairs();
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries([...Object.entries(others).slice(1 - MOST), [address, other]])));
  } catch {
    // Then both are chosen by hand.
  }
}

/** The vision file that was loaded with a language model; undefined where it is not known. @param {string} address  of the language model */
export function pairOf(address) {
  return pairs()[address];
}
