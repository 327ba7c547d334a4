//! What a dump says of itself, as it stands in the stored snapshot.

use super::Shop;
use havun_tests::{MariaDb, PostgreSql, RedisServer};
use rusqlite::Connection;
use serde_json::{Value, json};

fn record(shop: &Shop) -> Value {
    shop.run(0);
    shop.newest()["items"]["database"]["database"].clone()
}

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_else(|| panic!("{name}: {record}"))
}

#[test]
fn the_snapshot_says_everything_of_a_mariadb_dump() {
    let server = MariaDb::start_with(&["--log-bin=log", "--server-id=7", "--gtid-domain-id=3"]);
    server.sql(
        "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; USE shop;
         CREATE TABLE t(a INT PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z'); CREATE TABLE empty(a INT);
         CREATE VIEW v AS SELECT a FROM t; CREATE SEQUENCE s; CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW SET @a = 1;
         CREATE PROCEDURE p() SELECT 1; CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1; CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1;",
    );
    let record = record(&Shop::mariadb(&server, "shop"));
    assert_eq!((text(&record, "engine"), text(&record, "database")), ("mariadb", "shop"));
    assert_eq!(record["rows"], json!({"empty": 0, "t": 3}));
    let sum = |table: &str| server.sql(&format!("CHECKSUM TABLE shop.{table} EXTENDED")).trim().rsplit('\t').next().unwrap().to_owned();
    assert_eq!(record["checksums"], json!({"empty": sum("empty"), "t": sum("t")}));
    assert_eq!(record["objects"], json!({"tables": 2, "views": 1, "sequences": 1, "triggers": 1, "routines": 2, "events": 1}));
    assert_eq!(text(&record, "server_version"), server.sql("SELECT VERSION()").trim());
    assert!(
        text(&record, "client_version").contains("mariadb-dump") && text(&record, "client_version").contains("Distrib 10."),
        "{record}"
    );
    assert_eq!((text(&record, "charset"), text(&record, "collation")), ("utf8mb4", "utf8mb4_unicode_ci"));
    let position = server.sql("SELECT @@GLOBAL.gtid_binlog_pos");
    assert!(position.starts_with("3-7-") && text(&record, "position") == format!("gtid_binlog_pos {}", position.trim()), "{record}");
    let flags = record["flags"].to_string();
    assert!(flags.contains("--single-transaction") && flags.contains("--hex-blob") && !flags.contains("shop"), "{flags}");
}

#[test]
fn the_snapshot_says_everything_of_a_postgresql_dump() {
    let server = PostgreSql::shared();
    server.sql("postgres", "CREATE DATABASE trap_record TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'");
    server.sql(
        "trap_record",
        "CREATE TABLE t(a serial PRIMARY KEY, b text); INSERT INTO t(b) VALUES ('x'), ('y'); CREATE VIEW v AS SELECT a FROM t;
         CREATE MATERIALIZED VIEW m AS SELECT 1 AS a; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); CREATE TYPE e AS ENUM ('a'); SELECT lo_create(5);",
    );
    let parameters = format!(
        "engine = \"postgresql\"\nsocket = \"{}\"\nport = {}\nuser = \"postgres\"\ndatabase = \"trap_record\"",
        server.socket().display(),
        server.port()
    );
    let record = record(&Shop::new(&parameters, ""));
    assert_eq!((text(&record, "engine"), text(&record, "database")), ("postgresql", "trap_record"));
    assert_eq!(record["rows"]["t"], 2, "{record}");
    assert_eq!(record["checksums"]["t"].as_str().map(str::len), Some(64), "a SHA-256 of its rows: {record}");
    for (kind, count) in [
        ("tables", 1),
        ("views", 1),
        ("materialized views", 1),
        ("sequences", 1),
        ("routines", 1),
        ("triggers", 1),
        ("types", 1),
        ("large objects", 1),
    ] {
        assert_eq!(record["objects"][kind], count, "{kind}: {record}");
    }
    assert!(
        text(&record, "server_version").starts_with("PostgreSQL ") && text(&record, "client_version").starts_with("pg_dump (PostgreSQL) ")
    );
    assert_eq!((text(&record, "charset"), text(&record, "collation")), ("UTF8", "C"));
    let (high, low) = text(&record, "position").split_once('/').expect("an LSN");
    assert!(u32::from_str_radix(high, 16).is_ok() && u32::from_str_radix(low, 16).is_ok(), "{record}");
    assert!(record["flags"].to_string().contains("--format=plain"), "{record}");
    assert_eq!(record["settings"]["owner"], "postgres", "{record}");
}

#[test]
fn the_snapshot_says_everything_of_a_sqlite_dump() {
    let shop = Shop::new("engine = \"sqlite\"\npath = \"data.sqlite\"", "");
    let database = Connection::open(shop.root.join("data.sqlite")).unwrap();
    database
        .execute_batch(
            "PRAGMA foreign_keys = OFF; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES ('x'), ('y'); CREATE INDEX i ON t(b); CREATE VIEW v AS SELECT a FROM t;
             CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END; CREATE TABLE child(a REFERENCES t(a)); INSERT INTO child VALUES (99)",
        )
        .unwrap();
    let record = record(&shop);
    assert_eq!((text(&record, "engine"), text(&record, "database")), ("sqlite", "data.sqlite"));
    assert_eq!((&record["rows"], &record["objects"]), (&json!({"child": 1, "t": 2}), &json!({"indexes": 1, "triggers": 1, "views": 1})));
    assert_eq!((text(&record, "server_version"), text(&record, "charset")), (rusqlite::version(), "UTF-8"));
    assert!(record["warnings"].to_string().contains("1 rows refer to rows that are not there"), "{record}");
    assert_eq!(shop.dumps_in_newest(), ["databases/database.sql", "databases/database.sqlite"]);
}

#[test]
fn the_snapshot_says_everything_of_a_redis_dump() {
    let server = RedisServer::start("", &[]);
    server.ask(&["SET", "a", "1"]);
    server.ask(&["SET", "b", "1", "EX", "100000"]);
    server.ask(&["EVAL", "redis.call('SELECT', 3) redis.call('SET', 'c', '1')", "0"]);
    let record = record(&Shop::new(&format!("engine = \"redis\"\nhost = \"127.0.0.1\"\nport = {}", server.port()), ""));
    assert_eq!((text(&record, "engine"), &record["rows"]), ("redis", &json!({"db0": 2, "db3": 1})));
    assert_eq!(record["objects"], json!({"expiring keys": 1}));
    let version = server.ask(&["INFO", "server"]);
    assert!(
        version.contains(&format!("redis_version:{}", text(&record, "server_version")))
            && text(&record, "client_version").starts_with("RDB version ")
    );
    assert!(text(&record, "position").starts_with("master_repl_offset "), "{record}");
}
