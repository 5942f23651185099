#!/usr/bin/env bash
# Everything that is done to this project from a shell; `./build.sh help` lists it. Needs a Rust toolchain with rustup, node and
# python3; what else is missing it installs, or says what to install.
set -euo pipefail
cd "$(dirname "$0")"

readonly WASM_TARGET=wasm32-unknown-unknown
# SIMD is a part of every browser that is supported (see README), its relaxed instructions of most: the worker takes the module
# that its browser validates. Chosen here rather than in a configuration file, so that a plain `cargo build` of the crate stays plain.
readonly SIMD="-C target-feature=+simd128"
# For the crate itself alone: its kernels are what uses them, and all else is then compiled once for both modules.
readonly RELAXED_SIMD="-C target-feature=+relaxed-simd"
# Threads share the module's memory, which takes atomic instructions, a standard library that has them, and a linker told of it; without
# any one of these arguments the memory is not shared or wasm-bindgen finds no threads.
readonly THREADS="-C target-feature=+atomics,+bulk-memory,+mutable-globals
  -C link-arg=--shared-memory -C link-arg=--import-memory -C link-arg=--max-memory=4294967296
  -C link-arg=--export=__wasm_init_tls -C link-arg=--export=__tls_size -C link-arg=--export=__tls_align -C link-arg=--export=__tls_base"
# The builds of the module, in the order in which `serve` makes them: the first runs in every current browser.
readonly MODULES=(pkg-relaxed pkg pkg-relaxed-threads pkg-threads)
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
  serve [PORT]    serve the page on localhost (default port 8080) as soon as the module that current browsers take is built; those for older
                  ones and for threads are built meanwhile, and taken when the page is loaded again
  test            run every test; ends with a line of counts
  build           the wasm modules and their JavaScript, into www/pkg, www/pkg-relaxed, and the same with -threads behind; the page's
                  libraries, into www/vendor. With NAMES=1 the modules keep the names of their functions, for profilers
  package         build, then everything a static host needs, and the npm package, into dist (--no-isolation: see docs/publish.md)
  bench [ARGS]    build, then measure in Chromium (see tests/tools/bench.mjs)
  fetch-models    small real models for tests and benchmarks, into models/
  fuzz SECONDS [TARGET...]  every fuzz target (or those named) for its share of so many seconds; see tests/fuzz/README.md
  miri            the unsafe code that can be interpreted, under Miri
  loom            the thread pool in every order in which a few threads can take their steps
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
  local name
  for name in "${MODULES[@]}"; do module "$name"; done
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

# The program that writes the JavaScript of a module: its path.
bindgen() {
  cargo build --quiet --profile tool --package bindgen --target-dir target/tools || return
  printf target/tools/tool/bindgen
}

