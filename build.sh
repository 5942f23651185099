#!/usr/bin/env bash
# Everything that is done to this project from a shell; `./build.sh help` lists it. Needs a Rust toolchain with rustup, node and
# python3; what else is missing it installs, or says what to install.
set -euo pipefail
cd "$(dirname "$0")"

readonly WASM_TARGET=wasm32-unknown-unknown
# SIMD is a part of every browser that is supported (see README), its relaxed instructions of most: the worker takes the module
# that its browser validates. Chosen here rather than in a configuration file, so that a plain `cargo build` of the crate stays plain.
readonly WASM_FLAGS="-C target-feature=+simd128"
readonly RELAXED_FLAGS="-C target-feature=+simd128,+relaxed-simd"
# Threads share the module's memory, which takes atomic instructions, a standard library that has them, and a linker told of it; without
# any one of these arguments the memory is not shared or wasm-bindgen finds no threads.
readonly THREADS_FLAGS="-C target-feature=+atomics,+bulk-memory,+mutable-globals
  -C link-arg=--shared-memory -C link-arg=--import-memory -C link-arg=--max-memory=4294967296
  -C link-arg=--export=__wasm_init_tls -C link-arg=--export=__tls_size -C link-arg=--export=__tls_align -C link-arg=--export=__tls_base"
# Bytes of the module after gzip -9: what a visitor downloads before the model.
readonly WASM_BUDGET=1600000
readonly CHROMIUM=${CHROMIUM:-/usr/bin/chromium}
readonly FIREFOX=${FIREFOX:-/usr/bin/firefox-esr}

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is not installed; $2"; }

usage() {
  cat <<'TEXT'
usage: ./build.sh COMMAND
  serve [PORT]    build, then serve the page on localhost (default port 8080)
  test            run every test; ends with a line of counts
  build           the wasm modules and their JavaScript, into www/pkg, www/pkg-relaxed, and the same with -threads behind; the page's
                  libraries, into www/vendor. With NAMES=1 the modules keep the names of their functions, for profilers
  package         build, then everything a static host needs, and the npm package, into dist (--no-isolation: see README)
  bench [ARGS]    build, then measure in Chromium (see tests/tools/bench.mjs)
  fetch-models    small real models for tests and benchmarks, into models/
TEXT
}

# The version of a crate in Cargo.lock.
locked() { awk -v name="\"$1\"" '$1 == "name" && $3 == name { getline; gsub(/"/, "", $3); print $3 }' Cargo.lock; }

toolchain() {
  need cargo "install Rust with rustup (rustup.rs)"
  if ! rustc --print target-libdir --target "$WASM_TARGET" 2>/dev/null | xargs -r test -d; then
    need rustup "install Rust with rustup (rustup.rs), or add the standard library for $WASM_TARGET yourself"
    say "installing the Rust target $WASM_TARGET"
    rustup target add "$WASM_TARGET"
  fi
  local crate tool
  crate=$(locked wasm-bindgen) tool=$(locked wasm-bindgen-cli-support)
  [ "$crate" = "$tool" ] || fail "Cargo.lock has wasm-bindgen $crate but wasm-bindgen-cli-support $tool; they must be equal"
}

build() {
  toolchain
  # A target folder each: cargo would build everything anew whenever the flags change.
  module pkg target "$WASM_FLAGS"
  module pkg-relaxed target/relaxed "$RELAXED_FLAGS"
  if library_source; then
    # The standard library is built anew, with atomics, which stable toolchains allow only so.
    module pkg-threads target/threads "$WASM_FLAGS $THREADS_FLAGS" -Z build-std=std,panic_abort
    module pkg-relaxed-threads target/relaxed-threads "$RELAXED_FLAGS $THREADS_FLAGS" -Z build-std=std,panic_abort
  else
    rm -rf www/pkg-threads www/pkg-relaxed-threads
    say "the modules with threads are NOT built: that needs the source of Rust's standard library (rustup component add rust-src)"
  fi
  vendor
}

