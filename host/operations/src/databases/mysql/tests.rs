//! Against a real server.

use super::super::{
    DatabaseError, Dump, DumpForm, DumpOptions, DumpReport, Engine, ResolvedConnection, RestoreOutcome, RestoreTarget, engine,
};
use super::{Mysql, dump::MysqlDump, restore::restore_watched, swap::Step};
use havun_model::{Cancel, Connection, DatabaseRecord};
use havun_tests::MariaDb;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

const SQL: DumpForm = DumpForm { extension: "sql", restorable: true };
const PASSWORD: &str = r#"# ' " \ : $ é %s \n;"#;

struct Place {
    server: Arc<MariaDb>,
    folder: tempfile::TempDir,
    database: String,
}

/// A database of one test's own.
fn place(database: &str) -> Place {
    let server = MariaDb::shared();
    server.sql(&format!("CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"));
    Place { server, folder: tempfile::tempdir().unwrap(), database: database.to_owned() }
}

impl Place {
    fn resolve(&self, parameters: &[(&'static str, &str)]) -> ResolvedConnection {
        let mut overrides: BTreeMap<&'static str, Zeroizing<String>> = BTreeMap::new();
        let socket = self.server.socket().display().to_string();
        for (name, value) in [("socket", socket.as_str()), ("user", "root"), ("database", &self.database)].iter().chain(parameters) {
            overrides.insert(name, Zeroizing::new((*value).to_owned()));
        }
        let planned = Connection { name: "main".to_owned(), engine: "mariadb".to_owned(), parameters: Vec::new() };
        ResolvedConnection::resolve(&planned, &overrides, self.folder.path()).unwrap()
    }

    fn connect(&self, parameters: &[(&'static str, &str)]) -> Box<dyn Engine> {
        engine(self.resolve(parameters)).unwrap()
    }

    fn mysql(&self) -> Mysql {
        Mysql::new(self.resolve(&[])).unwrap()
    }

    fn root(&self) -> Box<dyn Engine> {
        self.connect(&[])
    }

    fn sql(&self, script: &str) -> String {
        self.server.sql(&format!("USE {}; SET sql_mode = '';\n{script}", self.database))
    }

    fn options(&self) -> DumpOptions {
        DumpOptions { exclude_rows: Vec::new(), scratch_dir: self.folder.path().to_owned(), lock_wait: Duration::from_secs(1) }
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

    /// Everything that the issue asks to be the same after a restore.
    fn fingerprint(&self, database: &str) -> String {
        let tables = self.server.sql(&format!("SELECT GROUP_CONCAT('`', REPLACE(TABLE_NAME, '`', '``'), '`' ORDER BY TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}' AND TABLE_TYPE = 'BASE TABLE'"));
        let sums = self.server.sql(&format!("USE {database}; CHECKSUM TABLE {tables} EXTENDED"));
        let objects = self.server.sql(&format!(
            "SELECT TABLE_NAME, ENGINE, TABLE_COLLATION, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}' ORDER BY 1;
             SELECT TABLE_NAME, COLUMN_NAME, COLUMN_DEFAULT, COLUMN_TYPE, EXTRA FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{database}' ORDER BY 1, ORDINAL_POSITION;
             SELECT ROUTINE_NAME, ROUTINE_TYPE, ROUTINE_DEFINITION, DEFINER, SQL_MODE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = '{database}' ORDER BY 1;
             SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_STATEMENT, ACTION_TIMING, DEFINER, SQL_MODE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{database}' ORDER BY 1;
             SELECT EVENT_NAME, EVENT_DEFINITION, INTERVAL_VALUE, INTERVAL_FIELD, STATUS, STARTS, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{database}' ORDER BY 1;
             SELECT TABLE_NAME, VIEW_DEFINITION, DEFINER, SECURITY_TYPE FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{database}' ORDER BY 1;
             SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{database}'"
        ));
        format!("{sums}\n{objects}").replace(&format!("{database}."), "").replace(&format!("`{database}`."), "")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.try_sql(&format!("DROP DATABASE IF EXISTS {}", self.database));
    }
}

fn dump(engine: &dyn Engine, options: &DumpOptions) -> Result<(Vec<u8>, DumpReport), DatabaseError> {
    let mut dump = engine.begin_dump(options, &Cancel::default())?;
    let mut sql = Vec::new();
    dump.write(SQL, &mut sql)?;
    Ok((sql, dump.finish()))
}

fn restore(engine: &dyn Engine, sql: &[u8], record: &DatabaseRecord, target: &RestoreTarget) -> Result<RestoreOutcome, DatabaseError> {
    let source = |out: &mut (dyn Write + Send)| out.write_all(sql).map_err(Into::into);
    engine.restore(&source, record, target, &Cancel::default())
}

const EVERYTHING: &str = r"
CREATE TABLE users(id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100), born DATETIME DEFAULT '0000-00-00 00:00:00', photo LONGBLOB, price DOUBLE);
INSERT INTO users(name, photo, price) VALUES ('x\n(y\'),(\\', 0x00FF27, 0.1), ('é😀 -- \r\n', NULL, 1.2345678901234567), ('', '', NULL), ('/*!50013 DEFINER=`root`@`localhost` */', 0x5C5C00, 3);
CREATE TABLE old_engine(id INT, t TEXT) ENGINE=MyISAM;
INSERT INTO old_engine VALUES (1, ';'), (2, '-- Dump completed');
CREATE TABLE computed(a INT, c INT GENERATED ALWAYS AS (a + 1) STORED);
INSERT INTO computed(a) VALUES (1), (2);
CREATE TABLE posts(id INT PRIMARY KEY, user_id INT, CONSTRAINT by_user FOREIGN KEY (user_id) REFERENCES users(id));
INSERT INTO posts VALUES (1, 1), (0, 2);
CREATE TABLE cache(k VARCHAR(10) PRIMARY KEY, v TEXT);
INSERT INTO cache VALUES ('k', 'very-secret-session');
CREATE TABLE `odd ``name`(`a b` INT);
INSERT INTO `odd ``name` VALUES (7);
CREATE SEQUENCE numbers START WITH 5;
CREATE VIEW names AS SELECT id, name FROM users;
CREATE VIEW cached AS SELECT k FROM cache;
CREATE TABLE log(x INT);
DELIMITER ;;
CREATE TRIGGER after_user AFTER INSERT ON users FOR EACH ROW BEGIN
INSERT INTO log VALUES (1);
END;;
CREATE PROCEDURE fill() BEGIN
INSERT INTO log VALUES (2);
SELECT 'CREATE TABLE `x` (';
END;;
CREATE FUNCTION five() RETURNS INT DETERMINISTIC RETURN 5;;
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO INSERT INTO log VALUES (3);;
DELIMITER ;
";

#[test]
fn everything_comes_back_the_same_and_dumps_are_deterministic() {
    let place = place("everything");
    place.sql(EVERYTHING);
    let before = place.fingerprint("everything");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    assert!(sql == dump(&*place.root(), &place.options()).unwrap().0);
    let record = report.record;
    assert_eq!((record.rows["users"], record.rows["old_engine"], record.rows["odd `name"], record.rows["log"]), (4, 2, 1, 0));
    let counts = ["tables", "sequences", "views", "routines", "triggers", "events"].map(|kind| record.objects[kind]);
    assert_eq!(counts, [7, 1, 2, 2, 1, 1]);
    assert_eq!((record.engine.as_str(), record.charset.as_str(), record.collation.as_str()), ("mariadb", "utf8mb4", "utf8mb4_unicode_ci"));
    assert_eq!(record.checksums.len(), 7);
    assert!(record.warnings.iter().any(|warning| warning.contains("old_engine")), "{:?}", record.warnings);

    place.server.sql("DROP DATABASE everything");
    let outcome = restore(&*place.root(), &sql, &record, &place.target(None, false)).unwrap();
    assert_eq!((outcome.tables_verified, outcome.rows_verified, &outcome.problems), (7, 12, &Vec::new()));
    assert_eq!(place.fingerprint("everything"), before);
}

#[test]
fn a_password_with_every_awkward_character_works_over_tcp() {
    let place = place("awkward");
    place.sql("CREATE TABLE t(a INT); INSERT INTO t VALUES (1)");
    let literal = super::client::literal(PASSWORD);
    place.server.sql(&format!("CREATE USER 'awk#ward'@'%' IDENTIFIED BY {literal}; GRANT ALL ON awkward.* TO 'awk#ward'@'%'"));
    let port = place.server.port().to_string();
    let with = |password: &str| {
        place.connect(&[("socket", ""), ("host", "127.0.0.1"), ("port", &port), ("user", "awk#ward"), ("password", password)])
    };
    assert_eq!(dump(&*with(PASSWORD), &place.options()).unwrap().1.record.rows["t"], 1);
    let error = dump(&*with("wrong"), &place.options()).unwrap_err();
    assert!(matches!(error, DatabaseError::Connect { .. }), "{error}");
}

#[test]
fn a_user_who_could_leave_something_out_is_refused_with_the_grant_to_run() {
    let place = place("rights");
    place.sql(EVERYTHING);
    place.server.sql("CREATE USER 'limited'@'localhost'; GRANT USAGE ON *.* TO 'limited'@'localhost'; GRANT SELECT ON `rights`.`users` TO 'limited'@'localhost'");
    let limited = place.connect(&[("user", "limited")]);
    // Follow what each refusal says, until there is nothing left to refuse.
    let mut seen = Vec::new();
    for _ in 0..5 {
        match dump(&*limited, &place.options()) {
            Ok((sql, report)) => {
                assert_eq!(sql, dump(&*place.root(), &place.options()).unwrap().0);
                assert_eq!(report.record.objects["routines"], 2);
                break;
            }
            Err(DatabaseError::Privileges { user, lacking, grant }) => {
                assert_eq!(user, "'limited'@'localhost'");
                place.server.sql(&grant);
                seen.push(lacking);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(seen, ["tables, views, triggers, events, procedures and functions"]);

    // Everything but the routines: the client itself would not say a word.
    place.server.sql("CREATE USER 'blind'@'localhost'; GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON rights.* TO 'blind'@'localhost'");
    let error = place.connect(&[("user", "blind")]).preflight(&Cancel::default()).unwrap_err();
    assert!(matches!(&error, DatabaseError::Privileges { lacking, .. } if lacking == "procedures and functions"), "{error}");
    // Their names, but not their bodies.
    place.server.sql("GRANT EXECUTE ON rights.* TO 'blind'@'localhost'");
    let error = place.connect(&[("user", "blind")]).preflight(&Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("GRANT SELECT ON `mysql`.`proc` TO 'blind'@'localhost'"), "{error}");
}

#[test]
fn left_out_rows_leave_their_table_and_its_views() {
    let place = place("left_out");
    place.sql(EVERYTHING);
    let options = DumpOptions { exclude_rows: vec!["cac*".to_owned(), "nothing".to_owned()], ..place.options() };
    let (sql, report) = dump(&*place.root(), &options).unwrap();
    assert!(!String::from_utf8_lossy(&sql).contains("very-secret"));
    assert_eq!((report.record.rows["cache"], report.record.rows["users"]), (0, 4));
    place.server.sql("DROP DATABASE left_out");
    restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap();
    assert_eq!(place.sql("SELECT COUNT(*) FROM cached"), "0\n");
}

#[test]
fn a_client_that_cannot_leave_rows_out_makes_two_passes() {
    let place = place("two_passes");
    place.sql(EVERYTHING);
    place.sql("CREATE TRIGGER on_cache AFTER INSERT ON cache FOR EACH ROW INSERT INTO log VALUES (9)");
    let engine = place.mysql();
    let mut dump = MysqlDump::begin(&engine, "two_passes", &["cache".to_owned()], &Cancel::default()).unwrap();
    dump.clients.dumper.version = (10, 5, 2);
    let mut sql = Vec::new();
    dump.write(SQL, &mut sql).unwrap();
    let record = (Box::new(dump) as Box<dyn Dump>).finish().record;
    assert_eq!((record.rows["cache"], record.rows["users"], record.objects["triggers"]), (0, 4, 2));
    place.server.sql("DROP DATABASE two_passes");
    restore(&*place.root(), &sql, &record, &place.target(None, false)).unwrap();
    assert_eq!(place.sql("SELECT COUNT(*) FROM cached"), "0\n");
}

/// Takes a dump and does something to the server once the first rows have passed.
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

const LARGE: &str =
    "CREATE TABLE a_large(id INT PRIMARY KEY, t TEXT); INSERT INTO a_large SELECT seq, REPEAT(MD5(seq), 20) FROM seq_1_to_30000;
    CREATE TABLE z_last(a INT); INSERT INTO z_last VALUES (1), (2);";

#[test]
fn a_table_truncated_during_the_dump_is_an_error_that_a_second_attempt_heals() {
    let place = place("truncated");
    place.sql(LARGE);
    let engine = place.root();
    let mut dump = engine.begin_dump(&place.options(), &Cancel::default()).unwrap();
    let disturb = Some(|| drop(place.sql("TRUNCATE TABLE z_last")));
    let error = dump.write(SQL, &mut Disturbed { bytes: Vec::new(), after: 1 << 20, disturb }).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let mut sql = Vec::new();
    dump.write(SQL, &mut sql).unwrap();
    assert_eq!(dump.finish().record.rows["z_last"], 0);
}

#[test]
fn a_killed_connection_and_a_full_disk_are_errors_and_a_cancel_is_heard() {
    let place = place("killed");
    place.sql(LARGE);
    let engine = place.root();
    let mut dump = engine.begin_dump(&place.options(), &Cancel::default()).unwrap();
    let kill = || {
        let id = place.server.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = 'killed' AND INFO LIKE '%a_large%' LIMIT 1");
        place.server.sql(&format!("KILL {id}"));
    };
    let error = dump.write(SQL, &mut Disturbed { bytes: Vec::new(), after: 1 << 20, disturb: Some(kill) }).unwrap_err();
    assert!(matches!(error, DatabaseError::Client { .. }) && !error.is_retryable(), "{error}");

    let mut full = [0; 4096];
    let error = dump.write(SQL, &mut full.as_mut_slice()).unwrap_err();
    assert!(matches!(error, DatabaseError::Sink(_)), "{error}");

    let cancel = Cancel::default();
    let mut dump = engine.begin_dump(&place.options(), &cancel).unwrap();
    let error = dump.write(SQL, &mut Disturbed { bytes: Vec::new(), after: 1 << 20, disturb: Some(|| cancel.cancel()) }).unwrap_err();
    assert!(matches!(error, DatabaseError::Cancelled), "{error}");
}

/// Kills the one child of this process whose command line ends so.
fn kill_own_child(command_line_end: &str) {
    let me = std::process::id().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)).unwrap_or_default();
        if parent == me && fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().ends_with(command_line_end) {
            let id = entry.file_name().to_string_lossy().parse().unwrap();
            rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), rustix::process::Signal::KILL).unwrap();
        }
    }
}

#[test]
fn a_client_killed_half_way_is_an_error() {
    let place = place("half_way");
    place.sql(LARGE);
    let engine = place.root();
    let mut dump = engine.begin_dump(&place.options(), &Cancel::default()).unwrap();
    let kill = || kill_own_child("half_way\0");
    let error = dump.write(SQL, &mut Disturbed { bytes: Vec::new(), after: 1 << 20, disturb: Some(kill) }).unwrap_err();
    assert!(matches!(&error, DatabaseError::Client { status, .. } if status == "signal 9"), "{error}");
}

#[test]
fn a_target_that_holds_something_is_refused_or_saved_and_replaced() {
    let place = place("present");
    place.sql(EVERYTHING);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let before = place.fingerprint("present");
    place.sql("INSERT INTO users(name) VALUES ('newer'); DROP VIEW cached; CREATE TABLE extra(a INT)");
    let newer = place.fingerprint("present");

    let error = restore(&*place.root(), &sql, &report.record, &place.target(None, false)).unwrap_err();
    assert!(matches!(error, DatabaseError::NotEmpty { .. }), "{error}");
    assert_eq!(place.fingerprint("present"), newer);

    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, true)).unwrap();
    assert_eq!((place.fingerprint("present"), outcome.problems), (before, Vec::new()));
    assert_eq!((outcome.kept.as_deref(), outcome.safety_dump), (Some("present_before_20261128_003100"), None));
    let kept = place.fingerprint("present_before_20261128_003100").replace("present_before_20261128_003100", "present");
    assert_eq!(without_events(&kept), without_events(&newer), "all but the event, which would run there");
    let saved = fs::read_to_string(place.folder.path().join("safety/present.definitions.sql")).unwrap();
    assert!(saved.contains("EVENT `nightly`") && outcome.warnings.iter().any(|warning| warning.contains("present.definitions.sql")));
    assert_eq!(place.server.sql("SHOW DATABASES LIKE 'present%havun%'"), "");
    // What is kept is said as long as it is there.
    let present = place.root().look(&place.target(None, true), &Cancel::default()).unwrap();
    assert!(present.notes.iter().any(|note| note.contains("`present_before_20261128_003100` (8 tables)")), "{:?}", present.notes);
    assert_eq!(present.content.unwrap(), "1 events, 2 routines, 1 sequences, 7 tables, 1 triggers, 2 views");
    place.server.sql("DROP DATABASE present_before_20261128_003100");
}

