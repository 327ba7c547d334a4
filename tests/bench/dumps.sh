#!/usr/bin/env bash
# Fourteen daily dumps of one MariaDB database (300,000 people, 170 MB a dump) in a vault, against restic and borg.
#
#   tests/bench/dumps.sh FOLDER [uniform|clustered]…     about 6 GB in FOLDER, which must be outside the repository
#
# uniform: each day 0.5 % of all rows change, spread evenly, and 300 people come; clustered: the same number of changes in the
# newest 2.5 % of the people. Prints for each program the size after day 1 and 14 and the CPU seconds a day (median of days 2
# to 14), then, for the vault, each day's restore. Needs mariadb-server, python3, restic and borgbackup. Read CPU seconds, not
# wall time, on a machine that has other work. DAYS=3 makes fewer dumps; DUMPS_BIN names a built example.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
FOLDER=$(mkdir -p "$1" && cd "$1" && pwd); shift
[ $# -gt 0 ] || set -- uniform clustered
ROOT=$(cd "$(dirname "$0")/../.." && pwd); DAYS=${DAYS:-14}; MY=$FOLDER/mysql; SOCK=$MY/sock
export RESTIC_PASSWORD=benchmark RESTIC_CACHE_DIR=$FOLDER/restic-cache BORG_PASSPHRASE=benchmark BORG_BASE_DIR=$FOLDER/borg-home
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes

sql() { mariadb --no-defaults -S "$SOCK" -u root --local-infile=1 "$@"; }
stop_server() { [ ! -f "$MY/pid" ] || mariadb-admin --no-defaults -S "$SOCK" -u root shutdown; }
trap stop_server EXIT

start_server() {
  [ -d "$MY/db/mysql" ] || { mkdir -p "$MY"; mariadb-install-db --no-defaults --datadir="$MY/db" --auth-root-authentication-method=normal --user=root > "$MY/install.log" 2>&1; }
  setsid mariadbd --no-defaults --datadir="$MY/db" --socket="$SOCK" --pid-file="$MY/pid" --skip-networking --user=root \
    --innodb-buffer-pool-size=1G --innodb-flush-log-at-trx-commit=0 --skip-log-bin --local-infile=1 > "$MY/log" 2>&1 < /dev/null &
  for _ in $(seq 200); do sql -e 'select 1' > /dev/null 2>&1 && return; sleep 0.3; done
  echo "the server did not start: $MY/log" >&2; exit 1
}

load() {
  [ -f "$FOLDER/rows/salaries.tsv" ] || python3 "$ROOT/tests/bench/rows.py" "$FOLDER/rows"
  sql << 'Q'
drop database if exists sample; create database sample; use sample;
create table departments (dept_no char(4) primary key, dept_name varchar(40) not null, unique key (dept_name));
create table employees (emp_no int primary key, birth_date date not null, first_name varchar(14) not null,
  last_name varchar(16) not null, gender enum('M','F') not null, hire_date date not null);
create table salaries (emp_no int not null, salary int not null, from_date date not null, to_date date not null, primary key (emp_no, from_date));
create table titles (emp_no int not null, title varchar(50) not null, from_date date not null, to_date date, primary key (emp_no, title, from_date));
create table dept_emp (emp_no int not null, dept_no char(4) not null, from_date date not null, to_date date not null, primary key (emp_no, dept_no), key (dept_no));
Q
  for t in departments employees salaries titles dept_emp; do
    sql sample -e "set unique_checks=0, foreign_key_checks=0; load data local infile '$FOLDER/rows/$t.tsv' ignore into table $t"
  done
}

change() { # PROFILE DAY
  local d=$2 where="crc32(concat(emp_no,':',$2))%200=0" swhere="crc32(concat(emp_no,from_date,':',$2))%200=0"
  if [ "$1" = clustered ]; then
    where="emp_no>=302500 and crc32(concat(emp_no,':',$d))%5=0"; swhere="emp_no>=302500 and crc32(concat(emp_no,from_date,':',$d))%5=0"
  fi
  sql sample << Q
update salaries set salary=salary+1+crc32(concat(from_date,$d))%500 where $swhere;
update employees set last_name=concat(left(last_name,10),char(65+$d)) where $where;
update titles set to_date=adddate('2002-01-01',$d) where $where;
insert ignore into employees select emp_no+300000*1+300*($d-2), birth_date, first_name, last_name, gender, adddate('2000-02-01',$d) from employees where emp_no between 10030 and 10329;
insert ignore into salaries select emp_no, 40000+crc32(emp_no)%9000, hire_date, '9999-01-01' from employees where hire_date=adddate('2000-02-01',$d);
insert ignore into titles select emp_no, 'Staff', hire_date, null from employees where hire_date=adddate('2000-02-01',$d);
Q
}

make_dumps() { # PROFILE
  local out=$FOLDER/dumps-$1 d
  [ ! -f "$out/done" ] || return 0
  rm -rf "$out"; mkdir -p "$out"; sql -e 'select 1' > /dev/null 2>&1 || start_server
  load
  for d in $(seq 1 "$DAYS"); do
    [ "$d" = 1 ] || change "$1" "$d"
    mariadb-dump --no-defaults -S "$SOCK" -u root --single-transaction --order-by-primary --skip-dump-date --hex-blob sample > "$out/day$(printf %02d "$d").sql"
  done
  touch "$out/done"
}

size_mb() { du -s --block-size=1 --apparent-size "$1" | awk '{ printf "%.1f", $1 / 1e6 }'; }
median() { sort -n | awk '{ v[NR] = $1 } END { if (NR) printf "%.2f", (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'; }
cpu_of() { # FILE COMMAND…: CPU seconds of a command, appended to FILE
  local to=$1; shift
  env time -a -o "$to" -f '%U %S' "$@" > /dev/null
}


peer() { # NAME PROFILE
  local name=$1 dumps=$FOLDER/dumps-$2 times=$FOLDER/$1-$2.times first=- d=0 dump
  rm -rf "${FOLDER:?}/$name" "$times"; : > "$times"
  case $name in
    restic) restic -q init --repository-version 2 -r "$FOLDER/restic" > /dev/null ;;
    borg) borg init -e repokey-blake2 "$FOLDER/borg" > /dev/null ;;
  esac
  for dump in "$dumps"/day*.sql; do
    d=$((d + 1)); mkdir -p "$FOLDER/live"; cp "$dump" "$FOLDER/live/main.sql"
    case $name in
      restic) cpu_of "$times" restic -q -r "$FOLDER/restic" backup --compression auto "$FOLDER/live" ;;
      borg) cpu_of "$times" borg create --compression zstd,3 "$FOLDER/borg::a-$d" "$FOLDER/live" ;;
    esac
    [ "$d" != 1 ] || first=$(size_mb "$FOLDER/$name")
  done
  printf '%-10s %-8s %10s %10s %12s\n' "$2" "$name" "$first" "$(size_mb "$FOLDER/$name")" "$(sed 1d "$times" | awk '{ print $1 + $2 }' | median)"
}

