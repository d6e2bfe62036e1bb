#!/usr/bin/env bash
# Trains what is shipped for PerturbGAN and measures it: papers/perturbgan/weights/ and results/. Resumes where it was stopped.
#   papers/perturbgan/weights.sh [BIN] [WHAT...]     WHAT: cpu ablations flowers gpu (default: cpu ablations)
# BIN is the folder of `layerbench` (default .venv/bin). The times beside each part are of one CPU core.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu ablations}
here=papers/perturbgan

# learn RUN OPTIONS...: a new run, or the rest of one that was stopped
learn() {
  local run=$1; shift
  if [ -f "$run/config.json" ]; then "$bin/layerbench" train --resume --out "$run" ${THREADS:+--threads $THREADS} "${LIMIT[@]}"
  else "$bin/layerbench" train perturbgan --out "$run" ${THREADS:+--threads $THREADS} "$@" "${LIMIT[@]}"; fi
}
# keep NAME RUN: teach a segmenter, ship both
keep() { "$bin/layerbench" teach "$2" --steps "${LESSON:-1500}" --out "$1" ${THREADS:+--threads $THREADS}; }
measure() { local to=$1; shift; "$bin/layerbench" evaluate "$@" --json "$here/results/$to.json" ${THREADS:+--threads $THREADS}; }

LIMIT=()
for part in $what; do
  case $part in
    cpu)        # 21 minutes on one core; stops before 32 px fades in, which costs masks (notes.md)
      LIMIT=(--steps 8650)
      learn runs/perturbgan-cpu --preset cpu
      keep $here/weights/cpu.safetensors runs/perturbgan-cpu
      "$bin/python" -c 'import json, sys; from layerbench.train import Run; json.dump(Run(sys.argv[1]).curves(), open(sys.argv[2], "w"))' runs/perturbgan-cpu $here/results/cpu_curves.json
      measure cpu perturbgan/cpu --data scenes --n 128
      measure cpu_encoder perturbgan/cpu --data scenes --n 100 --encoder ;;
    ablations)  # 6 to 12 minutes each on one core, at the steps that results/ records
      for pair in d_bg_jitter:3550 b_no_shift:3800 no_size:2000; do
        setting=${pair%:*} LIMIT=(--steps "${pair#*:}")
        learn runs/perturbgan-$setting --preset cpu,$setting
        LESSON=300 keep runs/perturbgan-$setting/weights.safetensors runs/perturbgan-$setting
        measure $setting runs/perturbgan-$setting/weights.safetensors --data scenes --n 128
      done ;;
    flowers)    # 13 minutes; FLOWERS names the tar of photographs
      LIMIT=(--minutes "${MINUTES:-13}")
      learn runs/perturbgan-flowers --preset "${FLOWERS_PRESET:-cpu}" --data "$FLOWERS"
      LESSON=600 keep runs/perturbgan-flowers/weights.safetensors runs/perturbgan-flowers
      measure flowers runs/perturbgan-flowers/weights.safetensors --data "$FLOWERS" --n 1091 --size 64 ;;
    gpu)        # ten minutes on one H100-class GPU; not run yet
      LIMIT=()
      learn runs/perturbgan-gpu --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/perturbgan-gpu
      measure gpu perturbgan/gpu --data scenes --n 128 --encoder ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu ablations flowers gpu" >&2; exit 2 ;;
  esac
done
