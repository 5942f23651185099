/** The element `<llava-chat>`: importing this module defines it. */

import type { ChatCompletionChunk, Engine, EngineInfo, ErrorCode, GenerationProgress, LoadProgress, Message, Source, Usage } from "./llava-web.js";

export class LlavaChat extends HTMLElement {
  /** Where the model's files are: `https:`, a path, or `hf:owner/repository/file.gguf`; several, separated by spaces, for a split file. */
  model: string;
  mmproj: string;
  /** `auto`, `webgpu` or `cpu`. */
  device: string;
  /** The system message. */
  system: string;
  /** What stands in the question's field at first. */
  prompt: string;
  /** Whether the model is loaded without being asked for. */
  autoload: boolean;
  /** Models to choose from, beside files and addresses. `bytes`: of both files together. */
  models: { name: string; description?: string; model: string; mmproj?: string; bytes: number }[];
  /** The loaded engine, to do more with than this element does. */
  readonly engine: Engine | null;
  /** The conversation so far, as it would be sent. */
  readonly messages: Message[];
  /** Loads a model: these files, or those of the attributes. */
  load(sources?: { model?: Source; mmproj?: Source }): Promise<void>;
  /** Asks, as if the person had; resolves to the answer. */
  ask(text: string, images?: Blob | Blob[]): Promise<string>;
  /** Stops what is going on; what was generated stays. */
  stop(): void;
  /** Begins a new conversation with the same model. */
  reset(): void;
}

export interface LlavaChatEventMap {
  "llava-ready": CustomEvent<{ info: EngineInfo }>;
  "llava-progress": CustomEvent<LoadProgress | GenerationProgress>;
  "llava-message": CustomEvent<{ role: "user" | "assistant"; content: string; finish_reason?: ChatCompletionChunk["choices"][0]["finish_reason"]; usage?: Usage }>;
  "llava-error": CustomEvent<{ code: ErrorCode; message: string; error: unknown }>;
}

declare global {
  interface HTMLElementTagNameMap {
    "llava-chat": LlavaChat;
  }
  interface HTMLElementEventMap extends LlavaChatEventMap {}
}
