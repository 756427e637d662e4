#!/bin/sh
# Everything that must hold before a change lands: style, types, import rules, tests with
# branch coverage, and documents that agree with the program. Sets up ./venv where needed.
set -eu
cd "$(dirname "$0")/.."
./setup.sh --dev
bin=venv/bin

step() { printf '\n== %s\n' "$1"; }

step "style"
$bin/ruff check .
$bin/ruff format --check .
step "types"
$bin/mypy
step "import rules"
$bin/lint-imports
step "documents against --help"
$bin/python scripts/docs.py --check
step "tests"
rm -f .coverage .coverage.*
$bin/python -m pytest -n auto --cov --cov-report=term --cov-fail-under=95 "$@"
