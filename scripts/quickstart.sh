#!/usr/bin/env bash
# The main job from a bare machine: packages, build, data, then a small GPT is pretrained with
# block-sparse weights on 2 MPI ranks (stopped and resumed on the way), and a dense twin alike; both
# are evaluated, exported and compared. About a quarter of an hour on 2 cores.
#
# Usage: scripts/quickstart.sh [--help]
# Safe to repeat: what is finished is kept and only reported again, what was cut short goes on. It
# writes build/, corpora/bible*, and runs/quickstart-blast and runs/quickstart-dense.
set -euo pipefail
cd "$(dirname "$0")/.."

verses=31102
held_out=0.05  # of the text, its end: the last letters and Revelation
vocabulary=1024
ranks=2
sparse=runs/quickstart-blast
dense=runs/quickstart-dense
hew=build/hew

case "${1:-}" in
  "") ;;
  -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 0 ;;
  *) echo "quickstart: unknown option $1 (try --help)" >&2 && exit 2 ;;
esac

stage=setup
stage() {
  stage=$1
  printf '\n== %s (after %d:%02d)\n' "$stage" $((SECONDS / 60)) $((SECONDS % 60))
}
trap '[[ $? -eq 0 ]] || echo "quickstart: stopped in \"$stage\"" >&2' EXIT

stage packages
scripts/install_packages.sh

stage build
mkdir -p build
if command -v ccache > /dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
cmake --preset cpu > build/configure.log || { cat build/configure.log && exit 1; }
cmake --build --preset cpu --target hew

# The King James Bible, one verse a line, without its `Ge1:1 ` in front.
write_text() {
  local raw=corpora/bible.raw found
  bible -f gen1:1-rev22:21 < /dev/null > "$raw"
  found=$(wc -l < "$raw")
  if [[ $found -ne $verses ]]; then
    echo "quickstart: bible printed $found verses, expected $verses" >&2
    return 1
  fi
  sed -E 's/^[1-4]?[A-Za-z]+[0-9]+:[0-9]+ //' "$raw" > corpora/bible.txt.new
  mv corpora/bible.txt.new corpora/bible.txt
  rm "$raw"
}

stage data
mkdir -p corpora
[[ -f corpora/bible.txt ]] || write_text
if [[ ! -f corpora/bible-train.h5 || ! -f corpora/bible-valid.h5 ]]; then
  $hew data tokenize corpora/bible.txt --tokenizer sentencepiece --vocab-size $vocabulary \
    --valid-fraction $held_out --valid-output corpora/bible-valid.h5 \
    -o corpora/bible-train.h5
fi
$hew data info corpora/bible-train.h5
$hew data info corpora/bible-valid.h5

# One thread a rank: the ranks are the parallelism. Root may run it in a container, and one core
# will do.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
hew_train() {
  OMP_NUM_THREADS=1 mpirun -n $ranks --oversubscribe --bind-to none $hew train "$@" &
  local job=$! status=0
  # SIGUSR1 reaches the ranks, which write a checkpoint; bash alone would leave them behind.
  # shellcheck disable=SC2064
  trap "kill -USR1 $job; wait $job; exit 143" TERM INT
  wait $job || status=$?
  trap - TERM INT
  return $status
}

steps_of() {
  sed -n '/^train:/,/^[a-z]/s/^ *steps: *\([0-9]*\).*/\1/p' "$1"
}

has_checkpoint() {
  compgen -G "$1/checkpoints/*.h5" > /dev/null
}

# A run that broke off before its first checkpoint has nothing to resume from: it is kept beside.
make_way() {
  if [[ -e $1 ]]; then
    local aside
    aside=$1.broken-off-$(date +%s)
    mv "$1" "$aside"
    echo "$1 has no checkpoint; moved to $aside"
  fi
}

# A signal ends a run early and cleanly: then there is nothing to compare yet.
require_steps() {
  local run=$1 steps=$2
  [[ -f $run/checkpoints/step-$(printf %08d "$steps").h5 ]] && return 0
  echo "quickstart: $run was stopped before step $steps; run this again to go on" >&2
  return 1
}

# train RECIPE RUN [STEPS]: to the end of the recipe, by way of a stop after STEPS.
train() {
  local recipe=$1 run=$2 stop_after=${3:-}
  if ! has_checkpoint "$run"; then
    make_way "$run"
    hew_train "$recipe" run.dir="$run" ${stop_after:+--stop-after "$stop_after"}
    require_steps "$run" "${stop_after:-$(steps_of "$recipe")}"
    [[ $stop_after ]] || return 0
    echo "stopped after step $stop_after, as asked; resuming"
  fi
  hew_train --resume run.dir="$run"
  require_steps "$run" "$(steps_of "$recipe")"
}

stage "training, block-sparse (stops half-way and resumes)"
recipe=recipes/gpt-tiny-blast.yaml
train $recipe $sparse $(($(steps_of $recipe) / 2))
stage "training, dense twin"
train recipes/gpt-tiny-dense.yaml $dense

stage evaluation
sparse_eval=$($hew eval $sparse --json)
dense_eval=$($hew eval $dense --json)
echo "$sparse_eval"
echo "$dense_eval"
$hew inspect $sparse

stage export
mkdir -p $sparse/export
# export_once FORMAT OUTPUT [FILE IN IT]
export_once() {
  [[ -e $2${3:+/$3} ]] || $hew export $sparse --format "$1" -o "$2"
}
export_once bsr-hdf5 $sparse/export/bsr.h5
export_once safetensors $sparse/export/bsr.safetensors
export_once dense-safetensors $sparse/export/dense model.safetensors
ls -l $sparse/export $sparse/export/dense

stage generation
passage=$($hew generate $sparse --prompt "In the beginning")

# number_in JSON KEY DECIMALS
number_in() {
  local number
  number=$(sed -E "s/.*\"$2\": *([-+0-9.eE]+).*/\1/" <<< "$1")
  LC_ALL=C printf "%.$3f" "$number"
}
bytes_of() {
  stat --format=%s "$1"
}

stage summary
dense_bytes=$(bytes_of $sparse/export/dense/model.safetensors)
bsr_bytes=$(bytes_of $sparse/export/bsr.safetensors)
row='%-38s %14s %14s\n'
# shellcheck disable=SC2059
{
  printf "$row" "" block-sparse "dense twin"
  printf "$row" "validation loss (nats/token)" "$(number_in "$sparse_eval" loss 4)" \
    "$(number_in "$dense_eval" loss 4)"
  printf "$row" "validation bits/byte" "$(number_in "$sparse_eval" bits_per_byte 4)" \
    "$(number_in "$dense_eval" bits_per_byte 4)"
  printf "$row" "weights on disk, BSR / dense (bytes)" "$bsr_bytes" "$dense_bytes"
}
printf '\nA passage by the block-sparse model:\n%s\n' "$passage"
printf '\nquickstart: done in %d:%02d. Exports are in %s/export; scripts/plot_run.py %s draws the run.\n' \
  $((SECONDS / 60)) $((SECONDS % 60)) $sparse $sparse
