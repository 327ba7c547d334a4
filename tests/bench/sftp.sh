#!/usr/bin/env bash
# Times uploads and downloads over SFTP, ours beside rclone's, OpenSSH's `sftp` and restic's, and prints the ratios.
#
#   tests/bench/sftp.sh [--near MIB] [--far MIB] [--rtt MS] [--rounds N] [--threads N] [--connections N] [--verify MODE] [--folder DIR]
#
#   --near 2048        size without delay, in MiB; 0 leaves it out
#   --far 192          size with delay; 0 leaves it out
#   --rtt 50           the delay: milliseconds for a round trip, by a relay on loopback
#   --rounds 3         how often; all take turns, and the median counts
#   --threads 4        objects at a time, as replication has it; rclone gets as many transfers
#   --connections 4    of ours
#   --verify auto      of ours: auto (the server sums each object), size, readback
#   --folder /tmp      where the server keeps its files and the client its data
#
# Ours cuts the data into packs of 64 MiB with names and fsync; rclone and sftp copy the same packs as files, restic backs them up.
# Ours and rclone let the server sum what arrived, as their default is; sftp and restic do not. Time is wall time, connecting
# included. A ratio is our time to theirs: 0.5 is twice as fast. restic is asked for only with delay, rclone and sftp everywhere.
#
# Needs sshd, ssh, sftp, rclone, restic, python3 (a tool that is missing is left out of the table). Builds the example `sftp_speed`
# of havun-stores in release, unless $SFTP_SPEED names one. $RESTIC names a restic other than the one on the PATH (Debian 12's 0.14
# uploads at about 2 MB/s at 50 ms; a current one is the peer to beat). Starts its own sshd and relay on loopback, and removes all it made.
set -euo pipefail
cd "$(dirname "$0")/../.."

near=2048 far=192 rtt=50 rounds=3 threads=4 connections=4 verify=auto folder=${TMPDIR:-/tmp}
while [ $# -gt 0 ]; do
  case $1 in
    --near | --far | --rtt | --rounds | --threads | --connections | --verify | --folder) declare "${1#--}=$2"; shift 2 ;;
    *) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2 ;;
  esac
done

restic=${RESTIC:-restic}
speed=${SFTP_SPEED:-}
if [ -z "$speed" ]; then
  cargo build --quiet --release --locked -p havun-stores --example sftp_speed
  speed=${CARGO_TARGET_DIR:-target}/release/examples/sftp_speed
fi
speed=$(realpath "$speed")
sshd=$(PATH="$PATH:/usr/sbin:/sbin" command -v sshd)

work=$(mktemp -d "$folder/havun-sftp-bench.XXXXXX")
children=()
finish() {
  local child
  for child in "${children[@]}"; do kill "$child" 2> /dev/null || true; done
  wait 2> /dev/null || true
  rm -rf "$work"
}
trap finish EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start_sshd() {
  local key
  chmod 755 "$work"
  for key in host client; do ssh-keygen -q -t ed25519 -N '' -f "$work/$key"; done
  cp "$work/client.pub" "$work/authorized"
  near_port=$(free_port)
  cat > "$work/sshd_config" << CONFIG
Port $near_port
ListenAddress 127.0.0.1
HostKey $work/host
AuthorizedKeysFile $work/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 100
UseDNS no
Subsystem sftp internal-sftp
CONFIG
  [ "$(id -u)" -ne 0 ] || mkdir -p /run/sshd
  "$sshd" -D -f "$work/sshd_config" -E "$work/sshd.log" &
  children+=($!)
}

start_relay() {
  mkfifo "$work/relay.in" "$work/relay.out"
  "$speed" relay "$near_port" "$rtt" < "$work/relay.in" > "$work/relay.out" &
  children+=($!)
  exec 8> "$work/relay.in"
  read -r far_port < "$work/relay.out"
}

write_client_config() {
  local place port
  for place in near far; do
    port=${place}_port
    echo "[127.0.0.1]:${!port} $(cut -d' ' -f1,2 "$work/host.pub")" >> "$work/known_hosts"
    cat >> "$work/ssh_config" << CONFIG
Host $place
  HostName 127.0.0.1
  Port ${!port}
  User $(id -un)
  IdentityFile $work/client
  IdentitiesOnly yes
  UserKnownHostsFile $work/known_hosts
  Compression no
CONFIG
  done
  until ssh -F "$work/ssh_config" near true 2> /dev/null; do kill -0 "${children[0]}"; done
}

