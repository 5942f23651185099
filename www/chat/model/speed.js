// How fast this machine computes, measured with the model that the page opens with: a prompt of made-up tokens, as `engine.benchmark` runs it.

import { LlavaError } from "../../llava-web.js";

/** @typedef {import("../../llava-web.js").Engine} Engine */
/** @typedef {import("./catalogue.js").KnownModel} KnownModel */

/** Enough for the kernels to be at work for most of the time, with a model as small as the page's own. */
const PROMPT_TOKENS = 256;
const RUNS = 3;

/**
 * The operations a second that a loaded model gets out of this machine; null where it cannot be told. Forgets the engine's conversation, and
 * takes some tenths of a second with a model of a few million weights.
 * @param {Engine} engine
 * @param {KnownModel | undefined} known  the model that is loaded, where it is one of which the work is known
 * @param {AbortSignal} signal  ends it at once, when there is something else to do
 * @returns {Promise<number | null>}
 */
export async function measuredRate(engine, known, signal) {
  if (!known?.work || engine.info.contextSize < PROMPT_TOKENS + 1) return null;
  try {
    const { prefill_tokens_per_second: tokens } = await engine.benchmark({ promptTokens: PROMPT_TOKENS, generatedTokens: 1, runs: RUNS, signal });
    return tokens > 0 ? 2 * known.work.weights * tokens : null;
  } catch (error) {
    if (error instanceof LlavaError) return null;
    throw error;
  }
}