#[test]
fn what_an_earlier_item_kept_under_the_same_name_is_never_dropped() {
    let place = place("kept_twice");
    place.sql("CREATE TABLE t(a INT); INSERT INTO t VALUES (1)");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let taken = "kept_twice_before_20261128_003100";
    place.server.sql(&format!("CREATE DATABASE {taken}; CREATE TABLE {taken}.precious(a INT)"));
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, true)).unwrap();
    assert_eq!(outcome.kept.as_deref(), Some("kept_twice_before_20261128_003100_2"));
    // Nor when nothing can be saved, so that the restore is taken back.
    fs::remove_dir_all(place.folder.path().join("safety")).unwrap();
    fs::write(place.folder.path().join("safety"), "no folder").unwrap();
    restore(&*place.root(), &sql, &report.record, &place.target(None, true)).unwrap_err();
    let tables = |name: &str| {
        place.server.sql(&format!("SELECT GROUP_CONCAT(TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}'"))
    };
    assert_eq!((tables(taken).trim(), tables(&format!("{taken}_2")).trim()), ("precious", "t"));
    assert_eq!(place.server.sql("SHOW DATABASES LIKE 'kept\\_twice\\_havun%'"), "");
    place.server.sql(&format!("DROP DATABASE {taken}; DROP DATABASE {taken}_2"));
}

