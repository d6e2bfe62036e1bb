#!/usr/bin/env bash
# Trains what is shipped for Improved Layered GANs and measures it: papers/layered_mi/weights/ and results/. Resumes where it was stopped.
#   papers/layered_mi/weights.sh [BIN] [WHAT...]     WHAT: cpu gpu (default: cpu)
# BIN is the folder of `layerbench` (default .venv/bin).
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu}
here=papers/layered_mi

# learn RUN OPTIONS...: a new run, or the rest of one that was stopped
learn() {
  local run=$1; shift
  if [ -f "$run/config.json" ]; then "$bin/layerbench" train --resume --out "$run" ${THREADS:+--threads $THREADS} "${LIMIT[@]}"
  else "$bin/layerbench" train layered_mi --out "$run" ${THREADS:+--threads $THREADS} "$@" "${LIMIT[@]}"; fi
}
keep() { "$bin/layerbench" teach "$2" --steps "${LESSON:-800}" --out "$1" ${THREADS:+--threads $THREADS}; }
measure() { local to=$1; shift; "$bin/layerbench" evaluate "$@" --json "$here/results/$to.json" ${THREADS:+--threads $THREADS}; }
curves() { "$bin/python" -c 'import json, sys; from layerbench.train import Run; json.dump(Run(sys.argv[1]).curves(), open(sys.argv[2], "w"))' "$1" "$here/results/$2_curves.json"; }

LIMIT=()
for part in $what; do
  case $part in
    cpu)  # 7 minutes on one core; stops where masks were best, before they grow over the surroundings (notes.md)
      LIMIT=(--steps 1400)
      learn runs/layered_mi-cpu --preset cpu
      keep $here/weights/cpu.safetensors runs/layered_mi-cpu
      curves runs/layered_mi-cpu cpu
      measure cpu layered_mi/cpu --data scenes --n 128 ;;
    gpu)  # not run yet
      LIMIT=()
      learn runs/layered_mi-gpu --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/layered_mi-gpu
      measure gpu layered_mi/gpu --data scenes --n 128 ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu gpu" >&2; exit 2 ;;
  esac
done