# A file, and the same bytes as a folder of packs.
make_source() {
  local mib=$1
  rm -rf "$work/source" "$work/file"
  mkdir "$work/source"
  head -c $((mib << 20)) /dev/urandom > "$work/file"
  split -b 64M -d "$work/file" "$work/source/pack-"
}

has() { command -v "$1" > /dev/null; }
clear() { rm -rf "$work/server" "$work/back"; mkdir "$work/server" "$work/back"; sync; }

# Runs a command, and notes its time.
timed() {
  local place=$1 way=$2 tool=$3 begin end
  shift 3
  begin=$(date +%s.%N)
  "$@" > "$work/out" 2>&1 || { echo "$tool $way ($place) failed:" >&2; cat "$work/out" >&2; return 1; }
  end=$(date +%s.%N)
  [ "$tool" != ours ] || { begin=0; end=$(sed -n 's/.* bytes in \([0-9.]*\) s.*/\1/p' "$work/out"); }
  echo "$place $way $tool $begin $end" >> "$work/times"
}

ours() { # PLACE put|get
  local port=$1_port way=up
  [ "$2" = put ] || way=down
  timed "$1" "$way" ours "$speed" "$2" "$work/file" "$threads" host=127.0.0.1 port="${!port}" user="$(id -un)" path="$work/server/ours" \
    key="$work/client" pin="$(cut -d' ' -f1,2 "$work/host.pub")" connections="$connections" verify="$verify" out="$work/back"
}

rclone_copy() { # PLACE WAY FROM TO
  local port=$1_port
  timed "$1" "$2" rclone rclone --config /dev/null copy "$3" "$4" --transfers "$threads" --sftp-host 127.0.0.1 --sftp-port "${!port}" \
    --sftp-user "$(id -un)" --sftp-key-file "$work/client" --sftp-known-hosts-file "$work/known_hosts" --sftp-chunk-size 255k \
    --sftp-concurrency 64 --ignore-times
}

openssh() { # PLACE WAY COMMAND
  echo "$3" > "$work/batch"
  timed "$1" "$2" sftp sftp -F "$work/ssh_config" -q -R128 -B261120 -b "$work/batch" "$1"
}

restic_run() { # PLACE WAY ARGUMENTS…
  local place=$1 way=$2
  shift 2
  RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$work/cache timed "$place" "$way" restic "$restic" -q -r "sftp:$place:$work/server/restic" \
    -o "sftp.command=ssh -F $work/ssh_config $place -s sftp" "$@"
}

round() { # PLACE
  clear
  ours "$1" put
  sync
  ours "$1" get
  clear
  if has rclone; then
    rclone_copy "$1" up "$work/source" ":sftp:$work/server"
    sync
    rclone_copy "$1" down ":sftp:$work/server" "$work/back"
    clear
  fi
  openssh "$1" up "put $work/source/* $work/server/"
  sync
  openssh "$1" down "get $work/server/* $work/back/"
  clear
  if [ "$1" = far ] && has "$restic"; then
    restic_run near none init
    restic_run "$1" up backup --compression off "$work/source"
    sync
    restic_run "$1" down restore latest --target "$work/back"
    clear
  fi
}

start_sshd
start_relay
write_client_config
for place in near far; do
  mib=${!place}
  [ "$mib" -gt 0 ] || continue
  make_source "$mib"
  for ((n = 1; n <= rounds; n++)); do
    echo "$place: $mib MiB, round $n of $rounds" >&2
    round "$place"
  done
done

python3 - "$work/times" "$near" "$far" "$rtt" << 'TABLE'
import statistics, sys
times, near, far, rtt = sys.argv[1:]
found = {}
for line in open(times):
    place, way, tool, begin, end = line.split()
    found.setdefault((place, way), {}).setdefault(tool, []).append(float(end) - float(begin))
print(f"{'link':<8}{'way':<6}{'MiB':>6}  {'tool':<8}{'median s':>9}{'best s':>8}{'MB/s':>8}   ours to it")
for (place, way), tools in found.items():
    if way == "none":
        continue
    mib, delay = (near, "0 ms") if place == "near" else (far, f"{rtt} ms")
    ours = statistics.median(tools["ours"])
    for tool, seconds in tools.items():
        median = statistics.median(seconds)
        ratio = "" if tool == "ours" else f"{ours / median:.2f}  ({median / ours:.1f} times as fast)"
        print(f"{delay:<8}{way:<6}{mib:>6}  {tool:<8}{median:>9.2f}{min(seconds):>8.2f}{int(mib) * 1.048576 / median:>8.1f}   {ratio}")
TABLE
