#!/bin/sh
# partner_report.sh HANDLE
#
# Premises with users and a week's health of one partner into generated/HANDLE.reports.YYYYMMDD.zip,
# and the counts. HANDLE is a profile of ~/.config/copper/config.toml, or names .envrc.HANDLE.
set -eu
if [ $# -ne 1 ]; then
  echo "usage: $0 HANDLE" >&2
  exit 2
fi
cd "$(dirname "$0")"
. scripts/copper.sh
use_handle "$1"
run_copper report partner "$1"
