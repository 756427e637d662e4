#!/bin/sh
# scripts/monthly_report.sh HANDLE YYYY-MM
#
# The month's report of one partner into generated/HANDLE/monthly_report.HANDLE.YYYY-MM.csv.
# HANDLE is a profile of ~/.config/copper/config.toml, or names .envrc.HANDLE.
set -eu
if [ $# -ne 2 ]; then
  echo "usage: $0 HANDLE YYYY-MM" >&2
  exit 2
fi
cd "$(dirname "$0")/.."
. scripts/copper.sh
use_handle "$1"
run_copper report monthly "$2" \
  --output-dir "generated/$1" --csv-output-file "monthly_report.$1.$2.csv"
