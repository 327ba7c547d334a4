#!/usr/bin/env python3
"""Reads a havun-backup vault of format 1 without havun-backup.

Written from docs/FORMAT.md alone; it shares no code with the program. It needs Python 3.9, the package
`cryptography` for encrypted vaults, and the commands `zstd`, `tar` and, for encrypted vaults, `age`.

    havun_decode.py [-i IDENTITY] VAULT check                  every name, key, frame, table, index and manifest
    havun_decode.py [-i IDENTITY] VAULT snapshots              one line for each snapshot
    havun_decode.py [-i IDENTITY] VAULT list [-s ID]           one JSON line for each entry of a snapshot
    havun_decode.py [-i IDENTITY] VAULT restore [-s ID] TARGET everything, beneath an empty folder

IDENTITY is an age identity file. ID is the beginning of a snapshot's id; without it the newest snapshot is taken.
Exit status: 0 all is well, 5 something is damaged (what is whole is restored all the same), 1 anything else.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import stat
import struct
import subprocess
import sys
import tempfile

# --- Bytes and names -------------------------------------------------------------------------------------------------


class Damaged(Exception):
    """Stored bytes are not what they should be."""


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def run(command, stdin=b""):
    """Standard output of a command that has to succeed."""
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Damaged("%s: %s" % (command[0], done.stderr.decode(errors="replace").strip()))
    return done.stdout


def unescape(text):
    """Bytes of the text form: `\\\\` is a backslash, `\\xNN` a byte that is not UTF-8."""
    out, rest = bytearray(), text.encode()
    while rest:
        plain, slash, rest = rest.partition(b"\\")
        out += plain
        if slash and rest[:1] == b"\\":
            out += b"\\"
            rest = rest[1:]
        elif slash and rest[:1] == b"x":
            out += bytes.fromhex(rest[1:3].decode())
            rest = rest[3:]
        elif slash:
            raise Damaged("no text form: %r" % text)
    return bytes(out)


def checked_path(text):
    path = unescape(text)
    for part in path.split(b"/"):
        if part in (b"", b".", b"..") or b"\0" in part:
            raise Damaged("path %r leaves its folder" % text)
    return path


# --- Encryption: C2SP chunked-encryption (Cobblestone-256) -----------------------------------------------------------

LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM"


def hkdf_expand_sha512(key, info, length):
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([number]), hashlib.sha512).digest()
        out, number = out + block, number + 1
    return out[:length]


def unseal(key, context, stored):
    """The plaintext; None if the header commits to another key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, commitment, sealed = stored[:24], stored[24:56], stored[56:]
    okm = hkdf_expand_sha512(key, LABEL + b"\0" + salt + context.encode(), 76)
    if not hmac.compare_digest(okm[44:76], commitment):
        return None
    cipher, base, plain = AESGCM(okm[:32]), int.from_bytes(okm[32:44], "big"), []
    # The last chunk is always shorter than a full one, so that an object that was cut off is noticed.
    for number in range(len(sealed) // 16400 + 1):
        chunk = sealed[number * 16400 : (number + 1) * 16400]
        try:
            plain.append(cipher.decrypt((base ^ number).to_bytes(12, "big"), chunk, None))
        except (InvalidTag, ValueError):
            raise Damaged("encrypted chunk %d does not authenticate" % number) from None
    return b"".join(plain)


# --- The vault -------------------------------------------------------------------------------------------------------


class Vault:
    def __init__(self, folder, identity):
        self.folder = folder
        self.info = json.loads(read(os.path.join(folder, "vault.json")))
        if self.info["format"] != 1:
            sys.exit("this decoder reads format 1, the vault has format %s" % self.info["format"])
        self.encrypted = self.info["encryption"] != "none"
        if self.info["encryption"] not in ("none", "cobblestone-256"):
            sys.exit("unknown encryption %s" % self.info["encryption"])
        self.keys = self.read_keys(identity) if self.encrypted else []

    def read_keys(self, identity):
        if identity is None:
            sys.exit("the vault is encrypted: give an age identity file with -i")
        keys = []
        for name in sorted(os.listdir(os.path.join(self.folder, "keys"))):
            if not name.endswith(".age"):
                continue
            opened = subprocess.run(
                ["age", "-d", "-i", identity, os.path.join(self.folder, "keys", name)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            if opened.returncode != 0:
                continue
            key = opened.stdout
            if len(key) != 32 or sha256(b"havun-backup/v1/kid" + key)[:16] + ".age" != name:
                raise Damaged("keys/%s does not hold the key of that name" % name)
            keys.append(key)
        if not keys:
            sys.exit("the identity opens no key of the vault")
        return keys

    def objects(self, kind):
        """(epoch, path) of every object of a kind, in the order of their names."""
        for epoch in sorted(os.listdir(os.path.join(self.folder, "epochs"))):
            top = os.path.join(self.folder, "epochs", epoch, kind)
            found = [os.path.join(where, name) for where, _, names in os.walk(top) for name in names]
            for path in sorted(found):
                yield epoch, path

    def plain(self, path, kind):
        """An object's plaintext: its bytes have the SHA-256 of its name, and open with a key of the vault."""
        stored = read(path)
        if sha256(stored) != os.path.basename(path)[-64:]:
            raise Damaged("its SHA-256 is %s" % sha256(stored))
        if not self.encrypted:
            return stored
        context = "havun-backup/v1/%s/%s" % (self.info["vault_id"], kind)
        for key in self.keys:
            plain = unseal(key, context, stored)
            if plain is not None:
                return plain
        raise Damaged("no key of the vault opens it")

    def moved(self, epoch):
        """What became of packs that are gone; a damaged record says nothing."""
        for where, path in self.objects("moved"):
            data = read(path)
            if where == epoch and sha256(data) == os.path.basename(path):
                yield json.loads(data)

    def holds(self):
        folder = os.path.join(self.folder, "holds")
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))] if os.path.isdir(folder) else []

    def snapshots(self):
        """(id, snapshot) of every snapshot, oldest first."""
        found = []
        for epoch, path in self.objects("snapshots"):
            snapshot = json.loads(run(["zstd", "-dc"], self.plain(path, "snapshot")))
            if snapshot["vault_id"] != self.info["vault_id"] or snapshot["epoch"] != epoch:
                raise Damaged("%s belongs to another vault or epoch" % path)
            found.append((os.path.basename(path)[-64:], snapshot))
        return sorted(found, key=lambda pair: (pair[1]["started_at"], pair[0]))

    def snapshot(self, prefix):
        fits = [(sid, snapshot) for sid, snapshot in self.snapshots() if sid.startswith(prefix or "")]
        if not fits or (prefix and len(fits) > 1):
            sys.exit("%d snapshots begin with %r" % (len(fits), prefix or ""))
        return fits[-1]