fn without_events(fingerprint: &str) -> String {
    fingerprint.lines().filter(|line| !line.starts_with("nightly")).collect::<Vec<_>>().join("\n")
}

/// Everything that a move between databases could lose: triggers that name their database, defaults that name a
/// sequence, foreign keys, history, rights.
const HARD_TO_MOVE: &str = r"
CREATE SEQUENCE counter START WITH 7;
CREATE TABLE parents(id INT PRIMARY KEY DEFAULT NEXTVAL(counter), t TEXT);
CREATE TABLE children(id INT PRIMARY KEY AUTO_INCREMENT, parent INT, CONSTRAINT kin FOREIGN KEY (parent) REFERENCES parents(id) ON DELETE CASCADE);
CREATE TABLE loose(a INT, FULLTEXT INDEX x (b), b TEXT) ENGINE=MyISAM;
CREATE TABLE parts(a INT) PARTITION BY RANGE (a) (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN MAXVALUE);
CREATE TABLE versioned(a INT) WITH SYSTEM VERSIONING;
INSERT INTO parents(t) VALUES ('a'), ('b'); INSERT INTO children(parent) SELECT id FROM parents;
INSERT INTO loose VALUES (1, 'x'); INSERT INTO parts VALUES (1), (20); INSERT INTO versioned VALUES (1); UPDATE versioned SET a = 2;
CREATE VIEW z_first AS SELECT * FROM parents; CREATE VIEW a_second AS SELECT id FROM z_first;
DELIMITER ;;
create trigger @DB@.named after insert
 on `@DB@`.parents for each row begin insert into loose values (new.id, '@DB@.named'); end;;
