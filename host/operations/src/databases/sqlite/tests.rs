use super::*;
use crate::databases::{RestoreTarget, engine, sqlite::text::COMPLETED};
use havun_model::{Connection as Planned, Parameter, ParameterSource};
use rusqlite::params;
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering},
};

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sqlite");
    Place { folder, path }
}

impl Place {
    fn engine(&self) -> Box<dyn Engine> {
        let literal =
            |name: &str, value: &str| Parameter { name: name.to_owned(), source: ParameterSource::Literal { value: value.to_owned() } };
        let planned = Planned { name: "main".to_owned(), engine: "sqlite".to_owned(), parameters: vec![literal("path", "app.sqlite")] };
        engine(ResolvedConnection::resolve(&planned, &BTreeMap::new(), self.folder.path()).unwrap()).unwrap()
    }

    fn options(&self) -> DumpOptions {
        let scratch_dir = self.folder.path().join("scratch");
        fs::create_dir_all(&scratch_dir).unwrap();
        DumpOptions { exclude_rows: Vec::new(), scratch_dir, lock_wait: Duration::from_millis(100) }
    }

    fn target(&self, replace: bool) -> RestoreTarget {
        let safety_dir = self.folder.path().join("safety");
        RestoreTarget {
            database: None,
            replace,
            safety_dir,
            stamp: "20261128_003100".to_owned(),
            owner: None,
            lock_wait: Duration::from_millis(100),
            erase: None,
        }
    }

    fn open(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }
}

/// Both forms and the report.
fn dump(engine: &dyn Engine, options: &DumpOptions) -> Result<(Vec<u8>, Vec<u8>, DumpReport), DatabaseError> {
    let cancel = Cancel::default();
    let mut dump = engine.begin_dump(options, &cancel)?;
    let (mut sql, mut binary) = (Vec::new(), Vec::new());
    dump.write(FORMS[0], &mut sql)?;
    dump.write(FORMS[1], &mut binary)?;
    Ok((sql, binary, dump.finish()))
}

fn restore(engine: &dyn Engine, bytes: &[u8], record: &DatabaseRecord, target: &RestoreTarget) -> Result<RestoreOutcome, DatabaseError> {
    let source = |out: &mut (dyn Write + Send)| out.write_all(bytes).map_err(Into::into);
    engine.restore(&source, record, target, &Cancel::default())
}

const EVERYTHING: &str = "
    PRAGMA application_id = 77; PRAGMA user_version = 12;
    CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, born REAL, photo BLOB);
    CREATE TABLE loose(a, b TEXT); -- no key
    CREATE TABLE backwards(id INTEGER PRIMARY KEY DESC, x);
    CREATE TABLE \"odd \"\"name\"(k TEXT PRIMARY KEY, rowid TEXT) WITHOUT ROWID;
    CREATE TABLE shadowed(rowid TEXT, _rowid_ TEXT);
    CREATE TABLE computed(a INTEGER, b INTEGER GENERATED ALWAYS AS (a * 2) STORED, c INTEGER AS (a + 1));
    CREATE TABLE posts(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id), body TEXT);
    CREATE INDEX posts_by_user ON posts(user_id) WHERE user_id IS NOT NULL;
    CREATE VIEW names AS SELECT name FROM users;
    CREATE TRIGGER after_user AFTER INSERT ON users BEGIN INSERT INTO loose VALUES(new.id, 'trigger'); END;
    CREATE TRIGGER on_view INSTEAD OF INSERT ON names BEGIN INSERT INTO users(name) VALUES(new.name); END;
    CREATE VIRTUAL TABLE search USING fts5(body);
";