# --- Packs: .tar.zst with a table of contents ------------------------------------------------------------------------


class Toc:
    def __init__(self, payload):
        magic, self.kind, self.pad, count = struct.unpack_from("<8sB3sI", payload)
        if magic != b"HBTOC1\0\0" or self.pad != b"\0\0\0":
            raise Damaged("no table of contents")
        if self.kind not in (1, 2, 3):
            raise Damaged("packs of kind %d are not known to this decoder" % self.kind)
        at, self.frames = 16, []
        for _ in range(count):
            offset, stored, raw, entries = struct.unpack_from("<QIII", payload, at)
            at += 20
            chunks = [struct.unpack_from("<32sII", payload, at + 40 * n) for n in range(entries)]
            at += 40 * entries
            bases = []
            if self.kind == 3:
                (count_bases,) = struct.unpack_from("<I", payload, at)
                if not 1 <= count_bases <= 16:
                    raise Damaged("a delta names %d chunks" % count_bases)
                bases = [payload[at + 4 + 32 * n : at + 36 + 32 * n].hex() for n in range(count_bases)]
                at += 4 + 32 * count_bases
            self.frames.append((offset, stored, raw, chunks, bases))
        (self.offset,) = struct.unpack_from("<Q", payload, at)
        if at + 8 != len(payload):
            raise Damaged("the table of contents does not end where it says")


