/// <reference lib="esnext.disposable" />
/** llava-web: LLaVA-family vision-language models inside a browser tab. */

/**
 * A model file, or the parts of a split one in order. `hf:owner/repository/path/file.gguf` is a file on huggingface.co, and
 * `hf:owner/repository@revision/…` that of a branch, a tag or a commit. An address that ends in
 * `.pieces.json` is a manifest that `llava-web pack` wrote, and stands for the file whose pieces it names.
 */
export type Source = SourcePart | SourcePart[];
export type SourcePart = string | URL | File | Blob | ArrayBuffer | ArrayBufferView;

/**
 * A picture, of any kind that the browser can decode. Strings are `https:`, `data:` or `blob:` addresses, or the picture itself in base64,
 * which is decoded and never becomes part of a request. Of a video it is the frame that is shown.
 */
export type ImageSource =
  | Blob | ImageBitmap | ImageData | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | HTMLVideoElement | VideoFrame | SVGImageElement
  | string | URL | ArrayBuffer | ArrayBufferView;

/** Headers of a request, as `fetch` takes them. */
export type RequestHeaders = Record<string, string> | Headers | [string, string][];

export interface EngineOptions {
  /** The language model, GGUF. */
  model: Source;
  /** The vision tower and projector, GGUF ("mmproj"). Without it the engine answers text only. */
  mmproj?: Source | null;
  /** `auto`: WebGPU where a hardware adapter passes the self-test, else CPU, with all its threads. */
  device?: "auto" | "webgpu" | "cpu";
  /**
   * CPU only, at most 8. Default: as many as make this machine fastest, which is measured. 1 where the page is not cross-origin isolated, or
   * the other threads cannot be started.
   */
  threads?: number;
  /** In tokens. Default: 4096 or the model's, whichever is less. More than the model's is taken down to it, with a line in `info.warnings`. */
  contextSize?: number;
  /** Jinja text or a built-in name. Default: the model file's own. */
  chatTemplate?: "vicuna" | "llama-2" | "mistral" | "chatml" | "phi-3" | "llama-3" | (string & {});
  /** Quantizes the vision file's 16-bit matrices while they load: less memory, a little less exact. Default: as they are. */
  quantizeMmproj?: "q4_0" | "q8_0";
  /**
   * How keys and values are kept. Default: `f16`. `q8_0` keeps them in 8 bits with a scale for every 32: a little over half the memory, answers
   * a little less exact, and on the CPU slower behind long contexts where heads share keys. `f32` is for tests.
   */
  kvFormat?: "f16" | "q8_0" | "f32";
  /**
   * Whether files from `https:` addresses are kept in the browser's storage (OPFS). A kept file is known by its address, and is used
   * without asking the host again; a `sha256` of another version, or deleting it, fetches it anew. Default: kept where there is room,
   * else loaded all the same, with a line in `info.warnings`. `"opfs"` makes it an error (`storage`) where there is no room.
   */
  cache?: "opfs" | "none";
  /**
   * What is sent with the requests for the files at `https:` addresses: a token, where a model is gated or private. The same for all files, which
   * must then be of one origin, or for each file what a function of its address returns. They go to the host that the address names and are
   * never stored. Where that host redirects to another origin, `Authorization` is not sent on; with any other header a redirect fails the load
   * with `network`. The host must allow the headers in its answer to the browser's preflight request (CORS).
   */
  headers?: RequestHeaders | ((url: string) => RequestHeaders | null | undefined | Promise<RequestHeaders | null | undefined>) | null;
  /** The address of the folder that has the engine's files (`worker/`, `pkg/` and its like), where they are not beside this module. */
  assets?: string | URL | null;
  /** SHA-256 in hex, checked while the files are read. For a split file an array, one hash for each part. */
  sha256?: { model?: string | string[]; mmproj?: string | string[] };
  /** Cancels the load, which then fails with the code `aborted`. */
  signal?: AbortSignal | null;
  /** What it throws is reported as an uncaught error, and changes nothing. */
  onProgress?: (progress: LoadProgress) => void;
}

