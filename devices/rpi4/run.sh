#!/usr/bin/env bash
# Run a bundle on a camera with this board's recommended settings: run.sh BUNDLE [options of `edgedistill camera`].
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../board.sh
. "$(dirname "$0")/../board.sh"

run_camera "$@"
