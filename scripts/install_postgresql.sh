#!/usr/bin/env bash
# PostgreSQL's server programs, for tests that need a real one. Nothing of it is started.
# Does nothing when initdb is there already.
set -euo pipefail

for initdb in /usr/lib/postgresql/*/bin/initdb "$(command -v initdb || true)"; do
    if [[ -x $initdb ]]; then
        exit 0
    fi
done
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "PostgreSQL's server is missing: install it (Debian: apt-get install postgresql;" >&2
    echo "macOS: brew install postgresql), so that initdb can be found." >&2
    exit 1
fi

echo "Installing PostgreSQL …"
export DEBIAN_FRONTEND=noninteractive
# Without this the package would make and start a cluster of its own.
mkdir -p /etc/postgresql-common
[[ -e /etc/postgresql-common/createcluster.conf ]] ||
    echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
apt-get update -qq
apt-get install -y -qq --no-install-recommends postgresql >/dev/null
