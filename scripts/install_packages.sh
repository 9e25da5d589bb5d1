#!/usr/bin/env bash
# Installs the Debian packages that hew needs and that are missing; instant when none is.
# Usage: scripts/install_packages.sh [--tests]
#   --tests  also what scripts/test.sh and .ci/run need
# Without the right to install, it names what is missing and ends with status 1.
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config
  libeigen3-dev libyaml-cpp-dev libhdf5-dev libssl-dev libopenmpi-dev openmpi-bin
  libcli11-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libsentencepiece-dev libpcre2-dev
  zlib1g-dev libpng-dev libjpeg-dev
  doctest-dev bible-kjv dataset-fashion-mnist
)
case "${1:-}" in
  "") ;;
  --tests) packages+=(clang-format clang-tidy python3 python3-venv python3-pip) ;;
  -h | --help) sed -n '2,5s/^# //p' "$0" && exit 0 ;;
  *) echo "install_packages: unknown option $1" >&2 && exit 2 ;;
esac

if ! command -v dpkg-query > /dev/null; then
  echo "install_packages: this is not a Debian system; the packages by Debian's names are:" >&2
  echo "  ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2> /dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $EUID -ne 0 ]]; then
  as_root=(sudo -n)
  if ! sudo -n true 2> /dev/null; then
    echo "install_packages: missing, and only root may install:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi

echo "installing ${missing[*]}"
if ! { "${as_root[@]}" apt-get -qq update &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes \
    --no-install-recommends "${missing[@]}" > /dev/null; }; then
  echo "install_packages: apt-get failed; still missing:" >&2
  echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
