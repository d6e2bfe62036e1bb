#!/usr/bin/env bash
# Trains what is shipped for OneGAN and measures it: papers/onegan/weights/ and results/. Resumes where it was stopped.
#   papers/onegan/weights.sh [BIN] [WHAT...]     WHAT: cpu flowers ablations finegan images gpu (default: cpu)
# BIN is the folder of `layerbench` (default .venv/bin). FLOWERS names the tar of photographs. THREADS limits the CPU threads.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu}
chapter=onegan here=papers/onegan
. papers/steps.sh
FLOWERS=${FLOWERS:-.data/flowers17_128.tar}
EXAMINED="--clusters 1024 --generated 50 --removal"

# compare SETTING: a training, its last sheet, and the measures. The masks are the method's own, so no segmenter is taught
compare() {
  local setting=$1 preset=cpu,$1 sizes=(--set generation=800 --set again_weight=1 --set mask_slack=0)
  if [ $setting = full ]; then preset=cpu; fi
  if [ $setting != phase1_only ]; then sizes+=(--set fakes=400 --set reals=600 --set warm_up=40); fi
  learn runs/onegan-$setting --preset $preset "${sizes[@]}"
  picture $setting runs/onegan-$setting
  measure $setting runs/onegan-$setting --data scenes --n 128 $EXAMINED
}
# onward FROM TO STEPS SETTINGS...: a run that goes on from another's checkpoint with other settings
onward() {
  local from=$1 to=$2 steps=$3; shift 3
  if [ -f "$to/config.json" ]; then "$bin/layerbench" train --resume --out "$to" --steps $steps ${THREADS:+--threads $THREADS}
  else "$bin/layerbench" train --fork "$from" --out "$to" --steps $steps ${THREADS:+--threads $THREADS} "$@"; fi
}

LIMIT=()
for part in $what; do
  case $part in
    cpu)        # as it was found: two settings were changed on the way (notes.md); `layerbench train onegan --preset cpu` has them from the start
      LIMIT=(--steps 7350)
      learn runs/onegan-cpu_a --preset cpu --set again_weight=1 --set mask_slack=0
      onward runs/onegan-cpu_a runs/onegan-cpu_b 7800 --set mask_slack=0.1
      onward runs/onegan-cpu_b runs/onegan-cpu 11000 --set again_weight=10 --set reals=7500
      LESSON=1200 keep $here/weights/cpu.safetensors runs/onegan-cpu
      curves cpu runs/onegan-cpu
      picture cpu runs/onegan-cpu
      measure cpu onegan/cpu --data scenes --n 128 $EXAMINED
      measure cpu_fresh onegan/cpu --data scenes --n 400 --seed 7 $EXAMINED ;;
    flowers)    # photographs: by the weights of scenes, which never saw any; then trained on them, with gaps between the flowers for backgrounds
      measure flowers_unseen onegan/cpu --data "$FLOWERS" --n 150 --size 64
      LIMIT=(--precision bf16-mixed)
      learn runs/onegan-flowers --preset cpu --data "$FLOWERS" --backgrounds gaps --start onegan/cpu --set generation=800 --set fakes=800 --set reals=4000 --set warm_up=40
      LESSON=800 keep $here/weights/flowers.safetensors runs/onegan-flowers
      picture flowers runs/onegan-flowers
      measure flowers onegan/flowers --data "$FLOWERS" --n 150 --size 64   # of 150 masks the 75 that no gap was cut from
      LIMIT=() ;;
    ablations)  LIMIT=() # the same stages, data and seed for all; `full` is what the others are compared with. `phase1_only` ends where phase I does
      for setting in full no_multiphase no_mask_reg phase1_only no_real_recon no_bypass no_mixup full_mixup; do compare $setting; done ;;
    finegan)    # the baseline; it learns from boxes
      learn runs/onegan-finegan --preset cpu,finegan
      picture finegan runs/onegan-finegan
      LESSON=1500 keep $here/weights/finegan.safetensors runs/onegan-finegan
      measure finegan onegan/finegan --data scenes --n 128 --generated 50 ;;
    images)     # FID, KID and Inception score of the shipped weights; nothing is trained
      measure images onegan/cpu --data scenes --n 128 --images 2000 ;;
    gpu)        # not run yet
      learn runs/onegan-gpu --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/onegan-gpu
      measure gpu onegan/gpu --data scenes --n 128 $EXAMINED ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu flowers ablations finegan images gpu" >&2; exit 2 ;;
  esac
done
