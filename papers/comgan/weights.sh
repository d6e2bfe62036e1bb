#!/usr/bin/env bash
# Trains what is shipped for ComGAN and measures it: papers/comgan/weights/ and results/. Resumes where it was stopped.
#   papers/comgan/weights.sh [BIN] [WHAT...]     WHAT: cpu gradients ablations segmentation many flowers gpu (default: cpu)
# BIN is the folder of `layerbench` (default .venv/bin). FLOWERS names the tar of photographs. THREADS limits the CPU threads.
# STEPS is the length of the ablations' first stage (default 2000 iterations), SEEDS the seeds of the study (default "0").
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${1:-.venv/bin}; shift || true
what=${*:-cpu}
chapter=comgan here=papers/comgan
. papers/steps.sh
FLOWERS=${FLOWERS:-.data/flowers17_128.tar} STEPS=${STEPS:-2000} SEEDS=${SEEDS:-0}
EXAMINED="--factors 64 --images 2000"

# stages PRESET: iterations of stage 1
stage1() { "$bin/python" -c 'import sys; from layerbench.method import chapter, settings; m = chapter("comgan"); print(settings(m.Config, m.presets, sys.argv[1]).iterations)' "$1"; }
# watched NAME PRESETS SEED: layers and gradients of a training without a segmentation network
watched() {
  learn runs/comgan-$1 --preset $2 --seed $3
  curves $1 runs/comgan-$1
  picture $1 runs/comgan-$1
  measure $1 runs/comgan-$1 --data scenes --n 128 --layers --images 2000
}
# compare SETTING: both stages, the second a fifth of the first
compare() {
  learn runs/comgan-$1 --preset cpu,$1 --set iterations=$STEPS --set segmentation=$((STEPS / 5))
  picture $1 runs/comgan-$1
  measure $1 runs/comgan-$1 --data scenes --n 128 $EXAMINED
}

# staged NAME UNTIL SETTINGS...: the painter's run, with another second stage
staged() {
  local run=runs/comgan-seg_$1 until_=$2 name=seg_$1; shift 2
  if [ -f $run/config.json ]; then "$bin/layerbench" train --resume --out $run --steps $until_ ${THREADS:+--threads $THREADS}
  else "$bin/layerbench" train --fork runs/comgan-painted --out $run --steps $until_ "$@" ${THREADS:+--threads $THREADS}; fi
  measure $name $run --data scenes --n 128
}
# early: networks that have found the objects of scenes, for data on which there is no time to begin anew
early() { LIMIT=(--steps 3850); learn runs/comgan-early --preset cpu; LIMIT=(); }
SHORT="--set segmentation=400 --set pairs_first=100"

LIMIT=()
for part in $what; do
  case $part in
    cpu)          # a copy of the run is kept where stage 1 ends: `segmentation` begins there
      LIMIT=(--steps $(stage1 cpu))
      if [ ! -d runs/comgan-painted ]; then
        learn runs/comgan-cpu --preset cpu
        cp -r runs/comgan-cpu runs/comgan-painted
      fi
      LIMIT=()
      learn runs/comgan-cpu --preset cpu
      LESSON=1200 keep $here/weights/cpu.safetensors runs/comgan-cpu
      curves cpu runs/comgan-cpu
      picture cpu runs/comgan-cpu
      measure cpu comgan/cpu --data scenes --n 128 $EXAMINED
      measure cpu_fresh comgan/cpu --data scenes --n 400 --seed 7 ;;
    gradients)    # the study of trivial solutions: one, two and three trunks, both betas, every seed; then trunks narrowed to ComGAN's size
      for seed in $SEEDS; do for beta in 0.1 1; do for model in comgan pi1 pi2; do
        watched ${model}_b${beta}_s$seed cpu,${model}_b$beta,study $seed
      done; done; done
      for model in pi1 pi2; do watched ${model}_matched cpu,${model}_matched,study 0; done ;;
    ablations)    # Table 2 in its order, then beta, the published code's ways, and sizes; `ds_comgan` is what the others are compared with
      LIMIT=(--steps $STEPS); watched ds_t2_baseline cpu,ds_t2_baseline 0; LIMIT=()   # no layers: nothing to segment
      LIMIT=(--steps 1500); watched no_codes cpu,no_codes 0; LIMIT=()   # all of DS-ComGAN but its codes
      for setting in ds_t2_subnets ds_t2_info ds_comgan beta_0.1 beta_1 tied_codes bbox_crop z4 shared_to_img masked_info; do compare $setting; done
      for setting in head_colours_1 head_colours_3 head_colours_6 head_mask_0 head_mask_1 head_mask_3 trunk_half trunk_double; do watched $setting cpu,comgan,study,$setting 0; done ;;
    segmentation) # stage 2 with other terms, from the same painter; needs `cpu`. What is published first, as far as it was run
      first=$(stage1 cpu)
      staged as_published $((first + 550)) --set consistency=2 --set mask_critic_rate=1 --set pairs_first=0 --set segment_rate=2e-4 --set mixed_codes=0 --set disguise=false
      for setting in no_Dm:mask_critic=false no_cons:consistency=0 lambda_0.5:consistency=0.5 lambda_2:consistency=2 lambda_10:consistency=10; do
        staged ${setting%%:*} $((first + STEPS / 5)) --set ${setting##*:}
      done ;;
    many)         # several objects in a scene: what stands for CLEVR6 here; the true mask is their union
      early
      learn runs/comgan-many --preset cpu --start runs/comgan-early --data scenes:many $SHORT --set iterations=700
      picture many runs/comgan-many
      measure many runs/comgan-many --data scenes:many --n 128 $EXAMINED
      measure many_unseen comgan/cpu --data scenes:many --n 128 ;;
    flowers)      # photographs: by the weights of scenes, then trained on them
      measure flowers_unseen comgan/cpu --data "$FLOWERS" --n 150 --size 64
      early
      learn runs/comgan-flowers --preset cpu --start runs/comgan-early --data "$FLOWERS" $SHORT --set iterations=900
      LESSON=600 keep $here/weights/flowers.safetensors runs/comgan-flowers
      picture flowers runs/comgan-flowers
      measure flowers comgan/flowers --data "$FLOWERS" --n 150 --size 64 --ceiling 600 ;;   # the ceiling of all five chapters: U-Nets taught with masks
    gpu)          # not run yet
      learn runs/comgan-gpu --preset gpu --device cuda
      keep $here/weights/gpu.safetensors runs/comgan-gpu
      measure gpu comgan/gpu --data scenes --n 128 ;;
    *) echo "weights.sh: there is no part '$part'; known: cpu gradients ablations segmentation many flowers gpu" >&2; exit 2 ;;
  esac
done
