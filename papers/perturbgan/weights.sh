#!/usr/bin/env bash
# Trains what is shipped for PerturbGAN and measures it: papers/perturbgan/weights/ and results/. Resumes where it was stopped.
#   papers/perturbgan/weights.sh [BIN] [WHAT...]     WHAT: cpu ablations flowers flowers64 images gpu (default: cpu ablations)
# BIN is the folder of `layerbench` (default .venv/bin). The times beside each part are of one CPU core.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu ablations}
chapter=perturbgan here=papers/perturbgan
. papers/steps.sh

LIMIT=()
for part in $what; do
  case $part in
    cpu)        # 21 minutes on one core; stops before 32 px fades in, which costs masks (notes.md)
      LIMIT=(--steps 8650)
      learn runs/perturbgan-cpu --preset cpu
      keep $here/weights/cpu.safetensors runs/perturbgan-cpu
      curves cpu runs/perturbgan-cpu
      measure cpu perturbgan/cpu --data scenes --n 128
      measure cpu_encoder perturbgan/cpu --data scenes --n 100 --encoder ;;
    ablations)  # 6 to 12 minutes each on one core, at the steps that results/ records
      for pair in d_bg_jitter:3550 b_no_shift:3800 no_size:2000 low_start+no_size:2000 b_no_shift+no_size:2000; do
        setting=${pair%:*} LIMIT=(--steps "${pair#*:}")
        learn runs/perturbgan-$setting --preset cpu,${setting/+/,}
        if LESSON=300 keep runs/perturbgan-$setting/weights.safetensors runs/perturbgan-$setting
        then measure $setting runs/perturbgan-$setting/weights.safetensors --data scenes --n 128
        else measure $setting runs/perturbgan-$setting --data scenes --n 128 --layers   # empty masks teach nothing
        fi
        picture $setting runs/perturbgan-$setting
      done ;;
    flowers)    # 13 minutes; FLOWERS names the tar of photographs
      LIMIT=(--steps 5000)
      learn runs/perturbgan-flowers --preset cpu --data "$FLOWERS"
      LESSON=600 keep $here/weights/flowers.safetensors runs/perturbgan-flowers
      picture flowers runs/perturbgan-flowers
      measure flowers perturbgan/flowers --data "$FLOWERS" --n 150 --size 64 ;;
    flowers64)  # 19 minutes, grown to 64 px, which is too short (notes.md)
      LIMIT=()
      learn runs/perturbgan-flowers64 --preset cpu64 --seed 1 --data "$FLOWERS"
      LESSON=400 keep runs/perturbgan-flowers64/weights.safetensors runs/perturbgan-flowers64
      picture flowers64 runs/perturbgan-flowers64
      measure flowers64 runs/perturbgan-flowers64/weights.safetensors --data "$FLOWERS" --n 1091 ;;
    images)     # FID, KID and Inception score of the shipped weights; nothing is trained
      measure images perturbgan/cpu --data scenes --n 128 --images 2000 ;;
    gpu)        # ten minutes on one H100-class GPU; not run yet
      LIMIT=()
      learn runs/perturbgan-gpu --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/perturbgan-gpu
      measure gpu perturbgan/gpu --data scenes --n 128 --encoder ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu ablations flowers flowers64 images gpu" >&2; exit 2 ;;
  esac
done