fn fill(database: &Connection) {
    database.execute_batch(EVERYTHING).unwrap();
    let names = ["it's; --", "NUL\0in it", "é😀\r\n", "", "X'00'"];
    for (n, name) in names.iter().enumerate() {
        database
            .execute("INSERT INTO users(name, born, photo) VALUES(?1, ?2, ?3)", params![name, 0.1 * n as f64, &[0u8, 255, n as u8][..]])
            .unwrap();
    }
    for real in [f64::INFINITY, f64::NEG_INFINITY, 1e300, 5e-324, -0.1, 1.0, 123_456_789.123_456_79] {
        database
            .execute("INSERT INTO loose(rowid, a, b) VALUES(abs(random() % 1000000) + 10, ?1, CAST(X'ff00fe' AS TEXT))", [real])
            .unwrap();
    }
    database.execute("INSERT INTO loose(rowid, a, b) VALUES(-5, ?1, NULL)", [i64::MIN]).unwrap();
    database
        .execute_batch(
            "INSERT INTO \"odd \"\"name\" VALUES('b', '1'), ('a', '2'); INSERT INTO shadowed VALUES('z', 'y'), ('a', 'b');
         INSERT INTO computed(a) VALUES(3), (4); INSERT INTO backwards VALUES(7, 'x'), (3, 'y');
         INSERT INTO posts VALUES(9, 1, 'hello world'); INSERT INTO search VALUES('the quick brown fox'); ANALYZE;
         DELETE FROM users WHERE id = 5;",
        )
        .unwrap();
}

/// Everything that a reader can see, as text.
fn contents(database: &Connection) -> String {
    let mut sql = Vec::new();
    text::write(database, Path::new("x"), &Cancel::default(), &mut sql).unwrap();
    String::from_utf8(sql).unwrap()
}

#[test]
fn the_plain_sql_loads_to_the_same_database() {
    for encoding in ["UTF-8", "UTF-16le"] {
        let place = place();
        let source = place.open();
        source.execute_batch(&format!("PRAGMA encoding = '{encoding}'; PRAGMA page_size = 8192; PRAGMA journal_mode = WAL;")).unwrap();
        fill(&source);
        let (sql, _, report) = dump(&*place.engine(), &place.options()).unwrap();
        let sql = String::from_utf8(sql).unwrap();
        assert!(sql.ends_with(COMPLETED));
        assert_eq!(report.problems, Vec::<String>::new());

        let loaded = Connection::open(place.folder.path().join("loaded.sqlite")).unwrap();
        loaded.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
        loaded.execute_batch(&sql).unwrap();
        drop(loaded);
        let loaded = Connection::open(place.folder.path().join("loaded.sqlite")).unwrap();
        assert_eq!(contents(&loaded), sql, "{encoding}");
        assert_eq!(loaded.query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0)).unwrap(), 8192);
        assert_eq!(loaded.query_row("SELECT count(*) FROM search WHERE search MATCH 'quick'", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        assert_eq!(copy::damage(&loaded, Path::new("x")), Vec::<String>::new());
        let nul: String = loaded.query_row("SELECT name FROM users WHERE id = 2", [], |row| row.get(0)).unwrap();
        assert_eq!(nul, "NUL\0in it");
        assert!(sql.contains("CAST(X'"), "text with other than valid characters goes as hex");
    }
}

#[test]
fn every_kind_of_number_comes_back_to_the_bit() {
    let (source, loaded) = (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
    source.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x)").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..3000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let real = f64::from_bits(state ^ (state >> 29));
        if real.is_finite() {
            source.execute("INSERT INTO t(x) VALUES(?1)", [real]).unwrap();
        }
    }
    loaded.execute_batch(&contents(&source)).unwrap();
    let read = |database: &Connection| {
        let mut statement = database.prepare("SELECT x FROM t ORDER BY id").unwrap();
        statement.query_map([], |row| row.get::<_, f64>(0)).unwrap().map(|real| real.unwrap().to_bits()).collect::<Vec<_>>()
    };
    assert!(read(&source) == read(&loaded));
}

