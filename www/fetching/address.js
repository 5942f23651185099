// Addresses of files: what of one is for people to see, and what of it says which file it is.

import { shown } from "../api/errors.js";
import { isDataUrl } from "./data-url.js";

/**
 * An address for messages: without the query, which may hold somebody's access token.
 * @param {string} url
 */
export function readableUrl(url) {
  if (isDataUrl(url)) return "the data: address";
  const parsed = new URL(url);
  return parsed.protocol === "blob:" ? "the blob: address" : shown(parsed.origin + parsed.pathname);
}

/**
 * The parameters that sign an address for some time, by what they have in common: the first column must all be there.
 * @type {{ signs: RegExp[], belongs: RegExp }[]}
 */
const SIGNATURES = [
  // Amazon S3 and what speaks its protocol (R2, MinIO, Backblaze); what the answer's headers are to be does not change the file.
  { signs: [/^x-amz-signature$/i], belongs: /^(x-amz-|response-|x-id$)/i },
  { signs: [/^signature$/i, /^awsaccesskeyid$/i, /^expires$/i], belongs: /^(signature|awsaccesskeyid|expires|x-amz-security-token|response-.*)$/i },
  // CloudFront, as Hugging Face has it.
  { signs: [/^signature$/i, /^key-pair-id$/i], belongs: /^(signature|key-pair-id|policy|expires|response-.*)$/i },
  // Google Cloud Storage.
  { signs: [/^x-goog-signature$/i], belongs: /^(x-goog-|response-)/i },
  { signs: [/^signature$/i, /^googleaccessid$/i], belongs: /^(signature|googleaccessid|expires|response-.*)$/i },
  // Azure's shared access signatures.
  { signs: [/^sig$/, /^se$/, /^sv$/], belongs: /^(sig|se|sv|st|sr|sp|spr|sip|si|sdd|sks|skoid|sktid|skt|ske|skv|rsc[cdelt])$/ },
];

/** @param {URLSearchParams} query */
function signatureIn(query) {
  const names = [...query.keys()];
  return SIGNATURES.find(({ signs }) => signs.every((sign) => names.some((name) => sign.test(name)))) ?? null;
}

/**
 * Whether an address is one that a host has signed, which holds for some time only.
 * @param {string} url
 */
export function isSigned(url) {
  return signatureIn(new URL(url).searchParams) !== null;
}

/**
 * An address without what says nothing about which file it is: the fragment, a signature, and on Hugging Face the wish to save it.
 * @param {string} url
 */
export function fileAddress(url) {
  const parsed = new URL(url);
  parsed.hash = "";
  const query = parsed.searchParams;
  const signature = signatureIn(query);
  const isMeaningless = (/** @type {string} */ name) =>
    signature?.belongs.test(name) || (name === "download" && /^(huggingface\.co|hf\.co)$/.test(parsed.hostname));
  const names = [...query.keys()].filter(isMeaningless);
  // An address that is left as it is keeps its spelling too.
  for (const name of names) query.delete(name);
  return parsed.href;
}