export interface LoadProgress {
  /** `recovering`: the GPU went away, and the load begins again on another device. */
  stage: "header" | "model" | "mmproj" | "recovering" | "ready";
  /** The file's name. */
  file: string;
  /** Bytes of the file's tensors. With the stage `header`: bytes of a file that another tab is downloading, which is waited for. */
  loaded: number;
  total: number;
  bytesPerSecond: number;
  /** Whether the bytes come from the browser's storage. */
  cached: boolean;
}

export interface EngineInfo {
  architecture: string;
  name: string;
  quantization: string;
  parameters: number;
  contextSize: number;
  vocabularySize: number;
  vision: null | { projector: string; imageSize: number; patchSize: number; tokensPerImage: number; featureSize: number };
  device: { kind: "webgpu" | "cpu"; adapter?: string; features?: string[]; threads?: number; simd?: string };
  bytes: { weights: number; kvCache: number; wasmHeap: number };
  /** What may be worth knowing about the model though it is no error; also that a GPU went away and the model was loaded again. */
  warnings?: string[];
}

export interface TextPart { type: "text"; text: string }
/**
 * How finely a picture is looked at: cut into tiles as the model was trained (`"high"`, the default), as one tile (`"low"`), or in as many as
 * keep the first token under 4 seconds on this device (`"auto"`). Of a model that takes every picture as one tile it changes nothing.
 */
export type ImageDetail = "high" | "low" | "auto";
export interface ImageUrlPart { type: "image_url"; image_url: { url: string; detail?: ImageDetail | null } | string }
export interface ImagePart { type: "image"; image: ImageSource; detail?: ImageDetail | null }
/** What a model would not answer, as OpenAI's replies say it; taken as text. */
export interface RefusalPart { type: "refusal"; refusal: string }
export type ContentPart = TextPart | ImageUrlPart | ImagePart | RefusalPart;

/**
 * A call of a tool. `arguments` is a JSON object that the tool's schema accepts; of an answer with the `finish_reason` `"length"` or `"abort"`
 * the last call's may be only the beginning of one.
 */
export interface ToolCall { id: string; type: "function"; function: { name: string; arguments: string } }

/**
 * `developer` is another name of `system`. OpenAI's `name` changes nothing. An assistant's content may be missing: a text of nothing. Messages of the
 * role `tool` are the results of the calls of the assistant's message before them.
 */
export type Message =
  | { role: "system" | "developer" | "user"; content: string | ContentPart[]; name?: string }
  | { role: "assistant"; content?: string | ContentPart[] | null; refusal?: string | null; name?: string; tool_calls?: ToolCall[] | null }
  | { role: "tool"; content: string | TextPart[]; tool_call_id: string };

/**
 * A function that the model may call. What it writes as arguments satisfies `parameters`, a JSON schema of an object, whether or not `strict` is
 * set; without `parameters` there are none. The model is told name, description and parameters, in the way it was trained on where its chat
 * template has one.
 */
export interface Tool {
  type: "function";
  function: { name: string; description?: string; parameters?: object; strict?: boolean | null };
}

/**
 * `auto` (the default where there are tools): the model answers or calls. `required`: it calls. A function: that one is called, once. `allowed_tools`:
 * as its `mode` says, but only these. `none`: nothing is called, and the model is not told of the tools.
 */
export type ToolChoice =
  | "none" | "auto" | "required"
  | { type: "function"; function: { name: string } }
  | { type: "allowed_tools"; allowed_tools: { mode: "auto" | "required"; tools: object[] } };

/**
 * `json_object`: any JSON object. `json_schema`: what the schema accepts (docs/json-and-tools.md says which keywords there are; others fail with
 * `invalid_request`, which names the keyword and its place). Members are written in the order of the schema's `properties`. An answer with
 * the `finish_reason` `"length"` or `"abort"`, or that a `stop` text ended, is only the beginning of such a JSON text. The model is not
 * told of the form: say in the prompt what is wanted.
 */
export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; json_schema: { schema: object | boolean; name?: string; description?: string; strict?: boolean | null } };

