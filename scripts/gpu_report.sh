#!/usr/bin/env bash
# Builds hew for NVIDIA GPUs, runs the GPU tests, times hew beside PyTorch, and writes one Markdown
# table with the device, the versions and the commands. What fails or runs out of time is in the
# table as such; the rest goes on.
#
# Usage: scripts/gpu_report.sh [options] [OUTPUT.md]        (default docs/results/gpu-report.md)
#   --only PART,…         of tests,kernels,train,torch,attention,scaling (default all)
#   --sizes SIZE,…        of 124m,774m,1558m (default all)
#   --limit SECONDS       time of one command (default 540)
#   --jobs N              tests at a time (default: processors, at most 24)
#   --work DIR            logs; a part that is left out keeps what it has there
#                         (default build-cuda/report)
#   --no-build            take build-cuda as it is
#   --torch-options TEXT  for tests/bench/gpt2_torch.py, such as "--attention cudnn"
#   --hew-options TEXT    overrides of the recipes, such as "train.recompute=blocks"
# PYTHON names the Python that has PyTorch (default python3). With train and torch both chosen, hew is
# timed before and after PyTorch, and the slower of the two counts. Attention is timed with the cuDNN
# that hew links, and with the one that PyTorch brings, where it brings one.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

all_parts=tests,kernels,train,torch,attention,scaling
parts=$all_parts
sizes=124m,774m,1558m
limit=540
jobs=$(($(nproc) < 24 ? $(nproc) : 24))
build="build-cuda"
work=$build/report
output=docs/results/gpu-report.md
build_first=yes
torch_options=()
hew_options=()
python=${PYTHON:-python3}

usage() {
  sed -n '2,20s/^# \{0,1\}//p' "$0"
}
stop() {
  echo "gpu_report: $1" >&2
  exit 2
}
while [[ $# -gt 0 ]]; do
  case "$1" in
    --only) parts=${2:?--only needs parts} && shift ;;
    --sizes) sizes=${2:?--sizes needs sizes} && shift ;;
    --limit) limit=${2:?--limit needs seconds} && shift ;;
    --jobs) jobs=${2:?--jobs needs a number} && shift ;;
    --work) work=${2:?--work needs a folder} && shift ;;
    --no-build) build_first= ;;
    --torch-options) read -ra torch_options <<< "${2?--torch-options needs text}" && shift ;;
    --hew-options) read -ra hew_options <<< "${2?--hew-options needs text}" && shift ;;
    -h | --help) usage && exit 0 ;;
    -*) stop "unknown option $1 (try --help)" ;;
    *) output=$1 ;;
  esac
  shift
