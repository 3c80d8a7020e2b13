#!/usr/bin/env bash
# Make .venv: everything requirements.lock names, then Portico itself, editable.
# Does nothing when neither the lock nor the project file changed since the last time.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
stamp=.venv/.installed
wanted=$(cat requirements.lock pyproject.toml "$0" | sha256sum)

if [[ -x .venv/bin/portico && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi
if ! command -v "$python" >/dev/null; then
    echo "Python 3.11 or newer is needed: install it, or name one with PYTHON=/path/to/python3." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$("$python" --version) is too old; name Python 3.11 or newer with PYTHON=/path/to/python3." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    else
        echo "Python's venv is missing: install it (Debian: apt-get install python3-venv)." >&2
        exit 1
    fi
fi

[[ -x .venv/bin/python ]] || "$python" -m venv .venv
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet install)
echo "Installing $(grep -c '==' requirements.lock) locked packages into .venv …"
"${pip[@]}" --require-hashes -r requirements.lock
"${pip[@]}" --no-deps --no-build-isolation --editable .
echo "$wanted" >"$stamp"
echo "Ready: .venv/bin/portico"
