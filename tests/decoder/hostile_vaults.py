#!/usr/bin/env python3
"""Vaults that lie: each tries to make a reader run a command, or write outside of its target.

    hostile_vaults.py FOLDER       one vault in FOLDER for each trick; what they aim at is FOLDER/outside and FOLDER/RAN
"""
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile


def sha(data):
    return hashlib.sha256(data).hexdigest()


def zstd(data):
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def pack(chunks, extra=()):
    """A pack as docs/FORMAT.md has it; `extra` are entries that none should hold."""
    stream = io.BytesIO()
    archive = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)
    for entry in extra:
        archive.addfile(*entry)
    for chunk in chunks:
        entry = tarfile.TarInfo("c/" + sha(chunk))
        entry.size = len(chunk)
        archive.addfile(entry, io.BytesIO(chunk))
    raw = stream.getvalue()
    frame, end = zstd(raw), zstd(bytes(1024))
    toc = b"HBTOC1\0\0\1\0\0\0" + struct.pack("<I", 1) + struct.pack("<QIII", 0, len(frame), len(raw), len(chunks))
    toc += b"".join(bytes.fromhex(sha(chunk)) + struct.pack("<II", 0, len(chunk)) for chunk in chunks)
    toc += struct.pack("<Q", len(frame) + len(end))
    skippable = struct.pack("<II", 0x184D2A5D, len(toc)) + toc
    table = b"".join(struct.pack("<II", *pair) for pair in ((len(frame), len(raw)), (len(end), 1024), (len(skippable), 0)))
    table += struct.pack("<IBI", 3, 0, 0x8F92EAB1)
    return frame + end + skippable + struct.pack("<II", 0x184D2A5E, len(table)) + table


def vault(folder, entries, depth=0, extra=(), more=()):
    epoch = os.path.join(folder, "epochs/2026")
    os.makedirs(epoch + "/snapshots")
    with open(folder + "/vault.json", "w") as file:
        json.dump({"format": 1, "vault_id": "0" * 32, "encryption": "none"}, file)
    whole = [{"mode": "0644", "uid": 0, "gid": 0, "mtime": [1, 0], **entry} for entry in entries]
    manifest = "".join(json.dumps(entry) + "\n" for entry in whole).encode()
    packs = [pack([b"hello\n", manifest], extra), *more]
    for stored in packs:
        place = os.path.join(epoch, "packs", sha(stored)[:2])
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, sha(stored)), "wb") as file:
            file.write(stored)
    root = {"chunk": sha(manifest), "depth": depth, "entries": len(entries), "bytes": len(manifest)}
    snapshot = {"format": 1, "vault_id": "0" * 32, "epoch": "2026", "started_at": "2026-01-01T00:00:00Z", "outcome": "ok"}
    stored = zstd(json.dumps({**snapshot, "packs": [sha(stored) for stored in packs], "manifest": root}).encode())
    with open("%s/snapshots/20260101T000000Z-%s" % (epoch, sha(stored)), "wb") as file:
        file.write(stored)



def main(folder):
    os.chdir(folder)
    outside = os.path.join(folder, "outside")
    os.mkdir(outside, 0o700)
    expression = "a[$(touch %s)0]" % os.path.join(folder, "RAN")
    chunk = sha(b"hello\n")

    def file(path, **more):
        return dict(path=path, type="file", size=6, chunks=[chunk], **more)

    def link(path, target=outside):
        return dict(path=path, type="symlink", target=target)

    vault("good", [file("f"), link("s", "f"), file("t", link_group="f")])
    vault("depth-is-an-expression", [file("f")], depth=expression)
    vault("range-is-an-expression", [file("f", sparse=[["0", expression]])])
    vault("owner-is-an-expression", [dict(file("f"), uid=expression)])
    vault("mode-is-an-expression", [dict(file("f"), mode=expression)])
    vault("link-named-partial", [link(".partial", outside + "/x"), file("z")])
    vault("hard-link-out", [file("g", link_group="../outside/secret")])
    vault("folder-over-link", [link("l"), dict(path="l", type="dir", mode="0777")])
    vault("through-a-link", [link("l"), file("l/x")])
    vault("link-that-ends-in-a-line-feed", [link("a\n"), file("a\n/x")])
    vault("up", [file("../outside/x")])
    bridge, over = tarfile.TarInfo("d"), tarfile.TarInfo("d/x")
    bridge.type, bridge.linkname, over.size = tarfile.SYMTYPE, outside, 2
    vault("pack-with-a-link", [file("f")], extra=[(bridge,)], more=[pack([b"zz"], [(over, io.BytesIO(b"hi"))])])


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