# The page's libraries, and what packages it: tools/web has both.
vendor() {
  need node "install Node.js 20 or newer"
  if [ ! -d tools/web/node_modules ] || [ tools/web/package-lock.json -nt tools/web/node_modules ]; then
    say "installing what tools/web/package.json names"
    (cd tools/web && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules)
  fi
  node tools/web/vendor.mjs
}

package() {
  build
  say "packaging dist"
  node tools/web/package.mjs "$@"
}

# Whether the source of the standard library is there, or can be had.
library_source() {
  local source
  source=$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock
  [ -f "$source" ] && return
  command -v rustup >/dev/null && rustup component add rust-src && [ -f "$source" ]
}

# One build of the module: module NAME TARGET-FOLDER FLAGS [ARGUMENTS-THAT-BUILD-THE-STANDARD-LIBRARY...]
module() {
  say "building www/$1"
  (
    # What builds the standard library itself is not stable.
    [ $# = 3 ] || export RUSTC_BOOTSTRAP=1
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$3" cargo build --release --lib --target "$WASM_TARGET" --target-dir "$2" "${@:4}"
  )
  cargo run --quiet --package bindgen -- "$2/$WASM_TARGET/release/llava_web.wasm" "www/$1" llava_web ${NAMES:+--names}
  printf 'www/%s/llava_web_bg.wasm: %s bytes, %s after gzip\n' "$1" "$(wc -c < "www/$1/llava_web_bg.wasm")" "$(compressed_size "$1")"
}

compressed_size() { gzip -9 -c "www/$1/llava_web_bg.wasm" | wc -c; }

serve() {
  need node "install Node.js 20 or newer"
  build
  say "serving; stop with Ctrl-C"
  exec node tests/tools/serve.mjs --port "${1:-8080}" www
}

fetch_models() {
  need python3 "install Python 3.9 or newer"
  tests/tools/fetch_models.sh models
}

# Installs one of Debian's packages, quietly; fails where that is not possible.
debian_package() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing $1"
  apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$1" >/dev/null
}

browser() {
  need node "install Node.js 20 or newer"
  [ -x "$CHROMIUM" ] || debian_package chromium || fail "Chromium is not at $CHROMIUM; install it, or set CHROMIUM to where it is"
  if [ ! -d tests/node_modules ] || [ tests/package-lock.json -nt tests/node_modules ]; then
    (cd tests && npm ci --ignore-scripts --no-audit --no-fund)
  fi
}

# The second browser. Not every system has a package of it: what is tested there is then skipped, and says so.
firefox() {
  [ -x "$FIREFOX" ] || debian_package firefox-esr ||
    say "Firefox is not at $FIREFOX and cannot be installed here: its tests are SKIPPED. Install firefox-esr, or set FIREFOX to where it is"
}

# A Vulkan adapter for the tests of the GPU backend; where there is no GPU, Mesa's that computes on the CPU.
vulkan() {
  compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then fail "there is no Vulkan driver; install Mesa's (mesa-vulkan-drivers)"; fi
  say "installing Mesa's Vulkan drivers"
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends mesa-vulkan-drivers libvulkan1 >/dev/null
}

# The kernels on another driver, the one that Chromium brings along: it has other subgroups and no 16-bit floats. What depends on the
# driver least and takes longest is left to the first one.
swiftshader() {
  local icd=/usr/lib/chromium/vk_swiftshader_icd.json
  if [ ! -f "$icd" ]; then
    say "this Chromium has no $icd: the kernels are NOT tested on SwiftShader natively"
    skipped=$((skipped + 1))
    return
  fi
  suite "kernels on SwiftShader" env VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd" \
    cargo test --quiet --test ops_gpu -- --skip results_do_not_depend_on_checks_of_indices
}

bench() {
  build
  browser
  fetch_models
  say "measuring"
  node tests/tools/bench.mjs "$@"
}

passed=0 failed=0 skipped=0

