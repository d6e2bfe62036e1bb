#!/usr/bin/env bash
# Trains what is shipped for Improved Layered GANs and measures it: papers/layered_mi/weights/ and results/. Resumes where it was stopped.
#   papers/layered_mi/weights.sh [BIN] [WHAT...]     WHAT: cpu ablations at_off flowers flowers_scratch images gpu (default: cpu)
# BIN is the folder of `layerbench` (default .venv/bin). FLOWERS names the tar of photographs (default .data/flowers17_128.tar).
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu}
chapter=layered_mi here=papers/layered_mi
. papers/steps.sh
FLOWERS=${FLOWERS:-.data/flowers17_128.tar}

# compare SETTING: a short lesson for a segmenter, the last sheet, and the measures
compare() {
  picture $1 runs/layered_mi-$1
  if LESSON=400 keep runs/layered_mi-$1/weights.safetensors runs/layered_mi-$1
  then measure $1 runs/layered_mi-$1/weights.safetensors --data scenes --n 128 --clusters 1024
  else measure $1 runs/layered_mi-$1 --data scenes --n 128 --layers   # empty masks teach nothing
  fi
}

LIMIT=()
for part in $what; do
  case $part in
    cpu)        # two rounds of 120,000 pictures and 300 steps: 55 minutes of one core
      LIMIT=()
      learn runs/layered_mi-cpu --preset cpu
      LESSON=1500 keep $here/weights/cpu.safetensors runs/layered_mi-cpu
      curves cpu runs/layered_mi-cpu
      measure cpu layered_mi/cpu --data scenes --n 128 --clusters 1024
      measure cpu_fresh layered_mi/cpu --data scenes --n 400 --seed 7 --clusters 1024 ;;
    ablations)  # 64,000 pictures each, 14 minutes; `mi_1` is what the others are compared with
      LIMIT=(--steps 2000)
      for setting in mi_1 mi_off mi_0.1 mi_5 size_loss perturb_off; do
        extra=(); if [ $setting = size_loss ]; then extra=(--set least=.18); fi
        learn runs/layered_mi-$setting --preset cpu,$setting "${extra[@]}"
        compare $setting
      done ;;
    at_off)     # as many pictures as `cpu`, without turns of the U-Net
      LIMIT=()
      learn runs/layered_mi-at_off --preset cpu,at_off --set images=240000
      compare at_off ;;
    flowers)    # from networks that found the objects of scenes: from scratch flowers end up in the background (notes.md)
      LIMIT=(--steps 1350)
      learn runs/layered_mi-flowers --preset cpu --set rounds=1 --set images=64000 --set mi_ramp=0 --set binary_ramp=0 --data "$FLOWERS" --start layered_mi/cpu
      LESSON=400 keep $here/weights/flowers.safetensors runs/layered_mi-flowers
      picture flowers runs/layered_mi-flowers
      measure flowers layered_mi/flowers --data "$FLOWERS" --n 150 --size 64 --clusters 1091 --numbered 80 ;;
    flowers_scratch) # 96,000 pictures, 22 minutes of a shared core: the flowers end up in the background (notes.md)
      LIMIT=(--steps 3000)
      learn runs/layered_mi-flowers_scratch --preset cpu,paper-flowers --data "$FLOWERS"
      LESSON=400 keep runs/layered_mi-flowers_scratch/weights.safetensors runs/layered_mi-flowers_scratch
      picture flowers_scratch runs/layered_mi-flowers_scratch
      measure flowers_scratch runs/layered_mi-flowers_scratch/weights.safetensors --data "$FLOWERS" --n 1091 --size 64 --clusters 1091 --numbered 80 ;;
    images)     # FID, KID and Inception score of the shipped weights; nothing is trained
      measure images layered_mi/cpu --data scenes --n 128 --images 2000 ;;
    gpu)  # not run yet
      LIMIT=()
      learn runs/layered_mi-gpu --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/layered_mi-gpu
      measure gpu layered_mi/gpu --data scenes --n 128 ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu ablations at_off flowers flowers_scratch images gpu" >&2; exit 2 ;;
  esac
done