# What a module is made of, in one hash: two builds with the same one are the same.
fingerprint() {
  {
    rustc -vV
    printf '%s\n' "$1" "$SIMD" "$RELAXED_SIMD" "$THREADS" "${NAMES:+names}"
    find src tools/bindgen Cargo.toml Cargo.lock -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum
}

# Whether www/NAME is there and was made of what the sources are now.
is_current() { [ "$(fingerprint "$1")" = "$(cat "www/$1/.fingerprint" 2>/dev/null)" ]; }

# One build of the module, put into its place as a whole: module NAME, one of MODULES. Nothing is done where it is there already.
module() {
  local name=$1 folder=target/wasm flags=$SIMD made=target/modules/$1 own=() more=() tool fingerprint
  if is_current "$name"; then return; fi
  # Before it is built: what is edited meanwhile may be in it or not.
  fingerprint=$(fingerprint "$name")
  if [[ $name == *relaxed* ]]; then read -ra own <<< "$RELAXED_SIMD"; fi
  if [[ $name == *threads* ]]; then
    if ! library_source; then
      rm -rf "www/$name"
      say "www/$name is NOT built: that needs the source of Rust's standard library (rustup component add rust-src)"
      return
    fi
    # The standard library is built anew, with atomics, which stable toolchains allow only so.
    folder=target/wasm-threads flags+=" $THREADS" more=(-Z build-std=std,panic_abort)
  fi
  say "building www/$name"
  rm -rf "$made"
  (
    [ ${#more[@]} = 0 ] || export RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=$flags
    cargo rustc --release --lib --target "$WASM_TARGET" --target-dir "$folder" "${more[@]}" -- "${own[@]}"
  )
  tool=$(bindgen)
  "$tool" "$folder/$WASM_TARGET/release/llava_web.wasm" "$made" llava_web ${NAMES:+--names}
  printf '%s\n' "$fingerprint" > "$made/.fingerprint"
  rm -rf "www/$name"
  mv "$made" "www/$name"
  printf 'www/%s/llava_web_bg.wasm: %s bytes, %s after gzip\n' "$name" "$(wc -c < "www/$name/llava_web_bg.wasm")" "$(compressed_size "$name")"
}

compressed_size() { gzip -9 -c "www/$1/llava_web_bg.wasm" | wc -c; }

# Starts a job in the background, in a process group of its own: it ends when this program does, with whatever it started.
jobs=()
beside() {
  trap 'for job in "${jobs[@]}"; do kill -- "-$job" 2>/dev/null || true; done' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  set -m
  "$@" &
  jobs+=($!)
  set +m
}

serve() {
  local port=${1:-8080} name job
  need node "install Node.js 20 or newer"
  toolchain
  # A page must not take what an older state of the sources left.
  for name in "${MODULES[@]}"; do is_current "$name" || rm -rf "www/$name"; done
  # While the module is linked, which one processor does, the others build the program that is needed next.
  beside module "${MODULES[0]}"
  beside before_page
  for job in "${jobs[@]}"; do wait "$job"; done
  jobs=()
  say "serving; stop with Ctrl-C"
  beside node tests/tools/serve.mjs --isolated --port "$port" www
  beside other_modules
  wait "${jobs[0]}"
}

# What the first page needs beside a module.
before_page() {
  vendor
  if ! is_current "${MODULES[0]}"; then bindgen >/dev/null; fi
}

other_modules() {
  local name
  for name in "${MODULES[@]:1}"; do module "$name"; done
  say "every build of the module is there: load the page again to use the best"
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

# A Vulkan adapter for the tests of the GPU backend, without which they fail here (by themselves they say that they are skipped); where there
# is no GPU, Mesa's that computes on the CPU.
vulkan() {
  export LLAVA_WEB_GPU=required
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
    skip "kernels on SwiftShader" "this Chromium has no $icd"
    return
  fi
  suite "kernels on SwiftShader" env VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd" \
    cargo test --quiet --test ops -- on_gpu:: --skip results_do_not_depend_on_checks_of_indices
}

# A nightly compiler with what else is needed, or a line that says why not: nightly COMPONENT...
nightly() {
  if ! command -v rustup >/dev/null || ! rustup run nightly rustc --version >/dev/null 2>&1; then
    say "SKIPPED: there is no nightly compiler (rustup toolchain install nightly)"
    return 1
  fi
  if [ $# -gt 0 ] && ! rustup component add --toolchain nightly "$@" >/dev/null 2>&1; then
    say "SKIPPED: the nightly compiler cannot be given $*"
    return 1
  fi
}

readonly FUZZ=tests/fuzz

# Fuzzing for so many seconds in all, from the seeds in the repository and from what earlier runs found, which stays in target/fuzz.
fuzz() {
  local seconds=${1:-} target folder n log
  case $seconds in '' | *[!0-9]*) fail "how many seconds? ./build.sh fuzz SECONDS [TARGET...]" ;; esac
  shift
  nightly || return 0
  if ! cargo fuzz --version >/dev/null 2>&1; then
    say "installing cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz || { say "SKIPPED: cargo-fuzz cannot be installed"; return 0; }
  fi
  local targets=("$@")
  if [ ${#targets[@]} = 0 ]; then mapfile -t targets < <(basename -s .rs -a $FUZZ/targets/*.rs); fi
  # Safe code has nothing that an address sanitizer would find, and runs several times faster without. SANITIZER=address for what has not.
  say "building the fuzz targets (sanitizer: ${SANITIZER:-none})"
  for target in "${targets[@]}"; do
    cargo +nightly fuzz build --fuzz-dir $FUZZ --target-dir target/fuzz/build -s "${SANITIZER:-none}" "$target"
  done
  n=$((seconds / ${#targets[@]}))
  for target in "${targets[@]}"; do
    say "fuzzing $target for $n s"
    folder=target/fuzz/corpus/$target log=target/fuzz/$target.log
    mkdir -p "$folder" "target/fuzz/found/$target"
    local dictionary=()
    [ ! -f "$FUZZ/dictionaries/$target.dict" ] || dictionary=("-dict=$FUZZ/dictionaries/$target.dict")
    if ! cargo +nightly fuzz run --fuzz-dir $FUZZ --target-dir target/fuzz/build -s "${SANITIZER:-none}" "$target" \
      "$folder" "$FUZZ/corpus/$target" -- -max_total_time="$n" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 \
      -artifact_prefix="target/fuzz/found/$target/" "${dictionary[@]}" > "$log" 2>&1; then
      tail -40 "$log"
      fail "fuzzing $target found something; the input is in target/fuzz/found/$target"
    fi
    grep -E 'stat::(number_of_executed_units|average_exec_per_sec)' "$log"
    grep -oE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -1
  done
}

# Miri interprets: what it runs is chosen for it, some minutes in all. The kernels' sources are taken in by a crate without wgpu.
miri() {
  nightly miri rust-src || return 0
  MIRIFLAGS="-Zmiri-strict-provenance" cargo +nightly miri test --quiet --package ops-runner --target-dir target/miri --lib -- backend::cpu quant
}

# Loom has a lock file of its own.
loom() { cargo test --quiet --manifest-path tests/loom/Cargo.toml --target-dir target/loom; }

# Sizes have 32 bits in the product and 64 on this machine: here too, with checks of overflow, which releases go without. Programs of
# this kind of machine run on the other too. These are the tests that sizes go through; the others need a GPU or candle, which knows no
# such platforms, or take long here.
readonly BITS32_TARGET=i686-unknown-linux-gnu
readonly BITS32_TESTS=(blame:: image:: on_cpu:: quant:: session::)
bits32() {
  local name="32-bit tests" why=
  if ! command -v rustup >/dev/null || ! rustup target add "$BITS32_TARGET" >/dev/null 2>&1; then
    why="the Rust target $BITS32_TARGET cannot be added"
  elif ! links_32_bits && ! { debian_package gcc-multilib && links_32_bits; }; then
    why="no program of 32 bits can be linked (gcc-multilib)"
  elif ! /lib/ld-linux.so.2 --help >/dev/null 2>&1; then
    why="programs of 32 bits do not run here"
  fi
  if [ -n "$why" ]; then skip "$name" "$why"; return; fi
  suite "$name" tests_of_32_bits
}

tests_of_32_bits() {
  local test=(env LLAVA_WEB_GPU= cargo test --quiet --no-fail-fast --no-default-features --target "$BITS32_TARGET" --target-dir target/bits32
    --config 'profile.dev.opt-level=1')
  "${test[@]}" --lib --test gguf --test memory_ends
  "${test[@]}" --test models --test ops --test parts -- "${BITS32_TESTS[@]}"
}

links_32_bits() { printf 'int main(void) { return 0; }' | cc -m32 -x c -o /dev/null - 2>/dev/null; }

bench() {
  build
  browser
  fetch_models
  say "measuring"
  node tests/tools/bench.mjs "$@"
}

# What the checks found, a line for each: passed, failed, skipped, seconds, seconds of the processors, name.
results=
# Which of the checks have begun that either of two jobs may do.
claims=

# One check that passes or fails: check NAME COMMAND...
check() {
  local name=$1 log status
  shift
  log=$(mktemp)
  say "$name"
  timed "$log" "$@"
  if [ "$status" = 0 ]; then record "$log" 1 0 0 "$name"; else record "$log" 0 1 0 "$name"; fi
}

# A suite that prints its own counts, as cargo test and node --test do: suite NAME COMMAND...
suite() {
  local name=$1 log status p f s
  shift
  log=$(mktemp)
  say "$name"
  timed "$log" "$@"
  read -r p f s < <(awk '
    /^test result:/ { p += $4; f += $6; s += $8 }
    /^# pass /      { p += $3 }
    /^# fail /      { f += $3 }
    /^# (skipped|todo|cancelled) / { s += $3 }
    /^ℹ pass /      { p += $3 }
    /^ℹ fail /      { f += $3 }
    /^ℹ (skipped|todo|cancelled) / { s += $3 }
    END { print p + 0, f + 0, s + 0 }' "$log")
  # A suite that died, or that ran nothing, has failed even if it counted no failure.
  if { [ "$status" != 0 ] && [ "$f" = 0 ]; } || [ $((p + f)) = 0 ]; then f=$((f + 1)); fi
  record "$log" "$p" "$f" "$s" "$name"
}

# What cannot be checked on this machine: skip NAME WHY
skip() {
  say "$1: SKIPPED: $2"
  printf '0 0 1 0 0 %s\n' "$1" >> "$results"
}

# Runs a command and keeps its output in LOG, its times in LOG.times, and what it ended with in `status`: timed LOG COMMAND...
timed() {
  local log=$1 TIMEFORMAT='%R %U %S'
  shift
  # In a condition bash would go on after a failing command; a subshell outside of one stops there.
  set +e
  { time { (set -e; "$@") 2>&1 | tee "$log"; }; } 2> "$log.times"
  status=$?
  set -e
}

# record LOG PASSED FAILED SKIPPED NAME
record() {
  local wall user system
  read -r wall user system < "$1.times"
  rm -f "$1" "$1.times"
  [ "$3" = 0 ] || printf 'FAILED: %s\n' "$5"
  LC_ALL=C awk -v w="$wall" -v u="$user" -v s="$system" -v counts="$2 $3 $4" -v name="$5" \
    'BEGIN { printf "%s %.0f %.0f %s\n", counts, w, u + s, name }' >> "$results"
  printf '(%s: %s passed, %s failed, %s skipped, %.0f s)\n' "$5" "$2" "$3" "$4" "$wall"
}

clippy_wasm() {
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$SIMD $RELAXED_SIMD" cargo clippy --quiet --release --lib --target "$WASM_TARGET" --target-dir target/wasm -- -D warnings
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

# Other programs and files that tests need. Fetching them takes no processor, so this goes on beside the compilers.
provide() {
  check "models" fetch_models
  check "browsers and drivers" provide_programs
  touch "$claims/provided"
}

provide_programs() {
  vulkan
  browser
  firefox
}

provided() { until [ -e "$claims/provided" ]; do sleep 1; done; }

# What is compiled for WebAssembly, and packaged, for which the browser tests wait: until this ends, whatever happens.
test_wasm() {
  trap 'touch "$claims/packaged"' EXIT
  check "clippy for wasm" clippy_wasm
  check "wasm module" build
  check "wasm size" wasm_budget
  check "package" node tools/web/package.mjs
  touch "$claims/packaged"
  provided
  check "types" npm --prefix tests run --silent types
  test_rest
}

# What is compiled for this machine.
test_native() {
  check "format" cargo fmt --all --check
  check "clippy" cargo clippy --quiet --workspace --all-targets -- -D warnings
  check "native tests, compiled" cargo test --quiet --no-run --package llava-web --package llava-web-cli
  provided
  suite "native tests" cargo test --quiet --no-fail-fast --package llava-web --package llava-web-cli
  test_rest
}

# Checks that are each done by whoever of the two above comes to it first, longest first.
readonly REST=(bits32 browser_gpus browser_odd browser_even kernels_in_chromium swiftshader kernels_in_firefox kernels_in_wasm loom_models training)
test_rest() {
  local name
  for name in "${REST[@]}"; do
    if mkdir "$claims/$name" 2>/dev/null; then "$name"; fi
  done
}

# The browser tests that are slow because a processor computes what a GPU would; and the others, by turns.
readonly ON_GPUS=(loss house webgpu webgpu-firefox threads memory)
browser_gpus() { browser_tests "browser tests of GPUs" "${ON_GPUS[@]}"; }
browser_odd() { browser_tests "browser tests, every other" $(other_browser_tests 1); }
browser_even() { browser_tests "browser tests, those between" $(other_browser_tests 0); }

# The names of the browser tests that are none of the above, every second one, beginning with the first (1) or the second (0).
other_browser_tests() { basename -s .test.mjs tests/browser/*.test.mjs | grep -vxFf <(printf '%s\n' "${ON_GPUS[@]}") | awk -v turn="$1" 'NR % 2 == turn'; }

# browser_tests TITLE NAME...
browser_tests() {
  local title=$1 files
  shift
  files=("${@/#/browser/}")
  until [ -e "$claims/packaged" ]; do sleep 1; done
  suite "$title" node_tests "${files[@]/%/.test.mjs}"
}

node_tests() { (cd tests && node --test --test-concurrency=1 "$@"); }

kernels_in_wasm() { check "kernels in wasm" node tests/wasm/ops.mjs run chromium; }

kernels_in_chromium() { check "kernels on Chromium's GPU" node tests/wasm/ops.mjs run chromium-gpu; }

kernels_in_firefox() {
  if [ -x "$FIREFOX" ]; then check "kernels on Firefox's GPU" node tests/wasm/ops.mjs run firefox-gpu; else skip "kernels on Firefox's GPU" "$FIREFOX is missing"; fi
}

loom_models() { suite "thread pool under loom" loom; }

training() { suite "training tests" training_tests; }

run_tests() {
  local start=$SECONDS job status=0
  # Mesa's driver complains at every device where this is missing.
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
  # What is kept to compile the next edit sooner takes time to write.
  export CARGO_INCREMENTAL=0
  claims=$(mktemp -d) results=$claims/results
  toolchain
  # Side by side, for much of either computes on one processor. What those in the background say is printed at their end.
  beside provide > "$claims/provide.log" 2>&1
  beside test_wasm > "$claims/wasm.log" 2>&1
  test_native
  for job in "${jobs[@]}"; do
    wait "$job" || printf '0 1 0 0 0 checks in the background, which ended early\n' >> "$results"
  done
  cat "$claims/provide.log" "$claims/wasm.log"
  say "all tests: $((SECONDS - start)) s, of them, and of the processors"
  awk '
    { p += $1; f += $2; s += $3; cpu += $5; name = $6; for (i = 7; i <= NF; i++) name = name " " $i; printf "%6d s %6d s  %s%s\n", $4, $5, name, $2 ? ": FAILED" : "" }
    END { printf "%d s of the processors\n%d passed, %d failed, %d skipped\n", cpu, p, f, s; exit f > 0 }' "$results" ||
    status=1
  rm -rf "$claims"
  return $status
}

case ${1:-help} in
  serve) shift; serve "$@" ;;
  test) run_tests ;;
  build) build ;;
  package) shift; package "$@" ;;
  bench) shift; bench "$@" ;;
  fetch-models) fetch_models ;;
  fuzz) shift; fuzz "$@" ;;
  miri) miri ;;
  loom) loom ;;
  help | -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