#[test]
fn the_binary_form_restores_the_same_database_with_owner_and_mode() {
    let place = place();
    let source = place.open();
    source.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    fill(&source);
    let before = contents(&source);
    let (_, first, report) = dump(&*place.engine(), &place.options()).unwrap();
    let (_, second, _) = dump(&*place.engine(), &place.options()).unwrap();
    assert!(first == second, "two dumps of an unchanged database are the same bytes");
    assert_eq!(report.record.rows["users"], 4);
    assert_eq!((report.record.objects["triggers"], report.record.objects["views"], report.record.objects["indexes"]), (2, 1, 1));
    assert_eq!(report.record.database, "app.sqlite");
    drop(source);

    fs::remove_file(&place.path).unwrap();
    let owner = Some(FileOwner { mode: 0o604, uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() });
    let outcome = restore(&*place.engine(), &first, &report.record, &RestoreTarget { owner, ..place.target(false) }).unwrap();
    assert_eq!((outcome.tables_verified > 7, outcome.safety_dump, outcome.problems), (true, None, Vec::new()));
    assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o7777, 0o604);
    assert_eq!(contents(&place.open()), before);
}

use crate::databases::FileOwner;

#[test]
fn a_dump_under_a_wal_writer_is_one_moment_of_it() {
    let place = place();
    let writer = place.open();
    writer
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a(x); CREATE TABLE b(x); INSERT INTO a VALUES(0); INSERT INTO b VALUES(0)")
        .unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopped = &stop;
        scope.spawn(move || {
            for n in 1.. {
                writer.execute_batch(&format!("BEGIN; INSERT INTO a VALUES({n}); INSERT INTO b VALUES({n}); COMMIT")).unwrap();
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut last = 0;
        for _ in 0..5 {
            let (sql, _, report) = dump(&*place.engine(), &place.options()).unwrap();
            assert_eq!(report.record.rows["a"], report.record.rows["b"]);
            let inserts = String::from_utf8(sql).unwrap().lines().filter(|line| line.starts_with("INSERT INTO \"a\"")).count() as u64;
            assert_eq!(inserts, report.record.rows["a"]);
            assert!(report.record.rows["a"] >= last);
            last = report.record.rows["a"];
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_locked_database_is_an_error_after_the_wait_and_never_an_empty_dump() {
    let place = place();
    let holder = place.open();
    holder.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1); BEGIN EXCLUSIVE").unwrap();
    let error = dump(&*place.engine(), &place.options()).unwrap_err();
    assert!(matches!(error, DatabaseError::Locked { .. }), "{error}");
    assert!(place.engine().preflight(&Cancel::default()).unwrap().warnings[0].contains("locked"));
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(dump(&*place.engine(), &place.options()).unwrap().2.record.rows["t"], 1);
}

#[test]
fn a_missing_or_foreign_file_is_an_error_and_nothing_is_made() {
    let place = place();
    assert!(matches!(dump(&*place.engine(), &place.options()).unwrap_err(), DatabaseError::Missing { .. }));
    assert!(!place.path.exists());
    fs::write(&place.path, "no database").unwrap();
    assert!(matches!(dump(&*place.engine(), &place.options()).unwrap_err(), DatabaseError::NotADatabase { .. }));
    assert_eq!(fs::read(&place.path).unwrap(), b"no database");
}

/// Names in the database's folder.
fn beside(place: &Place) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "scratch");
    names.sort();
    names
}

#[test]
fn a_dump_leaves_no_file_beside_the_database() {
    for mode in ["WAL", "DELETE"] {
        let place = place();
        place.open().execute_batch(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE t(x)")).unwrap();
        assert_eq!(beside(&place), ["app.sqlite"], "{mode}");
        let bytes = fs::read(&place.path).unwrap();
        dump(&*place.engine(), &place.options()).unwrap();
        place.engine().preflight(&Cancel::default()).unwrap();
        assert_eq!((beside(&place), fs::read(&place.path).unwrap() == bytes), (vec!["app.sqlite".to_owned()], true), "{mode}");
        assert_eq!(fs::read_dir(place.options().scratch_dir).unwrap().count(), 0);
    }
}

#[test]
fn what_a_killed_writer_left_in_the_log_is_in_the_dump() {
    let place = place();
    let writer = place.open();
    writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    // As after kill -9: the files of a database that was never closed.
    let killed = tempfile::tempdir().unwrap();
    for name in ["app.sqlite", "app.sqlite-wal"] {
        fs::copy(place.folder.path().join(name), killed.path().join(name)).unwrap();
    }
    let killed = Place { path: killed.path().join("app.sqlite"), folder: killed };
    let before = ["app.sqlite", "app.sqlite-wal"].map(|name| fs::read(killed.folder.path().join(name)).unwrap());
    assert_eq!(dump(&*killed.engine(), &killed.options()).unwrap().2.record.rows["t"], 1);
    let after = ["app.sqlite", "app.sqlite-wal"].map(|name| fs::read(killed.folder.path().join(name)).unwrap());
    assert!(before == after);
}

#[test]
fn a_journal_left_by_a_crash_is_named_and_left_alone() {
    let place = place();
    let writer = place.open();
    writer.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    writer.execute_batch("PRAGMA cache_size = 1; BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 99999) INSERT INTO t SELECT i FROM n").unwrap();
    let killed = tempfile::tempdir().unwrap();
    for name in ["app.sqlite", "app.sqlite-journal"] {
        fs::copy(place.folder.path().join(name), killed.path().join(name)).unwrap();
    }
    let killed = Place { path: killed.path().join("app.sqlite"), folder: killed };
    let error = dump(&*killed.engine(), &killed.options()).unwrap_err();
    assert!(matches!(error, DatabaseError::HotJournal { .. }), "{error:?}");
    assert_eq!(beside(&killed), ["app.sqlite", "app.sqlite-journal"]);
}

#[test]
fn a_damaged_database_is_kept_but_called_a_problem() {
    let place = place();
    let database = place.open();
    database.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX i ON t(x)").unwrap();
    database
        .execute_batch(
            "INSERT INTO t(x) VALUES('a'), ('b'); PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t(id)' WHERE name = 'i'",
        )
        .unwrap();
    drop(database);
    let (_, binary, report) = dump(&*place.engine(), &place.options()).unwrap();
    assert!(!report.problems.is_empty());
    fs::remove_file(&place.path).unwrap();
    let outcome = restore(&*place.engine(), &binary, &report.record, &place.target(false)).unwrap();
    assert!(outcome.problems[0].contains("damaged when it was backed up"), "{:?}", outcome.problems);
}

#[test]
fn left_out_rows_are_in_neither_form_and_their_tables_are() {
    let place = place();
    let database = place.open();
    database
        .execute_batch(
            "CREATE TABLE sessions(id TEXT, payload TEXT); CREATE TABLE users(id INTEGER); CREATE TABLE log(x);
         CREATE TRIGGER gone AFTER DELETE ON sessions BEGIN INSERT INTO log VALUES('deleted'); END;
         INSERT INTO users VALUES(1); INSERT INTO sessions VALUES('s', 'very-secret-session')",
        )
        .unwrap();
    let options = DumpOptions { exclude_rows: vec!["sess*".to_owned()], ..place.options() };
    let (sql, binary, report) = dump(&*place.engine(), &options).unwrap();
    for form in [&sql, &binary] {
        assert!(!form.windows(11).any(|window| window == b"very-secret"));
    }
    assert!(String::from_utf8_lossy(&sql).contains("CREATE TABLE sessions"));
    assert_eq!(report.record.rows, BTreeMap::from([("log".to_owned(), 0), ("sessions".to_owned(), 0), ("users".to_owned(), 1)]));
    assert_eq!(report.record.warnings, ["rows left out of: sessions"]);
}

#[test]
fn a_restore_refuses_what_is_there_and_saves_it_before_it_replaces_it() {
    let place = place();
    place.open().execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES('old')").unwrap();
    let (_, old, report) = dump(&*place.engine(), &place.options()).unwrap();
    let busy = place.open();
    busy.execute_batch("INSERT INTO t VALUES('new')").unwrap();

    assert!(matches!(restore(&*place.engine(), &old, &report.record, &place.target(false)).unwrap_err(), DatabaseError::NotEmpty { .. }));
    assert!(matches!(restore(&*place.engine(), &old, &report.record, &place.target(true)).unwrap_err(), DatabaseError::Locked { .. }));
    drop(busy);
    let outcome = restore(&*place.engine(), &old, &report.record, &place.target(true)).unwrap();
    let rows = |path: &Path| Connection::open(path).unwrap().query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(rows(&place.path), 1);
    assert!(rows(&outcome.safety_dump.unwrap()) == 2);
}

#[test]
fn a_dump_that_is_cut_short_or_altered_replaces_nothing() {
    let place = place();
    place
        .open()
        .execute_batch(
            "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999) INSERT INTO t SELECT i FROM n",
        )
        .unwrap();
    let (_, whole, report) = dump(&*place.engine(), &place.options()).unwrap();
    let present = fs::read(&place.path).unwrap();
    let mut altered = report.record.clone();
    altered.rows.insert("t".to_owned(), 10_000);
    for (bytes, record) in [(&whole[..whole.len() / 2], &report.record), (&whole[..], &altered), (b"", &report.record)] {
        let error = restore(&*place.engine(), bytes, record, &place.target(true)).unwrap_err();
        assert!(matches!(error, DatabaseError::BadDump { .. }), "{error}");
        assert_eq!(fs::read(&place.path).unwrap(), present);
    }
    let left: Vec<_> = fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".havun")), "{left:?}");
}

