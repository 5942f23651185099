// The clients that openai.test.mjs runs, unmodified, as a page would bundle them.
export { default as OpenAI } from "openai";
export { zodResponseFormat } from "openai/helpers/zod";
export { z } from "zod";
export { ChatOpenAI } from "@langchain/openai";
export { HumanMessage, ToolMessage } from "@langchain/core/messages";
export { createOpenAICompatible } from "@ai-sdk/openai-compatible";
export { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
