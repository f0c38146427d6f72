#!/usr/bin/env bash
# Checks all crates with the oldest Rust that Cargo.toml declares. rustup fetches it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
[ -n "$version" ] || { echo 'msrv: error: Cargo.toml has no rust-version' >&2; exit 1; }

if ! rustup run "$version" rustc --version >/dev/null 2>&1 &&
    ! rustup toolchain install --profile minimal "$version"; then
    echo "msrv: error: Rust $version cannot be fetched; \`make check\` still checks it against clippy and all dependencies" >&2
    exit 1
fi
# A separate folder, so that the next build with another compiler need not start over.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/msrv rustup run "$version" cargo check --workspace --all-targets --locked
echo "msrv: all crates build with Rust $version"
