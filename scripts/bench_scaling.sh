#!/usr/bin/env bash
# Times training on several GPUs of one host: tokens/s, speed-up, what of the communication shows,
# bytes and memory, with the batch of a rank and with the global batch fixed; and compares losses
# on different numbers of ranks. Writes one Markdown page. What fails or was not reached is in it as such.
#
# Usage: scripts/bench_scaling.sh [options] [OUTPUT.md]     (default docs/results/scaling.md)
#   --minutes N           for everything, the build included (default 30); the next call goes on
#   --ranks N,…           (default 1,2,4,8); those that this host has no GPUs for are not run
#   --parts PART,…        of weak,loss,shard,strong (default all), most important first in that order
#   --recipes FILE,…      most important first (default GPT-2 1558M, the same 90 % sparse, 774M, 124M)
#   --side-by-side yes|no several items at once on different GPUs (default yes)
#   --corpus FILE         for the losses, with --valid FILE (default 1000 random tokens of the vocabulary)
#   --loss-recipes FILE,… --loss-batch N --loss-steps N  (default recipes/gpt2-124m-cuda.yaml, 32, 200)
#   --tokens N            of a step of strong scaling (default 524288)
#   --limit SECONDS       for one item (default 150)
#   --work DIR            logs and finished items, which are kept (default BUILD/scaling)
#   --build DIR           where hew is (default build-cuda)
#   --no-build            take it as it is
#   --slots N             ranks at a time on a machine without GPUs (then --hew-options
#                         "run.device=cpu train.precision=fp32")
#   --mpirun TEXT         such as "mpirun --oversubscribe"
#   --hew-options TEXT    overrides of the recipes, such as "train.recompute=blocks"
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

minutes=30
ranks=1,2,4,8
parts=weak,loss,shard,strong
recipes=recipes/gpt2-1558m-cuda.yaml,recipes/gpt2-xl-sparse90.yaml
recipes+=,recipes/gpt2-774m-cuda.yaml,recipes/gpt2-124m-cuda.yaml
side_by_side=yes
corpus=
valid=
loss_recipes=recipes/gpt2-124m-cuda.yaml
loss=()
runs=()
slots=0
build="build-cuda"
build_first=yes
work=
output=docs/results/scaling.md
hew_options=()
status=0

stop() {
  echo "bench_scaling: $1" >&2
  exit 2
}
while [[ $# -gt 0 ]]; do
  case "$1" in
    --minutes | --ranks | --parts | --recipes | --side-by-side | --corpus | --valid | --loss-* | \
      --tokens | --limit | --work | --build | --slots | --mpirun | --hew-options)
      [[ $# -ge 2 ]] || stop "$1 needs a value"
      ;;&
    --minutes) minutes=$2 && shift ;;
    --ranks) ranks=$2 && shift ;;
    --parts) parts=$2 && shift ;;
    --recipes) recipes=$2 && shift ;;
    --side-by-side) side_by_side=$2 && shift ;;
    --corpus) corpus=$2 && shift ;;
    --valid) valid=$2 && shift ;;
    --loss-recipes) loss_recipes=$2 && shift ;;
    --loss-batch | --loss-steps | --tokens | --limit)
      [[ $2 =~ ^[1-9][0-9]*$ ]] || stop "$1 $2: expected 1 or more"
      ;;&
    --loss-batch | --loss-steps) loss+=("$1" "$2") && shift ;;
    --tokens | --limit | --mpirun) runs+=("$1" "$2") && shift ;;
    --slots) slots=$2 && shift ;;
    --work) work=$2 && shift ;;
    --build) build=$2 && shift ;;
    --no-build) build_first= ;;
    --hew-options) read -ra hew_options <<< "$2" && shift ;;
    -h | --help) sed -n '2,26s/^# \{0,1\}//p' "$0" && exit 0 ;;
    -*) stop "unknown option $1 (try --help)" ;;
    *) output=$1 ;;
  esac
  shift
