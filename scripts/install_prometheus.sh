#!/usr/bin/env bash
# Prometheus and promtool, for tests that need real ones. Nothing of it is started, now or at boot.
# Does nothing when both are there already.
set -euo pipefail

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    exit 0
fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "Prometheus is missing: install it (Debian: apt-get install prometheus;" >&2
    echo "macOS: brew install prometheus), so that prometheus and promtool can be found." >&2
    exit 1
fi

echo "Installing Prometheus …"
export DEBIAN_FRONTEND=noninteractive
# Without these the package would start a server of its own, now and whenever the machine boots.
unit=/etc/systemd/system/prometheus.service
policy=/usr/sbin/policy-rc.d
mkdir -p "${unit%/*}"
[[ -e $unit || -L $unit ]] || ln -s /dev/null "$unit"
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends prometheus >/dev/null