CREATE PROCEDURE `odd name`() COMMENT 'é' BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION ROLLBACK; SELECT 'é;;', 1; CASE WHEN 1 THEN SELECT 2; END CASE; END;;
DELIMITER ;
CREATE USER IF NOT EXISTS '@DB@_caller'@'localhost'; GRANT EXECUTE ON PROCEDURE @DB@.`odd name` TO '@DB@_caller'@'localhost';
GRANT SELECT ON @DB@.parents TO '@DB@_caller'@'localhost'; GRANT INSERT ON @DB@.* TO '@DB@_caller'@'localhost';
";

fn hard_to_move(place: &Place) {
    place.sql(&HARD_TO_MOVE.replace("@DB@", &place.database));
}

#[test]
fn what_cannot_be_moved_between_databases_is_made_anew() {
    let place = place("moved");
    hard_to_move(&place);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let before = place.fingerprint("moved");
    let grants = || place.server.sql("SHOW GRANTS FOR 'moved_caller'@'localhost'");
    let granted = grants();
    place.sql("DELETE FROM children; DROP PROCEDURE `odd name`; INSERT INTO parents(t) VALUES ('newer')");
    place.sql("CREATE PROCEDURE `odd name`() SELECT 3; GRANT EXECUTE ON PROCEDURE moved.`odd name` TO 'moved_caller'@'localhost'");
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(None, true)).unwrap();
    assert_eq!((outcome.problems, place.fingerprint("moved")), (Vec::new(), before));
    assert_eq!(grants(), granted, "rights on the database, its tables and routines");
    assert!(!place.folder.path().join("safety/moved.definitions.sql").exists(), "what is kept is whole, so no file is needed");
    let kept = outcome.kept.unwrap();
    // Each goes on with its own sequence, trigger, foreign key and views.
    for (database, rows) in [("moved", "2"), (kept.as_str(), "3")] {
        let count = |table: &str| place.server.sql(&format!("SELECT COUNT(*) FROM {database}.{table}")).trim().to_owned();
        assert_eq!(count("parents"), rows);
        let logged: u32 = count("loose").parse().unwrap();
        place.server.sql(&format!("INSERT INTO {database}.parents(t) VALUES ('more')"));
        assert_eq!(count("loose"), (logged + 1).to_string(), "{database}: the trigger");
        let ids = place.server.sql(&format!("SELECT COUNT(*) FROM {database}.a_second")).trim().to_owned();
        assert_eq!(ids.parse::<u32>().unwrap(), rows.parse::<u32>().unwrap() + 1);
        assert!(!place.server.try_sql(&format!("INSERT INTO {database}.children(parent) VALUES (-1)")).status.success());
        place.server.sql(&format!("INSERT INTO {database}.children(parent) SELECT MAX(id) FROM {database}.parents"));
    }
    place.server.sql(&format!("DROP DATABASE `{kept}`; DROP USER 'moved_caller'@'localhost'"));
}

