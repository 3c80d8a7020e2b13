#!/usr/bin/env bash
# Install wrk (the load) and nginx (the floor) from Debian's packages; does nothing when both are there.
# Without them bench/run.py measures with its own generator, against its own null proxy.
set -euo pipefail

PATH=$PATH:/usr/sbin
missing=()
command -v wrk >/dev/null || missing+=(wrk)
command -v nginx >/dev/null || missing+=(nginx-light)
command -v taskset >/dev/null || missing+=(util-linux)
if [[ ${#missing[@]} == 0 ]]; then
    exit 0
fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]} (Debian: apt-get install ${missing[*]})." >&2
    exit 1
fi

# A freshly installed nginx must not start to serve: only benchmarks run it, on 127.0.0.1.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
wrk -v 2>/dev/null | head -1 | cut -d' ' -f1,2 || true
nginx -v
