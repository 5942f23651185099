// What the public functions ask of their arguments, each with an error that names the argument.

import { LlavaError } from "./errors.js";

/**
 * @param {unknown} value
 * @param {string} option
 */
export function checkCount(value, option) {
  if (value !== undefined && !(Number.isInteger(value) && /** @type {number} */ (value) > 0)) throw invalid(`${option} must be a whole number above 0.`);
}

/**
 * @param {unknown} value
 * @param {string[]} choices
 * @param {string} option
 */
export function checkChoice(value, choices, option) {
  if (value !== undefined && !choices.includes(/** @type {string} */ (value))) {
    throw invalid(`${option} is ${JSON.stringify(value)}; it must be one of ${choices.map((choice) => `"${choice}"`).join(", ")}.`);
  }
}

/** @param {string} message */
export function invalid(message) {
  return new LlavaError("invalid_request", message);
}

/**
 * @param {unknown} value
 * @param {string} name
 */
export function checkIndex(value, name) {
  if (!Number.isInteger(value) || /** @type {number} */ (value) < 0 || /** @type {number} */ (value) > 0xffff_ffff) {
    throw invalid(`lookedAt: ${name} must be a whole number from 0 on.`);
  }
}

/**
 * @param {any} ids
 * @param {string} method
 * @returns {number[]}
 */
export function tokenIds(ids, method) {
  if (typeof ids?.[Symbol.iterator] !== "function" || typeof ids === "string") throw invalid(`${method} takes an array of token ids.`);
  const list = Array.from(ids);
  for (const id of list) {
    if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff) throw invalid(`${method}: ${JSON.stringify(id)} is not a token id.`);
  }
  return list;
}