#[test]
fn a_swap_that_is_killed_after_any_step_loses_nothing_and_the_next_one_says_what_is_where() {
    for step in [Step::Loaded, Step::Saved, Step::Freed, Step::Swapped, Step::Defined, Step::Kept] {
        let place = place("killed_swap");
        hard_to_move(&place);
        let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
        let before = place.fingerprint("killed_swap");
        place.sql("UPDATE parents SET t = 'newer'");
        let source = |out: &mut (dyn Write + Send)| out.write_all(&sql).map_err(Into::into);
        let (mysql, target) = (place.mysql(), place.target(None, true));
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            restore_watched(&mysql, &source, &report.record, &target, &Cancel::default(), &|done| assert_ne!(done, step, "killed"))
        }));
        assert!(killed.is_err());
        // Both sets of rows are there, each whole, in some database of this server.
        let all = place.server.sql(
            "SELECT GROUP_CONCAT(CONCAT('SELECT t FROM ', TABLE_SCHEMA, '.parents') SEPARATOR ' UNION ALL ') FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA LIKE 'killed\\_swap%' AND TABLE_NAME = 'parents'",
        );
        let mut rows: Vec<String> = place.server.sql(&all).lines().map(str::to_owned).collect();
        rows.sort();
        assert_eq!(rows, ["a", "b", "newer", "newer"], "{step:?}");
        let present = place.root().look(&target, &Cancel::default()).unwrap();
        assert!(present.notes.iter().any(|note| note.contains("killed_swap_havun_restore_1")), "{step:?}: {:?}", present.notes);
        assert!(present.notes.iter().any(|note| note.contains("for others")), "a root's restore runs code: {:?}", present.notes);
        let marks = || {
            fs::read_dir(target.safety_dir.clone())
                .into_iter()
                .flatten()
                .flatten()
                .filter(|file| file.path().extension().is_some_and(|e| e == "unfinished"))
                .count()
        };
        assert_eq!(marks(), usize::from(matches!(step, Step::Saved | Step::Freed | Step::Swapped)), "{step:?}: what `health` reports");
        // The next restore goes through, under another name beside what is left.
        let again = RestoreTarget { stamp: "20261128_004500".to_owned(), ..place.target(None, true) };
        restore(&*place.root(), &sql, &report.record, &again).unwrap();
        assert_eq!((place.fingerprint("killed_swap"), marks()), (before.clone(), 0), "{step:?}");
        let left = place.server.sql("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'killed\\_swap\\_%'");
        left.lines().for_each(|name| drop(place.server.sql(&format!("DROP DATABASE {name}"))));
    }
}