#[test]
fn a_strategy_may_ask_a_restored_file_but_not_change_it() {
    let place = place();
    place.open().execute_batch("CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 'x'), (NULL, X'ff')").unwrap();
    let mut scratch = place.engine().open_scratch(None).unwrap();
    assert_eq!(scratch.tables().unwrap(), ["t"]);
    assert_eq!(scratch.count_rows("t").unwrap(), 2);
    assert_eq!(scratch.sample("t", "a", 9).unwrap(), [Some("1".to_owned()), None]);
    assert_eq!(scratch.sample("t", "b", 1).unwrap(), [Some("x".to_owned())]);
    assert!(scratch.sample("t", "no such column", 1).is_err());
    assert!(scratch.count_rows("t\"; DROP TABLE t; --").is_err());
}

mod erasing {
    use super::*;
    use crate::databases::{RowRule, Subjects, subject_hash};
    use havun_model::erasures::{NORMAL_FORM, RowAction};

    fn rule(table: &str, column: &str, action: RowAction) -> RowRule {
        RowRule { table: table.to_owned(), column: column.to_owned(), normalise: NORMAL_FORM.to_vec(), action }
    }

    #[test]
    fn it_is_all_or_nothing_and_a_column_must_be_there() {
        let place = place();
        place
            .open()
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE a (email TEXT, name TEXT NOT NULL); CREATE TABLE b (email TEXT COLLATE NOCASE);
                 INSERT INTO a VALUES ('jan', 'Jan'); INSERT INTO b VALUES ('JAN'), ('Jan'), ('piet'), (x'00ff'), (NULL);",
            )
            .unwrap();
        let subjects = Subjects::of([subject_hash("jan", &NORMAL_FORM)]);
        let erase = |rules: &[RowRule]| place.engine().erase(None, rules, &subjects, &Cancel::default());
        let values = BTreeMap::from([("name".to_owned(), None)]);
        let rules = [rule("b", "email", RowAction::Delete), rule("a", "email", RowAction::Replace { values })];
        erase(&rules).unwrap_err();
        let count = || place.open().query_row("SELECT count(*) FROM b", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count(), 5);
        erase(&[rule("b", "e-mail", RowAction::Delete)]).unwrap_err();
        let done = erase(&[rule("b", "email", RowAction::Delete)]).unwrap();
        assert_eq!((done[0].rows, count()), (2, 3));
        assert!(!place.folder.path().join("app.sqlite-wal").exists());
    }
}
