//! Against a real server.

use super::super::{DatabaseError, DumpForm, DumpOptions, DumpReport, Engine, ResolvedConnection, RestoreOutcome, RestoreTarget, engine};
use havun_model::{Cancel, Connection, DatabaseRecord};
use havun_tests::RedisServer;
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use zeroize::Zeroizing;

const RDB: DumpForm = DumpForm { extension: "rdb", restorable: true };
const PASSWORD: &str = r#"# ' " \ : $ é %s"#;

struct Place {
    server: RedisServer,
    folder: tempfile::TempDir,
}

fn place(lines: &[&str]) -> Place {
    Place { server: RedisServer::start(PASSWORD, lines), folder: tempfile::tempdir().unwrap() }
}

impl Place {
    fn connect(&self, parameters: &[(&'static str, &str)]) -> Result<Box<dyn Engine>, DatabaseError> {
        let mut overrides: BTreeMap<&'static str, Zeroizing<String>> = BTreeMap::new();
        let port = self.server.port().to_string();
        for (name, value) in [("host", "127.0.0.1"), ("port", &port), ("password", PASSWORD)].iter().chain(parameters) {
            overrides.insert(name, Zeroizing::new((*value).to_owned()));
        }
        let planned = Connection { name: "cache".to_owned(), engine: "redis".to_owned(), parameters: Vec::new() };
        engine(ResolvedConnection::resolve(&planned, &overrides, self.folder.path()).unwrap())
    }

    fn engine(&self) -> Box<dyn Engine> {
        self.connect(&[]).unwrap()
    }

    fn target(&self, replace: bool) -> RestoreTarget {
        RestoreTarget {
            database: None,
            replace,
            safety_dir: self.folder.path().join("safety"),
            stamp: "20261128_003100".to_owned(),
            owner: None,
            lock_wait: Duration::from_secs(1),
            erase: None,
        }
    }

    /// Every type and encoding, in two databases.
    fn fill(&self) {
        let script = r#"
            redis.call('SET', 'text', 'é\0\r\n"') redis.call('SET', 'number', '12345') redis.call('SET', 'long', string.rep('x', 100000))
            for i = 1, 2000 do redis.call('RPUSH', 'list', 'item ' .. i) redis.call('SADD', 'set', i .. 'x') redis.call('HSET', 'hash', i, i * i) redis.call('ZADD', 'sorted', i / 7, 'm' .. i) end
            redis.call('SADD', 'ints', 1, 2, 3) redis.call('HSET', 'small', 'a', 'b') redis.call('ZADD', 'few', 1.5, 'a', '-inf', 'b')
            redis.call('XADD', 'stream', '1-1', 'a', 'b') redis.call('XADD', 'stream', '2-1', 'c', 'd') redis.call('XGROUP', 'CREATE', 'stream', 'g', '0')
            redis.call('PFADD', 'hyper', 'a', 'b') redis.call('GEOADD', 'geo', 4.9, 52.4, 'Amsterdam') redis.call('SETBIT', 'bits', 1000, 1)
            redis.call('SET', 'later', 'x', 'EX', 100000)
            redis.call('SELECT', 3) redis.call('SET', 'elsewhere', 'y')
        "#;
        let done = self.server.ask(&["EVAL", script, "0"]);
        assert_eq!(done, "");
        self.server.ask(&["XREADGROUP", "GROUP", "g", "consumer", "COUNT", "1", "STREAMS", "stream", ">"]);
        self.server.ask(&["FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('five', function() return 5 end)"]);
    }

    fn digest(&self) -> String {
        let digest = self.server.ask(&["DEBUG", "DIGEST"]);
        assert_eq!(digest.len(), 40, "{digest}");
        digest
    }
}

fn dump(engine: &dyn Engine, place: &Place) -> Result<(Vec<u8>, DumpReport), DatabaseError> {
    let options = DumpOptions { exclude_rows: Vec::new(), scratch_dir: place.folder.path().to_owned(), lock_wait: Duration::from_secs(1) };
    let mut dump = engine.begin_dump(&options, &Cancel::default())?;
    let mut bytes = Vec::new();
    dump.write(RDB, &mut bytes)?;
    Ok((bytes, dump.finish()))
}

fn restore(engine: &dyn Engine, bytes: &[u8], record: &DatabaseRecord, target: &RestoreTarget) -> Result<RestoreOutcome, DatabaseError> {
    let source = |out: &mut (dyn Write + Send)| out.write_all(bytes).map_err(Into::into);
    engine.restore(&source, record, target, &Cancel::default())
}

#[test]
fn everything_comes_back_the_same_and_dumps_are_deterministic() {
    let place = place(&[]);
    place.fill();
    let before = place.digest();
    let (bytes, report) = dump(&*place.engine(), &place).unwrap();
    assert!(bytes == dump(&*place.engine(), &place).unwrap().0);
    let record = report.record;
    assert_eq!((record.rows["db0"], record.rows["db3"], record.objects["expiring keys"]), (15, 1, 1));
    assert!(record.warnings.iter().any(|warning| warning.contains("expire")), "{:?}", record.warnings);
    // What others say of it.
    let file = place.folder.path().join("dump.rdb");
    fs::write(&file, &bytes).unwrap();
    let checked = std::process::Command::new("redis-check-rdb").arg(&file).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let other = place_without_password();
    let expires = place.server.ask(&["PEXPIRETIME", "later"]);
    let outcome = restore(&*other.connect(&[("password", "")]).unwrap(), &bytes, &record, &other.target(false)).unwrap();
    assert_eq!((outcome.tables_verified, outcome.rows_verified, outcome.kept, outcome.problems), (2, 16, None, Vec::new()));
    assert_eq!(other.digest(), before);
    assert_eq!(other.server.ask(&["PEXPIRETIME", "later"]), expires);
    assert_eq!(other.server.ask(&["FCALL", "five", "0"]), "5");
    assert!(fs::read_dir(other.folder.path().join("safety")).unwrap().next().is_none(), "nothing is left behind");
}

fn place_without_password() -> Place {
    Place { server: RedisServer::start("", &[]), folder: tempfile::tempdir().unwrap() }
}

#[test]
fn a_server_that_holds_something_is_refused_or_swapped_and_kept_under_other_numbers() {
    let place = place(&[]);
    place.fill();
    let (bytes, report) = dump(&*place.engine(), &place).unwrap();
    place.server.ask(&["SET", "text", "newer"]);
    let newer = place.digest();
    let error = restore(&*place.engine(), &bytes, &report.record, &place.target(false)).unwrap_err();
    assert!(matches!(&error, DatabaseError::NotEmpty { content, .. } if content == "15 keys in db0, 1 keys in db3"), "{error}");
    assert_eq!(place.digest(), newer);
    let outcome = restore(&*place.engine(), &bytes, &report.record, &place.target(true)).unwrap();
    assert_eq!(outcome.kept.as_deref(), Some("15, 14"));
    assert_eq!(place.server.ask(&["-n", "15", "GET", "text"]), "newer");
    assert_ne!(place.server.ask(&["GET", "text"]), "newer");
    // With what is kept flushed it is what it was.
    for number in ["15", "14"] {
        place.server.ask(&["-n", number, "FLUSHDB"]);
    }
    let (again, _) = dump(&*place.engine(), &place).unwrap();
    let third = place_without_password();
    restore(&*third.connect(&[("password", "")]).unwrap(), &again, &report.record, &third.target(false)).unwrap();
    assert_eq!(third.digest(), place.digest());
}

#[test]
fn without_room_for_both_the_old_data_go_to_a_file() {
    let place = place(&["databases 4"]);
    place.fill();
    let (bytes, report) = dump(&*place.engine(), &place).unwrap();
    let before = place.digest();
    place.server.ask(&["-n", "1", "SET", "a", "1"]);
    place.server.ask(&["SET", "text", "newer"]);
    let newer = place.digest();
    let outcome = restore(&*place.engine(), &bytes, &report.record, &place.target(true)).unwrap();
    assert_eq!((place.digest(), outcome.kept), (before, None));
    let saved = fs::read(outcome.safety_dump.unwrap()).unwrap();
    restore(&*place.engine(), &saved, &DatabaseRecord::default(), &place.target(true)).unwrap();
    assert_eq!(place.digest(), newer);
}

#[test]
fn a_dump_that_is_cut_short_altered_or_broken_replaces_nothing() {
    let place = place(&[]);
    place.fill();
    let (bytes, report) = dump(&*place.engine(), &place).unwrap();
    let before = place.digest();
    let mut fewer = report.record.clone();
    fewer.rows.insert("db0".to_owned(), 20);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (bytes, record) in [(&bytes[..bytes.len() / 2], &report.record), (&flipped, &report.record), (&bytes, &fewer), (b"no RDB", &fewer)]
    {
        let error = restore(&*place.engine(), bytes, record, &place.target(true)).unwrap_err();
        assert!(matches!(error, DatabaseError::BadDump { .. } | DatabaseError::Truncated { .. }), "{error}");
        assert_eq!(place.digest(), before);
    }
}

#[test]
fn a_server_away_a_wrong_password_and_a_missing_right_are_said() {
    let place = place(&[]);
    let away = place.connect(&[("port", "1")]).unwrap().preflight(&Cancel::default()).unwrap_err();
    assert!(matches!(away, DatabaseError::Connect { .. }), "{away}");
    let wrong = place.connect(&[("password", "wrong")]).unwrap().preflight(&Cancel::default()).unwrap_err();
    assert!(matches!(&wrong, DatabaseError::Connect { .. }) && !wrong.to_string().contains("wrong\""), "{wrong}");
    place.server.ask(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+info", "+ping", "+acl|whoami"]);
    let reader = place.connect(&[("user", "reader"), ("password", "pw")]).unwrap();
    let error = reader.preflight(&Cancel::default()).unwrap_err();
    let DatabaseError::Privileges { grant, .. } = &error else { panic!("{error}") };
    let words: Vec<&str> = grant.split(' ').collect();
    assert_eq!(place.server.ask(&words), "OK");
    dump(&*reader, &place).unwrap();
    assert!(place.connect(&[("tls", "required")]).is_err());
}

#[test]
fn a_dump_cut_by_a_killed_connection_is_an_error() {
    let place =
        place(&["rdbcompression no", "repl-diskless-sync yes", "repl-diskless-sync-delay 0", "client-output-buffer-limit replica 0 0 0"]);
    place.server.ask(&["EVAL", "for i = 1, 300 do redis.call('SET', i, string.rep(i .. 'x', 40000)) end", "0"]);
    let options = DumpOptions { exclude_rows: Vec::new(), scratch_dir: place.folder.path().to_owned(), lock_wait: Duration::from_secs(1) };
    let engine = place.engine();
    let mut dump = engine.begin_dump(&options, &Cancel::default()).unwrap();
    struct Killing<'a>(&'a RedisServer, usize);
    impl Write for Killing<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 += bytes.len();
            if self.1 > 1 << 20 && self.1 < 2 << 20 {
                self.0.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = dump.write(RDB, &mut Killing(&place.server, 0)).unwrap_err();
    assert!(matches!(error, DatabaseError::Truncated { .. } | DatabaseError::Connect { .. }), "{error}");
}

#[test]
fn what_was_filled_while_the_dump_was_proved_is_neither_swapped_nor_flushed() {
    for lines in [&[][..], &["databases 4"]] {
        let place = place(lines);
        place.fill();
        // Of four databases none is left to fill: what is there goes out.
        ["1", "2"].iter().filter(|_| !lines.is_empty()).for_each(|number| drop(place.server.ask(&["-n", number, "SET", "a", "1"])));
        let (bytes, report) = dump(&*place.engine(), &place).unwrap();
        place.server.ask(&["FLUSHALL"]);
        // The highest numbers are the ones that would be filled.
        let fill = ["-n", if lines.is_empty() { "15" } else { "1" }, "SET", "precious", "1"];
        let source = |out: &mut (dyn Write + Send)| {
            place.server.ask(&fill);
            place.server.ask(&["SET", "mine", "1"]);
            out.write_all(&bytes).map_err(Into::into)
        };
        let error = place.engine().restore(&source, &report.record, &place.target(false), &Cancel::default()).unwrap_err();
        assert!(matches!(error, DatabaseError::NotEmpty { .. }), "{error}");
        assert_eq!(
            (place.server.ask(&["GET", "mine"]), place.server.ask(&[fill[0], fill[1], "GET", "precious"])),
            ("1".to_owned(), "1".to_owned())
        );
    }
}

const DRILL: &str = "havun_drill_0123456789abcdef_2";

/// A dump of [`Place::fill`], and a second server without a password.
fn dump_and_scratch(lines: &[&str]) -> (Vec<u8>, DatabaseRecord, Place) {
    let place = place(&[]);
    place.fill();
    let (bytes, report) = dump(&*place.engine(), &place).unwrap();
    (bytes, report.record, Place { server: RedisServer::start("", lines), folder: tempfile::tempdir().unwrap() })
}

fn load_scratch(scratch: &Place, bytes: &[u8], record: &DatabaseRecord) -> Result<RestoreOutcome, DatabaseError> {
    let source = |out: &mut (dyn Write + Send)| out.write_all(bytes).map_err(Into::into);
    let engine = scratch.connect(&[("password", "")]).unwrap();
    engine.load_scratch(DRILL, &source, record, &scratch.target(false), &Cancel::default())
}

#[test]
fn a_drill_on_a_configured_server_takes_away_what_it_put_there_and_nothing_else() {
    let (bytes, record, scratch) = dump_and_scratch(&[]);
    let engine = scratch.connect(&[("password", "")]).unwrap();
    let done = load_scratch(&scratch, &bytes, &record).unwrap();
    assert_eq!((done.tables_verified, done.rows_verified), (2, 16));
    engine.drop_scratch("havun_drill_of_another_1").unwrap();
    assert_eq!(scratch.server.ask(&["DBSIZE"]), "15", "another drill's name takes nothing away");
    // Somebody has put something of his own there meanwhile.
    scratch.server.ask(&["SET", "mine", "1"]);
    let error = engine.drop_scratch(DRILL).unwrap_err();
    assert!(matches!(&error, DatabaseError::NotEmpty { content, .. } if content.contains("db0 holds 16 keys")), "{error}");
    assert_eq!(scratch.server.ask(&["GET", "mine"]), "1");
    scratch.server.ask(&["DEL", "mine"]);
    engine.drop_scratch(DRILL).unwrap();
    assert_eq!(scratch.server.ask(&["INFO", "keyspace"]).trim(), "# Keyspace");
    engine.drop_scratch(DRILL).unwrap();
}

#[test]
fn a_configured_server_that_holds_something_or_is_somebodys_replica_is_left_alone() {
    let (bytes, record, scratch) = dump_and_scratch(&[]);
    scratch.server.ask(&["-n", "5", "SET", "precious", "1"]);
    let error = load_scratch(&scratch, &bytes, &record).unwrap_err();
    assert!(matches!(&error, DatabaseError::NotEmpty { content, .. } if content == "1 keys in db5"), "{error}");
    scratch.server.ask(&["-n", "5", "DEL", "precious"]);
    let production = RedisServer::start("", &[]);
    scratch.server.ask(&["REPLICAOF", "127.0.0.1", &production.port().to_string()]);
    let error = load_scratch(&scratch, &bytes, &record).unwrap_err();
    assert!(error.to_string().contains("replica of another server"), "{error}");
    // One number is not enough for the dump and the mark.
    let (bytes, record, small) = dump_and_scratch(&["databases 1"]);
    let mut only = record;
    only.rows.clear();
    let error = load_scratch(&small, &bytes, &only).unwrap_err();
    assert!(matches!(&error, DatabaseError::NotEmpty { content, .. } if content.contains("no database number is left")), "{error}");
    assert_eq!(small.server.ask(&["DBSIZE"]), "0");
}

#[test]
fn two_ways_to_one_server_have_one_identity() {
    let place = place(&[]);
    let socket = place.server.socket();
    let by_socket = place.connect(&[("socket", socket.to_str().unwrap())]).unwrap().server_identity();
    assert!(by_socket.as_ref().is_some_and(|id| id.len() == 40), "{by_socket:?}");
    assert_eq!(place.engine().server_identity(), by_socket);
    let other = place_without_password();
    assert_ne!(other.connect(&[("password", "")]).unwrap().server_identity(), by_socket);
}

#[test]
fn users_of_the_server_are_said_to_be_in_no_dump() {
    let place = place(&[]);
    place.fill();
    place.server.ask(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read"]);
    let (_, report) = dump(&*place.engine(), &place).unwrap();
    assert!(report.record.warnings.iter().any(|line| line.contains("2 users (ACL)")), "{:?}", report.record.warnings);
}

/// A link to `target` that breaks as soon as EXEC is said: before the server hears of it, or before its answer comes back.
/// Returns its port.
fn link_that_breaks_at_exec(target: u16, delivered: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
            let said = Arc::new(AtomicBool::new(false));
            let (mut up, mut down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
            let heard = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut piece = vec![0; 1 << 16];
                while let Ok(count @ 1..) = down.0.read(&mut piece) {
                    if heard.load(Ordering::SeqCst) || down.1.write_all(&piece[..count]).is_err() {
                        break;
                    }
                }
                let _ = down.1.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut piece = vec![0; 1 << 16];
                while let Ok(count @ 1..) = up.0.read(&mut piece) {
                    let is_exec = piece[..count].windows(8).any(|part| part == b"\r\nEXEC\r\n");
                    said.fetch_or(is_exec, Ordering::SeqCst);
                    if is_exec && !delivered || up.1.write_all(&piece[..count]).is_err() {
                        break;
                    }
                }
                let _ = up.1.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn an_exec_whose_answer_is_lost_empties_nothing_and_says_where_everything_may_be() {
    for delivered in [false, true] {
        let place = place(&[]);
        place.fill();
        let (bytes, report) = dump(&*place.engine(), &place).unwrap();
        place.server.ask(&["SET", "text", "newer"]);
        let port = link_that_breaks_at_exec(place.server.port(), delivered).to_string();
        let error = restore(&*place.connect(&[("port", &port)]).unwrap(), &bytes, &report.record, &place.target(true)).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("db0 with db15, db3 with db14") && said.contains("is not known") && said.contains("Nothing was emptied"),
            "{said}"
        );
        // What was there and what was loaded are both whole, each on one side.
        let (here, there) = if delivered { ("15", "0") } else { ("0", "15") };
        assert_eq!(place.server.ask(&["-n", here, "GET", "text"]), "newer");
        assert_ne!(place.server.ask(&["-n", there, "GET", "text"]), "newer");
        for number in ["0", "15"] {
            assert_eq!(place.server.ask(&["-n", number, "DBSIZE"]), "15", "db{number}");
        }
        // Once somebody has looked, the restore goes through, beside what is left.
        let outcome = restore(&*place.engine(), &bytes, &report.record, &place.target(true)).unwrap();
        assert!(outcome.problems.is_empty() && outcome.kept.is_some(), "{outcome:?}");
        assert_ne!(place.server.ask(&["GET", "text"]), "newer");
    }
}