/**
 * OpenAI's fields that ask for nothing an engine in a tab could do otherwise: they are accepted, and change nothing. Fields that would change
 * the answer and are not supported fail with `invalid_request`, which names them.
 */
export interface Ignored {
  model?: string | null;
  user?: string | null;
  metadata?: object | null;
  store?: boolean | null;
  service_tier?: string | null;
  safety_identifier?: string | null;
  prompt_cache_key?: string | null;
  prompt_cache_options?: object | null;
  prompt_cache_retention?: string | null;
  prediction?: object | null;
  reasoning_effort?: string | null;
  verbosity?: string | null;
  /** llama.cpp's. */
  cache_prompt?: boolean | null;
  /** One answer is written. */
  n?: 1 | null;
}

export interface Sampling extends Ignored {
  /** At least 1; −1 is no limit. */
  max_tokens?: number | null;
  /** Another name for `max_tokens`, which counts where both are given. */
  max_completion_tokens?: number | null;
  /** 0 is greedy and deterministic. */
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
  /** Another name for `repetition_penalty`. */
  repeat_penalty?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  /** Token id → bias. */
  logit_bias?: Record<string, number> | null;
  seed?: number | null;
  /** Empty texts among them are left out. */
  stop?: string | string[] | null;
  /** Up to 20. */
  top_logprobs?: number | null;
  /** What the answer is: whatever the model writes parses as JSON and satisfies the schema, unless something else ends it first. */
  response_format?: ResponseFormat | null;
  /** `include_usage`: the stream's last chunk has `usage` and no choices, as OpenAI's; without, the chunk with the `finish_reason` has it. */
  stream_options?: { include_usage?: boolean | null } | null;
  /** Stops the generation; what was generated stays, with `finish_reason: "abort"`. */
  signal?: AbortSignal | null;
  /** Told of the work before the first token (images encoded, prompt tokens read), and of a recovery after the GPU went away. */
  onProgress?: (progress: GenerationProgress) => void;
}

export interface GenerationProgress {
  /**
   * `recovering`: the GPU went away, perhaps amid the answer, and the stream will go on where it was. `done` and `total` are bytes of the
   * model that is loaded again, then what of the conversation is computed again.
   */
  stage: "image" | "prefill" | "recovering";
  done: number;
  total: number;
}

export interface ChatCompletionRequest extends Sampling {
  messages: Message[];
  stream?: boolean | null;
  logprobs?: boolean | null;
  /** Goes on in the last message, which must be the assistant's: the answer is what follows it. */
  continue_final_message?: boolean | null;
  /** Whether the prompt ends where an answer begins. Default: yes, unless the last message is gone on with. */
  add_generation_prompt?: boolean | null;
  /** Variables for the model's chat template, such as Qwen3's `enable_thinking`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** At most 128. */
  tools?: Tool[] | null;
  tool_choice?: ToolChoice | null;
  /** Whether one answer may have several calls, where the model's form has room for them. Default: yes. */
  parallel_tool_calls?: boolean | null;
  modalities?: "text"[] | null;
}

export interface CompletionRequest extends Sampling {
  /** Taken as it is, but for BOS; `<image>` stands for the next of `images`. An array must have one. */
  prompt: string | [string];
  images?: ImageSource[] | null;
  stream?: boolean | null;
  /** `true`, or the number of alternatives. */
  logprobs?: boolean | number | null;
}

/** A request without tools. */
export interface Toolless { tools?: [] | null }

/** `tool_calls`: the answer is calls. `abort`, which OpenAI's replies do not have, is told only to who gave a `signal`. */
export type FinishReason = "stop" | "tool_calls" | "length" | "abort";
/** What OpenAI's replies have, too. */
export type Finished = Exclude<FinishReason, "abort">;
/** Text that is gone on with calls nothing. */
export type TextFinishReason = Exclude<FinishReason, "tool_calls">;
export type TextFinished = Exclude<Finished, "tool_calls">;
/** A call that nobody can stop ends by itself. */
export interface Unstoppable { signal?: null }

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  image_tokens: number;
  /** Tiles that the prompt's pictures were cut into, overviews counted. */
  image_tiles: number;
  /** Tokens of the prompt that had been computed before. */
  cached_tokens: number;
  /** The same in OpenAI's place. */
  prompt_tokens_details: { cached_tokens: number };
  image_ms: number;
  prefill_ms: number;
  decode_ms: number;
  prefill_tokens_per_second: number;
  decode_tokens_per_second: number;
}

