#!/usr/bin/env bash
# Makes .venv with everything pinned by hash, and Doorward itself in it. Safe to repeat.
#
# uv (itself pinned by hash) installs in seconds; where it cannot (it does not read pip's settings,
# so a mirror named only there is unknown to it) pip does the same work from the same file.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=requirements/dev.txt

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3 make setup" >&2
  exit 1
}

# A .venv that was copied from elsewhere, or whose Python has gone, is of no use.
if [ -e .venv ] && ! .venv/bin/python -c 'import sys; sys.exit(sys.prefix != sys.argv[1])' "$PWD/.venv" 2>/dev/null; then
  rm -rf .venv
fi
if [ ! -e .venv/bin/pip ]; then
  python=$(find_python)
  "$python" -m venv .venv || {
    echo "setup: $python cannot make virtual environments (on Debian and Ubuntu: apt-get install python3-venv)" >&2
    exit 1
  }
fi

# A machine's own constraints must not fight the pins.
export PIP_CONSTRAINT=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1
unset PIP_NO_DEPS PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_PREFIX UV_CONSTRAINT UV_OVERRIDE

with_uv() {
  local only_uv
  only_uv=$(mktemp)
  awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$pins" >"$only_uv"
  .venv/bin/pip install -qq --require-hashes --no-deps -r "$only_uv" && rm -f "$only_uv" || return 1
  .venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv/bin/python "$pins"
}

with_pip() {
  .venv/bin/pip install --quiet --require-hashes --no-deps -r "$pins"
}

echo "setup: installing the pinned packages into .venv"
with_uv || { echo "setup: uv could not; pip does it (this takes longer)"; with_pip; }

.venv/bin/python -m pip install -qq --no-deps --no-index --no-build-isolation --editable .
touch .venv/.ready
echo "setup: ready (.venv/bin/doorward)"
