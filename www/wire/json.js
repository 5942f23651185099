// JSON that every reader takes.

/**
 * A value as JSON whose texts are well-formed Unicode. Halves of surrogate pairs, which texts cut in the middle of an emoji have and
 * which UTF-8 cannot express, become U+FFFD, as in `TextEncoder` and in whatever is sent over a network.
 * @param {unknown} value
 * @returns {string}
 */
export function toJson(value) {
  // `JSON.stringify` escapes lone surrogates, and nothing else of that range. An escaped backslash before such letters is text.
  return JSON.stringify(value).replace(/\\(?:\\|u[dD][89a-fA-F][0-9a-fA-F]{2})/g, (escape) => (escape === "\\\\" ? escape : "\ufffd"));
}
