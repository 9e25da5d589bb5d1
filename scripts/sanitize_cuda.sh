#!/usr/bin/env bash
# Runs the tests labelled cuda under compute-sanitizer, on small shapes (HEW_TEST_SIZES=small).
#
# Usage: scripts/sanitize_cuda.sh [--tools "memcheck racecheck synccheck"] [--filter REGEX]
#                                 [--by-case] [--limit SECONDS] [--logs FOLDER] [build dir] [jobs]
#   --tools    which of its tools (default all three)
#   --filter   only tests whose name fits
#   --by-case  every test case in a process of its own: more of them at a time, and each has the limit
#   --limit    seconds for one process under one tool (default 300)
#   --logs     folder for what each wrote (default BUILD/sanitizer)
#   build dir  where the tests are built (default build-cuda); jobs: programs at a time (default 8)
# One line a tool and test, or its case NAME#number: ok, errors N, failed, timeout, skipped (no
# GPU), left out. The last line is `N passed, N failed, N skipped`; the status is 1 if anything
# failed.
#
# Left out: what needs mpirun and two GPUs (NCCL's tests); and under racecheck and synccheck, which
# look at single kernels, whole training runs and benchmarks: hundreds of thousands of launches of
# kernels that have tests of their own. These two also pass over the kernels of libraries, and do
# not run cases called `folded` or kernels/linear_cuda: cuBLASLt's kernels for Hopper end with an
# error under them.
set -euo pipefail
tools="memcheck racecheck synccheck"
filter=.
logs=
export BY_CASE=""
export LEFT_OUT="--test-case-exclude=*folded*"
places=()
export LIMIT=300
refuse() {
  echo "sanitize_cuda: $1 (try --help)" >&2
  exit 2
}
while [[ $# -gt 0 ]]; do
  case "$1" in
    --tools)
      [[ -n ${2:-} ]] || refuse "--tools needs a list"
      tools=$2
      shift
      ;;
    --filter)
      [[ -n ${2:-} ]] || refuse "--filter needs an expression"
      filter=$2
      shift
      ;;
    --by-case) BY_CASE=yes ;;
    --limit)
      [[ -n ${2:-} ]] || refuse "--limit needs seconds"
      LIMIT=$2
      shift
      ;;
    --logs)
      [[ -n ${2:-} ]] || refuse "--logs needs a folder"
      logs=$2
      shift
      ;;
    -h | --help) sed -n '2,22s/^# \{0,1\}//p' "$0" && exit 0 ;;
    -*) refuse "unknown option $1" ;;
    *) places+=("$1") ;;
  esac
  shift
