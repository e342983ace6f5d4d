#!/usr/bin/env bash
# Turns a bundle with camera options into a systemd service. Sourced by board.sh, never run by itself.
set -euo pipefail

SERVICE_HOME=${EDGEDISTILL_SERVICE_HOME:-/opt/edgedistill}
SERVICE_SECRETS=/etc/edgedistill
SERVICE_UNIT=/etc/systemd/system/edgedistill.service
# What the service may reach besides the local network.
SERVICE_ALLOWED=()
# Options that name a file which only root may read: systemd hands a copy to the service.
SECRET_OPTIONS=' --token-file --tls-cert --tls-key --mqtt-password-file --mqtt-ca '

# Refuse what cannot become a service, before anything is installed. Arguments: BUNDLE, then options of `edgedistill camera`.
prepare_service() {
  [ -f "$1/manifest.json" ] || fail "'$1' is no bundle: it has no manifest.json"
  case $(basename "$(cd "$1" && pwd)") in
    *[!A-Za-z0-9._-]*) fail "'$1' is to have a name of letters, digits, '.', '_' and '-'; copy it to such a folder" ;;
  esac
  read_service_options "${@:2}"
}

# Remember what the service may reach. systemd takes addresses and networks, no names: those may mean another machine tomorrow.
allow_address() {
  case $1 in
    any) ;;
    '' | *[!0-9A-Fa-f.:/]*) fail "--allow $1: expected an address or a network, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32" 2 ;;
  esac
  SERVICE_ALLOWED+=("$1")
}

# Copy the bundle and the secret files to where the service finds them, write the unit, and start it (again).
install_service() {
  local name unit allowed=${SERVICE_ALLOWED[*]/#/and }
  name=$(basename "$(cd "$1" && pwd)")
  as_root install -d -m 755 "$SERVICE_HOME/bundles"
  as_root rm -rf "$SERVICE_HOME/bundles/$name"
  as_root cp -r "$(cd "$1" && pwd)" "$SERVICE_HOME/bundles/$name"
  as_root chmod -R u=rwX,go=rX "$SERVICE_HOME/bundles/$name"
  install_secrets
  unit=$(unit_text "$name")
  as_root tee "$SERVICE_UNIT" <<<"$unit"
  [ "$DRY_RUN" = no ] || printf '%s\n' "$unit"
  as_root systemctl daemon-reload
  as_root systemctl enable edgedistill.service
  as_root systemctl restart edgedistill.service
  printf 'Done. Look at it: systemctl status edgedistill; journalctl -u edgedistill -f\n'
  printf 'It reaches the local network%s. ' "${allowed:+ $allowed}"
  printf 'For a broker, a camera or a name server elsewhere: again with --allow ADDRESS before --service\n'
}

# Split the options into words of the unit (SERVICE_WORDS) and secret files (SECRET_NAMES, SECRET_FILES).
read_service_options() {
  local word option
  SERVICE_WORDS=() SECRET_NAMES=() SECRET_FILES=()
  while [ $# -gt 0 ]; do
    word=$1 option=${1%%=*}
    shift
    case $SECRET_OPTIONS in
      *" $option "*)
        if [ "$word" = "$option" ]; then
          [ $# -gt 0 ] || fail "$option needs a file" 2
          word=$option=$1
          shift
        fi
        add_secret "$option" "${word#*=}"
        ;;
      *) SERVICE_WORDS+=("$(unit_word "$word")") ;;
    esac
  done
}

# %d is the folder in which systemd puts what LoadCredential names.
add_secret() {
  [ -r "$2" ] || fail "$1: there is no file '$2' that can be read"
  SECRET_NAMES+=("${1#--}")
  SECRET_FILES+=("$2")
  SERVICE_WORDS+=("$1" "%d/${1#--}")
}

install_secrets() {
  local i
  [ ${#SECRET_NAMES[@]} -gt 0 ] || return 0
  as_root install -d -m 700 "$SERVICE_SECRETS"
  for i in "${!SECRET_NAMES[@]}"; do
    as_root install -m 600 "${SECRET_FILES[$i]}" "$SERVICE_SECRETS/${SECRET_NAMES[$i]}"
  done
}

# Print a word as a unit's command line takes it: in quotes, with what systemd would replace written twice.
unit_word() {
  local word=$1
  case $word in *$'\n'*) fail 'an option of a service cannot go over two lines' 2 ;; esac
  case $word in
    '' | *[!A-Za-z0-9_.,:/=@+-]*)
      word=${word//\\/\\\\}
      word=${word//\"/\\\"}
      word=${word//%/%%}
      word=\"${word//\$/\$\$}\"
      ;;
  esac
  printf '%s' "$word"
}

# Print the command line of the service: the profile's settings, then what the user gives.
service_command() {
  local settings
  mapfile -t settings < <(open_settings "${SERVICE_WORDS[@]}")
  printf '%s -m edgedistill.runtime camera %s --wait --output none' "$(unit_word "$VENV/bin/python")" "$SERVICE_HOME/bundles/$1"
  printf ' %s' "${settings[@]}" "${SERVICE_WORDS[@]}"
}

# Print the unit: the template with the bundle's name, the command, the secrets and what it may reach filled in.
unit_text() {
  local line secret allowed=${SERVICE_ALLOWED[*]}
  while IFS= read -r line; do
    case $line in
      Description=*) printf 'Description=edgedistill: %s on a camera\n' "$1" ;;
      ExecStart=*) printf 'ExecStart=%s\n' "$(service_command "$1")" ;;
      LoadCredential=*)
        for secret in "${SECRET_NAMES[@]}"; do printf 'LoadCredential=%s:%s/%s\n' "$secret" "$SERVICE_SECRETS" "$secret"; done
        ;;
      IPAddressAllow=*) printf '%s\n' "$line${allowed:+ $allowed}" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done <"$DEVICES_DIR/edgedistill.service"
}