ours() { # PROFILE
  local out=$FOLDER/ours-$1.txt
  rm -rf "$FOLDER/ours"
  "$BIN" "$FOLDER/ours" "$FOLDER/dumps-$1"/day*.sql > "$out"
  awk -v p="$1" '$1 == 1 && !first { first = $3 } /^ *[0-9]+ / && NF == 7 { last = $3; if ($1 > 1) print $4 > "/dev/stderr" } END { printf "%-10s %-8s %10.1f %10.1f", p, "vault", first, last }' "$out" 2> "$FOLDER/ours.times"
  printf ' %12s\n' "$(median < "$FOLDER/ours.times")"
}

BIN=${DUMPS_BIN:-}
if [ -z "$BIN" ]; then
  cargo build -q --release --manifest-path "$ROOT/Cargo.toml" -p havun-vault --example dumps
  BIN=${CARGO_TARGET_DIR:-$ROOT/target}/release/examples/dumps
fi
for profile in "$@"; do make_dumps "$profile"; done
printf '%-10s %-8s %10s %10s %12s\n' profile program "day 1 MB" "day $DAYS MB" "CPU s a day"
for profile in "$@"; do
  ours "$profile"
  for name in restic borg; do
    if command -v "$name" > /dev/null; then peer "$name" "$profile"; fi
  done
done
for profile in "$@"; do echo; echo "vault, $profile:"; cat "$FOLDER/ours-$profile.txt"; done
