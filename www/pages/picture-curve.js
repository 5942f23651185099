// How long the first token takes, by the rows that pictures become: by how finely a picture is looked at, how large it is, and how many there are.

/** @typedef {import("../llava-web.js").Engine} Engine */
/** @typedef {import("../llava-web.js").ImageDetail} ImageDetail */
/**
 * What is asked about: so many pictures, each so many pixels a side.
 * @typedef {{ pictures: number, side: number, detail: ImageDetail }} Case
 */
/**
 * Medians, in milliseconds. `rows`: tokens of the prompt that are pictures.
 * @typedef {Case & { rows: number, tiles: number, image_ms: number, prefill_ms: number, first_token_ms: number }} PictureRow
 */

/** Sides, in the tower's own: what is as large as the tower is one tile, what is larger may be cut. */
const LARGEST = 4;
const TIMES_SIDE = [1, 2, 3, LARGEST];
const COUNTS = [2, 3, 4];
const QUESTION = "describe";

/** @param {number} imageSize @returns {Case[]} */
function cases(imageSize) {
  return [
    { pictures: 1, side: LARGEST * imageSize, detail: "low" },
    ...TIMES_SIDE.map((times) => ({ pictures: 1, side: times * imageSize, detail: /** @type {const} */ ("high") })),
    { pictures: 1, side: LARGEST * imageSize, detail: "auto" },
    ...COUNTS.map((pictures) => ({ pictures, side: imageSize, detail: /** @type {const} */ ("low") })),
  ];
}

/**
 * Measures what gives a number of rows that was not measured before.
 * @param {Engine} engine
 * @param {{ runs: number, onRow: (rows: PictureRow[]) => void, signal: AbortSignal }} options  `onRow`: told of all there are, by their rows
 */
export async function measurePictures(engine, { runs, onRow, signal }) {
  const { vision } = engine.info;
  /** @type {PictureRow[]} */
  const rows = [];
  if (!vision) return rows;
  // What is compiled and grows with the first picture is not what is measured.
  await ask(engine, { pictures: 1, side: vision.imageSize, detail: "low" }, signal);
  for (const wanted of cases(vision.imageSize)) {
    try {
      const first = await ask(engine, wanted, signal);
      if (rows.some((row) => row.rows === first.rows)) continue;
      const all = [first];
      while (all.length < runs) all.push(await ask(engine, wanted, signal));
      const median = (/** @type {"image_ms" | "prefill_ms" | "first_token_ms"} */ name) => all.map((row) => row[name]).sort((a, b) => a - b)[all.length >> 1] ?? 0;
      rows.push({ ...first, image_ms: median("image_ms"), prefill_ms: median("prefill_ms"), first_token_ms: median("first_token_ms") });
      rows.sort((a, b) => a.rows - b.rows);
      onRow(rows);
    } catch (error) {
      // More than the context holds.
      if (/** @type {{ code?: string }} */ (error).code !== "context_overflow") throw error;
    }
  }
  return rows;
}

/**
 * @param {Engine} engine
 * @param {Case} wanted
 * @param {AbortSignal} signal
 * @returns {Promise<PictureRow>}
 */
async function ask(engine, wanted, signal) {
  const { pictures, side, detail } = wanted;
  const images = Array.from({ length: pictures }, () => newPicture(side));
  await engine.reset({ signal });
  const before = performance.now();
  const stream = await engine.chat.completions.create({
    messages: [{ role: "user", content: [...images.map((image) => ({ type: /** @type {const} */ ("image"), image, detail })), { type: "text", text: QUESTION }] }],
    temperature: 0, max_tokens: 1, stream: true, signal,
  });
  let firstToken = 0;
  for await (const { choices: [{ token_ids }], usage } of stream) {
    if (token_ids.length > 0) firstToken ||= performance.now() - before;
    if (usage) return { ...wanted, rows: usage.image_tokens, tiles: usage.image_tiles, image_ms: usage.image_ms, prefill_ms: usage.prefill_ms, first_token_ms: firstToken || performance.now() - before };
  }
  throw new DOMException("Stopped.", "AbortError");
}

/** One that no engine has seen: what it shows does not matter. @param {number} side */
function newPicture(side) {
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d");
  const hue = () => `hsl(${Math.random() * 360} 80% 60%)`;
  if (context) for (let i = 0; i < 12; i++) {
    context.fillStyle = hue();
    context.fillRect(Math.random() * side * 0.8, Math.random() * side * 0.8, side, side);
  }
  return canvas;
}
