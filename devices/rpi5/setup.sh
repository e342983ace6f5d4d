#!/usr/bin/env bash
# Install what running a bundle takes on this board: Raspberry Pi OS Bookworm or Trixie. See --help.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../board.sh
. "$(dirname "$0")/../board.sh"

setup_raspberry_pi "$@"
