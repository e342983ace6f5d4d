#!/usr/bin/env bash
# What the setup.sh and run.sh of the boards share. Sourced by them, never run by itself.
set -euo pipefail

DEVICES_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=${EDGEDISTILL_VENV:-$HOME/edgedistill-venv}
OS_RELEASE=${EDGEDISTILL_OS_RELEASE:-/etc/os-release}
DRY_RUN=no
# The checkout that this file is part of, or else the package by its name.
PACKAGE=edgedistill
[ -f "$DEVICES_DIR/../setup.cfg" ] && PACKAGE=$(cd "$DEVICES_DIR/.." && pwd)

# The same ranges as in setup.cfg (a test compares them), for boards where apt brings numpy and OpenCV and pip must not.
NEEDS_MSGSPEC='msgspec>=0.19,<1'
NEEDS_LITERT='ai-edge-litert>=2.1,<3'
NEEDS_TFLITE_RUNTIME='tflite-runtime==2.14.0'

WRITE_NUMPY_VERSION='import numpy, pathlib, sys; pathlib.Path(sys.argv[1]).write_text("numpy==" + numpy.__version__)'

fail() {
  printf '%s: %s\n' "$(basename "$(dirname "$0")")/$(basename "$0")" "$1" >&2
  exit "${2:-1}"
}

# Print a command, and run it unless this is a dry run.
step() {
  printf '+%s\n' "$(printf ' %q' "$@")"
  [ "$DRY_RUN" = yes ] || "$@"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then step "$@"; else step sudo "$@"; fi
}

parse_setup_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) DRY_RUN=yes ;;
      --package)
        [ $# -ge 2 ] || fail '--package needs a wheel, a checkout or a package name' 2
        PACKAGE=$2
        shift
        ;;
      --venv)
        [ $# -ge 2 ] || fail '--venv needs a folder' 2
        VENV=$2
        shift
        ;;
      -h | --help)
        printf 'usage: setup.sh [--dry-run] [--package WHEEL_OR_CHECKOUT] [--venv FOLDER]\n'
        exit 0
        ;;
      *) fail "unknown argument '$1'; see --help" 2 ;;
    esac
    shift
  done
}

# Print the value of a key of the os-release file, without quotes.
os_release() {
  [ -r "$OS_RELEASE" ] || return 0
  sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$OS_RELEASE" | head -n 1
}

# Print the Python version as a number to compare: 311 for 3.11.
python_version() {
  python3 -c 'import sys; print(sys.version_info[0] * 100 + sys.version_info[1])' ||
    fail 'there is no python3; install Python 3.11 or later'
}

require_python() {
  local found name
  found=$(python_version)
  name=$((found / 100)).$((found % 100))
  [ "$found" -ge 311 ] || fail "Python 3.11 or later is needed, python3 is $name"
  [ "$found" -le "${1:-999}" ] ||
    fail "tflite-runtime, the only interpreter for 32-bit, ends at Python 3.11, python3 is $name; use the 64-bit system"
}

# Print what the *userland* runs: a 32-bit Raspberry Pi OS has a 64-bit kernel, so `uname -m` alone would mislead.
userland() {
  if command -v dpkg >/dev/null; then dpkg --print-architecture; else uname -m; fi
}

# Bookworm or Trixie, 64-bit, or 32-bit on Bookworm; numpy, OpenCV and picamera2 from apt, which belong together.
setup_raspberry_pi() {
  local interpreter codename
  parse_setup_arguments "$@"
  codename=$(os_release VERSION_CODENAME)
  case $codename in
    bookworm | trixie) ;;
    *) fail "this is '${codename:-unknown}'; supported are Raspberry Pi OS Bookworm and Trixie" ;;
  esac
  case $(userland) in
    arm64 | aarch64) require_python; interpreter=$NEEDS_LITERT ;;
    armhf | armv7l)
      [ "$(uname -m)" != armv6l ] || fail 'this CPU is ARMv6 (Pi 1, Pi Zero); no interpreter is built for it, use a Pi Zero 2 W or later'
      require_python 311
      interpreter=$NEEDS_TFLITE_RUNTIME
      ;;
    *) fail "this is $(userland), which is no Raspberry Pi OS; on a PC use devices/laptop/setup.sh" ;;
  esac
  as_root apt-get update
  as_root apt-get install --yes --no-install-recommends python3-venv python3-numpy python3-opencv python3-picamera2
  step python3 -m venv --system-site-packages "$VENV"
  # pip may add to apt's numpy, never replace it: picamera2 is compiled against it.
  step /usr/bin/python3 -c "$WRITE_NUMPY_VERSION" "$VENV/apt-numpy.txt"
  step "$VENV/bin/pip" install --constraint "$VENV/apt-numpy.txt" "$NEEDS_MSGSPEC" "$interpreter"
  step "$VENV/bin/pip" install --no-deps "$PACKAGE"
  finish
}

# A PC or a Debian in Termux: everything from pip, in a venv of its own.
setup_with_pip() {
  case $(uname -m) in
    x86_64 | aarch64 | arm64) ;;
    *) fail "this is $(uname -m); LiteRT is built for x86_64 and 64-bit ARM only" ;;
  esac
  require_python
  step python3 -m venv "$VENV"
  step "$VENV/bin/pip" install "${PACKAGE}[litert]"
  finish
}

finish() {
  step "$VENV/bin/python" -m edgedistill.runtime --help
  printf 'Done. Next: %s/run.sh BUNDLE\n' "$(cd "$(dirname "$0")" && pwd)"
}

# Print the first value of a key of the board's profile.toml, without quotes.
profile() {
  sed -n "s/^$1 = \"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" "$(dirname "$0")/profile.toml" | head -n 1
}

# Print the file of a bundle that an engine and the profile's precision stand for.
recommended_file() {
  if [ "$1" = onnxruntime ]; then printf 'onnx-%s' "$(profile precision)"; else printf 'tflite-%s' "$(profile precision)"; fi
}

# Run a bundle on the board's camera with the profile's settings; what the user gives comes later, and so wins. A user who
# names an engine or a file chooses both: the profile's other half might not fit it.
run_camera() {
  local python=python3 engine settings
  if [ $# -eq 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
    printf 'usage: run.sh BUNDLE [--source SRC] [--threads N] [any other option of: edgedistill camera]\n' >&2
    exit 2
  fi
  [ -x "$VENV/bin/python" ] && python=$VENV/bin/python
  engine=$(profile engine)
  # setup.sh installs the old interpreter where LiteRT is not built for the userland.
  case $(userland) in armhf | armv7l) engine=tflite-runtime ;; esac
  settings=(--source "$(profile source)" --threads "$(profile threads)")
  case " ${*:2}" in
    *' --engine'* | *' --file'*) ;;
    *) settings+=(--engine "$engine" --file "$(recommended_file "$engine")") ;;
  esac
  exec "$python" -m edgedistill.runtime camera "$1" "${settings[@]}" "${@:2}"
}
