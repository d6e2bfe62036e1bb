# What every papers/*/weights.sh does with a run; sourced by them. They set `chapter`, `here`, `bin` and, before `learn`, the array LIMIT.
# THREADS in the environment limits the CPU threads.

# learn RUN OPTIONS...: a new run, or the rest of one that was stopped
learn() {
  local run=$1; shift
  if [ -f "$run/config.json" ]; then "$bin/layerbench" train --resume --out "$run" ${THREADS:+--threads $THREADS} "${LIMIT[@]}"
  else "$bin/layerbench" train "$chapter" --out "$run" ${THREADS:+--threads $THREADS} "$@" "${LIMIT[@]}"; fi
}
# keep FILE RUN: teach a segmenter for LESSON steps, ship both
keep() { "$bin/layerbench" teach "$2" --steps "${LESSON:-1500}" --out "$1" ${THREADS:+--threads $THREADS}; }
# measure NAME WORDS...: what `evaluate` says, into results/NAME.json
measure() { local to=$1; shift; "$bin/layerbench" evaluate "$@" --json "$here/results/$to.json" ${THREADS:+--threads $THREADS}; }
# curves NAME RUN: what a training logged
curves() { "$bin/python" -c 'import json, sys; from layerbench.train import Run; json.dump(Run(sys.argv[1]).curves(), open(sys.argv[2], "w"))' "$2" "$here/results/$1_curves.json"; }
# picture NAME RUN: the last sheet of layers
picture() { "$bin/python" -c 'import sys; from pathlib import Path; from PIL import Image; Image.open(sorted(Path(sys.argv[1], "samples").glob("*.png"))[-1]).save(sys.argv[2], quality=80)' "$2" "$here/results/$1.webp"; }
