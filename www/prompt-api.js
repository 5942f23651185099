// The browser's Prompt API over the engine in this tab, for pages that were written for `LanguageModel`.
//
//   import { installLanguageModel } from "./prompt-api.js";
//   installLanguageModel({ model: "hf:…/model.gguf", mmproj: "hf:…/mmproj.gguf" });   // where the browser has none of its own
//   const session = await LanguageModel.create();
//   await session.prompt("What is a llama?");
//
// Types: prompt-api.d.ts beside this file.

export { installLanguageModel, LanguageModel } from "./api/language-model.js";
