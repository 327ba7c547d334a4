#!/usr/bin/env bash
# Peak memory of havun-backup while it dumps and restores a table of 50 MB and one of 5 GB, in MariaDB and PostgreSQL.
#
#   tests/bench/dump_memory.sh FOLDER [mariadb|postgresql]…     about 30 GB in FOLDER, on a disk, outside the repository
#
# Prints for each engine and size the largest resident memory of havun-backup itself (VmHWM, in KiB) and the seconds that it
# took, then the bytes of the snapshot. PROGRAM names a built havun-backup; SIZES are MiB of the table. Needs mariadb-server
# and postgresql. Everything is removed afterwards but what is printed.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
FOLDER=$(mkdir -p "$1" && cd "$1" && pwd); shift
[ $# -gt 0 ] || set -- mariadb postgresql
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
PROGRAM=${PROGRAM:-$ROOT/target/release/havun-backup}; SIZES=${SIZES:-50 5120}
SOCK=$FOLDER/s; PGBIN=$(dirname "$(ls /usr/lib/postgresql/*/bin/postgres | tail -1)"); PGPORT=54329
renice -n 15 $$ > /dev/null

my() { mariadb --no-defaults -S "$SOCK" -u root "$@"; }
as_postgres() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
pg() { psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$FOLDER/pg" -p $PGPORT -U postgres "$@"; }
stop() { [ ! -f "$FOLDER/my.pid" ] || mariadb-admin --no-defaults -S "$SOCK" -u root shutdown || true
         [ ! -d "$FOLDER/pg/data" ] || as_postgres "$PGBIN/pg_ctl" -D "$FOLDER/pg/data" -m immediate stop > /dev/null 2>&1 || true; }
finish() { stop; rm -rf "$FOLDER/my" "$FOLDER/pg" "$FOLDER/hb" "$SOCK"; }
trap finish EXIT

start_mariadb() {
  mkdir -p "$FOLDER/my"
  mariadb-install-db --no-defaults --datadir="$FOLDER/my" --auth-root-authentication-method=normal --user="$(id -un)" > "$FOLDER/my.install" 2>&1
  setsid mariadbd --no-defaults --datadir="$FOLDER/my" --socket="$SOCK" --pid-file="$FOLDER/my.pid" --skip-networking --user="$(id -un)" \
    --innodb-buffer-pool-size=512M --innodb-flush-log-at-trx-commit=0 --skip-log-bin --max-allowed-packet=64M > "$FOLDER/my.log" 2>&1 < /dev/null &
  for _ in $(seq 200); do my -e 'select 1' > /dev/null 2>&1 && return; sleep 0.3; done
  echo "the server did not start: $FOLDER/my.log" >&2; exit 1
}

start_postgresql() {
  mkdir -p "$FOLDER/pg"; chmod 711 "$FOLDER"; [ "$(id -u)" != 0 ] || chown postgres "$FOLDER/pg"
  (cd "$FOLDER/pg" && as_postgres "$PGBIN/initdb" --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C.UTF-8 -D "$FOLDER/pg/data" > /dev/null)
  (cd "$FOLDER/pg" && as_postgres "$PGBIN/pg_ctl" -D "$FOLDER/pg/data" -w -l "$FOLDER/pg/log" \
    -o "-c fsync=off -c full_page_writes=off -c max_wal_size=256MB -c wal_level=minimal -c max_wal_senders=0 -c listen_addresses= -c unix_socket_directories=$FOLDER/pg -c port=$PGPORT" start > /dev/null)
}

# Rows of about 1 KiB, doubled until they are enough.
fill_mariadb() { # MIB
  my -e "CREATE DATABASE shop; CREATE TABLE shop.t (id BIGINT PRIMARY KEY AUTO_INCREMENT, b TEXT); INSERT INTO shop.t(b) SELECT REPEAT(MD5(seq), 31) FROM shop.seq_1_to_10240" 2> /dev/null \
    || my shop -e "CREATE TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY AUTO_INCREMENT, b TEXT); INSERT INTO t(b) SELECT REPEAT(MD5(seq), 31) FROM seq_1_to_10240"
  local have=10; while [ $((have * 2)) -le "$1" ]; do my shop -e "INSERT INTO t(b) SELECT b FROM t"; have=$((have * 2)); done
  [ $have -ge "$1" ] || my shop -e "INSERT INTO t(b) SELECT b FROM t LIMIT $((($1 - have) * 1024))"
}
fill_postgresql() { # MIB
  pg -c "CREATE DATABASE shop TEMPLATE template0"
  pg -d shop -c "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, b text); ALTER TABLE t ALTER b SET STORAGE PLAIN; INSERT INTO t(b) SELECT repeat(md5(n::text), 31) FROM generate_series(1, 10240) n"
  local have=10; while [ $((have * 2)) -le "$1" ]; do pg -d shop -c "INSERT INTO t(b) SELECT b FROM t"; have=$((have * 2)); done
  [ $have -ge "$1" ] || pg -d shop -c "INSERT INTO t(b) SELECT b FROM t LIMIT $((($1 - have) * 1024))"
}
drop_mariadb() { my -e "DROP DATABASE IF EXISTS shop; DROP DATABASE IF EXISTS shop_copy"; }
drop_postgresql() { pg -c "DROP DATABASE IF EXISTS shop" -c "DROP DATABASE IF EXISTS shop_copy"; }

configure() { # ENGINE
  rm -rf "$FOLDER/hb"; mkdir -p "$FOLDER/hb/root"; echo x > "$FOLDER/hb/root/file"
  "$PROGRAM" --config "$FOLDER/hb/c.toml" init "$FOLDER/hb/root" --state-dir "$FOLDER/hb/state" --store "$FOLDER/hb/store" \
    --escrow-file "$FOLDER/hb/escrow.txt" --yes > "$FOLDER/hb/init.log" 2>&1 || { cat "$FOLDER/hb/init.log" >&2; exit 1; }
  local socket=$SOCK port=; [ "$1" = mariadb ] || { socket=$FOLDER/pg; port="port = $PGPORT"; }
  printf '\n[projects.root.databases.main]\nengine = "%s"\nsocket = "%s"\nuser = "%s"\ndatabase = "shop"\n%s\n' \
    "$1" "$socket" "$([ "$1" = mariadb ] && echo root || echo postgres)" "$port" >> "$FOLDER/hb/c.toml"
}

# VmHWM of our process alone, looked at until it ends.
measure() { # WHAT ARGUMENTS…
  local what=$1 kib=0 now begun=$SECONDS; shift
  "$PROGRAM" --config "$FOLDER/hb/c.toml" --no-progress "$@" > "$FOLDER/hb/out" 2>&1 &
  local pid=$!
  while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2> /dev/null) && [ -n "$now" ]; do kib=$now; sleep 0.1; done
  wait $pid || { cat "$FOLDER/hb/out" >&2; echo "$what failed" >&2; exit 1; }
  printf '%-11s %5s MiB table  %-8s %9s KiB  %6s s\n' "$engine" "$size" "$what" "$kib" $((SECONDS - begun))
}

for engine in "$@"; do
  "start_$engine"
  for size in $SIZES; do
    "fill_$engine" "$size"
    configure "$engine"
    measure dump run
    measure restore restore --project root --item database --database-as database=shop_copy --target "$FOLDER/hb/target" --yes
    "$PROGRAM" --config "$FOLDER/hb/c.toml" --json list | tr -d " \n" | grep -o "\"bytes\":[0-9]*" | head -1 | sed "s/^/$engine, $size MiB: /" || true
    "drop_$engine"
  done
  stop
done
