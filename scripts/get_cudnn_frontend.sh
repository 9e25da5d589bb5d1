#!/usr/bin/env bash
# Fetches the headers of NVIDIA's cudnn-frontend, which the attention on NVIDIA GPUs is built with.
# They come from the PyPI wheel; nothing of it is installed.
# Usage: scripts/get_cudnn_frontend.sh [DEST]
#   DEST  where include/ goes; default .cache/cudnn_frontend, where the build looks for it
set -euo pipefail

version=1.32.0
case "${1:-}" in
  -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0" && exit 0 ;;
  -*) echo "get_cudnn_frontend: unknown option $1 (try --help)" >&2 && exit 2 ;;
esac
destination=${1:-$(cd "$(dirname "$0")/.." && pwd)/.cache/cudnn_frontend}

if [[ -f $destination/include/cudnn_frontend/graph_interface.h ]]; then
  echo "get_cudnn_frontend: already in $destination/include"
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
download() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$scratch" "$1"
}
if ! download "nvidia-cudnn-frontend==$version"; then
  echo "get_cudnn_frontend: no version $version here, taking the newest" >&2
  if ! download nvidia-cudnn-frontend; then
    echo "get_cudnn_frontend: pip cannot fetch nvidia-cudnn-frontend" >&2
    exit 1
  fi
fi
python3 -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
if [[ ! -f $scratch/wheel/include/cudnn_frontend/graph_interface.h ]]; then
  echo "get_cudnn_frontend: $(basename "$scratch"/*.whl) has no headers" >&2
  exit 1
fi
mkdir -p "$destination"
rm -rf "$destination/include"
mv "$scratch/wheel/include" "$destination/include"
echo "get_cudnn_frontend: $(basename "$scratch"/*.whl) in $destination/include"