#[test]
fn a_swap_that_fails_is_taken_back() {
    let place = place("taken_back");
    place.sql(EVERYTHING);
    hard_to_move(&place);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    place.sql("UPDATE parents SET t = 'newer'; INSERT INTO users(name) VALUES ('newer')");
    let newer = place.fingerprint("taken_back");
    // An event is made in the target only, after the swap; this one cannot be.
    let text = String::from_utf8(sql.clone()).unwrap();
    let bad = text.replace("EVERY 1 DAY", "EVERY 0 DAY");
    assert_ne!(bad, text);
    let error = restore(&*place.root(), bad.as_bytes(), &report.record, &place.target(None, true)).unwrap_err();
    assert!(matches!(error, DatabaseError::Client { .. }), "{error}");
    assert_eq!(place.fingerprint("taken_back"), newer);
    assert_eq!(place.server.sql("SHOW DATABASES LIKE 'taken\\_back\\_%'"), "");
    // A transaction that is open on a table: the move waits for it, and gives up.
    let open = "USE taken_back; START TRANSACTION; SELECT COUNT(*) FROM parents; SELECT SLEEP(900); COMMIT";
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| place.server.try_sql(open));
        let sleeps = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = 'taken_back' AND INFO LIKE 'SELECT SLEEP%'";
        let deadline = std::time::Instant::now() + Duration::from_secs(15);
        while place.server.sql(sleeps) != "1\n" {
            assert!(std::time::Instant::now() < deadline, "nobody sleeps");
        }
        let refused = restore(&*place.root(), &sql, &report.record, &place.target(None, true));
        let id = place.server.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = 'taken_back' AND INFO LIKE 'SELECT SLEEP%'");
        place.server.sql(&format!("KILL {id}"));
        let _ = holder.join();
        assert!(matches!(refused, Err(DatabaseError::Locked { .. })), "{refused:?}");
    });
    assert_eq!(place.fingerprint("taken_back"), newer);
    assert_eq!(place.server.sql("SHOW DATABASES LIKE 'taken\\_back\\_%'"), "");
    assert!(fs::read_dir(place.folder.path().join("safety")).unwrap().next().is_none());
    place.server.sql("DROP USER 'taken_back_caller'@'localhost'");
}

#[test]
fn without_the_right_to_make_databases_the_old_content_goes_to_a_file() {
    let place = place("no_create");
    place.sql(EVERYTHING);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let before = place.fingerprint("no_create");
    place.server.sql("CREATE USER 'owner'@'localhost'; GRANT ALL ON `no\\_create`.* TO 'owner'@'localhost'; GRANT SELECT ON mysql.proc TO 'owner'@'localhost'");
    place.sql("INSERT INTO users(name) VALUES ('newer')");
    let owner = place.connect(&[("user", "owner")]);
    let outcome = restore(&*owner, &sql, &report.record, &place.target(None, true)).unwrap();
    assert_eq!(place.fingerprint("no_create").replace("owner@localhost", "root@localhost"), before);
    assert!(outcome.kept.is_none() && outcome.warnings.iter().any(|warning| warning.contains("in place")), "{:?}", outcome.warnings);
    assert!(fs::read_to_string(outcome.safety_dump.unwrap()).unwrap().contains("'newer'"));
    place.server.sql("DROP USER 'owner'@'localhost'");
}

#[test]
fn a_hostile_dump_is_refused_and_production_is_untouched() {
    let place = place("hostile");
    place.sql(EVERYTHING);
    place.server.sql("CREATE DATABASE production; CREATE TABLE production.t(a INT); INSERT INTO production.t VALUES (1)");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let text = String::from_utf8(sql).unwrap();
    let (before, stolen) = (place.fingerprint("hostile"), place.folder.path().join("stolen"));
    let out = stolen.display();
    let statements = [
        "USE production;",
        "/*!50001 USE production */;",
        "\\! touch @OUT@",
        "\\. /etc/passwd",
        "SOURCE /etc/passwd",
        "system touch @OUT@",
        "DROP DATABASE production;",
        "/*!50001 DROP DATABASE production */;",
        "DROP TABLE IF EXISTS `production`.`t`;",
        "DROP TABLE IF EXISTS `a`; DROP DATABASE production;",
        "INSERT INTO `production`.`t` VALUES (2);",
        "INSERT INTO `users` VALUES ((SELECT a FROM production.t));",
        "INSERT INTO `users`(`name`) VALUES ('x') ON DUPLICATE KEY UPDATE `name` = 'y';",
        "INSERT INTO `users`(`name`) VALUES ('x' -- '\n); DROP DATABASE production; -- ');",
        "SET GLOBAL general_log = 1;",
        "/*!50003 SET GLOBAL general_log = 1 */ ;",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE `log`;",
        "SELECT 'x' INTO OUTFILE '@OUT@';",
        "GRANT ALL ON *.* TO 'evil'@'%';",
        "CREATE USER 'evil'@'%';",
        "DELIMITER //\nDROP DATABASE production//",
        "DELIMITER ;;\nCREATE PROCEDURE p1() SELECT 1; DROP DATABASE production ;;\nDELIMITER ;",
        "DELIMITER ;;\nCREATE PROCEDURE `production`.`p2`() SELECT 1 ;;\nDELIMITER ;",
        "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER production.x AFTER INSERT ON production.t FOR EACH ROW SET @a = 1 */;;\nDELIMITER ;",
        "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER x1 AFTER INSERT ON users FOR EACH ROW SET @a = 1 */; DROP DATABASE production;;\nDELIMITER ;",
    ];
    for statement in statements {
        let statement = statement.replace("@OUT@", &out.to_string());
        for after in ["UNLOCK TABLES;\n", "DELIMITER ;\n"] {
            let bad = text.replacen(after, &format!("{after}{statement}\n"), 1);
            assert_ne!(bad, text);
            for target in [place.target(None, true), place.target(Some("hostile_new"), false)] {
                let error = restore(&*place.root(), bad.as_bytes(), &report.record, &target).unwrap_err();
                let clear = matches!(error, DatabaseError::Refused { .. } | DatabaseError::Client { .. });
                assert!(clear, "{statement}: {error}");
            }
        }
        assert_eq!(place.fingerprint("hostile"), before, "{statement}");
        assert_eq!(place.server.sql("SELECT * FROM production.t"), "1\n", "{statement}");
        assert_eq!(place.server.sql("SELECT COUNT(*) FROM mysql.user WHERE User = 'evil'; SELECT @@general_log"), "0\n0\n", "{statement}");
        assert_eq!(place.server.sql("SHOW DATABASES LIKE 'hostile\\_%'"), "", "{statement}");
        assert!(!stolen.exists(), "{statement}");
    }
    // Where the database is named by its own name, the one at hand is meant: the database's character set …
    let other = text.replacen(
        "UNLOCK TABLES;\n",
        "UNLOCK TABLES;\nALTER DATABASE `production` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;\n",
        1,
    );
    let charset = "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'production'";
    let was = place.server.sql(charset);
    let _ = restore(&*place.root(), other.as_bytes(), &report.record, &place.target(Some("hostile_new"), false));
    assert_eq!(place.server.sql(charset), was);
    place.server.sql("DROP DATABASE production; DROP DATABASE IF EXISTS hostile_new");
}

