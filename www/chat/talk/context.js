// How much of the model's context a conversation fills, and which of its questions to leave out when that is full.

/** @typedef {import("./turn.js").Turn} Turn */

/** The share of the context from which on its end is near. */
export const ALMOST_FULL = 0.85;
/** So much of it is free again once the earliest questions are left out. */
const FREED = 0.5;

/** Tokens of the turns that the model is still sent. @param {Turn[]} turns */
export function usedTokens(turns) {
  return turns.reduce((sum, { isLeftOut, cost }) => sum + (isLeftOut ? 0 : cost), 0);
}

/**
 * Tokens that a turn which has just been answered adds to those before it.
 * @param {Turn} turn
 * @param {Turn[]} turns  of the whole conversation
 */
export function costOf(turn, turns) {
  const before = usedTokens(turns.slice(0, turns.indexOf(turn)));
  return Math.max(0, (turn.usage?.total_tokens ?? before) - before);
}

/**
 * The earliest questions: as many as free half of the context, at least one, and never the last. Empty where there is none to spare.
 * @param {Turn[]} turns
 * @param {number} contextSize  in tokens
 */
export function earliestTurns(turns, contextSize) {
  const sent = turns.filter(({ isLeftOut }) => !isLeftOut);
  const found = [];
  let left = usedTokens(turns);
  for (const turn of sent.slice(0, -1)) {
    if (found.length > 0 && left <= contextSize * FREED) break;
    found.push(turn);
    left -= turn.cost;
  }
  return found;
}
