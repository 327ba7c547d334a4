//! A dump streams: what a table of 100 MB needs is what a small one needs. A process of its own, so that nobody else's memory
//! is measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use havun_model::{Cancel, Connection};
use havun_operations::databases::{DumpForm, DumpOptions, Engine, ResolvedConnection, engine};
use havun_tests::PostgreSql;
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
    let server = PostgreSql::start();
    // Long lines too: one row of 20 MB.
    server.sql("postgres", "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 30) AS b FROM generate_series(1, 1000) n");
    let folder = tempfile::tempdir().unwrap();
    let overrides = [
        ("host", server.socket().display().to_string()),
        ("port", server.port().to_string()),
        ("user", "postgres".to_owned()),
        ("database", "postgres".to_owned()),
    ];
    let overrides: BTreeMap<_, _> = overrides.into_iter().map(|(name, value)| (name, value.into())).collect();
    let planned = Connection { name: "main".to_owned(), engine: "postgresql".to_owned(), parameters: Vec::new() };
    let engine = engine(ResolvedConnection::resolve(&planned, &overrides, folder.path()).unwrap()).unwrap();
    let (small_bytes, small_rows) = dump(&*engine);
    let before = peak();
    server.sql("postgres", "INSERT INTO t SELECT n, repeat(md5(n::text), 30) FROM generate_series(1001, 100000) n; INSERT INTO t SELECT 0, repeat('x', 20000000)");
    let (large_bytes, large_rows) = dump(&*engine);
    assert!(small_bytes < 2 << 20 && large_bytes > 110 << 20, "{small_bytes} {large_bytes}");
    assert_eq!((small_rows, large_rows), (1000, 100_001));
    let grown = peak() - before;
    assert!(grown < 8 * 1024, "{grown} KiB more for {large_bytes} bytes");
}
