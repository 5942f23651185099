// How freely a session of the Prompt API writes.

/** As the specification names them: the least and the most that is chosen from. @type {Record<string, { temperature: number, topK: number }>} */
const MODES = {
  "most-predictable": { temperature: 0, topK: 1 },
  "predictable": { temperature: 0.3, topK: 20 },
  "slightly-predictable": { temperature: 0.5, topK: 40 },
  "balanced": { temperature: 0.7, topK: 40 },
  "slightly-creative": { temperature: 0.9, topK: 64 },
  "creative": { temperature: 1.1, topK: 100 },
  "most-creative": { temperature: 1.4, topK: 200 },
};
const DEFAULT = /** @type {{ temperature: number, topK: number }} */ (MODES.balanced);
const MAX_TOP_K = 1024;
/** As the engine's own. */
const MAX_TEMPERATURE = 2;

export const PARAMS = { defaultTopK: DEFAULT.topK, maxTopK: MAX_TOP_K, defaultTemperature: DEFAULT.temperature, maxTemperature: MAX_TEMPERATURE };

/**
 * What a session's options say of it.
 * @param {any} options
 * @returns {{ samplingMode: string | null, topK: number, temperature: number }}
 */
export function checkSampling({ samplingMode, topK, temperature }) {
  if (samplingMode !== undefined) {
    const mode = Object.hasOwn(MODES, samplingMode) ? MODES[samplingMode] : undefined;
    if (!mode) throw new TypeError(`samplingMode must be one of ${Object.keys(MODES).map((name) => `"${name}"`).join(", ")}.`);
    if (topK !== undefined || temperature !== undefined) throw new TypeError("samplingMode says it all: leave topK and temperature out beside it, or it.");
    return { samplingMode, ...mode };
  }
  const [k, t] = [topK ?? DEFAULT.topK, temperature ?? DEFAULT.temperature];
  if (typeof k !== "number" || typeof t !== "number" || !(k >= 1) || !(t >= 0)) throw new RangeError("topK must be at least 1, and temperature at least 0.");
  return { samplingMode: null, topK: Math.min(Math.floor(k), MAX_TOP_K), temperature: Math.min(t, MAX_TEMPERATURE) };
}
