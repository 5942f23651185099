#!/usr/bin/env bash
# The whole recipe, from icons to an evaluated pair of GGUF files. Each stage goes on where it stands: start it again after anything.
#
#   training/run.sh            with the settings below, each of which the environment may change
#   STEPS_CLIP=40000 SIZE=large DEVICE=cuda training/run.sh
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
ICONS=${ICONS:-node_modules/@iconify-json}    # the icon sets, see README.md
BANK=${BANK:-training/bank.npz}
RUNS=${RUNS:-training/runs}
SIZE=${SIZE:-small}
DEVICE=${DEVICE:-cpu}
WORKERS=${WORKERS:-1}
THREADS=${THREADS:-2}
STEPS_CLIP=${STEPS_CLIP:-16000} BATCH_CLIP=${BATCH_CLIP:-64}
STEPS_LANGUAGE=${STEPS_LANGUAGE:-6000} STEPS_DISTIL=${STEPS_DISTIL:-7500} BATCH_DISTIL=${BATCH_DISTIL:-48} STEPS_PROJECT=${STEPS_PROJECT:-100}
STEPS_TUNE=${STEPS_TUNE:-250} STEPS_WHOLE=${STEPS_WHOLE:-6000} BATCH=${BATCH:-16}
ENGINE=${ENGINE:-target/release/examples/batch}
# What ships is measured where it runs, once ./build.sh build has made www/pkg.
BROWSER=${BROWSER:-training/browser.mjs}
N=${N:-200}    # questions for each goal
# Other work on the machine goes first.
PRIORITY=${PRIORITY-chrt -i 0 nice -n 19}

# Threads that wait sleep, where others may work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

train() { $PRIORITY "$PYTHON" "training/$1" "${@:2}" --bank "$BANK" --size "$SIZE" --device "$DEVICE" --workers "$WORKERS" --threads "$THREADS"; }
# A stage that was asked to stop ends well but is not finished.
finished() { [[ -f $RUNS/$1/final.pt ]] || { echo "run.sh: stopped in the stage $1; start it again to go on" >&2; exit 1; }; }
llava() { train train_llava.py "$1" --runs "$RUNS" "${@:2}"; }

# Writes a stage's pair of files and measures them.
measure() {
  local folder="$RUNS/$1" kind engine answerer
  [[ -f $folder/scenes-f32.json ]] && return
  $PRIORITY "$PYTHON" training/export.py --checkpoint "$folder/final.pt" --tokenizer "$RUNS/tokenizer.json" --out "$folder/gguf" --kinds q4_0,f32
  [[ -x $ENGINE ]] && answerer=(--engine "$ENGINE") || answerer=()
  $PRIORITY "$PYTHON" training/parity.py --checkpoint "$folder/final.pt" --tokenizer "$RUNS/tokenizer.json" --gguf "$folder/gguf" --bank "$BANK" "${answerer[@]}" |
    tee "$folder/parity.txt"
  for kind in q4_0 f32; do
    engine=$ENGINE
    [[ $kind = q4_0 && -d www/pkg ]] && engine=$BROWSER
    if [[ -x $engine ]]; then
      answerer=(--engine "$engine" --model "$folder/gguf/house-$kind.gguf" --mmproj "$folder/gguf/house-mmproj-$kind.gguf")
    else
      answerer=(--checkpoint "$folder/final.pt" --tokenizer "$RUNS/tokenizer.json")
    fi
    $PRIORITY "$PYTHON" training/evaluate.py scenes --bank "$BANK" --n "$N" "${answerer[@]}" --out "$folder/part.json" | tee "$folder/scenes-$kind.txt"
    mv "$folder/part.json" "$folder/scenes-$kind.json"
  done
}

# A function, so that the shell has read all of it before anything runs: the file may be replaced meanwhile.
main() {
  mkdir -p "$RUNS"
  # One at a time.
  exec 9>"$RUNS/lock"
  flock -n 9 || { echo "run.sh: $RUNS is being trained already" >&2; exit 1; }
  [[ -f $BANK ]] || $PRIORITY "$PYTHON" training/sprites.py "$BANK" --icons "$ICONS"
  llava tokenizer
  train train_clip.py --run "$RUNS/clip" --steps "$STEPS_CLIP" --batch "$BATCH_CLIP"
  finished clip
  llava language --steps "$STEPS_LANGUAGE" --batch "$BATCH"
  finished language
  llava distil --steps "$STEPS_DISTIL" --batch "$BATCH_DISTIL"
  finished distil
  llava project --steps "$STEPS_PROJECT" --batch "$BATCH"
  finished project
  llava tune --steps "$STEPS_TUNE" --batch "$BATCH"
  finished tune
  measure tune
  llava whole --steps "$STEPS_WHOLE" --batch "$BATCH" --quantize-from 0.6
  finished whole
  measure whole
  exit
}

main
