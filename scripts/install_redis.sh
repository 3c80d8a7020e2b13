#!/usr/bin/env bash
# Redis' server program, for tests that need a real one. Nothing of it is started.
# Does nothing when redis-server is there already.
set -euo pipefail

if command -v redis-server >/dev/null; then
    exit 0
fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "Redis' server is missing: install it (Debian: apt-get install redis-server;" >&2
    echo "macOS: brew install redis), so that redis-server can be found." >&2
    exit 1
fi

echo "Installing Redis …"
export DEBIAN_FRONTEND=noninteractive
# The package would start a service of its own; this says no for as long as it installs.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends redis-server >/dev/null
# Nor may it start with the machine.
if command -v systemctl >/dev/null; then
    systemctl disable --quiet redis-server 2>/dev/null || true
fi
