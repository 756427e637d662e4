# shellcheck shell=sh
# What the scripts share; sourced, from the project's folder.

profile=""

# run_copper WORD...: the program, set up where it is not yet.
run_copper() {
  [ -x venv/bin/copper ] || ./setup.sh
  if [ -n "$profile" ]; then
    venv/bin/copper --profile "$profile" "$@"
  else
    venv/bin/copper "$@"
  fi
}

# use_handle HANDLE: from here on as that partner: by .envrc.HANDLE, which the vendor's own scripts
# read, else by the profile of that name. Credentials that are merely exported come last, since
# they may be another partner's, and that is said.
use_handle() {
  case $1 in
    "" | -* | *[!A-Za-z0-9_-]*)
      echo "$0: '$1' is not a handle; use letters, digits, _ and -." >&2
      exit 2
      ;;
  esac
  if [ -f ".envrc.$1" ]; then
    set -a
    # shellcheck source=/dev/null
    . "./.envrc.$1"
    set +a
    COPPER_PROFILE="" # what is exported now is this partner's
    export COPPER_PROFILE
  elif has_profile "$1" || [ -z "${COPPER_CLIENT_ID:-}" ]; then
    profile=$1
  else
    echo "$0: no .envrc.$1 and no profile $1; using the exported credentials." >&2
    COPPER_PROFILE=""
    export COPPER_PROFILE
  fi
}

has_profile() {
  grep -q "^[[:space:]]*\[profile\.[\"']\{0,1\}$1[\"']\{0,1\}\]" \
    "${XDG_CONFIG_HOME:-$HOME/.config}/copper/config.toml" 2>/dev/null
}
