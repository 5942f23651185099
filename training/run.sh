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
STEPS_CLIP=${STEPS_CLIP:-12000} BATCH_CLIP=${BATCH_CLIP:-64}
STEPS_LANGUAGE=${STEPS_LANGUAGE:-3000} STEPS_PROJECT=${STEPS_PROJECT:-400}
STEPS_TUNE=${STEPS_TUNE:-6000} STEPS_WHOLE=${STEPS_WHOLE:-8000} BATCH=${BATCH:-16}
ENGINE=${ENGINE:-target/release/examples/batch}
# Other work on the machine goes first.
PRIORITY=${PRIORITY-chrt -i 0 nice -n 19}

train() { $PRIORITY "$PYTHON" "training/$1" "${@:2}" --bank "$BANK" --size "$SIZE" --device "$DEVICE" --workers "$WORKERS" --threads "$THREADS"; }
llava() { train train_llava.py "$1" --runs "$RUNS" "${@:2}"; }

mkdir -p "$RUNS"
# One at a time; whoever comes second waits for nothing.
exec 9>"$RUNS/lock"
flock -n 9 || { echo "run.sh: $RUNS is being trained already" >&2; exit 1; }

[[ -f $BANK ]] || $PRIORITY "$PYTHON" training/sprites.py "$BANK" --icons "$ICONS"
llava tokenizer
train train_clip.py --run "$RUNS/clip" --steps "$STEPS_CLIP" --batch "$BATCH_CLIP"
llava language --steps "$STEPS_LANGUAGE" --batch "$BATCH"
llava project --steps "$STEPS_PROJECT" --batch "$BATCH"
llava tune --steps "$STEPS_TUNE" --batch "$BATCH"
llava whole --steps "$STEPS_WHOLE" --batch "$BATCH"

for stage in tune whole; do
  $PRIORITY "$PYTHON" training/export.py --checkpoint "$RUNS/$stage/final.pt" --tokenizer "$RUNS/tokenizer.json" --out "$RUNS/$stage/gguf" --kinds q4_0,f32
  for kind in q4_0 f32; do
    out="$RUNS/$stage/scenes-$kind.json"
    [[ -f $out ]] && continue
    if [[ -x $ENGINE ]]; then
      answerer=(--engine "$ENGINE" --model "$RUNS/$stage/gguf/house-$kind.gguf" --mmproj "$RUNS/$stage/gguf/house-mmproj-$kind.gguf")
    else
      answerer=(--checkpoint "$RUNS/$stage/final.pt" --tokenizer "$RUNS/tokenizer.json")
    fi
    $PRIORITY "$PYTHON" training/evaluate.py scenes --bank "$BANK" --n "${N:-200}" "${answerer[@]}" --out "$out.part" | tee "$RUNS/$stage/scenes-$kind.txt"
    mv "$out.part" "$out"
  done
done
