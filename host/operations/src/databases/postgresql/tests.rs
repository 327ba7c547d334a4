//! Against a real server.

mod erasing;
mod rights;
mod swaps;
mod traps;
mod types;

use super::super::{DatabaseError, DumpForm, DumpOptions, DumpReport, Engine, ResolvedConnection, RestoreOutcome, RestoreTarget, engine};
use havun_model::{Cancel, Connection, DatabaseRecord};
use havun_tests::PostgreSql;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

const SQL: DumpForm = DumpForm { extension: "sql", restorable: true };
const GLOBALS: DumpForm = DumpForm { extension: "globals.sql", restorable: false };

struct Place {
    server: Arc<PostgreSql>,
    folder: tempfile::TempDir,
    database: String,
}

/// A database of one test's own.
fn place(database: &str) -> Place {
    place_with(database, "ENCODING 'UTF8'")
}

fn place_with(database: &str, options: &str) -> Place {
    let server = PostgreSql::shared();
    server.sql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0 {options}"));
    Place { server, folder: tempfile::tempdir().unwrap(), database: database.to_owned() }
}

impl Place {
    fn connect(&self, parameters: &[(&'static str, &str)]) -> Box<dyn Engine> {
        let mut overrides: BTreeMap<&'static str, Zeroizing<String>> = BTreeMap::new();
        let socket = format!("{}/.s.PGSQL.{}", self.server.socket().display(), self.server.port());
        for (name, value) in [("socket", socket.as_str()), ("user", "postgres"), ("database", &self.database)].iter().chain(parameters) {
            overrides.insert(name, Zeroizing::new((*value).to_owned()));
        }
        let planned = Connection { name: "main".to_owned(), engine: "postgres".to_owned(), parameters: Vec::new() };
        engine(ResolvedConnection::resolve(&planned, &overrides, self.folder.path()).unwrap()).unwrap()
    }

    fn root(&self) -> Box<dyn Engine> {
        self.connect(&[])
    }

    fn sql(&self, script: &str) -> String {
        self.server.sql(&self.database, script)
    }

    fn admin(&self, script: &str) -> String {
        self.server.sql("postgres", script)
    }

    fn databases(&self) -> Vec<String> {
        let sql = format!("SELECT datname FROM pg_database WHERE datname LIKE '{}%' ORDER BY 1", self.database);
        self.admin(&sql).lines().map(str::to_owned).collect()
    }

    fn options(&self) -> DumpOptions {
        DumpOptions { exclude_rows: Vec::new(), scratch_dir: self.folder.path().to_owned(), lock_wait: Duration::from_secs(30) }
    }

    fn target(&self, database: Option<&str>, replace: bool) -> RestoreTarget {
        let safety_dir = self.folder.path().join("safety");
        RestoreTarget {
            database: database.map(str::to_owned),
            replace,
            safety_dir,
            stamp: "20261128_003100".to_owned(),
            owner: None,
            lock_wait: Duration::from_secs(1),
            erase: None,
        }
    }

    /// What the issue asks to be the same after a restore: ordered hashes of the rows, sequences, large objects, and the
    /// schema as pg_dump writes it.
    fn fingerprint(&self, database: &str) -> String {
        let sql = |script: &str| {
            let output = self.server.try_sql(database, script);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let rows = sql("SET extra_float_digits = 3; SET bytea_output = hex;
            SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), '','' ORDER BY t::text COLLATE \"C\")) FROM ONLY %I.%I AS t', n.nspname || '.' || c.relname, n.nspname, c.relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND n.nspname !~ '^(pg_|information_schema)' ORDER BY n.nspname, c.relname \\gexec");
        let sequences =
            sql("SELECT schemaname, sequencename, last_value, start_value, increment_by, cycle FROM pg_sequences ORDER BY 1, 2");
        let large = sql("SELECT oid, md5(lo_get(oid)), pg_get_userbyid(lomowner), lomacl FROM pg_largeobject_metadata ORDER BY 1");
        let schema = self.server.client("pg_dump").args(["--schema-only", "--restrict-key=x", "-d", database]).output().unwrap();
        assert!(schema.status.success(), "{}", String::from_utf8_lossy(&schema.stderr));
        format!("{rows}\n{sequences}\n{large}\n{}", String::from_utf8_lossy(&schema.stdout))
    }

    /// What belongs to the database itself.
    fn properties(&self, database: &str) -> String {
        self.admin(&format!(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba), datconnlimit, datallowconn,
             (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a), shobj_description(oid, 'pg_database')
             FROM pg_database WHERE datname = '{database}';
             SELECT coalesce(r.rolname, '-'), s.setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
             LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE d.datname = '{database}' ORDER BY 1"
        ))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for database in self.databases() {
            self.server.try_sql("postgres", &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"));
        }
    }
}

fn dump(engine: &dyn Engine, options: &DumpOptions) -> Result<(Vec<u8>, DumpReport), DatabaseError> {
    let mut dump = engine.begin_dump(options, &Cancel::default())?;
    let mut sql = Vec::new();
    dump.write(SQL, &mut sql)?;
    Ok((sql, dump.finish()))
}

fn globals(engine: &dyn Engine, options: &DumpOptions) -> String {
    let mut dump = engine.begin_dump(options, &Cancel::default()).unwrap();
    let mut sql = Vec::new();
    dump.write(GLOBALS, &mut sql).unwrap();
    String::from_utf8(sql).unwrap()
}

fn restore(engine: &dyn Engine, sql: &[u8], record: &DatabaseRecord, target: &RestoreTarget) -> Result<RestoreOutcome, DatabaseError> {
    let source = |out: &mut (dyn Write + Send)| out.write_all(sql).map_err(Into::into);
    engine.restore(&source, record, target, &Cancel::default())
}

/// Takes a dump and does something to the server once the first bytes have passed.
struct Disturbed<F: FnMut()> {
    bytes: Vec<u8>,
    after: usize,
    disturb: Option<F>,
}

impl<F: FnMut()> Write for Disturbed<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > self.after
            && let Some(mut disturb) = self.disturb.take()
        {
            disturb();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