done
chosen() {
  [[ ,$parts, == *,$1,* ]]
}
for part in ${parts//,/ }; do
  [[ ,$all_parts, == *,$part,* ]] || stop "no part $part; there are $all_parts"
done
for size in ${sizes//,/ }; do
  [[ -f recipes/gpt2-$size-cuda.yaml ]] || stop "no size $size"
done
[[ $limit =~ ^[1-9][0-9]*$ ]] || stop "--limit $limit: expected seconds"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || stop "--jobs $jobs: expected a number"
command -v "$python" > /dev/null || stop "no $python"

mkdir -p "$work" "$(dirname "$output")"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# item NAME COMMAND …: runs it within the limit; NAME.{command,out,err,status} tell what came of it.
item() {
  local name=$1 status=0 start=$SECONDS
  shift
  echo "== $name: $*"
  rm -f "$work/$name".{out,err,status}
  echo "$*" > "$work/$name.command"
  timeout --kill-after=30 "$limit" "$@" > "$work/$name.out" 2> "$work/$name.err" < /dev/null ||
    status=$?
  echo "$status $((SECONDS - start)) $(date -u +%Y-%m-%dT%H:%MZ)" > "$work/$name.status"
  echo "   status $status after $((SECONDS - start)) s"
  [[ $status -eq 0 ]] || tail -n 5 "$work/$name.err"
}
clear_items() {
  local name
  for name in "$@"; do
    rm -f "$work/$name".{command,out,err,status}
  done
}

describe() {
  echo "date: $(date -u +%Y-%m-%d)"
  echo "source: $(git describe --always --dirty 2> /dev/null || echo unknown)"
  nvidia-smi --query-gpu=name,memory.total,power.limit,driver_version --format=csv,noheader |
    sed 's/^/GPU: /'
  echo "nvcc: $(nvcc --version | sed -n 's/.*release .*, V/V/p')"
  "$python" - << 'END'
import torch

nccl = ".".join(map(str, torch.cuda.nccl.version()))
print(f"PyTorch: {torch.__version__}, CUDA {torch.version.cuda}, "
      f"cuDNN {torch.backends.cudnn.version()}, NCCL {nccl}")
END
  ldd "$build/hew" | awk '$3 ~ /lib(cudart|cublasLt|cudnn|nccl)\.so/ { print $3 }' |
    while read -r library; do
      echo "hew links: $(basename "$(readlink -f "$library")")"
    done
}

# The folder of PyTorch's own cuDNN; empty if it has none.
torch_cudnn=$("$python" -c 'import nvidia.cudnn as it; print(it.__path__[0] + "/lib")' 2> /dev/null)

gpus() {
  nvidia-smi --list-gpus 2> /dev/null | grep -c '^GPU'
}

# Figures of another kind of GPU are not kept beside this one's.
nvidia-smi --query-gpu=name --format=csv,noheader 2> /dev/null | sort -u > "$work/kind.new"
if [[ -f $work/kind.txt ]] && ! cmp --silent "$work/kind.txt" "$work/kind.new"; then
  echo "== $work holds figures of another kind of GPU: dropped"
  rm -f "$work"/*.{command,out,err,status} "$work/tests.xml"
fi
mv "$work/kind.new" "$work/kind.txt"

if [[ $build_first ]]; then
  item build bash -c "cmake --preset cuda && cmake --build --preset cuda"
fi
describe > "$work/machine.txt" 2> "$work/machine.err"

if chosen tests; then
  rm -f "$work/tests.xml"
  item tests scripts/with_mps.sh ctest --test-dir "$build" --label-regex cuda --parallel "$jobs" \
    --output-on-failure --no-tests=error --output-junit "$(realpath --relative-to="$build" "$work")/tests.xml"
fi
if chosen kernels; then
  item kernels "$build/hew" bench kernels
fi
if chosen attention; then
  item attention-hew "$build/hew" bench kernels --only attention
  item attention "$python" tests/bench/attention_torch.py
  clear_items attention-hew-same
  if [[ -d $torch_cudnn ]]; then
    item attention-hew-same \
      env LD_LIBRARY_PATH="$torch_cudnn${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
      "$build/hew" bench kernels --only attention
  fi
fi

corpus=$work/random.bin
if chosen train || chosen scaling; then
  [[ -f $corpus ]] || "$python" scripts/random_corpus.py "$corpus"
fi
prefix=()  # of train_hew's commands
train_hew() {
  local name=$1
  shift
  item "$name" "${prefix[@]}" "$python" tests/bench/gpt2_hew.py --hew "$build/hew" --data "$corpus" \
    --limit $((limit - 20)) "$@" "${hew_options[@]}"
}
for size in ${sizes//,/ }; do
  if chosen train; then
    clear_items "train-$size-again"
    train_hew "train-$size" --size "$size"
  fi
  if chosen torch; then
    item "torch-$size" "$python" tests/bench/gpt2_torch.py --size "$size" "${torch_options[@]}"
  fi
  if chosen train && chosen torch; then
    train_hew "train-$size-again" --size "$size"
  fi
done
if chosen scaling; then
  if [[ $(gpus) -ge 2 ]]; then
    train_hew scaling-1 --size 774m --gpus 1
    train_hew scaling-2 --size 774m --gpus 2
    train_hew scaling-2-nccl --size 774m --gpus 2 run.peer_copies=false
    train_hew scaling-2-sharded --size 774m --gpus 2 optim.shard=true
    prefix=(env CUDA_VISIBLE_DEVICES=1)
    train_hew scaling-1-other --size 774m --gpus 1
    prefix=()
  else
    echo "== scaling: left out, it needs 2 GPUs"
  fi
fi

"$python" scripts/gpu_report_table.py "$work" > "$work/report.md" && cp "$work/report.md" "$output" &&
  echo "wrote $output"
