// Writes language models of any size that hold nothing but zeros, which take no room on the disk: for measuring memory. A LLaMA in Q4_0
// with a vocabulary of made-up words.

import { open } from "node:fs/promises";

const ALIGNMENT = 32;
const [F32, Q4_0] = [0, 2];

/** Little-endian pieces of a header. */
class Writer {
  /** @type {Buffer[]} */
  pieces = [];

  u32(/** @type {number} */ value) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.pieces.push(bytes);
  }

  u64(/** @type {number} */ value) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.pieces.push(bytes);
  }

  f32(/** @type {number} */ value) {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    this.pieces.push(bytes);
  }

  string(/** @type {string} */ text) {
    const bytes = Buffer.from(text);
    this.u64(bytes.length);
    this.pieces.push(bytes);
  }
}

/**
 * @param {string} file
 * @param {{ layers: number, embd?: number, ff?: number, heads?: number, kvHeads?: number, vocab?: number, context?: number }} shape
 * @returns {Promise<number>} the size in bytes
 */
export async function writeSparseModel(file, { layers, embd = 2048, ff = 5632, heads = 32, kvHeads = 4, vocab = 32000, context = 2048 }) {
  const tokens = ["<unk>", "<s>", "</s>", ...Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`)];
  for (let i = tokens.length; i < vocab; i++) tokens.push(`▁word${i}`);
  const kv = (embd / heads) * kvHeads;
  /** @type {[string, number, number[]][]} */
  const tensors = [["token_embd.weight", Q4_0, [embd, vocab]], ["output.weight", Q4_0, [embd, vocab]], ["output_norm.weight", F32, [embd]]];
  for (let i = 0; i < layers; i++) {
    const matrices = { attn_q: [embd, embd], attn_k: [embd, kv], attn_v: [embd, kv], attn_output: [embd, embd], ffn_gate: [embd, ff], ffn_up: [embd, ff], ffn_down: [ff, embd] };
    for (const [name, dims] of Object.entries(matrices)) tensors.push([`blk.${i}.${name}.weight`, Q4_0, dims]);
    for (const name of ["attn_norm", "ffn_norm"]) tensors.push([`blk.${i}.${name}.weight`, F32, [embd]]);
  }
  const w = new Writer();
  /** @type {[string, () => void][]} */
  const pairs = [];
  const text = (/** @type {string} */ key, /** @type {string} */ value) => pairs.push([key, () => { w.u32(8); w.string(value); }]);
  const uint = (/** @type {string} */ key, /** @type {number} */ value) => pairs.push([key, () => { w.u32(4); w.u32(value); }]);
  const float = (/** @type {string} */ key, /** @type {number} */ value) => pairs.push([key, () => { w.u32(6); w.f32(value); }]);
  const array = (/** @type {string} */ key, /** @type {number} */ type, /** @type {any[]} */ all, /** @type {(value: any) => void} */ put) => {
    pairs.push([key, () => { w.u32(9); w.u32(type); w.u64(all.length); all.forEach(put); }]);
  };
  text("general.architecture", "llama");
  text("general.name", `zeros ${layers}x${embd}`);
  uint("llama.block_count", layers);
  uint("llama.embedding_length", embd);
  uint("llama.feed_forward_length", ff);
  uint("llama.attention.head_count", heads);
  uint("llama.attention.head_count_kv", kvHeads);
  uint("llama.context_length", context);
  float("llama.attention.layer_norm_rms_epsilon", 1e-5);
  text("tokenizer.ggml.model", "llama");
  array("tokenizer.ggml.tokens", 8, tokens, (token) => w.string(token));
  array("tokenizer.ggml.scores", 6, tokens.map((_, i) => -i), (score) => w.f32(score));
  array("tokenizer.ggml.token_type", 5, tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1)), (kind) => w.u32(kind));
  uint("tokenizer.ggml.bos_token_id", 1);
  uint("tokenizer.ggml.eos_token_id", 2);

  w.pieces.push(Buffer.from("GGUF"));
  w.u32(3);
  w.u64(tensors.length);
  w.u64(pairs.length);
  for (const [key, put] of pairs) {
    w.string(key);
    put();
  }
  const align = (/** @type {number} */ n) => Math.ceil(n / ALIGNMENT) * ALIGNMENT;
  let offset = 0;
  for (const [name, type, dims] of tensors) {
    w.string(name);
    w.u32(dims.length);
    dims.forEach((n) => w.u64(n));
    w.u32(type);
    w.u64(offset);
    const n = dims.reduce((a, b) => a * b, 1);
    offset = align(offset + (type === F32 ? 4 * n : (n / 32) * 18));
  }
  const header = Buffer.concat(w.pieces);
  const size = align(header.length) + offset;
  const handle = await open(file, "w");
  await handle.write(header);
  // What was never written reads as zeros.
  await handle.truncate(size);
  await handle.close();
  return size;
}
