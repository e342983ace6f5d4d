#!/usr/bin/env bash
# Install what running a bundle takes on an Android phone. Run it twice: in Termux it makes a Debian inside of Termux, in
# that Debian (proot-distro login debian) it installs edgedistill. Android itself has no interpreter that pip could install.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../board.sh
. "$(dirname "$0")/../board.sh"

parse_setup_arguments "$@"
[ ${#SERVICE[@]} -eq 0 ] || fail 'there is no systemd in Termux, so no --service; use run.sh' 2
[ "$(uname -m)" = aarch64 ] || fail "this is $(uname -m); only 64-bit ARM phones can run LiteRT"
if [ "$(uname -o)" = Android ]; then
  step pkg install -y proot-distro
  step proot-distro install debian
  printf 'Next: copy the folders devices and the bundle into it, then: proot-distro login debian, and run this script there again\n'
else
  [ "$(os_release ID)" = debian ] || fail "this is '$(os_release ID)'; run this in Termux, or in the Debian that it made there"
  as_root apt-get update
  as_root apt-get install --yes --no-install-recommends python3-venv
  setup_with_pip
fi
