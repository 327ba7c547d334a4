//! A swap that is killed in the middle, seen by `health` until the restore is repeated.

use super::Shop;
use havun_tests::MariaDb;
use std::{fs, path::Path};

fn fill(server: &MariaDb, database: &str) {
    server.sql(&format!(
        "CREATE DATABASE {database}; USE {database}; CREATE TABLE t(a INT PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'old');
         CREATE TABLE log(a INT); CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.a); CREATE VIEW v AS SELECT b FROM t;
         CREATE PROCEDURE p() SELECT 1"
    ));
}

/// All that the application needs of it.
fn whole(server: &MariaDb, database: &str) -> String {
    server.sql(&format!(
        "SELECT b FROM {database}.v; SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{database}'; CALL {database}.p()"
    ))
}

/// Kills the program in the moment before or after the tables change places.
fn kill_at_the_move(shop: &Shop, after: bool) {
    let run = "printf '%s' \"$sql\" | REAL \"$@\"";
    let kill = "kill -9 $PPID";
    let both = if after { format!("{run}; {kill}") } else { kill.to_owned() };
    shop.wrap(
        "mariadb",
        &format!("case \"$*\" in *--database=*) exec REAL \"$@\" ;; esac\nsql=$(cat)\ncase \"$sql\" in *'RENAME TABLE'*) {both}; exit 1 ;; esac\n{run}"),
    );
}

fn health(shop: &Shop) -> (i32, String) {
    let called = shop.call(&["health"]);
    (called.status, called.text())
}

/// Marks and definitions that a swap keeps until it is over.
fn marks(folder: &Path) -> usize {
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten()).map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "unfinished")).count()
}

#[test]
fn health_tells_of_an_interrupted_swap_until_the_restore_is_repeated() {
    let server = MariaDb::shared();
    for after in [false, true] {
        let database = format!("trap_swap_{after}");
        fill(&server, &database);
        let shop = Shop::mariadb(&server, &database);
        let good = whole(&server, &database);
        shop.run(0);
        assert_eq!(health(&shop).0, 0);
        server.sql(&format!("UPDATE {database}.t SET b = 'newer'"));
        kill_at_the_move(&shop, after);
        let restore = ["restore", "--project", "shop", "--item", "database", "--yes", "--replace"];
        assert_eq!(shop.call(&restore).status, -1, "killed");
        shop.unwrap_all();
        let (status, said) = health(&shop);
        assert_eq!(status, 4, "{said}");
        for part in [&format!("MariaDB database `{database}`"), "a restore of it was interrupted", "views, triggers, routines", "--replace"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        // Both sets of rows are on the server, in one database or another.
        let all = server.sql(&format!("SELECT GROUP_CONCAT(CONCAT('SELECT b FROM ', TABLE_SCHEMA, '.t') SEPARATOR ' UNION ALL ') FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE 'trap\\_swap\\_{after}%' AND TABLE_NAME = 't'"));
        let rows = server.sql(&all);
        assert!(rows.contains("old\n") && rows.contains("newer\n"), "{rows}");
        // An open alert, too, until it is over.
        let alerts = shop.json(&["logs", "--alerts"]).json();
        let open = |alerts: &serde_json::Value| {
            let is_open =
                |alert: &&serde_json::Value| alert["resolved_at"].is_null() && alert["message"].to_string().contains("interrupted");
            alerts["alerts"].as_array().unwrap().iter().filter(is_open).count()
        };
        assert_eq!(open(&alerts), 1, "{alerts}");
        shop.call(&restore).ended(0);
        assert_eq!(whole(&server, &database), good, "after: {after}");
        assert_eq!((health(&shop).0, marks(&shop.machine.at("state/replaced/shop"))), (0, 0));
        assert_eq!(open(&shop.json(&["logs", "--alerts"]).json()), 0);
        let left =
            server.sql(&format!("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'trap\\_swap\\_{after}%'"));
        left.lines().for_each(|name| drop(server.sql(&format!("DROP DATABASE {name}"))));
    }
}