done
[[ $minutes =~ ^[0-9]+$ ]] || stop "--minutes $minutes: expected a whole number"
[[ $ranks =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || stop "--ranks $ranks: expected numbers with commas"
[[ $side_by_side == yes || $side_by_side == no ]] || stop "--side-by-side is yes or no"
[[ -z $corpus || $valid ]] || stop "--corpus needs --valid"
for file in "$corpus" "$valid"; do
  [[ -z $file || -f $file ]] || stop "no corpus $file"
done
[[ $slots =~ ^[0-9]+$ ]] || stop "--slots $slots: expected a whole number"
for part in ${parts//,/ }; do
  [[ ,weak,loss,shard,strong, == *,$part,* ]] || stop "no part $part; there are weak,loss,shard,strong"
done
for recipe in ${recipes//,/ } ${loss_recipes//,/ }; do
  [[ -f $recipe ]] || stop "no recipe $recipe"
done

work=${work:-$build/scaling}
mkdir -p "$work" "$(dirname "$output")"
[[ $side_by_side == yes ]] || runs+=(--one-at-a-time)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
widest=$(tr , '\n' <<< "$ranks" | sort -n | tail -n 1)
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > widest ? cores / widest : 1))}

# Figures of other GPUs are not kept beside these.
nvidia-smi --query-gpu=name --format=csv,noheader > "$work/kind.new" 2> /dev/null
if [[ -f $work/kind.txt ]] && ! cmp --silent "$work/kind.txt" "$work/kind.new"; then
  echo "== $work holds figures of other GPUs: dropped"
  rm -f "$work"/*.json
fi
mv "$work/kind.new" "$work/kind.txt"

# Few of the vocabulary's tokens for the losses, so that there is something to learn: which. The
# files are written while hew is built.
corpora() {
  local maker=scripts/random_corpus.py
  [[ -f $build/random.bin ]] || python3 $maker "$build/random.bin" --tokens 4000000
  [[ -f $build/few.bin ]] || python3 $maker "$build/few.bin" --tokens 8000000 --vocab 1000
  [[ -f $build/few-valid.bin ]] ||
    python3 $maker "$build/few-valid.bin" --tokens 1000000 --vocab 1000 --seed 2
}
mkdir -p "$build"
corpora &
if [[ $build_first ]]; then
  { cmake --preset cuda && cmake --build build-cuda --target hew; } > "$work/build.log" 2>&1 ||
    { tail -n 20 "$work/build.log" && stop "the build failed"; }
fi
[[ -x $build/hew ]] || stop "no $build/hew"
wait
[[ $corpus ]] || corpus=$build/few.bin valid=$build/few-valid.bin
echo "== ready to run after $SECONDS s"

{
  echo "date: $(date -u +%Y-%m-%d)"
  echo "source: $(git describe --always --dirty 2> /dev/null || echo unknown)"
  nvidia-smi --query-gpu=name,memory.total,power.limit,driver_version --format=csv,noheader |
    sort | uniq --count | sed 's/^ *\([0-9]*\)/GPUs: \1 ×/'
  echo "cores: $cores, OMP_NUM_THREADS: $OMP_NUM_THREADS"
  env | grep '^NCCL_' | sort | sed 's/^/environment: /'
  ldd "$build/hew" | awk '$3 ~ /lib(cudart|cublasLt|cudnn|nccl)\.so/ { print $3 }' |
    while read -r library; do echo "hew links: $(basename "$(readlink -f "$library")")"; done
  echo "items at a time: $([[ $side_by_side == yes ]] && echo "as many as there are GPUs for" || echo one)"
  echo "corpus of the losses: $(basename "$corpus"), validation $(basename "$valid")"
} > "$work/machine.txt" 2> /dev/null

python3 tests/bench/scaling_runs.py --work "$work" --hew "$build/hew" --recipes "$recipes" --ranks "$ranks" \
  --parts "$parts" --corpus "$build/random.bin" --loss-corpus "$corpus" --loss-valid "$valid" \
  --slots "$slots" --seconds $((60 * minutes - SECONDS)) --loss-recipes "$loss_recipes" "${loss[@]}" "${runs[@]}" "${hew_options[@]}" ||
  { status=1 && echo "== the runs were broken off"; }
python3 scripts/scaling_table.py "$work" > "$work/page.md" && cp "$work/page.md" "$output" &&
  echo "wrote $output after $SECONDS s"
exit "$status"
