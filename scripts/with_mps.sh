#!/usr/bin/env bash
# Runs a command with a server of NVIDIA's MPS for what it starts: programs that use one GPU at the
# same time then share it, and else take turns. Without nvidia-cuda-mps-control, or if that does
# not start, the command runs as it is.
#
# Usage: scripts/with_mps.sh COMMAND [ARGUMENT ...]
# The status is the command's.
set -uo pipefail
if [[ $# -eq 0 || $1 == -h || $1 == --help ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0"
  exit $(($# == 0 ? 2 : 0))
fi

folder=$(mktemp -d)
started=
clean_up() {
  [[ -z $started ]] || echo quit | server > /dev/null 2>&1
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
pipe=$folder/pipe log=$folder/log
mkdir "$pipe" "$log"
server() {
  CUDA_MPS_PIPE_DIRECTORY=$pipe CUDA_MPS_LOG_DIRECTORY=$log nvidia-cuda-mps-control "$@"
}
if command -v nvidia-cuda-mps-control > /dev/null && server -d > /dev/null 2>&1; then
  started=yes
  export CUDA_MPS_PIPE_DIRECTORY=$pipe CUDA_MPS_LOG_DIRECTORY=$log
else
  echo "with_mps: no server of MPS here, programs take turns" >&2
fi
"$@"