def tail(plain):
    """The table of contents, its payload, and the seek table, found from the end of a pack."""
    count, descriptor, magic = struct.unpack("<IBI", plain[-9:])
    if magic != 0x8F92EAB1 or descriptor != 0:
        raise Damaged("the pack does not end with a seek table")
    at = len(plain) - 9 - 8 * count
    table = [struct.unpack_from("<II", plain, at + 8 * n) for n in range(count)]
    if struct.unpack_from("<II", plain, at - 8) != (0x184D2A5E, 8 * count + 9):
        raise Damaged("the seek table has a wrong header")
    begins = at - 8 - table[-1][0]
    magic, size = struct.unpack_from("<II", plain, begins)
    if magic != 0x184D2A5D or begins + 8 + size != at - 8:
        raise Damaged("the table of contents has a wrong header")
    payload = plain[begins + 8 : begins + 8 + size]
    toc = Toc(payload)
    if toc.offset != begins:
        raise Damaged("the table of contents lies at %d, not at %d" % (begins, toc.offset))
    return toc, payload, table


def decode_delta(frame, prefix):
    """A frame that was compressed against the bytes `prefix`."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(prefix)
        file.flush()
        return run(["zstd", "-dcq", "--patch-from=" + file.name], frame)


def check_pack(plain, get):
    """Every frame on its own, against the table of contents and the seek table. The payload of the former. `get` gives the
    chunks that a delta needs."""
    toc, payload, table = tail(plain)
    end = 0
    for number, (offset, stored, raw, chunks, bases) in enumerate(toc.frames):
        if offset != end or table[number] != (stored, raw):
            raise Damaged("frame %d is not where the tables say" % number)
        end = offset + stored
        frame = plain[offset:end]
        data = decode_delta(frame, b"".join(map(get, bases))) if bases else run(["zstd", "-dc"], frame)
        if len(data) != raw:
            raise Damaged("frame %d has %d bytes" % (number, len(data)))
        for chunk, begin, size in chunks:
            if sha256(data[begin : begin + size]) != chunk.hex() or data[begin - 512 : begin - 446] != b"c/" + chunk.hex().encode():
                raise Damaged("chunk %s is not where the table of contents says" % chunk.hex())
    if len(table) != len(toc.frames) + 2 or table[-2][1] != 1024 or end + table[-2][0] != toc.offset:
        raise Damaged("the pack's end is not as the tables say")
    return payload


class Chunks:
    """Packs unpacked by tar into a folder; chunks by id, each compared with its SHA-256. Deltas are decoded when they are
    asked for."""

    def __init__(self, vault, scratch):
        self.vault, self.scratch, self.unpacked, self.problems = vault, scratch, set(), []
        self.deltas, self.frames = {}, 0
        os.mkdir(os.path.join(scratch, "deltas"))

    def unpack(self, epoch, packs):
        for pack in packs:
            for there in self.standing_in(epoch, pack):
                if (epoch, there) not in self.unpacked:
                    self.unpacked.add((epoch, there))
                    try:
                        self.unpack_one(self.path(epoch, there))
                    except (Damaged, OSError, struct.error) as error:
                        self.problems.append("pack %s: %s" % (there, error))

    def path(self, epoch, pack):
        return os.path.join(self.vault.folder, "epochs", epoch, "packs", pack[:2], pack)

    def standing_in(self, epoch, pack):
        """The pack, or where it is not there those that its chunks went to or came from. Whether that is all that is
        needed is seen when chunks are asked for."""
        if os.path.exists(self.path(epoch, pack)):
            return [pack]
        related, before = {pack}, 0
        while len(related) != before:
            before = len(related)
            for record in self.vault.moved(epoch):
                both = set(record["from"]) | set(record["to"])
                related |= both if both & related else set()
        there = sorted(other for other in related if os.path.exists(self.path(epoch, other)))
        return there or [pack]

    def unpack_one(self, path):
        plain = self.vault.plain(path, "pack")
        toc, _, _ = tail(plain)
        if toc.kind == 3:
            return self.keep_deltas(plain, toc)
        run(["tar", "-x", "-C", self.scratch], run(["zstd", "-dc"], plain))

    def keep_deltas(self, plain, toc):
        for offset, stored, _, chunks, bases in toc.frames:
            frame = os.path.join(self.scratch, "deltas", str(self.frames))
            self.frames += 1
            with open(frame, "wb") as file:
                file.write(plain[offset : offset + stored])
            for chunk, begin, size in chunks:
                self.deltas.setdefault(chunk.hex(), (frame, begin, size, bases))

    def decode(self, chunk):
        """A chunk that is a delta of others, which may be deltas themselves."""
        frame, begin, size, bases = self.deltas.pop(chunk)
        data = decode_delta(read(frame), b"".join(map(self.get, bases)))[begin : begin + size]
        os.makedirs(os.path.join(self.scratch, "c"), exist_ok=True)
        with open(os.path.join(self.scratch, "c", chunk), "wb") as file:
            file.write(data)
        return data

    def get(self, chunk):
        try:
            path = os.path.join(self.scratch, "c", chunk)
            data = self.decode(chunk) if chunk in self.deltas and not os.path.exists(path) else read(path)
        except FileNotFoundError:
            raise Damaged("chunk %s is in no pack of the snapshot" % chunk) from None
        if sha256(data) != chunk:
            raise Damaged("chunk %s is damaged" % chunk)
        return data


# --- Manifest --------------------------------------------------------------------------------------------------------


def leaves(chunks, root):
    """(text, is last) of every leaf in order; checks the lists above them."""
    level = [(root["chunk"], None)]
    for _ in range(root["depth"]):
        below = []
        for chunk, line in level:
            text = chunks.get(chunk)
            lines = [json.loads(part) for part in text.splitlines()]
            if line and (line["bytes"] != len(text) or line["entries"] != sum(inner["entries"] for inner in lines)):
                raise Damaged("manifest list %s is not as the list above it says" % chunk)
            below += [(inner["chunk"], inner) for inner in lines]
        level = below
    for number, (chunk, line) in enumerate(level):
        text = chunks.get(chunk)
        if line and (line["bytes"] != len(text) or line["entries"] != text.count(b"\n")):
            raise Damaged("manifest leaf %s is not as the list above it says" % chunk)
        yield text, number == len(level) - 1


def entries(chunks, root):
    """Every entry of a manifest, with `raw`, the bytes of its path, added."""
    before = None
    for text, last in leaves(chunks, root):
        size, lines = 0, text.split(b"\n")[:-1]
        for number, line in enumerate(lines):
            entry = json.loads(line)
            size += len(line) + 1
            entry["raw"] = checked_path(entry["path"])
            parts = entry["raw"].split(b"/")
            if before is not None and before >= parts:
                raise Damaged("%r is out of order in the manifest" % entry["path"])
            before = parts
            word = int.from_bytes(hashlib.sha256(entry["path"].encode()).digest()[:8], "little")
            ends = size >= 131072 or (size >= 8192 and word % 256 < 3)
            if ends != (number == len(lines) - 1) and not (last and number == len(lines) - 1):
                raise Damaged("a leaf is cut in the wrong place at %r" % entry["path"])
            yield entry


# --- Restore ---------------------------------------------------------------------------------------------------------


class Restore:
    def __init__(self, chunks, target):
        self.chunks, self.target, self.folders, self.notes = chunks, os.fsencode(target), [], []
        self.first_names = {}

    def entry(self, entry):
        path = os.path.join(self.target, entry["raw"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        kind = entry["type"]
        if kind == "dir":
            os.makedirs(path, exist_ok=True)
            self.folders.append((path, entry))
            return
        if "link_group" in entry and entry["link_group"] in self.first_names:
            os.link(self.first_names[entry["link_group"]], path, follow_symlinks=False)
            return
        if kind == "file":
            self.file(path, entry)
        elif kind == "symlink":
            os.symlink(unescape(entry["target"]), path)
        elif kind == "fifo":
            os.mkfifo(path, 0o600)
        elif kind in ("char", "block") and os.geteuid() == 0:
            os.mknod(path, 0o600 | (stat.S_IFCHR if kind == "char" else stat.S_IFBLK), os.makedev(*entry["rdev"]))
        else:
            self.notes.append("%s: a %s is not restored" % (entry["path"], kind))
            return
        if "link_group" in entry:
            self.first_names[entry["link_group"]] = path
        self.metadata(path, entry)

    def file(self, path, entry):
        whole = hashlib.sha256()
        pieces = (self.chunks.get(chunk) for chunk in entry.get("chunks", []))
        partial = path + b".partial" if len(os.path.basename(path)) < 240 else os.path.dirname(path) + b"/.partial"
        try:
            with open(partial, "xb") as file:
                ranges = entry.get("sparse", [[0, entry["size"]]])
                self.fill(file, ranges, pieces, whole)
                file.truncate(entry["size"])
            if "sha256" in entry and entry["sha256"] != whole.hexdigest():
                raise Damaged("the whole file's SHA-256 is %s" % whole.hexdigest())
        except BaseException:
            os.unlink(partial)
            raise
        os.rename(partial, path)

    @staticmethod
    def fill(file, ranges, pieces, whole):
        """Lays the chunks, one after the other, into the ranges."""
        pending = b""
        for offset, length in ranges:
            file.seek(offset)
            while length > 0:
                if not pending:
                    pending = next(pieces, b"")
                    whole.update(pending)
                    if not pending:
                        raise Damaged("its chunks end too early")
                part, pending = pending[:length], pending[length:]
                file.write(part)
                length -= len(part)
        if pending or next(pieces, None) is not None:
            raise Damaged("its chunks hold more than it has room for")

    def metadata(self, path, entry):
        link = entry["type"] == "symlink"
        if os.geteuid() == 0:
            os.chown(path, entry["uid"], entry["gid"], follow_symlinks=False)
        for name, value in entry.get("xattrs", {}).items():
            try:
                os.setxattr(path, unescape(name), base64.b64decode(value), follow_symlinks=False)
            except OSError as error:
                self.notes.append("%s: attribute %s: %s" % (entry["path"], name, error.strerror))
        if not link:
            os.chmod(path, int(entry["mode"], 8))
        seconds, nanos = entry["mtime"]
        moment = seconds * 1_000_000_000 + nanos
        os.utime(path, ns=(moment, moment), follow_symlinks=False)

    def finish(self):
        """Folders last, the deepest first, so that nothing changes their times or is kept out by their modes."""
        for path, entry in reversed(self.folders):
            self.metadata(path, entry)


# --- Commands --------------------------------------------------------------------------------------------------------


def check_sums(vault, problems):
    """The sum files at the top and beside the keys."""
    keys = os.path.join(vault.folder, "keys")
    sums = [(keys, name) for name in sorted(os.listdir(keys)) if name.endswith(".sha256")] if vault.encrypted else []
    for folder, name in [(vault.folder, "vault.sha256")] + sums:
        done = subprocess.run(["sha256sum", "-c", "--quiet", name], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            problems.append("%s: %s" % (name, done.stdout.decode(errors="replace").strip()))


def check_objects(vault, chunks, problems):
    """Every pack by its frames, every index object against the packs."""
    tocs, count = {}, 0
    for epoch, path in vault.objects("packs"):
        chunks.unpack(epoch, [os.path.basename(path)])
    for epoch, path in vault.objects("packs"):
        count += 1
        try:
            tocs[epoch, os.path.basename(path)] = (os.path.getsize(path), check_pack(vault.plain(path, "pack"), chunks.get))
        except (Damaged, struct.error) as error:
            problems.append("%s: %s" % (path, error))
    for epoch, path in vault.objects("index"):
        count += 1
        try:
            check_index(vault, epoch, path, tocs)
        except (Damaged, struct.error) as error:
            problems.append("%s: %s" % (path, error))
    for path in [path for kind in ("marks", "moved") for _, path in vault.objects(kind)]:
        count += 1
        if sha256(read(path)) != os.path.basename(path):
            problems.append("%s: its SHA-256 is another" % path)
    for path in vault.holds():
        count += 1
        try:
            json.loads(run(["zstd", "-dc"], vault.plain(path, "hold")))
        except (Damaged, ValueError) as error:
            problems.append("%s: %s" % (path, error))
    return count


def check_index(vault, epoch, path, tocs):
    plain = run(["zstd", "-dc"], vault.plain(path, "index"))
    magic, count = struct.unpack_from("<8sI", plain)
    if magic != b"HBIDX1\0\0":
        raise Damaged("no index object")
    at = 12
    for _ in range(count):
        pack, size, length = struct.unpack_from("<32sQI", plain, at)
        toc = plain[at + 44 : at + 44 + length]
        at += 44 + length
        if (epoch, pack.hex()) in tocs and tocs[epoch, pack.hex()] != (size, toc):
            raise Damaged("it says other things of pack %s than the pack itself" % pack.hex())
    if at != len(plain):
        raise Damaged("it does not end where it says")


def check_snapshots(vault, chunks, problems):
    count = 0
    for sid, snapshot in vault.snapshots():
        chunks.unpack(snapshot["epoch"], snapshot["packs"])
        files = 0
        try:
            for entry in entries(chunks, snapshot["manifest"]):
                count, files = count + 1, files + 1
                for chunk in entry.get("chunks", []):
                    chunks.get(chunk)
        except Damaged as error:
            problems.append("snapshot %s: %s" % (sid, error))
            continue
        if files != snapshot["manifest"]["entries"]:
            problems.append("snapshot %s: the manifest has %d entries" % (sid, files))
    return count


def check(vault, chunks, _arguments):
    problems = []
    check_sums(vault, problems)
    objects = check_objects(vault, chunks, problems)
    files = check_snapshots(vault, chunks, problems)
    print("%d objects and %d entries checked" % (objects, files))
    return problems


def list_snapshots(vault, _chunks, _arguments):
    for sid, snapshot in vault.snapshots():
        print(sid, snapshot["started_at"], snapshot["outcome"], snapshot["manifest"]["entries"])
    return []


def list_entries(vault, chunks, arguments):
    _, snapshot = vault.snapshot(arguments.snapshot)
    chunks.unpack(snapshot["epoch"], snapshot["packs"])
    for entry in entries(chunks, snapshot["manifest"]):
        del entry["raw"]
        print(json.dumps(entry))
    return []


def restore(vault, chunks, arguments):
    _, snapshot = vault.snapshot(arguments.snapshot)
    chunks.unpack(snapshot["epoch"], snapshot["packs"])
    os.makedirs(arguments.target, exist_ok=True)
    if os.listdir(arguments.target):
        sys.exit("%s is not empty" % arguments.target)
    work, problems = Restore(chunks, arguments.target), []
    for entry in entries(chunks, snapshot["manifest"]):
        try:
            work.entry(entry)
        except (Damaged, OSError) as error:
            problems.append("%s: %s" % (entry["path"], error))
    work.finish()
    for note in work.notes:
        print("note:", note, file=sys.stderr)
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--identity", help="age identity file")
    parser.add_argument("vault", help="folder that holds vault.json")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("check", check), ("snapshots", list_snapshots), ("list", list_entries), ("restore", restore)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        if name in ("list", "restore"):
            command.add_argument("-s", "--snapshot", help="beginning of the snapshot's id")
        if name == "restore":
            command.add_argument("target")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="havun-decode-") as scratch:
        try:
            vault = Vault(arguments.vault, arguments.identity)
            chunks = Chunks(vault, scratch)
            problems = arguments.function(vault, chunks, arguments)
            problems = chunks.problems + problems
        except Damaged as error:
            problems = [str(error)]
        for problem in problems:
            print("damaged:", problem, file=sys.stderr)
    sys.exit(5 if problems else 0)


if __name__ == "__main__":
    main()
