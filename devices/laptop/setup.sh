#!/usr/bin/env bash
# Install what running a bundle takes on a Linux PC, into a venv of its own. See --help.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../board.sh
. "$(dirname "$0")/../board.sh"

parse_setup_arguments "$@"
[ "$(uname -s)" = Linux ] || fail "this is $(uname -s); on other systems try: pip install 'edgedistill[onnx]'"
setup_with_pip
