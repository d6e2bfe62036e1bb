#!/usr/bin/env bash
# Trains what is shipped for GANSeg and measures it: papers/ganseg/weights/ and results/. Resumes where it was stopped.
#   papers/ganseg/weights.sh [BIN] [WHAT...]     WHAT: cpu base K_1 K_32 nper_2 sigma_fixed ae_points (these six: ablations) more flowers gpu (default: cpu)
# BIN is the folder of `layerbench` (default .venv/bin). FLOWERS names the tar of photographs. THREADS limits the CPU threads.
# The ablations are short (preset `short`, 600 iterations); each is read beside `base`, the shipped preset after as many.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu}
chapter=ganseg here=papers/ganseg
. papers/steps.sh
FLOWERS=${FLOWERS:-.data/flowers17_128.tar}
PUPPETS="--data puppets"
EXAM="--data puppets --n 128 --parts"
HALF=(--precision bf16-mixed)   # given with every call of `learn`, so that a resumed run keeps it

# compare SETTING [PRESET]: a short training with that preset laid over, a short lesson for a part segmenter, all measures
compare() {
  learn runs/ganseg-$1 $PUPPETS --preset cpu,short${2:+,$2}
  curves $1 runs/ganseg-$1
  picture $1 runs/ganseg-$1
  if LESSON=200 keep runs/ganseg-$1.safetensors runs/ganseg-$1; then measure $1 runs/ganseg-$1.safetensors $EXAM
  else measure $1 runs/ganseg-$1 --data puppets --n 128 --layers; fi   # masks that nobody can learn from
}

# onward RUN FROM SETTINGS...: a run that goes on from another's last checkpoint with other settings, or the rest of one that was stopped
onward() {
  local run=$1 from=$2; shift 2
  if [ -f "$run/config.json" ]; then learn "$run"
  else "$bin/layerbench" train --fork "$from" --out "$run" ${THREADS:+--threads $THREADS} "$@" "${LIMIT[@]}"; fi
}

LIMIT=("${HALF[@]}")
for part in ${what//ablations/base K_1 K_32 nper_2 sigma_fixed ae_points}; do
  case $part in
    cpu)
      # masks are held closer to their points after 1,000 iterations, and from 2,250 on also when parts are moved by themselves (notes.md)
      LIMIT=("${HALF[@]}" --steps 1000); learn runs/ganseg-first $PUPPETS --preset cpu
      LIMIT=("${HALF[@]}" --steps 2250); onward runs/ganseg-closer runs/ganseg-first --set concentration=75
      LIMIT=("${HALF[@]}"); onward runs/ganseg-cpu runs/ganseg-closer --set stray=0.3
      LESSON=800 keep $here/weights/cpu.safetensors runs/ganseg-cpu
      curves cpu runs/ganseg-cpu
      picture cpu runs/ganseg-cpu
      measure cpu ganseg/cpu $EXAM
      measure cpu_fresh ganseg/cpu --data puppets --n 400 --seed 7 --parts
      measure bg_hard ganseg/cpu --data puppets:bg_hard --n 128 --parts ;;
    base)         # the shipped preset, as long as the ablations
      compare base ;;
    K_1|K_32)
      compare $part ${part}_puppets ;;
    nper_2|sigma_fixed)
      compare $part $part ;;
    ae_points)    # a third as long: it is slower
      LIMIT=("${HALF[@]}" --steps 200); compare $part $part; LIMIT=("${HALF[@]}") ;;
    more)         # the rest of Tables 2 to 4, the other auto-encoder, and one piece less at a time
      for k in 4 8 12 16; do compare K_$k K_${k}_puppets; done
      for setting in nper_2_radvar nper_3 nper_6 nper_8 sigma_fixed_paper_celeba sigma_fixed_paper_cub ae_masks no_con no_area no_margin abs_coord bg_joint; do compare $setting $setting; done ;;
    flowers)      # photographs: no mask is read; parts of a flower have no truth
      LIMIT=("${HALF[@]}" --steps 1100); learn runs/ganseg-flowers --data "$FLOWERS" --preset cpu,photos; LIMIT=("${HALF[@]}")
      LESSON=150 keep runs/ganseg-flowers.safetensors runs/ganseg-flowers   # below the fixed mask: not shipped
      curves flowers runs/ganseg-flowers
      picture flowers runs/ganseg-flowers
      measure flowers runs/ganseg-flowers.safetensors --data "$FLOWERS" --n 150 --size 64 ;;
    gpu)          # not run yet
      learn runs/ganseg-gpu --data puppets --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/ganseg-gpu
      measure gpu ganseg/gpu $EXAM ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu base K_1 K_32 nper_2 sigma_fixed ae_points ablations more flowers gpu" >&2; exit 2 ;;
  esac
done