export interface TopLogprob { token: string; logprob: number; bytes: number[] | null }
export interface TokenLogprob extends TopLogprob { top_logprobs: TopLogprob[] }

/** `content` is null where tools were given and the answer is calls alone. */
export interface ChatCompletion<Finish extends FinishReason = FinishReason, Content extends string | null = string> {
  id: string;
  object: "chat.completion";
  /** Seconds since 1970. */
  created: number;
  model: string;
  choices: [{
    index: 0;
    message: { role: "assistant"; content: Content; refusal: null; tool_calls?: ToolCall[] };
    finish_reason: Finish;
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
    token_ids: number[];
  }];
  usage: Usage;
}

/** A part of the call with this `index`: the first has its id and name, and all have more of the arguments, to put together. */
export interface ToolCallDelta { index: number; id?: string; type?: "function"; function: { name?: string; arguments: string } }

export interface ChatCompletionChunk<Finish extends FinishReason = FinishReason> {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: [{
    index: 0;
    delta: { role?: "assistant"; content: string; tool_calls?: ToolCallDelta[] };
    finish_reason: Finish | null;
    logprobs: { content: TokenLogprob[]; refusal: null } | null;
    /** This chunk's own. */
    token_ids: number[];
  }];
  /** In the last chunk. */
  usage?: Usage;
}

/** The last chunk of a stream that was asked for with `stream_options: { include_usage: true }`. */
export interface UsageChunk<Object extends string = "chat.completion.chunk"> {
  id: string;
  object: Object;
  created: number;
  model: string;
  choices: [];
  usage: Usage;
}

export interface TextLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  text_offset: number[];
  content: TokenLogprob[];
}

export interface Completion<Finish extends TextFinishReason = TextFinishReason> {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: [{ index: 0; text: string; finish_reason: Finish; logprobs: TextLogprobs | null; token_ids: number[] }];
  usage: Usage;
}

export interface CompletionChunk<Finish extends TextFinishReason = TextFinishReason> {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: [{ index: 0; text: string; finish_reason: Finish | null; logprobs: TextLogprobs | null; token_ids: number[] }];
  usage?: Usage;
}

/** Chunks as they are generated. Leaving the loop early stops the generation. */
export interface Stream<Chunk> extends AsyncIterableIterator<Chunk> {
  next(): Promise<IteratorResult<Chunk, undefined>>;
  return(): Promise<IteratorResult<Chunk, undefined>>;
  [Symbol.asyncIterator](): Stream<Chunk>;
}

/** What every call takes. */
export interface CallOptions {
  /** Stops the call, which then fails with the code `aborted`; the engine stops computing at its next step and can be used on. */
  signal?: AbortSignal | null;
}

/** Asks for the usage in a chunk of its own. */
export interface WithUsage { stream: true; stream_options: { include_usage: true } }

/**
 * What can be watched: whatever shows one picture after another. A picture that does not change is answered once for each question. A stream is read as
 * fast as it gives, its `VideoFrame`s and `ImageBitmap`s are closed, and it is cancelled in the end; the tracks of a `MediaStream` go on.
 */
export type WatchSource = ImageSource | MediaStream | MediaStreamTrack | ReadableStream<ImageSource>;

