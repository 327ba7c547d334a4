#!/bin/sh
# Builds the built-in strategies, the same bytes from any folder.
#
#   plugins/build.sh           builds all and writes plugins/wasm/*.wasm and plugins/wasm/plugins.lock
#   plugins/build.sh --check   builds all from a copy in another folder and compares with what is there
#
# The lock file has one line for each strategy: its id, the SHA-256 of its sources (of a list of `sha256  path`, in
# byte order of the paths: rust-toolchain.toml, wit, sdk, the workspace's files and its own), and of its component.
# The test `plugins_lock` recomputes it, without a wasm target.
set -eu
LC_ALL=C
export LC_ALL

root=$(CDPATH='' cd "$(dirname "$0")/.." && pwd -P)
strategies="files laravel laravel-package nodejs"
target=wasm32-wasip2

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

# What a surrounding build or a user's settings would change in the bytes.
clean_environment() {
    for name in $(env | sed -n 's/^\(RUSTFLAGS\|RUSTDOCFLAGS\|CARGO_ENCODED_RUSTFLAGS\|RUSTC[A-Z_]*\|CARGO_MAKEFLAGS\|CARGO_INCREMENTAL\|CARGO_PROFILE_[A-Z0-9_]*\|CARGO_BUILD_[A-Z0-9_]*\|CARGO_TARGET_[A-Z0-9_]*\)=.*/\1/p'); do
        [ "$name" = CARGO_TARGET_DIR ] || unset "$name"
    done
}

has_target() { [ -d "$(cd "$root" && rustc --print target-libdir --target "$target" 2>/dev/null)" ]; }

need_target() {
    has_target && return
    say "the target $target is not installed; adding it"
    if command -v rustup >/dev/null 2>&1 && (cd "$root" && rustup target add "$target") && has_target; then return; fi
    fail "the strategies need the Rust target $target, which is not installed and could not be added.
  Install it with: rustup target add $target
  (Building the program needs no such target: the components in plugins/wasm are committed.)"
}

# $1: a strategy. Prints the SHA-256 of its sources.
source_digest() {
    (
        cd "$root"
        {
            echo rust-toolchain.toml
            find wit -type f -name '*.wit'
            find sdk/src sdk/dotenv/src -type f -name '*.rs'
            printf '%s\n' sdk/Cargo.toml sdk/dotenv/Cargo.toml plugins/Cargo.toml plugins/Cargo.lock "plugins/$1/Cargo.toml"
            find "plugins/$1/src" -type f
        } | sort | while IFS= read -r path; do sha256sum "$path"; done | sha256sum | cut -d ' ' -f 1
    )
}

# $1: an empty folder. Lays the sources out with the workspace's root above all of them: cargo hashes a path
# dependency relative to the workspace's root when it lies beneath it, and by its absolute path when not.
stage() {
    mkdir -p "$1/plugins"
    cp -pR "$root/wit" "$root/rust-toolchain.toml" "$1"
    (cd "$root" && tar -cf - --exclude=target --exclude=Cargo.lock sdk) | tar -xf - -C "$1"
    for strategy in $strategies; do cp -pR "$root/plugins/$strategy" "$1/plugins"; done
    cp -p "$root/plugins/Cargo.lock" "$1"
    members=$(for strategy in $strategies; do printf '"plugins\/%s", ' "$strategy"; done)
    sed -e "s/^members = .*/members = [$members]/" -e 's/"\.\.\/sdk"/"sdk"/' "$root/plugins/Cargo.toml" >"$1/Cargo.toml"
}

# $1: folder to lay the sources out in; $2: target folder. Builds all components.
build() {
    rm -rf "$1"
    stage "$1"
    home=${CARGO_HOME:-$HOME/.cargo}
    (cd "$1" && cargo fetch --quiet --locked --target "$target")
    separator=$(printf '\037')
    flags="--remap-path-prefix=$1=/havun-backup"
    for registry in "$home"/registry/src/*; do
        flags="$flags$separator--remap-path-prefix=$registry=/registry"
    done
    (cd "$1" && CARGO_TARGET_DIR=$2 CARGO_ENCODED_RUSTFLAGS=$flags CARGO_INCREMENTAL=0 \
        cargo build --quiet --locked --release --target "$target")
}

# $1: target folder; $2: a strategy.
component() { printf '%s/%s/release/havun_strategy_%s.wasm' "$1" "$target" "$(printf %s "$2" | tr - _)"; }

update() {
    folder=${CARGO_TARGET_DIR:-$root/plugins/target}
    build "$root/plugins/target/stage" "$folder"
    mkdir -p "$root/plugins/wasm"
    lock=$root/plugins/wasm/plugins.lock
    for strategy in $strategies; do
        cp "$(component "$folder" "$strategy")" "$root/plugins/wasm/$strategy.wasm"
        wasm=$(sha256sum "$root/plugins/wasm/$strategy.wasm" | cut -d ' ' -f 1)
        printf '%s sources %s wasm %s\n' "$strategy" "$(source_digest "$strategy")" "$wasm"
    done >"$lock.part"
    mv "$lock.part" "$lock"
    cat "$lock"
}

check() {
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT INT TERM
    build "$copy/elsewhere" "$copy/target"
    different=0
    for strategy in $strategies; do
        if cmp -s "$(component "$copy/target" "$strategy")" "$root/plugins/wasm/$strategy.wasm"; then
            say "$strategy: the same bytes"
        else
            say "$strategy: DIFFERENT from plugins/wasm/$strategy.wasm"
            different=1
        fi
    done
    [ "$different" = 0 ] || fail "run plugins/build.sh with $(sed -n 's/^channel = //p' "$root/rust-toolchain.toml") and commit plugins/wasm"
}

clean_environment
need_target
case ${1-} in
'') update ;;
--check) check ;;
*) fail "unknown argument $1; use --check or none" ;;
esac
