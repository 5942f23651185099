// A program that was written for OpenAI's client, as TypeScript sees it. Compiled, never run.

import type OpenAI from "openai";

import type { Engine, Message } from "../../www/llava-web.js";
import { openaiFetch } from "../../www/openai.js";

type Chat = OpenAI.Chat.Completions.ChatCompletion;
type Chunk = OpenAI.Chat.Completions.ChatCompletionChunk;

export async function replies(engine: Engine): Promise<(Chat | Chunk | OpenAI.Completion)[]> {
  const messages: Message[] = [{ role: "user", content: "Hello" }];
  const whole: Chat = await engine.chat.completions.create({ model: "any", n: 1, user: "me", messages });
  const completion: OpenAI.Completion = await engine.completions.create({ model: "any", prompt: ["Once"] });
  const all: (Chat | Chunk | OpenAI.Completion)[] = [whole, completion];
  for await (const chunk of await engine.chat.completions.create({ messages, stream: true })) all.push(chunk satisfies Chunk);
  for await (const chunk of await engine.chat.completions.create({ messages, stream: true, stream_options: { include_usage: true } })) {
    if (chunk.choices.length === 0) all.push(chunk satisfies Chunk);
  }
  const stopped = await engine.chat.completions.create({ messages, signal: new AbortController().signal });
  // @ts-expect-error: what can be stopped may end as OpenAI's replies do not
  const strict: Chat = stopped;
  return [...all, strict];
}

/** Messages that were written for OpenAI and hold what models here can read. */
export function taken(text: OpenAI.ChatCompletionContentPartText, image: OpenAI.ChatCompletionContentPartImage, refusal: OpenAI.ChatCompletionContentPartRefusal): Message[] {
  const user = { role: "user", content: [text, image], name: "me" } as const satisfies OpenAI.ChatCompletionUserMessageParam;
  const assistant = { role: "assistant", content: null, refusal: null } as const satisfies OpenAI.ChatCompletionAssistantMessageParam;
  const called = { role: "assistant", content: null, tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }] } satisfies OpenAI.ChatCompletionAssistantMessageParam;
  const result = { role: "tool", content: [text], tool_call_id: "1" } satisfies OpenAI.ChatCompletionToolMessageParam;
  return [called, result, { role: "developer", content: "Be brief." }, { ...user, content: [...user.content] }, assistant, { role: "assistant", content: [refusal] }];
}

/** Tools that were written for OpenAI, and what comes of them. */
export async function calls(engine: Engine, tool: OpenAI.ChatCompletionFunctionTool, choice: OpenAI.ChatCompletionNamedToolChoice | OpenAI.ChatCompletionAllowedToolChoice): Promise<(Chat | Chunk)[]> {
  const tools = [{ ...tool, function: { ...tool.function, parameters: tool.function.parameters ?? {} } }];
  const messages: Message[] = [{ role: "user", content: "Hello" }];
  const whole = await engine.chat.completions.create({ messages, tools, tool_choice: "required", parallel_tool_calls: false }) satisfies Chat;
  const [{ message }] = whole.choices;
  // @ts-expect-error: an answer of calls alone has no text
  const text: string = message.content;
  const results: Message[] = (message.tool_calls ?? []).map(({ id, function: { arguments: json } }) => ({ role: "tool", tool_call_id: id, content: `${text}${json}` }));
  const all: (Chat | Chunk)[] = [whole];
  for await (const chunk of await engine.chat.completions.create({ messages: [...messages, message, ...results], tools, stream: true })) all.push(chunk satisfies Chunk);
  return [...all, await engine.chat.completions.create({ messages, tools, tool_choice: choice }) satisfies Chat];
}

/** The door takes the place of the client's `fetch`. */
export function fetchOf(engine: Engine): NonNullable<ConstructorParameters<typeof OpenAI>[0]>["fetch"] {
  return openaiFetch(engine);
}
