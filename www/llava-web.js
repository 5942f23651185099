// llava-web: answers questions about pictures with LLaVA-family models, in this browser, without a server.
//
//   import { createEngine } from "./llava-web.js";
//   const engine = await createEngine({ model: "hf:…/model.gguf", mmproj: "hf:…/mmproj.gguf" });
//   const reply = await engine.chat.completions.create({ messages, stream: true });
//   for await (const chunk of reply) console.log(chunk.choices[0].delta.content);
//
// Types: llava-web.d.ts beside this file. The work is done by a worker (worker/worker.js); this module only talks to it.

export { createEngine } from "./api/create-engine.js";
export { detectDevice } from "./api/devices.js";
export { LlavaError } from "./api/errors.js";
export { deleteCachedModel, listCachedModels, storageEstimate } from "./api/storage.js";
