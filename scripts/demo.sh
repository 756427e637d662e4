#!/bin/sh
# Everything once, on a local cloud of made-up data: no credentials, no network but the
# package registry. Files go to generated/demo/.
set -eu
cd "$(dirname "$0")/.."
./setup.sh

out=generated/demo
work=$(mktemp -d)
rm -rf "$out"
mkdir -p "$out"

venv/bin/copper sandbox serve >"$work/env" 2>"$work/log" &
cloud=$!
finish() {
  kill "$cloud" 2>/dev/null || true
  wait "$cloud" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The last of the variables stands there once the cloud is ready.
tries=0
until grep -q COPPER_ENTERPRISE_ID "$work/env"; do
  tries=$((tries + 1))
  if [ "$tries" -gt 100 ] || ! kill -0 "$cloud" 2>/dev/null; then
    echo "demo.sh: the local cloud did not start:" >&2
    cat "$work/log" >&2
    exit 1
  fi
  sleep 0.1
done
# shellcheck source=/dev/null
. "$work/env"
export XDG_CACHE_HOME="$work/cache" COPPER_ARCHIVE="$work/archive"

run() {
  echo
  echo "\$ copper $*"
  venv/bin/copper "$@"
}

run meter usage 2020-12-22 2021-01-12 --granularity hour \
  --output-dir "$out" --csv-output-file meter_summary.csv
# The same range in another layout and folder: from the archive, so that only the lists are asked.
run meter usage 2020-12-22 2021-01-12 --granularity hour --layout columns \
  --output-dir "$out/columns" --quiet
run archive compact
run archive info
run premise --csv-output-file "$out/premises.csv"
run bulk --detailed --csv-output-file "$out/bulk.csv"
run meter status --detailed --csv-output-file "$out/meter_status.csv"
run grid latest --csv-output-file "$out/grid_latest.csv"
run report monthly 2021-09 --output-dir "$out" --csv-output-file monthly_report.csv
run report health --csv-output-file "$out/health.csv"

cat <<TEXT

What lies where, in $out/:
  ID.usage.csv         hourly use of one meter, 2020-12-22 to 2021-01-12 (docs/csv.md explains it)
  columns/             the same hours in another layout, made without a call for them
  meter_summary.csv    each meter's sum over that time
  manifest.json        which file answers what, and whether anything is missing
  premises.csv         addresses
  bulk.csv             newest reading of each meter heard lately
  meter_status.csv     the same for every meter
  grid_latest.csv      voltage and frequency
  monthly_report.csv   2021-09; readme.txt explains its notes
  health.csv           seven days of every meter and gateway
TEXT
