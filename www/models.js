// The models that the page offers: name, addresses, bytes of both files together. See KnownModel in ui/known-models.js.

/** @type {import("./ui/known-models.js").KnownModel[]} */
export const MODELS = [];
