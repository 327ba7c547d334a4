#!/bin/sh
# Builds the misbehaving guest anew. Needs: rustup target add wasm32-wasip2
set -eu
cd "$(dirname "$0")/unruly"
target="${GUEST_TARGET_DIR:-target}"
RUSTFLAGS="--remap-path-prefix=$PWD=/guest --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo build --release --locked --target wasm32-wasip2 --target-dir "$target"
cp "$target/wasm32-wasip2/release/unruly.wasm" ../unruly.wasm
sha256sum Cargo.toml Cargo.lock src/lib.rs ../../../../../wit/*.wit | sed 's/  / /' >../unruly.lock
