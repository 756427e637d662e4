#!/bin/sh
# data_dump.sh NAME START FINISH GRANULARITY
#
# One folder a day under generated/NAME/, START through FINISH, then generated/NAME.YYYYMMDD.zip.
# Days as `copper dump --help` has them: 2020-10-01, 2020-10, today, yesterday, -7d.
set -eu
if [ $# -ne 4 ]; then
  echo "usage: $0 NAME START FINISH GRANULARITY, such as $0 foo 2020-10-01 2020-10-31 minute" >&2
  exit 2
fi
cd "$(dirname "$0")"
. scripts/copper.sh
run_copper dump "$@"