done
build=${places[0]:-build-cuda}
jobs=${places[1]:-8}
[[ ${#places[@]} -le 2 ]] || refuse "got ${places[2]} after build dir and jobs"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || refuse "jobs: got $jobs, expected a number"
[[ $LIMIT =~ ^[1-9][0-9]*$ ]] || refuse "--limit: got $LIMIT, expected seconds"
for tool in $tools; do
  [[ $tool == memcheck || $tool == racecheck || $tool == synccheck ]] ||
    refuse "--tools: got $tool, expected memcheck, racecheck or synccheck"
done
export LOGS=${logs:-$build/sanitizer}
for program in compute-sanitizer ctest python3; do
  command -v "$program" > /dev/null || { echo "sanitize_cuda: no $program on PATH" >&2 && exit 2; }
done
[[ -e $build/CTestTestfile.cmake ]] || refuse "$build: no tests are built here"
listed=$(ctest --test-dir "$build" --tests-regex "$filter" --show-only=json-v1 2> /dev/null) || true
[[ $listed == {* ]] || refuse "--filter: ctest cannot read the expression $filter"
mkdir -p "$LOGS"

# check TOOL NAME [NAME=VALUE … PROGRAM]: one line on stdout.
# shellcheck disable=SC2317  # xargs calls it
check() {
  local tool=$1 name=$2 began=$SECONDS status=0 errors verdict
  shift 2
  local log="$LOGS/$tool.${name//\//.}.log"
  local program=("${!#}")
  local options=(--tool "$tool" --error-exitcode 9 --print-limit 20 --launch-timeout 120)
  if [[ $tool == memcheck ]]; then
    options+=(--leak-check no --report-api-errors no)  # hew checks what the API returns itself
  else
    options+=(--kernel-name kns=3hew7kernels)
    program+=("$LEFT_OUT")
  fi
  if [[ $name == *#* ]]; then
    program+=(--first="${name#*#}" --last="${name#*#}")
  fi
  if [[ $# -eq 0 ]] ||
    [[ $tool != memcheck && $name =~ (^|/)(train|app)/|^kernels/linear_cuda(#|$) ]]; then
    verdict="left out"
  else
    timeout --kill-after=10 "$LIMIT" env "${@:1:$#-1}" \
      compute-sanitizer --max-connections 100 "${options[@]}" "${program[@]}" > "$log" 2>&1 || status=$?
    errors=$(sed -nE 's/.*(ERROR|RACECHECK) SUMMARY: ([0-9]+).*/\2/p' "$log" | tail -n 1)
    if [[ $status -eq 77 ]] || grep -q '^\[SKIP\]' "$log"; then
      verdict=skipped
    elif [[ $status -eq 124 || $status -eq 137 ]]; then
      verdict="timeout after $LIMIT s"
    elif [[ ${errors:-0} -gt 0 ]]; then
      verdict="errors $errors, see $log"
    elif [[ $status -ne 0 || -z $errors ]]; then  # a test that failed, or a tool that did not run
      verdict="failed with status $status, see $log"
    else
      verdict="ok, $((SECONDS - began)) s"
    fi
  fi
  printf '%-9s  %-36s  %s\n' "$tool" "$name" "$verdict"
}
export -f check

# A line a test, or one a case of it: name, environment, program; of those under mpirun the name
# alone. Cases are counted without those that the tool ($1) leaves out.
list_tests() {
  ctest --test-dir "$build" --label-regex '^cuda$' --tests-regex "$filter" --show-only=json-v1 |
    python3 -c 'import json, os, re, subprocess, sys
def names(name, words):
    if not (words and os.environ["BY_CASE"]):
        return [name]
    left_out = [] if sys.argv[1] == "memcheck" else [os.environ["LEFT_OUT"]]
    count = subprocess.run(["env", *words, "--count", *left_out], capture_output=True, text=True)
    cases = int((re.findall(r": (\d+)", count.stdout) or [0])[-1])
    return [f"{name}#{i}" for i in range(1, 1 + cases)]
for test in json.load(sys.stdin)["tests"]:
    properties = {p["name"]: p["value"] for p in test["properties"]}
    command = test.get("command", ["/not/built"])
    words = properties.get("ENVIRONMENT", []) + command if len(command) == 1 else []
    for name in names(test["name"], words):
        print(name, *words)' "$1"
}

export HEW_TEST_SIZES=small OMP_NUM_THREADS=2
# shellcheck disable=SC2016  # the inner shell expands it
for tool in $tools; do
  list_tests "$tool" | while read -r line; do echo "$tool $line"; done
done | xargs --no-run-if-empty --max-lines=1 --max-procs="$jobs" \
  bash -c 'check "$@"' check | tee "$LOGS/summary.txt"
failed=$(grep -cE '  (errors|failed|timeout) ' "$LOGS/summary.txt" || true)
passed=$(grep -cE '  ok, ' "$LOGS/summary.txt" || true)
skipped=$(grep -cE '  (skipped|left out)$' "$LOGS/summary.txt" || true)
[[ $((passed + failed + skipped)) -gt 0 ]] || { echo "sanitize_cuda: no tests in $build" && failed=1; }
echo "$passed passed, $failed failed, $skipped skipped"
exit $((failed > 0))