export interface WatchOptions extends Omit<Sampling, "stream_options" | "top_logprobs" | "onProgress" | "signal"> {
  question: string;
  /** Told of each step of each answer. What it throws is reported as an uncaught error, and changes nothing. */
  onAnswer: (answer: WatchAnswer) => void;
  /** The system message. */
  system?: string | null;
  /** Default: `"low"`. With it, a frame's longer side is first reduced to 640 pixels or twice the tower's, whichever is more; else to 2048. */
  detail?: ImageDetail | null;
  /**
   * How much of 1 a frame must differ from the one that was answered, to be looked at: 0 looks at all. What is compared is the sixteenth of the
   * picture that changed most, in copies of 32 × 32 pixels. Default: 0.06.
   */
  threshold?: number;
  /** Milliseconds that lie at least between two frames that are looked at. Default: 0, as often as answers are written. */
  interval?: number;
  /** Default: 0. */
  temperature?: number | null;
  /** Default: 128. */
  max_tokens?: number | null;
  /** Variables for the model's chat template. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** Ends it, as `stop()` does. */
  signal?: AbortSignal | null;
}

/** One step: a frame was taken (no `text` yet), more of its answer is there, or the answer is whole (`done`). */
export interface WatchAnswer {
  /** To which question. */
  question: string;
  /** As far as it is written. */
  text: string;
  done: boolean;
  /** Of an answer that is done. */
  finish_reason: FinishReason | null;
  /** The newest frame hardly differs from the one that `text` is about: it was not looked at, and `text` and `latency` are the last answer's. */
  skipped: boolean;
  /** When the frame was taken, as `performance.now()` tells time. */
  time: number;
  /** Where it is in its video or stream, in seconds; null for what has no such time. */
  mediaTime: number | null;
  /** Milliseconds from when the frame was taken to the answer's first token, and to its last. */
  latency: { firstToken: number | null; whole: number | null };
  /** Of an answer that is done. */
  usage: Usage | null;
}

/** `hidden`: the page is, and nothing is looked at; `waiting`: there is no new frame: the video stands still, or has not begun. */
export type WatchState = "watching" | "waiting" | "hidden" | "ended";

