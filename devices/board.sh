#!/usr/bin/env bash
# What the setup.sh and run.sh of the boards share. Sourced by them, never run by itself.
set -euo pipefail

DEVICES_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=${EDGEDISTILL_VENV:-$HOME/edgedistill-venv}
OS_RELEASE=${EDGEDISTILL_OS_RELEASE:-/etc/os-release}
# Whose numpy is apt's, whatever comes first in the path.
SYSTEM_PYTHON=${EDGEDISTILL_SYSTEM_PYTHON:-/usr/bin/python3}
DRY_RUN=no
IOT=no
SERVICE=()
# shellcheck source-path=SCRIPTDIR source=service.sh
. "$DEVICES_DIR/service.sh"
# The checkout that this file is part of, or else the package by its name.
PACKAGE=edgedistill
[ -f "$DEVICES_DIR/../setup.cfg" ] && PACKAGE=$(cd "$DEVICES_DIR/.." && pwd)

# The same ranges as in setup.cfg (a test compares them), for boards where apt brings numpy and OpenCV and pip must not.
NEEDS_MSGSPEC='msgspec>=0.19,<1'
NEEDS_LITERT='ai-edge-litert>=2.1,<3'
NEEDS_TFLITE_RUNTIME='tflite-runtime==2.14.0'
NEEDS_PAHO='paho-mqtt>=2.1,<3'
NEEDS_PROMETHEUS='prometheus-client>=0.20,<1'

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

# A step in the virtual environment: that of a service belongs to root, so that nobody who runs it can change it.
venv_step() {
  if [ ${#SERVICE[@]} -gt 0 ]; then as_root "$@"; else step "$@"; fi
}

parse_setup_arguments() {
  local venv=${EDGEDISTILL_VENV:-}
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
        venv=$2
        shift
        ;;
      --iot) IOT=yes ;;
      --allow)
        [ $# -ge 2 ] || fail '--allow needs an address' 2
        allow_address "$2"
        shift
        ;;
      --service)
        [ $# -ge 2 ] || fail '--service needs a bundle' 2
        shift
        SERVICE=("$@") IOT=yes
        break
        ;;
      -h | --help)
        printf 'usage: setup.sh [--dry-run] [--package WHEEL_OR_CHECKOUT] [--venv FOLDER] [--iot]\n'
        printf '                [--allow ADDRESS]... [--service BUNDLE [OPTION...]]\n'
        printf '  --iot      what MQTT and the live page need, too\n'
        printf '  --service  run BUNDLE from now on, also after a reboot; the rest of the line are options of: edgedistill camera\n'
        printf '  --allow    an address or network outside of the local one that the service may reach, again for more\n'
        exit 0
        ;;
      *) fail "unknown argument '$1'; see --help" 2 ;;
    esac
    shift
  done
  if [ ${#SERVICE[@]} -gt 0 ]; then
    VENV=${venv:-$SERVICE_HOME/venv}
    case $VENV in /home/* | /root/*) fail "a service cannot see $VENV: leave --venv out, or give a folder outside of /home" 2 ;; esac
    prepare_service "${SERVICE[@]}"
  else
    VENV=${venv:-$HOME/edgedistill-venv}
  fi
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
  local interpreter codename needs
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
  venv_step python3 -m venv --system-site-packages "$VENV"
  # pip may add to apt's numpy, never replace it: picamera2 is compiled against it.
  venv_step "$SYSTEM_PYTHON" -c "$WRITE_NUMPY_VERSION" "$VENV/apt-numpy.txt"
  needs=("$NEEDS_MSGSPEC" "$interpreter")
  [ "$IOT" = no ] || needs+=("$NEEDS_PAHO" "$NEEDS_PROMETHEUS")
  venv_step "$VENV/bin/pip" install --constraint "$VENV/apt-numpy.txt" "${needs[@]}"
  venv_step "$VENV/bin/pip" install --no-deps --force-reinstall "$PACKAGE"
  finish
}

# A PC or a Debian in Termux: everything from pip, in a venv of its own.
setup_with_pip() {
  local extras=litert
  [ "$IOT" = no ] || extras=litert,iot
  case $(uname -m) in
    x86_64 | aarch64 | arm64) ;;
    *) fail "this is $(uname -m); LiteRT is built for x86_64 and 64-bit ARM only" ;;
  esac
  require_python
  venv_step python3 -m venv "$VENV"
  venv_step "$VENV/bin/pip" install "${PACKAGE}[$extras]"
  finish
}

finish() {
  step "$VENV/bin/python" -m edgedistill.runtime --help
  if [ ${#SERVICE[@]} -gt 0 ]; then
    install_service "${SERVICE[0]}"
    return
  fi
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

# Print the engine that setup.sh installs here: the old interpreter where LiteRT is not built for the userland.
recommended_engine() {
  case $(userland) in armhf | armv7l) printf 'tflite-runtime' ;; *) profile engine ;; esac
}

# Print the profile's settings that the given words leave open, one a line: a source or an engine of the user's own takes the place of
# the profile's, and who names an engine or a file chooses both, as the profile's other half might not fit it.
open_settings() {
  local engine given=" $*"
  case $given in *' --source'*) ;; *) printf '%s\n' --source "$(profile source)" ;; esac
  printf '%s\n' --threads "$(profile threads)"
  engine=$(recommended_engine)
  case $given in *' --engine'* | *' --file'*) ;; *) printf '%s\n' --engine "$engine" --file "$(recommended_file "$engine")" ;; esac
}

# Run a bundle on the board's camera with the profile's settings; what the user gives comes later, and so wins.
run_camera() {
  local python=python3 settings
  if [ $# -eq 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
    printf 'usage: run.sh BUNDLE [--source SRC] [--threads N] [any other option of: edgedistill camera]\n' >&2
    exit 2
  fi
  [ -x "$VENV/bin/python" ] && python=$VENV/bin/python
  mapfile -t settings < <(open_settings "${@:2}")
  exec "$python" -m edgedistill.runtime camera "$1" "${settings[@]}" "${@:2}"
}
