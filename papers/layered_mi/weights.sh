#!/usr/bin/env bash
# Trains what is shipped for Improved Layered GANs and measures it: papers/layered_mi/weights/ and results/. Resumes where it was stopped.
#   papers/layered_mi/weights.sh [BIN] [WHAT...]     WHAT: cpu gpu (default: cpu)
# BIN is the folder of `layerbench` (default .venv/bin).
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu}
chapter=layered_mi here=papers/layered_mi
. papers/steps.sh

LIMIT=()
for part in $what; do
  case $part in
    cpu)  # 7 minutes on one core; stops where masks were best, before they grow over the surroundings (notes.md)
      LIMIT=(--steps 1400)
      learn runs/layered_mi-cpu --preset cpu
      LESSON=800 keep $here/weights/cpu.safetensors runs/layered_mi-cpu
      curves cpu runs/layered_mi-cpu
      measure cpu layered_mi/cpu --data scenes --n 128 ;;
    gpu)  # not run yet
      LIMIT=()
      learn runs/layered_mi-gpu --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/layered_mi-gpu
      measure gpu layered_mi/gpu --data scenes --n 128 ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu gpu" >&2; exit 2 ;;
  esac
done