/** A source that is being watched. */
export interface Watch {
  /** Can be changed: the answer that is being written is given up, and the newest frame asked about anew. */
  question: string;
  readonly state: WatchState;
  /**
   * Settles when it has ended and everything it took is given back: `"stopped"` by `stop()` or the signal, or the `"source"` came to its end (a camera
   * was unplugged, sharing was stopped, a stream was read). Rejects where an answer or a frame fails, and with `aborted` when the engine is unloaded.
   */
  readonly ended: Promise<"stopped" | "source">;
  /** Ends it; `onAnswer` is told nothing more. Resolves when the engine is free. */
  stop(): Promise<void>;
  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Requests are answered one after another, in the order in which they were made. */
export interface Engine {
  readonly info: EngineInfo;
  readonly chat: {
    readonly completions: {
      create(request: ChatCompletionRequest & WithUsage & Unstoppable, options?: Unstoppable): Promise<Stream<ChatCompletionChunk<Finished> | UsageChunk>>;
      create(request: ChatCompletionRequest & WithUsage, options?: CallOptions): Promise<Stream<ChatCompletionChunk | UsageChunk>>;
      create(request: ChatCompletionRequest & Unstoppable & { stream: true }, options?: Unstoppable): Promise<Stream<ChatCompletionChunk<Finished>>>;
      create(request: ChatCompletionRequest & { stream: true }, options?: CallOptions): Promise<Stream<ChatCompletionChunk>>;
      create(request: ChatCompletionRequest & Toolless & Unstoppable & { stream?: false | null }, options?: Unstoppable): Promise<ChatCompletion<Finished>>;
      create(request: ChatCompletionRequest & Toolless & { stream?: false | null }, options?: CallOptions): Promise<ChatCompletion>;
      create(request: ChatCompletionRequest & Unstoppable & { stream?: false | null }, options?: Unstoppable): Promise<ChatCompletion<Finished, string | null>>;
      create(request: ChatCompletionRequest & { stream?: false | null }, options?: CallOptions): Promise<ChatCompletion<FinishReason, string | null>>;
      create(request: ChatCompletionRequest, options?: CallOptions): Promise<ChatCompletion<FinishReason, string | null> | Stream<ChatCompletionChunk>>;
    };
  };
  readonly completions: {
    create(request: CompletionRequest & WithUsage & Unstoppable, options?: Unstoppable): Promise<Stream<CompletionChunk<TextFinished> | UsageChunk<"text_completion">>>;
    create(request: CompletionRequest & WithUsage, options?: CallOptions): Promise<Stream<CompletionChunk | UsageChunk<"text_completion">>>;
    create(request: CompletionRequest & Unstoppable & { stream: true }, options?: Unstoppable): Promise<Stream<CompletionChunk<TextFinished>>>;
    create(request: CompletionRequest & { stream: true }, options?: CallOptions): Promise<Stream<CompletionChunk>>;
    create(request: CompletionRequest & Unstoppable & { stream?: false | null }, options?: Unstoppable): Promise<Completion<TextFinished>>;
    create(request: CompletionRequest & { stream?: false | null }, options?: CallOptions): Promise<Completion>;
    create(request: CompletionRequest, options?: CallOptions): Promise<Completion | Stream<CompletionChunk>>;
  };
  /**
   * Watches a source: the question is answered anew for its newest frame, again and again, each time in a conversation of its own. Frames that come
   * while an answer is written are replaced by the newest one, and those that hardly differ from the last are not looked at. Other requests have their
   * turn between two answers. Nothing is looked at while the page is hidden. Throws `invalid_request`, and `unsupported_browser` for a track in a worker
   * where only documents read tracks.
   */
  watch(source: WatchSource, options: WatchOptions): Watch;
  /** @param options `special`: control tokens written in the text count as such; `bos`: begin as the model wants it. */
  tokenize(text: string, options?: { special?: boolean; bos?: boolean } & CallOptions): Promise<Uint32Array>;
  detokenize(ids: Iterable<number>, options?: CallOptions): Promise<string>;
  /** The rendered prompt, images as `<image>`; with `tools`, as the model is told of them. */
  applyChatTemplate(messages: Message[], options?: { addGenerationPrompt?: boolean; tools?: Tool[] | null } & CallOptions): Promise<string>;
  /** Tokens that the prompt of these messages, and of `tools`, takes, pictures included. */
  countTokens(messages: Message[], options?: { tools?: Tool[] | null } & CallOptions): Promise<number>;
  /** What the language model is given for the picture: `shape` is [tokens, features]. */
  embedImage(image: ImageSource, options?: CallOptions): Promise<{ data: Float32Array; shape: number[]; milliseconds: number }>;
  /** What the vision tower is given for the picture: `shape` is [tiles, 3, height, width]. */
  preprocessImage(image: ImageSource, options?: CallOptions): Promise<{ data: Float32Array; shape: number[] }>;
  /** The last position's logits from an empty context, and the ids that were run (−1 for each row of an image). */
  evaluate(request: ({ tokens: Iterable<number> } | { prompt: string; images?: ImageSource[] }) & CallOptions, options?: CallOptions): Promise<{ logits: Float32Array; tokens: Int32Array }>;
  /**
   * Where the model looked before it wrote a token: its attention over each picture that stands before it, in their order. Computed when it
   * is asked for, from the context as it is. Of an answer's `i`th token `position` is `usage.prompt_tokens + i`; with its id as `token` it
   * is checked that it still is there. Fails with `invalid_request` where it is not, or no picture stands before it.
   */
  lookedAt(request: { position: number; token?: number } & CallOptions, options?: CallOptions): Promise<LookedAt>;
  /**
   * The context as bytes: keys and values of the tokens that are computed, to go on with later in an engine of the same model, on any
   * device with the same `kvFormat`. Waits for an answer that is being written. Beyond 1 GiB it fails with `out_of_memory`.
   */
  saveSession(options?: CallOptions): Promise<Uint8Array>;
  /**
   * Takes over what `saveSession` gave, in place of the conversation there is. A request that begins with the same messages and pictures
   * then finds them computed (`cached_tokens`). Fails with `integrity` (damaged or not all there), `invalid_request` (no session, of
   * another model, version or `kvFormat`), `mmproj_mismatch` or `context_overflow`, and then changes nothing.
   */
  restoreSession(bytes: Uint8Array | ArrayBuffer, options?: CallOptions): Promise<void>;
  /** Forgets the conversation. */
  reset(options?: CallOptions): Promise<void>;
  /** Medians over the runs. */
  benchmark(options?: { promptTokens?: number; generatedTokens?: number; runs?: number } & CallOptions): Promise<BenchmarkResult>;
  /**
   * Frees the model and its worker. Later calls fail with `invalid_request`, pending ones with `aborted`. An engine that nothing refers to any
   * more is unloaded by and by.
   */
  unload(): Promise<void>;
  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface LookedAt {
  /** The first layer and the one behind the last of those whose attention this is the mean of: the middle third; of all heads. */
  layers: [number, number];
  images: {
    /** The probability that each place of the grid got, row by row. */
    data: Float32Array;
    /** `[rows, cols]` of the grid: 24 × 24 for LLaVA-1.5; for LLaVA-1.6 that of the tiles, the overview spread over it. */
    shape: [number, number];
    /** What sets this token apart from others, from 0 to 1: places that draw attention whatever is written are left out. */
    salience: Float32Array;
    /** Where the grid lies: left, top, right and bottom in units of the picture's width and height. Padding is outside of 0 … 1. */
    bounds: [number, number, number, number];
    /** How much of all attention was on the picture, from 0 to 1; the rest was on words. */
    share: number;
  }[];
}

export interface BenchmarkResult {
  prefill_tokens_per_second: number;
  decode_tokens_per_second: number;
  dispatchesPerToken?: number;
  submitsPerToken?: number;
  bytesPerSecond?: number;
}

/**
 * Loads a model and starts an engine for it, in a worker of its own. Each engine has its own copy of the weights: to use one model in several
 * places, share the engine.
 */
export function createEngine(options: EngineOptions): Promise<Engine>;

/** A model file in the browser's storage. The parts of a split model are files of their own. */
export interface CachedModel {
  /** The file's name, or its address where several files have that name. */
  name: string;
  /** Where it came from; give it as `model` or `mmproj` to use it, or to go on with its download. */
  url: string;
  /** Bytes that are there. */
  bytes: number;
  /** Bytes that the browser counts for it: while it is downloaded, room for all of it is reserved. Deleting it frees these. */
  allocated: number;
  /** The whole file's, or null where the host did not say. */
  total: number | null;
  complete: boolean;
  /** Milliseconds since 1970. */
  lastUsed: number;
  /** Of a file that was wholly downloaded. */
  sha256?: string;
}

/** What is kept, what was used last first. Empty where the browser keeps nothing for this page. */
export function listCachedModels(): Promise<CachedModel[]>;
/** By its name in the list, or its address. Fails with `storage` while it is being loaded, with `invalid_request` where there is none. */
export function deleteCachedModel(name: string): Promise<void>;
/** In bytes, of this site's storage. */
export function storageEstimate(): Promise<{ usage: number; quota: number; persisted: boolean }>;

export interface DeviceReport {
  webgpu: {
    available: boolean;
    adapter: null | { vendor: string; architecture: string; device: string; description: string };
    /** Whether the adapter is a program on the CPU. */
    software: boolean;
    features: string[];
    limits: Record<string, number>;
  };
  cpu: {
    simd: boolean;
    relaxedSimd: boolean;
    /** Threads that could be used: 1 where the page is not cross-origin isolated. */
    threads: number;
  };
}

/** What this machine can compute with. */
export function detectDevice(): Promise<DeviceReport>;

export type ErrorCode =
  | "invalid_gguf" | "unsupported_architecture" | "unsupported_quantization" | "mmproj_mismatch" | "network" | "integrity"
  | "storage" | "out_of_memory" | "device_lost" | "context_overflow" | "invalid_image" | "invalid_request"
  | "unsupported_browser" | "aborted" | "internal";

/** Every failure: a stable `code`, and a message that says what was wrong and what to do. */
export class LlavaError extends Error {
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown });
  readonly code: ErrorCode;
}
