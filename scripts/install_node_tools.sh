#!/usr/bin/env bash
# Install the programs of node-tools.txt into .tools/; does nothing when the list did not change.
set -euo pipefail
cd "$(dirname "$0")/.."

list=scripts/node-tools.txt
stamp=.tools/.installed
wanted=$(sha256sum <"$list")

if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi
if ! command -v npm >/dev/null; then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq npm >/dev/null
    else
        echo "npm is missing: install Node.js with npm (Debian: apt-get install npm)." >&2
        exit 1
    fi
fi

mapfile -t tools < <(sed -e 's/#.*//' -e 's/[[:space:]]*$//' "$list" | grep .)
echo "Installing ${#tools[@]} Node programs into .tools …"
mkdir -p .tools
npm install --prefix .tools --no-save --no-package-lock --no-fund --no-audit --loglevel error "${tools[@]}"
for program in node claude mcp-inspector conformance; do
    if ! PATH="$PWD/.tools/node_modules/.bin:$PATH" ".tools/node_modules/.bin/$program" --version </dev/null >/dev/null; then
        echo "$program was installed and does not start; remove .tools and try again." >&2
        exit 1
    fi
done
echo "$wanted" >"$stamp"
