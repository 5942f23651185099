// What of a conversation is sent to the model.

/** @typedef {import("./pictures.js").Picture} Picture */
/** @typedef {import("./turn.js").Turn} Turn */
/** @typedef {import("../../llava-web.js").Message} Message */
/** @typedef {import("../../llava-web.js").ImageDetail} ImageDetail */

/** After these a picture that was asked about is not shown to the model again: it is what failed. */
const PICTURE_FAILED = ["invalid_image", "context_overflow"];

/**
 * A question that failed is left out, and so are the earliest where the context is full. Their pictures go with the next one, where it stands
 * beside them and is about what is seen there.
 * @param {Turn[]} turns  the last one may be without its answer yet
 * @param {ImageDetail} detail
 * @returns {Message[]}
 */
export function messagesOf(turns, detail) {
  /** @type {Message[]} */
  const messages = [];
  /** @type {Picture[]} */
  let unseen = [];
  /** Those of questions left out, which the next one may still be about. @type {Picture[]} */
  let beside = [];
  for (const turn of turns) {
    if (turn.isLeftOut) {
      if (turn.pictures.length > 0) beside = turn.pictures;
      continue;
    }
    const pictures = [...(turn.pictures.length === 0 ? beside : []), ...unseen, ...turn.pictures];
    beside = [];
    if (turn.failure && !turn.isAnswered) {
      unseen = PICTURE_FAILED.includes(turn.failure.code) ? [] : pictures;
      continue;
    }
    unseen = [];
    messages.push(userMessage(turn.question, pictures, detail));
    if (turn.isAnswered) messages.push({ role: "assistant", content: turn.text });
  }
  return messages;
}

/**
 * @param {string} text
 * @param {Picture[]} pictures
 * @param {ImageDetail} detail
 * @returns {Message}
 */
export function userMessage(text, pictures, detail) {
  if (pictures.length === 0) return { role: "user", content: text };
  const shown = pictures.map(({ file }) => ({ type: /** @type {const} */ ("image"), image: file, detail }));
  return { role: "user", content: [...shown, { type: "text", text }] };
}
