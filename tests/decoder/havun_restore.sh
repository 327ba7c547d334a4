#!/usr/bin/env bash
# Restores a snapshot of a havun-backup vault (format 1) with nothing but standard programs: bash, openssl (3.0 or newer),
# age, zstd, tar, jq and coreutils. For the day when neither havun-backup nor Python is at hand. Written from docs/FORMAT.md.
#
#   havun_restore.sh VAULT                        check the name of every object, and list the snapshots
#   havun_restore.sh VAULT TARGET [SNAPSHOT]      restore into a new folder; SNAPSHOT is the beginning of an id, or the newest
#
# IDENTITY=FILE names the age identity file of an encrypted vault. As root owners, devices and attributes come back as well
# (setfattr from the package attr). Ends with 5 where something is damaged, and then has restored whatever is whole.
#
# Openssl's command line does not check the tags of AES-GCM. What is read is checked by SHA-256 instead: each object against
# its name, each chunk against its id. Keys stand in openssl's arguments for a moment: use it where nobody else is logged in.
# Nothing is written outside of TARGET and a scratch folder, whatever the vault says. Slow: about 1 MB a second.
# havun_decode.py is the fast way.
set -euo pipefail
umask 077
export LC_ALL=C
[ $# -ge 1 ] && [ $# -le 3 ] || { sed -n '2,17p' "$0" >&2; exit 2; }
VAULT=$1 TARGET=${2:-} WANTED=${3:-} DAMAGE=0 KEYS=()
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT; mkdir "$WORK/c" "$WORK/ok" "$WORK/delta"
damaged() { echo "damaged: $*" >&2; DAMAGE=5; }
sum() { sha256sum < "$1" | cut -c1-64; }
hex() { od -An -v -tx1 "$@" | tr -d ' \n'; }
u32() { od -An -v -tu4 --endian=little -j "$2" -N 4 "$1" | tr -d ' '; }   # FILE OFFSET
u64() { od -An -v -tu8 --endian=little -j "$2" -N 8 "$1" | tr -d ' '; }

# --- Keys and encryption: age, then C2SP chunked-encryption ----------------------------------------------------------

open_keys() {
  local file
  for file in "$VAULT"/keys/*.age; do
    age -d -i "${IDENTITY:?names the age identity file of this encrypted vault}" "$file" > "$WORK/key" 2> "$WORK/age" || continue
    KEYS+=("$(hex "$WORK/key")"); rm -f "$WORK/key"
  done
  [ ${#KEYS[@]} -gt 0 ] || { echo "error: $IDENTITY opens no key of $VAULT" >&2; cat "$WORK/age" >&2; exit 1; }
}

# The plaintext of object FILE of KIND, into OUT.
plain() {
  local file=$1 kind=$2 out=$3 name; name=$(basename "$file")
  [ "$(sum "$file")" = "${name: -64}" ] || { damaged "$file is not what its name says"; return 1; }
  [ "$ENCRYPTION" != none ] || { cp "$file" "$out"; return; }
  local salt commitment key okm info size chunk=0 at=56 nonce
  salt=$(hex -N 24 "$file"); commitment=$(hex -j 24 -N 32 "$file"); size=$(stat -c %s "$file")
  info=$(printf 'c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0' | hex)$salt$(printf 'havun-backup/v1/%s/%s' "$VAULT_ID" "$kind" | hex)
  for key in "${KEYS[@]}"; do
    okm=$(openssl kdf -keylen 76 -kdfopt digest:SHA512 -kdfopt mode:EXPAND_ONLY -kdfopt "hexkey:$key" -kdfopt "hexinfo:$info" HKDF |
      tr -d ':\n' | tr A-F a-f)
    [ "${okm:88:64}" != "$commitment" ] || break
  done
  [ "${okm:88:64}" = "$commitment" ] || { damaged "no key opens $file"; return 1; }
  while [ "$at" -lt "$size" ]; do
    # The base nonce XOR the number of the chunk, then the counter of GCM's first block.
    nonce=$(printf '%s%08x%08x' "${okm:64:8}" $((0x${okm:72:8} ^ chunk >> 32)) $((0x${okm:80:8} ^ chunk & 0xffffffff)))
    local here=$((size - at < 16400 ? size - at : 16400))
    tail -c +$((at + 1)) "$file" 2> /dev/null | head -c $((here - 16)) | openssl enc -d -aes-256-ctr -K "${okm:0:64}" -iv "${nonce}00000002"
    chunk=$((chunk + 1)) at=$((at + here))
  done > "$out"
  [ $((size - 56 - (chunk - 1) * 16400)) -lt 16400 ] || { damaged "$file was cut off"; return 1; }
}

# --- Packs -----------------------------------------------------------------------------------------------------------

# Takes from a tar stream only what a pack may hold: regular files that are named by a SHA-256.
take() {
  local bad=0
  rm -rf "$WORK/x"; mkdir "$WORK/x"
  tar -x --no-same-owner -C "$WORK/x" || bad=1
  [ ! -d "$WORK/x/c" ] || [ -L "$WORK/x/c" ] ||
    find "$WORK/x/c" -maxdepth 1 -type f -regextype posix-extended -regex '.*/[0-9a-f]{64}' -exec mv -f -t "$WORK/c" {} +
  rm -rf "$WORK/x"
  return "$bad"
}

# Unpacks the chunks of a pack into $WORK/c, or keeps the frames of deltas with the names of their bases.
unpack() {
  local pack=$WORK/pack size toc frames at entries bases offset stored frame n ids
  plain "$1" pack "$pack" || return 0
  size=$(stat -c %s "$pack"); n=$(u32 "$pack" $((size - 9)))
  toc=$((size - 9 - 8 * n - 8 - $(u32 "$pack" $((size - 17))) + 8))
  if [ "$(hex -j $((toc + 8)) -N 1 "$pack")" != 03 ]; then
    { zstd -dcq "$pack" | take; } 2> "$WORK/tar" || damaged "$1: $(head -1 "$WORK/tar")"
    return 0
  fi
  frames=$(u32 "$pack" $((toc + 12))) at=$((toc + 16))
  for ((frame = 0; frame < frames; frame++)); do
    offset=$(u64 "$pack" "$at") stored=$(u32 "$pack" $((at + 8))) entries=$(u32 "$pack" $((at + 16))) at=$((at + 20)) ids=()
    [ "${entries:-0}" -gt 0 ] || { damaged "$1: its table of contents is none"; return 0; }
    for ((n = 0; n < entries; n++)); do ids+=("$(hex -j "$at" -N 32 "$pack")"); at=$((at + 40)); done
    bases=$(u32 "$pack" "$at"); at=$((at + 4))
    tail -c +$((offset + 1)) "$pack" 2> /dev/null | head -c "$stored" > "$WORK/delta/${ids[0]}.zst"
    hex -j "$at" -N $((32 * bases)) "$pack" | fold -w 64 > "$WORK/delta/${ids[0]}.bases"
    for n in "${ids[@]}"; do echo "${ids[0]}" > "$WORK/delta/$n.frame"; done
    at=$((at + 32 * bases))
  done
}

# Makes sure that chunk ID lies in $WORK/c and is what its id says.
chunk() {
  local id=$1 frame base
  if [ ! -e "$WORK/c/$id" ] && [ -e "$WORK/delta/$id.frame" ]; then
    frame=$(cat "$WORK/delta/$id.frame")
    # A delta that rests on itself, over however many others, ends as a chunk that is missing.
    rm -f "$WORK/delta/$id.frame"
    while read -r base; do chunk "$base" || return 1; done < <(cat "$WORK/delta/$frame.bases"; echo)
    while read -r base; do cat "$WORK/c/$base"; done < <(cat "$WORK/delta/$frame.bases"; echo) > "$WORK/prefix.$frame"
    zstd -dcq --patch-from="$WORK/prefix.$frame" < "$WORK/delta/$frame.zst" 2> "$WORK/tar" | take 2>> "$WORK/tar" || true
    rm -f "$WORK/prefix.$frame"
  fi
  [ -n "$id" ] || return 0
  [[ $id =~ ^[0-9a-f]{64}$ ]] || { damaged "no chunk has such an id"; return 1; }
  [ -e "$WORK/ok/$id" ] && return 0
  [ -e "$WORK/c/$id" ] && [ "$(sum "$WORK/c/$id")" = "$id" ] || { damaged "chunk $id is missing or damaged"; return 1; }
  : > "$WORK/ok/$id"
}

# --- Manifest and tree -----------------------------------------------------------------------------------------------

# All entries, one line each: fields apart by 1f, line feeds and 1f in them escaped as printf %b reads them.
manifest() {
  local level=$1 depth=$2 id below
  # Bash reads a text in arithmetic as an expression, commands in it included: only digits come near it, here and below.
  [[ $depth =~ ^[0-9]{1,2}$ ]] || { damaged "the snapshot names no depth of its list of files"; return 0; }
  for ((; depth > 0; depth--)); do
    below=
    for id in $level; do chunk "$id" && below+=" $(jq -r .chunk "$WORK/c/$id")"; done
    level=$below
  done
  for id in $level; do
    chunk "$id" && jq -r 'def n: if type == "number" then floor else error("no number") end; def e: tostring | gsub("\n"; "\\n") | gsub("\u001f"; "\\x1f");
      [.type, .path, .mode, (.uid | n), (.gid | n), (.mtime[0] | n), (.mtime[1] | n), .target // "", (.rdev // [] | map(n) | join(" ")),
       .link_group // "", (.size // 0 | n), (.sparse // [] | map(map(n) | join(" ")) | join(",")), (.chunks // [] | join(" ")),
       (.xattrs // {} | to_entries | map(.key + " " + .value) | join(","))] | map(e) | join("\u001f")' "$WORK/c/$id"
  done
}

fill() { # FILE SIZE SPARSE CHUNKS
  local file=$1 size=$2 id range at=0 offset length
  for id in $4; do chunk "$id" || return 1; done
  if [ -z "$3" ]; then
    for id in $4; do cat "$WORK/c/$id"; done > "$file"
  else
    for id in $4; do cat "$WORK/c/$id"; done > "$WORK/data"
    : > "$file"
    while read -r offset length; do
      [[ $offset$length =~ ^[0-9]{2,38}$ ]] || return 1
      dd if="$WORK/data" of="$file" iflag=skip_bytes,count_bytes,fullblock oflag=seek_bytes skip="$at" count="$length" seek="$offset" bs=1M conv=notrunc status=none
      at=$((at + length))
    done < <(tr , '\n' <<< "$3")
    truncate -s "$size" "$file"
  fi
  [ "$(stat -c %s "$file")" = "$size" ]
}

metadata() { # PATH TYPE MODE UID GID SECONDS NANOS XATTRS
  local name value
  [[ $3 =~ ^[0-7]{1,5}$ ]] && [[ $4$5$7 =~ ^[0-9]+$ ]] && [[ $6 =~ ^-?[0-9]+$ ]] || { damaged "$1: its owner, mode or time is none"; return 0; }
  if [ "$(id -u)" = 0 ]; then chown -h "$4:$5" "$1"; fi
  if [ -n "$8" ] && command -v setfattr > /dev/null; then
    while read -r name value; do
      printf -v name %b "$name"
      setfattr -h -n "$name" -v "0s$value" -- "$1" 2> /dev/null || echo "note: $1: attribute $name is not restored" >&2
    done < <(tr , '\n' <<< "$8")
  fi
  [ "$2" = symlink ] || chmod "$3" "$1"
  if [ "$6" -lt 0 ] && [ "$7" -gt 0 ]; then
    touch -h -d "@-$((-$6 - 1)).$(printf %09d $((1000000000 - $7)))" "$1"
  else
    touch -h -d "@$6.$(printf %09d "$7")" "$1"
  fi
}

# Whether RAW stays beneath TARGET, with no link on the way.
inside() {
  case "/$1/" in *//* | */./* | */../*) return 1 ;; esac
  local above=$TARGET/$1; above=${above%/*}
  [ "$(realpath -m -- "$above"; echo .)" = "$above"$'\n.' ]
}

entry() {
  local type path mode uid gid seconds nanos target rdev group size sparse chunks xattrs raw
  IFS=$'\x1f' read -r type path mode uid gid seconds nanos target rdev group size sparse chunks xattrs <<< "$1"
  printf -v raw %b "$path"; printf -v target %b "$target"
  inside "$raw" || { damaged "the path $path leaves its folder"; return; }
  path=$TARGET/$raw; mkdir -p -- "${path%/*}"
  if [ -L "$path" ] || { [ -e "$path" ] && { [ "$type" != dir ] || [ ! -d "$path" ]; }; }; then damaged "$path is there twice"; return; fi
  if [ -n "$group" ]; then
    printf -v group %b "$group"
    if [ "$group" != "$raw" ] && inside "$group" && [ -f "$TARGET/$group" ] && [ ! -L "$TARGET/$group" ]; then
      ln -T -- "$TARGET/$group" "$path"; return
    fi
  fi
  case $type in
    dir) mkdir -p -- "$path"; printf '%s\n' "$1" >> "$WORK/folders"; return ;;
    file) fill "$path" "$size" "$sparse" "$chunks" || { rm -f -- "$path"; damaged "$path"; return; } ;;
    symlink) ln -sT -- "$target" "$path" ;;
    fifo) mkfifo -- "$path" ;;
    char | block) if [ "$(id -u)" != 0 ]; then echo "note: $path: a $type device is made by root only" >&2; return; fi
      read -r -a rdev <<< "$rdev"; mknod -- "$path" "${type:0:1}" "${rdev[@]}" ;;
    *) echo "note: $path: a $type is not restored" >&2; return ;;
  esac
  metadata "$path" "$type" "$mode" "$uid" "$gid" "$seconds" "$nanos" "$xattrs"
}

# --- Commands --------------------------------------------------------------------------------------------------------

[ "$(jq -r .format "$VAULT/vault.json")" = 1 ] || { echo "error: $VAULT is no vault of format 1" >&2; exit 1; }
VAULT_ID=$(jq -r .vault_id "$VAULT/vault.json") ENCRYPTION=$(jq -r .encryption "$VAULT/vault.json")
case $ENCRYPTION in none) ;; cobblestone-256) open_keys ;; *) echo "error: unknown encryption $ENCRYPTION" >&2; exit 1 ;; esac

found=() # time-id file
for file in "$VAULT"/epochs/*/snapshots/*; do
  [ -e "$file" ] && plain "$file" snapshot "$WORK/snapshot" && found+=("$(basename "$file") $file") || continue
  [ -n "$TARGET" ] || zstd -dcq "$WORK/snapshot" | jq -r --arg id "${file: -64}" '[$id, .started_at, .outcome, .manifest.entries] | join(" ")'
done
if [ -z "$TARGET" ]; then
  while IFS= read -r file; do
    [ "$(sum "$file")" = "$(basename "$file" | sed 's/\.[a-z0-9]*\(\.age\)\?$//' | tail -c 65 | head -c 64)" ] || damaged "$file is not what its name says"
  done < <(find "$VAULT/epochs" -type f -not -path '*/snapshots/*' -not -path '*/parity/*')
  exit "$DAMAGE"
fi

chosen=$(printf '%s\n' "${found[@]}" | sort | grep -E "^[0-9TZ]+-$WANTED" | tail -1 | cut -d' ' -f2-) || { echo "error: no snapshot begins with $WANTED" >&2; exit 1; }
plain "$chosen" snapshot "$WORK/snapshot"; zstd -dcq "$WORK/snapshot" > "$WORK/snapshot.json"
mkdir -p "$TARGET"; TARGET=$(realpath "$TARGET")
[ -z "$(ls -A "$TARGET")" ] || { echo "error: $TARGET is not empty" >&2; exit 1; }
packs=$VAULT/epochs/$(jq -r .epoch "$WORK/snapshot.json")/packs lost=
for pack in $(jq -r '.packs[]' "$WORK/snapshot.json"); do
  if [ -e "$packs/${pack:0:2}/$pack" ]; then unpack "$packs/${pack:0:2}/$pack"; else lost=yes; fi
done
# A pack that is gone was moved into others of its epoch (FORMAT.md, "Packs that were moved"): any of them will do.
if [ -n "$lost" ]; then for pack in "$packs"/*/*; do unpack "$pack"; done; fi
: > "$WORK/folders"
manifest "$(jq -r .manifest.chunk "$WORK/snapshot.json")" "$(jq -r .manifest.depth "$WORK/snapshot.json")" > "$WORK/entries"
[ "$(wc -l < "$WORK/entries")" = "$(jq -r .manifest.entries "$WORK/snapshot.json")" ] || damaged "the list of files has $(wc -l < "$WORK/entries") entries"
while IFS= read -r line; do entry "$line"; done < "$WORK/entries"
# Folders last, the deepest first, so that nothing changes their times or is kept out by their modes.
while IFS=$'\x1f' read -r type path mode uid gid seconds nanos _ _ _ _ _ _ xattrs; do
  printf -v path %b "$path"; [ ! -L "$TARGET/$path" ] || continue
  metadata "$TARGET/$path" dir "$mode" "$uid" "$gid" "$seconds" "$nanos" "$xattrs"
done < <(tac "$WORK/folders")
exit "$DAMAGE"
