#!/usr/bin/env bash
# Format, include order, clang-tidy. Usage: scripts/check_style.sh [FILE.cc …]
# Without files, clang-tidy goes over all sources but the tests; headers are checked where they are
# included. Each of the three counts as one check in the last line, `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

passed=0
failed=0
check() {
  local name=$1
  shift
  if "$@"; then
    echo "[pass] $name"
    passed=$((passed + 1))
  else
    echo "[FAIL] $name"
    failed=$((failed + 1))
  fi
}

check_format() {
  git ls-files -z '*.h' '*.cc' '*.cuh' '*.cu' | xargs -0 clang-format --dry-run --Werror
}

# The newest build knows how files are compiled; one without CUDA does not know some.
build=build-cuda
[[ -f $build/compile_commands.json ]] || build=build
[[ -f $build/compile_commands.json ]] || cmake --preset cpu > /dev/null || exit 1
files=("$@")
if [[ ${#files[@]} -eq 0 ]]; then
  mapfile -t files < <(git ls-files '*.cc' ':!tests' | while read -r file; do
    grep --quiet --fixed-strings "/$file\"" "$build/compile_commands.json" && echo "$file"
  done)
fi

check format check_format
check "include order" python3 scripts/check_layers.py
check clang-tidy python3 scripts/tidy.py "$build" "${files[@]}"
echo "$passed passed, $failed failed, 0 skipped"
exit $((failed > 0))
