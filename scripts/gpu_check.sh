#!/usr/bin/env bash
# Builds preset cuda and runs the tests labelled cuda on this machine's GPU.
#
# Usage: scripts/gpu_check.sh [--architectures LIST] [--jobs N] [--filter REGEX] [--sanitize]
#   --architectures  CMake's list (default 80-real;90a-real)
#   --jobs           tests at a time (default: processors, at most 24)
#   --filter         only tests whose name fits
#   --sanitize       each test once more under compute-sanitizer (scripts/sanitize_cuda.sh)
# The last line is `N passed, N failed, N skipped`; the status is 1 if anything failed or nothing ran.
set -euo pipefail
cd "$(dirname "$0")/.."

architectures="80-real;90a-real"
jobs=$(($(nproc) < 24 ? $(nproc) : 24)) # one GPU and one server of MPS have room for so many
filter=.
sanitize=
while [[ $# -gt 0 ]]; do
  case "$1" in
    --architectures) architectures=${2:?--architectures needs a list} && shift ;;
    --jobs) jobs=${2:?--jobs needs a number} && shift ;;
    --filter) filter=${2:?--filter needs an expression} && shift ;;
    --sanitize) sanitize=yes ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) echo "gpu_check: unknown option $1 (try --help)" >&2 && exit 2 ;;
  esac
  shift
done

mkdir -p build-cuda
cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES="$architectures" > build-cuda/configure.log ||
  { tail -n 30 build-cuda/configure.log && exit 1; }
cmake --build build-cuda
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
scripts/with_mps.sh ctest --test-dir build-cuda --label-regex cuda --tests-regex "$filter" --parallel "$jobs" \
  --output-on-failure --no-tests=error --output-junit ctest.xml || echo "ctest: something failed"

failed_by_sanitizer=0
if [[ $sanitize ]]; then
  scripts/sanitize_cuda.sh --filter "$filter" build-cuda "$jobs" | tee build-cuda/sanitizer.txt || true
  failed_by_sanitizer=$(sed -n '$s/.* \([0-9]*\) failed.*/\1/p' build-cuda/sanitizer.txt)
fi

python3 - build-cuda/ctest.xml "${failed_by_sanitizer:-1}" << 'PYTHON'
import sys
import xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot()
total, failed, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "skipped"))
failed += int(sys.argv[2])
passed = total - int(suite.get("failures", 0)) - skipped
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0 or passed == 0)
PYTHON