#[test]
fn a_statement_longer_than_the_server_takes_is_said_with_what_to_do() {
    let server = MariaDb::start_with(&["--max-allowed-packet=1M"]);
    let source = place("long_packet");
    source.sql("CREATE TABLE t(a LONGBLOB); INSERT INTO t VALUES (REPEAT('x', 3000000))");
    let (sql, report) = dump(&*source.root(), &source.options()).unwrap();
    let small = source.connect(&[("socket", &server.socket().display().to_string())]);
    let error = restore(&*small, &sql, &report.record, &source.target(None, false)).unwrap_err();
    assert!(error.to_string().contains("SET GLOBAL max_allowed_packet"), "{error}");
    assert_eq!(server.sql("SHOW DATABASES LIKE 'long%'"), "");
}

#[test]
fn a_dump_that_is_cut_short_altered_or_broken_replaces_nothing() {
    let place = place("cut_short");
    place.sql(EVERYTHING);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let before = place.fingerprint("cut_short");
    let mut altered = report.record.clone();
    altered.rows.insert("users".to_owned(), 5);
    let broken = String::from_utf8(sql.clone()).unwrap().replace("CREATE TABLE `posts`", "CREATE TABEL `posts`").into_bytes();
    for (bytes, record) in [(&sql[..sql.len() / 3], &report.record), (&sql[..], &altered), (&broken[..], &report.record)] {
        restore(&*place.root(), bytes, record, &place.target(None, true)).unwrap_err();
        assert_eq!(place.fingerprint("cut_short"), before);
        let error = restore(&*place.root(), bytes, record, &place.target(Some("cut_short_new"), false)).unwrap_err();
        let said = matches!(error, DatabaseError::BadDump { .. } | DatabaseError::Client { .. } | DatabaseError::Refused { .. });
        assert!(said || matches!(error, DatabaseError::Truncated { .. }), "{error}");
        assert_eq!(place.server.sql("SHOW DATABASES LIKE 'cut_short_%'"), "", "nothing is left behind");
    }
    assert!(!place.folder.path().join("safety").exists());
}

#[test]
fn a_store_that_fails_half_way_leaves_nothing() {
    let place = place("half_read");
    place.sql(LARGE);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    let source = |out: &mut (dyn Write + Send)| {
        out.write_all(&sql[..sql.len() / 2])?;
        Err("pack is damaged".into())
    };
    let error = place.root().restore(&source, &report.record, &place.target(Some("half_read_new"), false), &Cancel::default()).unwrap_err();
    assert!(matches!(error, DatabaseError::Source(_)), "{error}");
    assert_eq!(place.server.sql("SHOW DATABASES LIKE 'half_read_%'"), "");
}

#[test]
fn a_user_without_super_restores_with_its_own_name_as_definer() {
    let place = place("definers");
    place.sql(EVERYTHING);
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    place.server.sql("CREATE USER 'app'@'localhost'; GRANT ALL ON `definers\\_app`.* TO 'app'@'localhost'; CREATE DATABASE definers_app CHARACTER SET latin1");
    let app = place.connect(&[("user", "app")]);
    let outcome = restore(&*app, &sql, &report.record, &place.target(Some("definers_app"), false)).unwrap();
    assert_eq!(outcome.problems, Vec::<String>::new());
    assert!(outcome.warnings.iter().any(|warning| warning.contains("DEFINER")), "{:?}", outcome.warnings);
    let own = place.fingerprint("definers_app").replace("app@localhost", "root@localhost").replace("`definers_app`", "`definers`");
    assert_eq!(own.replace("definers_app", "definers"), place.fingerprint("definers"));
    place.server.sql("DROP DATABASE definers_app");
}

#[test]
fn a_definer_that_is_gone_is_reported() {
    let place = place("gone");
    place.server.sql("CREATE USER 'former'@'localhost'");
    place.sql("CREATE DEFINER='former'@'localhost' FUNCTION f() RETURNS INT RETURN 1");
    let (sql, report) = dump(&*place.root(), &place.options()).unwrap();
    place.server.sql("DROP USER 'former'@'localhost'");
    let outcome = restore(&*place.root(), &sql, &report.record, &place.target(Some("gone_new"), false)).unwrap();
    place.server.sql("DROP DATABASE gone_new");
    assert!(outcome.warnings.iter().any(|warning| warning.contains("former@localhost")), "{:?}", outcome.warnings);
}

