// For programs that were written for OpenAI's client: a `fetch` that answers its requests with the model in this tab.
//
//   import OpenAI from "openai";
//   import { openaiFetch } from "./openai.js";
//   const client = new OpenAI({ apiKey: "none", baseURL: "http://llava-web.invalid/v1", fetch: openaiFetch(engine), dangerouslyAllowBrowser: true });
//
// Types: openai.d.ts beside this file.

export { openaiFetch } from "./api/openai-fetch.js";
