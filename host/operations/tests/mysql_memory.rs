//! A dump streams: what a table of 100 MB needs is what a small one needs. A process of its own, so that nobody else's memory
//! is measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use havun_model::{Cancel, Connection};
use havun_operations::databases::{DumpForm, DumpOptions, Engine, ResolvedConnection, engine};
use havun_tests::MariaDb;
use std::{collections::BTreeMap, io::Write, time::Duration};

struct Counting(u64);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn dump(engine: &dyn Engine) -> (u64, u64) {
    let options = DumpOptions { exclude_rows: Vec::new(), scratch_dir: std::env::temp_dir(), lock_wait: Duration::from_secs(5) };
    let mut dump = engine.begin_dump(&options, &Cancel::default()).unwrap();
    let mut sink = Counting(0);
    dump.write(DumpForm { extension: "sql", restorable: true }, &mut sink).unwrap();
    (sink.0, dump.finish().record.rows["t"])
}

/// Peak memory of this process, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_table() {
    let server = MariaDb::start();
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (n INT, b LONGTEXT) ENGINE=InnoDB; USE shop; INSERT INTO t SELECT seq, REPEAT(MD5(seq), 32) FROM seq_1_to_5000");
    let folder = tempfile::tempdir().unwrap();
    let overrides = [("socket", server.socket().display().to_string()), ("user", "root".to_owned()), ("database", "shop".to_owned())];
    let overrides: BTreeMap<_, _> = overrides.into_iter().map(|(name, value)| (name, value.into())).collect();
    let planned = Connection { name: "main".to_owned(), engine: "mariadb".to_owned(), parameters: Vec::new() };
    let engine = engine(ResolvedConnection::resolve(&planned, &overrides, folder.path()).unwrap()).unwrap();
    let (small_bytes, small_rows) = dump(&*engine);
    let before = peak();
    server.sql("USE shop; INSERT INTO t SELECT seq, REPEAT(MD5(seq), 32) FROM seq_5001_to_120000");
    let (large_bytes, large_rows) = dump(&*engine);
    assert!((4 << 20..6 << 20).contains(&small_bytes) && large_bytes > 110 << 20, "{small_bytes} {large_bytes}");
    assert_eq!((small_rows, large_rows), (5000, 120_000));
    let grown = peak() - before;
    assert!(grown < 8 * 1024, "{grown} KiB more for {large_bytes} bytes");
}
