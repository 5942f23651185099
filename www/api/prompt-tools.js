// Tools of a Prompt API session: what the page gives to `create` → the engine's tools, and the calls that the model makes → their results.

import { withSignal } from "./shared-engine.js";

/** @typedef {import("../llava-web.js").Message} Message */
/** @typedef {import("../llava-web.js").ToolCall} ToolCall */
/** @typedef {import("../llava-web.js").Tool} Tool */
/** @typedef {{ name: string, description: string, inputSchema: object, execute: (input: any) => unknown }} PromptTool */

/**
 * @param {any} tools
 * @returns {PromptTool[]}
 */
export function checkTools(tools) {
  if (tools === undefined || tools === null) return [];
  if (typeof tools !== "object" || typeof tools[Symbol.iterator] !== "function") throw new TypeError("tools must be an array.");
  return [...tools].map((tool, i) => {
    const { name, description, inputSchema, execute } = tool ?? {};
    if (typeof name !== "string" || typeof description !== "string") throw new TypeError(`tools[${i}] must have a name and a description.`);
    if (typeof inputSchema !== "object" || inputSchema === null) throw new TypeError(`tools[${i}].inputSchema must be a JSON schema.`);
    if (typeof execute !== "function") throw new TypeError(`tools[${i}].execute must be a function.`);
    return { name, description, inputSchema, execute };
  });
}

/**
 * As the engine takes them.
 * @param {PromptTool[]} tools
 * @returns {Tool[]}
 */
export function engineTools(tools) {
  return tools.map(({ name, description, inputSchema }) => ({ type: "function", function: { name, description, parameters: inputSchema } }));
}

/**
 * Adds a part of a call to the calls.
 * @param {ToolCall[]} calls
 * @param {import("../llava-web.js").ToolCallDelta} part
 */
export function addCallPart(calls, { index, id = "", function: { name = "", arguments: json } }) {
  const call = calls[index];
  if (call) call.function.arguments += json;
  else calls[index] = { id, type: "function", function: { name, arguments: json } };
}

/**
 * Does what the model called for, all at once. What a tool throws, the call of the session fails with.
 * @param {ToolCall[]} calls
 * @param {PromptTool[]} tools
 * @param {AbortSignal} signal
 * @returns {Promise<Message[]>}
 */
export async function resultsOf(calls, tools, signal) {
  return Promise.all(calls.map(async (call) => {
    const tool = tools.find(({ name }) => name === call.function.name);
    const result = await withSignal(Promise.resolve(tool?.execute(JSON.parse(call.function.arguments))), signal);
    /** @type {Message} */
    const message = { role: "tool", tool_call_id: call.id, content: typeof result === "object" ? JSON.stringify(result) : String(result) };
    return message;
  }));
}