#[test]
fn a_strategy_may_ask_a_restored_database_but_not_change_it() {
    let place = place("asked");
    place.sql("CREATE TABLE t(a INT, b TEXT); INSERT INTO t VALUES (1, 'NULL'), (2, NULL), (3, 'x\\ty')");
    let mut scratch = place.root().open_scratch(None).unwrap();
    assert_eq!(scratch.tables().unwrap(), ["t"]);
    assert_eq!(scratch.count_rows("t").unwrap(), 3);
    assert_eq!(scratch.sample("t", "b", 9).unwrap(), [Some("NULL".to_owned()), None, Some("x\ty".to_owned())]);
    assert!(scratch.sample("t", "b`; DROP TABLE t; --", 9).is_err());
    assert_eq!(scratch.count_rows("t").unwrap(), 3);
}

#[test]
fn what_is_not_there_is_said() {
    let place = place("not_there");
    let missing = place.connect(&[("database", "no_such")]);
    let error = missing.preflight(&Cancel::default()).unwrap_err();
    assert!(matches!(error, DatabaseError::NoDatabase { .. }), "{error}");
    let down = place.connect(&[("socket", "/nonexistent/socket")]);
    let error = down.preflight(&Cancel::default()).unwrap_err();
    assert!(matches!(error, DatabaseError::Connect { .. }), "{error}");
    assert!(Path::new(&place.folder.path().join("safety")).exists().eq(&false));
}

mod erasing {
    use super::*;
    use crate::databases::{RowRule, Subjects, subject_hash};
    use havun_model::erasures::{NORMAL_FORM, RowAction};

    fn rule(table: &str, column: &str, action: RowAction) -> RowRule {
        RowRule { table: table.to_owned(), column: column.to_owned(), normalise: NORMAL_FORM.to_vec(), action }
    }

    fn of(identifiers: &[&str]) -> Subjects {
        Subjects::of(identifiers.iter().map(|identifier| subject_hash(identifier, &NORMAL_FORM)))
    }

    fn filled(name: &str) -> Place {
        let place = place(name);
        place.sql(
            "CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(200), name VARCHAR(50) NOT NULL) ENGINE=InnoDB;
             CREATE TABLE tokens (user INT, token VARCHAR(9), FOREIGN KEY (user) REFERENCES users (id) ON DELETE CASCADE) ENGINE=InnoDB;
             CREATE TABLE latin (email VARCHAR(200) CHARACTER SET latin1, note TEXT) ENGINE=InnoDB;
             INSERT INTO users VALUES (1, ' Zo\u{eb}@Example.org', 'Zoë'), (2, 'piet@example.org', 'Piet'), (3, NULL, 'x'), (7, '42', 'by number');
             INSERT INTO tokens VALUES (1, 'a'), (2, 'b');
             INSERT INTO latin VALUES ('ZO\u{cb}@example.org', 'about her'), ('piet@example.org', 'about him');",
        );
        place
    }

    #[test]
    fn rows_go_by_the_hash_of_what_a_column_holds() {
        let place = filled("erase_rows");
        let values = BTreeMap::from([("note".to_owned(), None), ("email".to_owned(), Some("it's \\ erased".to_owned()))]);
        let rules = [rule("users", "email", RowAction::Delete), rule("latin", "email", RowAction::Replace { values })];
        let done = place.root().erase(None, &rules, &of(&["zoë@example.org", "nobody"]), &Cancel::default()).unwrap();
        assert_eq!((done[0].rows, done[1].rows, done[0].subjects.len()), (1, 1, 1));
        assert_eq!(place.sql("SELECT GROUP_CONCAT(name ORDER BY id) FROM users").trim(), "Piet,x,by number");
        assert_eq!(place.sql("SELECT GROUP_CONCAT(token) FROM tokens").trim(), "b");
        assert_eq!(
            place.sql("SELECT HEX(email), note IS NULL FROM latin ORDER BY note IS NULL DESC LIMIT 1").trim(),
            format!("{}\t1", hex::encode_upper("it's \\ erased"))
        );
        let again = place.root().erase(None, &rules, &of(&["zoë@example.org"]), &Cancel::default()).unwrap();
        assert_eq!(again.iter().map(|done| done.rows).sum::<u64>(), 0);
        let by_number = [rule("users", "id", RowAction::Delete)];
        assert_eq!(place.root().erase(None, &by_number, &of(&["7"]), &Cancel::default()).unwrap()[0].rows, 1);
    }

    #[test]
    fn it_is_all_or_nothing() {
        let place = filled("erase_nothing");
        let values = BTreeMap::from([("name".to_owned(), None)]);
        let rules = [rule("latin", "email", RowAction::Delete), rule("users", "email", RowAction::Replace { values })];
        let error = place.root().erase(None, &rules, &of(&["piet@example.org"]), &Cancel::default()).unwrap_err();
        assert!(error.to_string().contains("name") && !error.to_string().contains("piet"), "{error}");
        assert_eq!(place.sql("SELECT COUNT(*) FROM latin").trim(), "2", "a column that cannot be NULL undoes the whole");
        let rules = [rule("gone", "email", RowAction::Delete)];
        assert!(place.root().erase(None, &rules, &of(&["piet@example.org"]), &Cancel::default()).is_err());
    }
}
