#!/usr/bin/env bash
# Checks licences, sources, duplicate versions and known vulnerabilities of all crates. The database of
# vulnerabilities is fetched with git. If that fails, only the rest is checked, unless
# ADVISORIES=required makes it an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
say() { printf 'deny: %s\n' "$*"; }

if ! command -v cargo-deny >/dev/null; then
    say 'installing cargo-deny (some minutes)'
    "$cargo" install --locked cargo-deny
fi

"$cargo" deny --log-level warn check bans licenses sources

if reason=$("$cargo" deny fetch db 2>&1 </dev/null); then
    "$cargo" deny --log-level warn check --disable-fetch advisories
elif [ "${ADVISORIES:-}" = required ]; then
    printf '%s\n' "$reason" >&2
    say 'error: the database of advisories cannot be fetched' >&2
    exit 1
else
    say 'note: known vulnerabilities are NOT checked: their database cannot be fetched:'
    printf '%s\n' "$reason" | grep -v '^ *$' | head -n 5 | sed 's/^/    /'
fi
