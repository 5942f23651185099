/** The element `<llava-chat>`: importing this module defines it. */

import type { ChatCompletionChunk, Engine, EngineInfo, EngineOptions, ErrorCode, GenerationProgress, LoadProgress, Message, Sampling, Usage } from "./llava-web.js";

/** A model that the element offers, beside files and addresses. */
export interface KnownModel {
  name: string;
  /** The name of its projector, as in the table of the README. A model of a family that the engine does not load is not offered. */
  family?: string;
  /** Beside a model for drawings, the smallest one for photographs that fits the device is offered. */
  purpose?: "drawings" | "photographs" | "documents";
  /** A few words. */
  description?: string;
  /** One sentence. */
  goodAt?: string;
  licence?: string;
  model: string;
  mmproj?: string;
  /** Of both files together, or of each. */
  bytes: number | { model: number; mmproj: number };
  roundedBytes?: boolean;
  /** Bytes for weights, a context of 2048 tokens and scratch: by these it is told whether the model fits. */
  memory?: number;
  /** For the engine, where the person has set nothing else. */
  options?: Pick<EngineOptions, "contextSize" | "chatTemplate" | "quantizeMmproj" | "kvFormat">;
  /** For its answers, likewise. */
  sampling?: Pick<Sampling, "temperature" | "top_p" | "top_k" | "min_p" | "repetition_penalty" | "presence_penalty">;
  /** To tell how fast it will be: the language model's weights, and of a picture in one piece the vision tower's operations and the rows it becomes. */
  work?: { weights: number; picture: number; rows: number };
  /** Of each file, in hex: so that a newer version at the same address is not taken for the one that this browser keeps. */
  sha256?: { model: string; mmproj?: string };
  /** A line about the model, for whoever has it before them. */
  about?: string;
  /** What to ask it about a picture. */
  questions?: string[];
  /** Pictures to begin with, by their addresses. */
  examples?: { picture: string; alt: string; question: string }[];
}

export class LlavaChat extends HTMLElement {
  /** Where the model's files are: `https:`, a path, or `hf:owner/repository/file.gguf`; several, separated by spaces, for a split file. Read when a model is loaded. */
  model: string;
  mmproj: string;
  /** `auto`, `webgpu` or `cpu`. */
  device: string;
  /** The system message. */
  system: string;
  /** What stands in the question's field at first. */
  prompt: string;
  /** `auto`, `high` or `low`: how finely pictures are looked at, where the person has not set it. */
  imageDetail: string;
  /** Whether the model is loaded without being asked for. */
  autoload: boolean;
  /** Models to choose from. */
  models: KnownModel[];
  /** The loaded engine, to do more with than this element does. */
  readonly engine: Engine | null;
  /** The conversation so far, as it would be sent. Its pictures are Blobs of PNG, JPEG, WebP, GIF or BMP. */
  readonly messages: Message[];
  /** Loads a model: these files, or those of the attributes. The conversation goes on with it, if it can. */
  load(options?: Partial<EngineOptions>): Promise<void>;
  /** Asks, beside whatever the person is writing; resolves to the answer. Rejects with `invalid_image` for what is no picture. */
  ask(text: string, images?: Blob | Blob[]): Promise<string>;
  /** Stops what is going on; what was generated stays. */
  stop(): void;
  /** Begins a new conversation with the same model. The person can undo it for some seconds. */
  reset(): void;
}

export interface LlavaChatEventMap {
  "llava-ready": CustomEvent<{ info: EngineInfo }>;
  "llava-progress": CustomEvent<LoadProgress | GenerationProgress>;
  "llava-message": CustomEvent<{ role: "user" | "assistant"; content: string; finish_reason?: ChatCompletionChunk["choices"][0]["finish_reason"]; usage?: Usage }>;
  "llava-error": CustomEvent<{ code: ErrorCode; message: string; error: unknown }>;
}

/** The attributes, as they are written in HTML. */
export interface LlavaChatAttributes {
  model?: string;
  mmproj?: string;
  device?: "auto" | "webgpu" | "cpu";
  system?: string;
  prompt?: string;
  "image-detail"?: "auto" | "high" | "low";
  /** Present or not: React 18 writes `false` as a text, which is present. */
  autoload?: boolean;
}

/** The properties that have no attribute. */
export type LlavaChatProperties = Pick<LlavaChat, "models">;

/** What the element takes in JSX that sets properties, and listens to events by their names, as React 19 and Preact do. */
export type LlavaChatProps = LlavaChatAttributes & Partial<LlavaChatProperties> & { [Name in keyof LlavaChatEventMap as `on${Name}`]?: (event: LlavaChatEventMap[Name]) => void };

declare global {
  interface HTMLElementTagNameMap {
    "llava-chat": LlavaChat;
  }
  interface HTMLElementEventMap extends LlavaChatEventMap {}
}
