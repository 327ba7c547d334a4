#!/usr/bin/env bash
# Installs what the tests need from Debian's packages where it is missing, builds everything and runs all tests.
# Usage: tests/run.sh [ARGUMENT FOR cargo test …]
set -euo pipefail
cd "$(dirname "$0")/.."

# program package: each program is looked for where Debian puts it.
need() {
  local missing=() line program package
  while read -r program package; do
    [ -n "$program" ] || continue
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" > /dev/null || missing+=("$package")
  done <<'LIST'
mariadbd mariadb-server
mariadb-dump mariadb-client
pg_dump postgresql-client
redis-server redis-server
redis-cli redis-tools
sqlite3 sqlite3
git git
rsync rsync
sshd openssh-server
sftp openssh-client
proftpd proftpd-core
openssl openssl
setfacl acl
setfattr attr
zstd zstd
age age
par2 par2
jq jq
python3 python3
unshare util-linux
faketime faketime
openssl openssl
xxd xxd
setpriv util-linux
systemd-analyze systemd
mount mount
mkfs.btrfs btrfs-progs
cc build-essential
LIST
  # Debian keeps this server off the PATH, one folder for each major version.
  compgen -G '/usr/lib/postgresql/*/bin/postgres' > /dev/null || missing+=(postgresql)
  [ -e /usr/lib/proftpd/mod_sftp.so ] || missing+=(proftpd-mod-crypto)
  python3 -c 'import cryptography' 2> /dev/null || missing+=(python3-cryptography)
  /usr/bin/python3 -c 'import aiosmtpd' 2> /dev/null || missing+=(python3-aiosmtpd)
  python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
  [ ${#missing[@]} -eq 0 ] && return
  echo "Installing from Debian's packages: ${missing[*]}"
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null || { echo "error: not root and no sudo; please install: ${missing[*]}" >&2; exit 1; }
    root=(sudo)
  fi
  # Packages must not start their services: each test starts its own server on loopback.
  local policy=/usr/sbin/policy-rc.d made=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" > /dev/null
    "${root[@]}" chmod +x "$policy"
    made=yes
  fi
  "${root[@]}" apt-get update -q
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  [ "$made" = no ] || "${root[@]}" rm -f "$policy"
}

# The rebuild check of the built-in strategies needs the wasm target; a plain build does not.
need_target() {
  local libdir
  libdir=$(rustc --print target-libdir --target wasm32-wasip2 2> /dev/null || true)
  [ -n "$libdir" ] && [ -d "$libdir" ] && return
  echo "Adding the target wasm32-wasip2"
  rustup target add wasm32-wasip2 || {
    echo "error: the target wasm32-wasip2 could not be added; run 'rustup target add wasm32-wasip2' where the network allows it" >&2
    exit 1
  }
}

# The S3 server that the tests start is not packaged by Debian: it goes beside the build, in an environment of its own.
need_moto() {
  export HAVUN_MOTO_SERVER=${HAVUN_MOTO_SERVER:-$target/moto/bin/moto_server}
  [ -x "$HAVUN_MOTO_SERVER" ] && return
  echo "Installing moto from PyPI into $target/moto"
  mkdir -p "$target"
  rm -rf "$target/moto"
  python3 -m venv "$target/moto"
  "$target/moto/bin/pip" install --quiet --disable-pip-version-check -r tests/moto.txt
}

target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
need
need_target
need_moto
# One build for everything: the whole-program tests run the program that this command builds with them. Some of them
# interrupt it, which a shell in the background would have it ignore.
HAVUN_BACKUP_PROGRAM=$target/debug/havun-backup env --default-signal=INT,HUP cargo test --workspace --locked "$@"
(cd sdk && cargo test --locked "$@")
(cd plugins && cargo test --locked "$@")
plugins/build.sh --check
