//! What is kept when nothing says for how long, and what a restore refuses.

use super::Shop;
use havun_tests::{MariaDb, PostgreSql};
use rusqlite::Connection;

#[test]
fn a_configuration_that_says_nothing_of_retention_deletes_nothing() {
    let shop = Shop::new("engine = \"sqlite\"\npath = \"data.sqlite\"", "stores = [\"local\"]\n");
    let database = Connection::open(shop.root.join("data.sqlite")).unwrap();
    database.execute_batch("CREATE TABLE t(x)").unwrap();
    let days = ["2019-03-01", "2019-03-02", "2019-03-03", "2019-03-04", "2019-03-05"];
    for day in days {
        database.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        shop.call_at(&format!("{day} 03:00:00"), &["run"]).ended(0);
    }
    // Years later, and for as long as anybody runs it.
    for time in ["2019-03-06 04:00:00", "2019-09-01 04:00:00", "2026-11-28 04:00:00"] {
        shop.call_at(time, &["cleanup"]);
    }
    assert_eq!(shop.snapshots(), days.len());
}

/// Names of what a database server holds are never guessed: each engine refuses a target that holds something.
#[test]
fn a_restore_into_a_database_that_holds_something_is_refused_untouched() {
    let (mariadb, postgresql) = (MariaDb::shared(), PostgreSql::shared());
    mariadb.sql("CREATE DATABASE trap_present; CREATE TABLE trap_present.t(a INT); INSERT INTO trap_present.t VALUES (1)");
    postgresql.sql("postgres", "CREATE DATABASE trap_present");
    postgresql.sql("trap_present", "CREATE TABLE t(a integer); INSERT INTO t VALUES (1)");
    let socket = postgresql.socket().display().to_string();
    let parameters = format!(
        "engine = \"postgresql\"\nsocket = \"{socket}\"\nport = {}\nuser = \"postgres\"\ndatabase = \"trap_present\"",
        postgresql.port()
    );
    for shop in [Shop::mariadb(&mariadb, "trap_present"), Shop::new(&parameters, "")] {
        shop.run(0);
        mariadb.sql("UPDATE trap_present.t SET a = 2");
        postgresql.sql("trap_present", "UPDATE t SET a = 2");
        let refused = shop.call(&["restore", "--project", "shop", "--item", "database", "--yes"]).ended(1);
        assert!(refused.text().contains("--replace") && refused.text().contains("nothing was changed"), "{refused:?}");
        assert_eq!(
            (mariadb.sql("SELECT a FROM trap_present.t").trim(), postgresql.sql("trap_present", "SELECT a FROM t").trim()),
            ("2", "2")
        );
    }
    mariadb.sql("DROP DATABASE trap_present");
    postgresql.sql("postgres", "DROP DATABASE trap_present");
}
