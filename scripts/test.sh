#!/usr/bin/env bash
# Builds hew and runs its tests, from a bare machine: packages, Python packages for the checks
# (in .venv), build, ctest, tests/python/check_*.py. Safe to repeat.
#
# Usage: scripts/test.sh [--preset cpu|cuda|cpu-asan|cpu-asan-o0|cpu-portable] [--no-python]
#                        [--no-slow] [--folders "core io …"]
#   --preset     what to build and test (default cpu, in build/; others in build-PRESET/); with cuda,
#                tests of GPU code are skipped where there is no GPU
#   --no-python  leave out tests/python
#   --no-slow    leave out tests labelled slow
#   --folders    build and run only the tests of these folders
# The last line is `N passed, N failed, N skipped`; the status is 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=cpu
python_checks=yes
folders=
ctest_options=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --preset) preset=${2:?--preset needs a name} && shift ;;
    --no-python) python_checks= ;;
    --no-slow) ctest_options+=(--label-exclude slow) ;;
    --folders) folders=${2:?--folders needs a list} && shift ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) echo "test: unknown option $1 (try --help)" >&2 && exit 2 ;;
  esac
  shift
done
build=build
[[ $preset == cpu ]] || build=build-$preset

# Makes .venv what tests/python/requirements.txt says; writes to .venv/log.
make_venv() {
  local wanted=tests/python/requirements.txt stamp=.venv/installed.txt
  cmp --silent "$wanted" "$stamp" && return 0
  [[ -x .venv/bin/pip ]] || python3 -m venv .venv
  .venv/bin/pip --disable-pip-version-check --quiet install --only-binary=:all: --retries 1 \
    --timeout 20 --requirement "$wanted" && cp "$wanted" "$stamp"
}

# Where there is nothing to count, the closing line still says what happened.
stop() {
  echo "test: $1"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

scripts/install_packages.sh --tests
mkdir -p "$build"
venv_job=
if [[ $python_checks ]]; then
  make_venv > "$build/venv.log" 2>&1 &
  venv_job=$!
fi

if command -v ccache > /dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
  export CMAKE_CUDA_COMPILER_LAUNCHER=ccache
fi
if [[ $preset == cuda ]]; then
  scripts/get_cudnn_frontend.sh || echo "[SKIP] attention through cuDNN is not compiled"
fi
cmake --preset "$preset" > "$build/configure.log" || stop "cmake could not configure $preset"
targets=()
for folder in $folders; do targets+=(--target "hew_tests_$folder"); done
[[ $folders ]] && ctest_options+=(--tests-regex "^(${folders// /|})/")
cmake --build --preset "$preset" "${targets[@]}" || stop "the build of $preset failed"

if [[ $venv_job ]] && ! wait "$venv_job"; then
  echo "[SKIP] PyPI is out of reach or lacks a package: checks that need one are left out"
  tail -n 3 "$build/venv.log"
  export HEW_NO_PYPI=1
fi

# Ranks and threads share few cores here: nobody may spin.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMP_WAIT_POLICY=passive
rm -f "$build/ctest.xml"
ctest --test-dir "$build" --parallel "$(nproc)" --output-on-failure --no-tests=error \
  --output-junit ctest.xml "${ctest_options[@]}" || echo "ctest: something failed"

python=.venv/bin/python
[[ -x $python ]] || python=python3
only=()
[[ $python_checks ]] || only=(--only)
exec "$python" scripts/run_checks.py --build "$build" --junit "$build/ctest.xml" "${only[@]}"