# One check that passes or fails: check NAME COMMAND...
check() {
  local name=$1 start=$SECONDS
  shift
  say "$name"
  # In the condition of an `if` bash would go on after a failing command; a subshell outside of one stops there.
  local status
  set +e
  (set -e; "$@")
  status=$?
  set -e
  if [ "$status" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); printf 'FAILED: %s\n' "$name"; fi
  printf '(%s: %s s)\n' "$name" $((SECONDS - start))
}

# A suite that prints its own counts, as cargo test and node --test do: suite NAME COMMAND...
suite() {
  local name=$1 start=$SECONDS log status=0 p f s
  shift
  log=$(mktemp)
  say "$name"
  "$@" 2>&1 | tee "$log" || status=$?
  # shellcheck disable=SC2034 # read gives all three
  read -r p f s < <(awk '
    /^test result:/ { p += $4; f += $6; s += $8 }
    /^# pass /      { p += $3 }
    /^# fail /      { f += $3 }
    /^# (skipped|todo|cancelled) / { s += $3 }
    /^ℹ pass /      { p += $3 }
    /^ℹ fail /      { f += $3 }
    /^ℹ (skipped|todo|cancelled) / { s += $3 }
    END { print p + 0, f + 0, s + 0 }' "$log")
  rm -f "$log"
  # A suite that died, or that ran nothing, has failed even if it counted no failure.
  if { [ "$status" != 0 ] && [ "$f" = 0 ]; } || [ $((p + f)) = 0 ]; then f=$((f + 1)); fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  printf '(%s: %s passed, %s failed, %s skipped, %s s)\n' "$name" "$p" "$f" "$s" $((SECONDS - start))
}

clippy_wasm() {
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$RELAXED_FLAGS" cargo clippy --quiet --lib --target "$WASM_TARGET" -- -D warnings
}

wasm_budget() {
  local name size
  for name in pkg pkg-relaxed pkg-threads pkg-relaxed-threads; do
    [[ $name != *-threads ]] || [ -e "www/$name" ] || continue
    [ -s "www/$name/llava_web_bg.wasm" ] || return 1
    size=$(compressed_size "$name")
    printf '%s takes %s bytes after gzip; the budget is %s\n' "$name" "$size" "$WASM_BUDGET"
    [ "$size" -le "$WASM_BUDGET" ] || return 1
  done
}

# The training's tests; those of the networks are skipped where there is no PyTorch.
training_tests() {
  local python=python3
  need python3 "install Python 3.10 or newer"
  if ! python3 -c 'import numpy, PIL' 2>/dev/null; then
    python=target/training-venv/bin/python
    if ! "$python" -c 'import numpy, PIL' 2>/dev/null; then
      python3 -m venv target/training-venv
      "$python" -m pip -q install numpy pillow
    fi
  fi
  "$python" training/tests/run.py
}

run_tests() {
  local start=$SECONDS
  # Mesa's driver complains at every device where this is missing.
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
  toolchain
  check "format" cargo fmt --all --check
  check "clippy" cargo clippy --quiet --workspace --all-targets -- -D warnings
  check "clippy for wasm" clippy_wasm
  check "models" fetch_models
  vulkan
  suite "native tests" cargo test --quiet --no-fail-fast
  suite "training tests" training_tests
  check "wasm module" build
  check "wasm size" wasm_budget
  check "package" node tools/web/package.mjs
  browser
  firefox
  swiftshader
  check "kernels in wasm" node tests/wasm/ops.mjs run chromium
  check "kernels on Chromium's GPU" node tests/wasm/ops.mjs run chromium-gpu
  if [ -x "$FIREFOX" ]; then check "kernels on Firefox's GPU" node tests/wasm/ops.mjs run firefox-gpu; else skipped=$((skipped + 1)); fi
  check "types" npm --prefix tests run --silent types
  suite "browser tests" npm --prefix tests test --silent
  say "all tests: $((SECONDS - start)) s"
  printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" = 0 ]
}

case ${1:-help} in
  serve) shift; serve "$@" ;;
  test) run_tests ;;
  build) build ;;
  package) shift; package "$@" ;;
  bench) shift; bench "$@" ;;
  fetch-models) fetch_models ;;
  help | -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
