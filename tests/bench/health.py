#!/usr/bin/env python3
"""How long `health` takes over PROJECTS projects with SNAPSHOTS snapshots each, and how much memory.

    tests/bench/health.py PROGRAM [FOLDER] [STORES]

Makes one real, unencrypted snapshot of each project, and copies of it on SNAPSHOTS days before (seven years), each a valid
object under its own name; then as many rows in the audit database. With STORES = 2 there is an archive, filled by the program.
What health remembers of them is there as after as many hourly calls. Measures three calls by /usr/bin/time.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sqlite3
import struct
import subprocess
import sys
import time

PROJECTS, SNAPSHOTS = int(os.environ.get("PROJECTS", 50)), int(os.environ.get("SNAPSHOTS", 2557))


def frame(data):
    """A zstd frame of raw blocks."""
    out = b"\x28\xb5\x2f\xfd" + bytes([0b10100000]) + struct.pack("<I", len(data))
    for start in range(0, len(data), 1 << 17):
        part = data[start : start + (1 << 17)]
        last = start + (1 << 17) >= len(data)
        out += struct.pack("<I", len(part) << 3 | last)[:3] + part
    return out


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def multiply(vault, state):
    objects = [path for path in vault.glob("epochs/*/snapshots/*")]
    text = json.loads(subprocess.run(["zstd", "-dc", objects[0]], check=True, capture_output=True).stdout)
    now = time.time()
    ids = []
    for day in range(1, SNAPSHOTS):
        at = now - 86400 * day
        epoch = time.strftime("%Y", time.gmtime(at))
        text.update(epoch=epoch, started_at=stamp(at), ended_at=stamp(at + 30), run_id=f"bench-{day}")
        stored = frame(json.dumps(text).encode())
        digest = hashlib.sha256(stored).hexdigest()
        folder = vault / "epochs" / epoch / "snapshots"
        folder.mkdir(parents=True, exist_ok=True)
        name = objects[0].name.split("-")[0]
        form = "%Y%m%dT%H%M%SZ" if name.endswith("Z") else None
        assert form and len(name) == 16, f"names of snapshots have changed: {objects[0].name}"
        (folder / f"{time.strftime(form, time.gmtime(at))}-{digest}").write_bytes(stored)
        ids.append((at, digest))
    # As if health had been called every hour all the time.
    remembered = state / "health"
    remembered.mkdir(exist_ok=True)
    objects = sorted(vault.glob("epochs/*/snapshots/*"))
    lines = [f"{path.stat().st_size} ok {path.relative_to(vault)}" for path in objects]
    (remembered / f"{vault.name}@local").write_text("\n".join([json.loads((vault / "vault.json").read_text())["vault_id"], *lines]) + "\n")
    return ids


def rows(database, name, ids):
    found = database.execute("SELECT * FROM backup_logs WHERE project = ? AND action = 'run'", (name,))
    row = dict(zip([column[0] for column in found.description], found.fetchone()))
    columns = list(row)
    for at, digest in ids:
        row.update(id=hashlib.sha256(f"{name}{digest}".encode()).hexdigest()[:32], started_at=stamp(at), ended_at=stamp(at + 30), snapshot=digest)
        database.execute(f"INSERT INTO backup_logs ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})", [row[c] for c in columns])


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "/var/tmp/havun-health-bench")
    stores = ["local", "archive"][: int(sys.argv[3]) if len(sys.argv) > 3 else 1]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "projects").mkdir(parents=True)
    config = ["[host]", 'name = "Bench"', 'state_dir = "state"', 'timezone = "UTC"']
    for store in stores:
        tier = {"local": "hot", "archive": "archive"}[store]
        config += [f"[stores.{store}]", f'tier = "{tier}"', 'kind = "local"', f'path = "{store}"']
    for number in range(PROJECTS):
        root = folder / "projects" / f"p{number}"
        root.mkdir()
        (root / "file.txt").write_text(f"project {number}")
        config += [f"[projects.p{number}]", 'strategy = "files"', f'root = "{root}"', "encryption = false", 'schedule = "daily 03:00"']
        config += [f"stores = {json.dumps(stores)}"]
    path = folder / "havun-backup.toml"
    path.write_text("\n".join(config) + "\n")
    call = [program, "--config", path, "--no-progress", "-q"]
    made = subprocess.run([*call, "init"], capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit(f"init ended with {made.returncode}: {made.stdout}{made.stderr}")
    ran = subprocess.run([*call, "run"], capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"run ended with {ran.returncode}: {ran.stdout}{ran.stderr}")
    database = sqlite3.connect(folder / "state" / "audit.db")
    for number in range(PROJECTS):
        vault = next((folder / "local").glob(f"**/p{number}/vault.json")).parent
        rows(database, f"p{number}", multiply(vault, folder / "state"))
    database.commit()
    database.close()
    if len(stores) > 1:
        pushed = subprocess.run([*call, "archive", "push", "--full"], capture_output=True, text=True)
        print("archive push", pushed.returncode, pushed.stderr[-500:])
    timed = ["/usr/bin/time", "-f", "%e s, %U s user, %S s system, %M KiB", *call, "health"]
    subprocess.run([*call, "health"], capture_output=True)
    for turn in range(3):
        done = subprocess.run(timed, capture_output=True, text=True)
        print("exit", done.returncode, done.stderr.strip().splitlines()[-1])
    print("snapshots", sum(1 for _ in (folder / "local").glob("**/snapshots/*")))


main()
