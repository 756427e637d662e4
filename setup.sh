#!/bin/sh
# Make ./venv with the program and everything it needs. `./setup.sh --dev` adds what the tests need.
set -eu
cd "$(dirname "$0")"

extra=""
[ "${1:-}" = "--dev" ] && extra="[dev]"

python=""
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
  if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "setup.sh: Python 3.11 or newer is needed; none was found. Set PYTHON to its path." >&2
  exit 1
fi

# A stamp holds the sum of pyproject.toml, so that a second run costs nothing.
stamp="venv/.installed$extra"
sum=$(cksum <pyproject.toml)
if [ -x venv/bin/copper ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
  exit 0
fi

[ -x venv/bin/python ] || "$python" -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$extra"
echo "$sum" >"$stamp"
echo "setup.sh: ready. Try: venv/bin/copper --sandbox premise" >&2
