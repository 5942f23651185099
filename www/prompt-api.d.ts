import type { Engine, EngineOptions, ImageSource } from "./llava-web.js";

/**
 * The Prompt API (https://webmachinelearning.github.io/prompt-api/), with pictures, over a model in this tab. Names of its earlier drafts
 * (`inputUsage`, `inputQuota`, `measureInputUsage`, `onquotaoverflow`, `params`) are there, too. All sessions share one engine, whose context is that of
 * the session that was asked last; another one's is computed again.
 *
 * Where a conversation grows beyond the context, its oldest turns but the system's are forgotten, and `contextoverflow` is fired; what does not fit
 * even so is refused with a `QuotaExceededError`. Audio is refused with a `NotSupportedError`.
 */
export class LanguageModel extends EventTarget {
  private constructor();
  static create(options?: CreateOptions): Promise<LanguageModel>;
  /** `available` where the model's files are kept or are no files of the network's, `downloading` while they are loaded. */
  static availability(options?: CoreOptions): Promise<"unavailable" | "downloadable" | "downloading" | "available">;
  static params(): Promise<{ defaultTopK: number; maxTopK: number; defaultTemperature: number; maxTemperature: number } | null>;
  prompt(input: PromptInput, options?: PromptOptions): Promise<string>;
  /** Pieces of the answer as they are written; to put together. Cancelling the stream stops the model. */
  promptStreaming(input: PromptInput, options?: PromptOptions): ReadableStream<string>;
  /** Adds messages without an answer. */
  append(input: PromptInput, options?: { signal?: AbortSignal }): Promise<void>;
  /** Tokens that the input would add. */
  measureContextUsage(input: PromptInput, options?: PromptOptions): Promise<number>;
  measureInputUsage(input: PromptInput, options?: PromptOptions): Promise<number>;
  /** In tokens. */
  readonly contextUsage: number;
  readonly contextWindow: number;
  readonly inputUsage: number;
  readonly inputQuota: number;
  oncontextoverflow: ((event: Event) => unknown) | null;
  onquotaoverflow: ((event: Event) => unknown) | null;
  readonly topK: number;
  readonly temperature: number;
  /** Null where the session was not created with one. */
  readonly samplingMode: SamplingMode | null;
  /** The same conversation, to go on with in another way. */
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  /** Ends what it is doing. The model stays loaded. */
  destroy(): void;
}

export type PromptInput = string | PromptMessage[];
export interface PromptMessage {
  role: "system" | "user" | "assistant";
  content: string | PromptPart[];
  /** Of a last message of the assistant's: the answer goes on in it. */
  prefix?: boolean;
}
export type PromptPart = { type: "text"; value: string } | { type: "image"; value: ImageSource };

/** A function that the model may call. `execute` is given an object that `inputSchema` accepts; what it throws, the prompt fails with. */
export interface PromptTool {
  name: string;
  description: string;
  inputSchema: object;
  execute: (input: any) => unknown;
}

/** From always the likeliest word to many a surprising one; instead of `topK` and `temperature`. */
export type SamplingMode = "most-predictable" | "predictable" | "slightly-predictable" | "balanced" | "slightly-creative" | "creative" | "most-creative";

export interface Expected { type: "text" | "image" | (string & {}); languages?: string[] }
export interface CoreOptions {
  topK?: number;
  temperature?: number;
  samplingMode?: SamplingMode;
  expectedInputs?: Expected[];
  expectedOutputs?: Expected[];
  /** Called when the model asks for them, up to eight times for one answer; an answer is then written from what they return. */
  tools?: PromptTool[];
}
export interface CreateMonitor extends EventTarget {
  ondownloadprogress: ((event: ProgressEvent) => unknown) | null;
}
export interface CreateOptions extends CoreOptions {
  initialPrompts?: PromptMessage[];
  /** Gets a target of `downloadprogress` events, whose `loaded` goes from 0 to 1. */
  monitor?: (monitor: CreateMonitor) => void;
  signal?: AbortSignal;
}
export interface PromptOptions {
  /** A JSON schema for an answer in JSON, or a regular expression that the whole answer matches. */
  responseConstraint?: object | RegExp;
  /** Unless true the schema is put behind the question, for the model to read. */
  omitResponseConstraintInput?: boolean;
  signal?: AbortSignal;
}

/**
 * Makes `LanguageModel` known to the page, with this model behind it.
 *
 * @param given  an engine, or the options of one: it is then created by the first session, and once
 * @param options  `prefer`: also where the browser has a `LanguageModel` of its own
 * @returns whether the page's `LanguageModel` is this one now
 */
export function installLanguageModel(given: Engine | PromiseLike<Engine> | EngineOptions, options?: { prefer?: boolean }): boolean;
/**
 * The same where the browser has a `LanguageModel` of its own and no model behind it that does what the page needs: one whose `availability` for that
 * is `"unavailable"`.
 *
 * @param options  `needs`: what sessions are going to be created with, for instance `{ expectedInputs: [{ type: "image" }] }`, or `{}`
 */
export function installLanguageModel(given: Engine | PromiseLike<Engine> | EngineOptions, options: { prefer?: boolean; needs: CoreOptions }): Promise<boolean>;
