#!/bin/sh
# scripts/hydrate_emails.sh [HANDLE]
#
# Asks for the premises' users until no email is missing, ten times at most: the cloud fills its
# cache as it is asked, and each try costs a call. Ends with 6 where some are still missing.
set -eu
if [ $# -gt 1 ]; then
  echo "usage: $0 [HANDLE]" >&2
  exit 2
fi
cd "$(dirname "$0")/.."
. scripts/copper.sh
[ $# -eq 0 ] || use_handle "$1"
run_copper premise --hydrate --quiet
