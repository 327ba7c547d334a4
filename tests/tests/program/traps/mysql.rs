//! What MySQL's own client is told. Debian has neither its client nor its server: scripts stand in for `mysql` and `mysqldump`
//! of 8.0.36, write down what they were given, leave out what MariaDB's do not know, and call those.

use super::{Shop, find};
use havun_tests::MariaDb;
use std::fs;

const STAND_IN: &str = r#"#!/bin/bash
case "$*" in *--version*) echo "NAME  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)"; exit 0 ;; esac
cat /dev/fd/3 > HERE/NAME.options
echo "$@" >> HERE/NAME.arguments
grep -v '^ssl-mode=' HERE/NAME.options > HERE/NAME.login
exec 3< HERE/NAME.login
given=()
for argument; do case "$argument" in --set-gtid-purged=*|--column-statistics=*) ;; *) given+=("$argument") ;; esac; done
exec REAL "${given[@]}"
"#;

fn shop(server: &MariaDb, database: &str, tls: &str) -> Shop {
    let socket = server.socket().display().to_string();
    let shop =
        Shop::new(&format!("engine = \"mysql\"\nsocket = \"{socket}\"\nuser = \"root\"\ndatabase = \"{database}\"\ntls = \"{tls}\""), "");
    for (name, real) in [("mysql", "mariadb"), ("mysqldump", "mariadb-dump")] {
        let real = find(real);
        shop.install(name, &STAND_IN.replace("NAME", name).replace("HERE", &shop.at("")).replace("REAL", &real.to_string_lossy()));
    }
    shop
}

#[test]
fn mysqls_own_client_is_given_mysqls_own_flags_and_round_trips() {
    let server = MariaDb::shared();
    server.sql("CREATE DATABASE trap_mysql; USE trap_mysql; CREATE TABLE t(a INT PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'é'); CREATE VIEW v AS SELECT a FROM t");
    let shop = shop(&server, "trap_mysql", "disabled");
    shop.run(0);
    let arguments = fs::read_to_string(shop.machine.at("mysqldump.arguments")).unwrap();
    let flags = [
        "--set-gtid-purged=OFF",
        "--column-statistics=0",
        "--no-tablespaces",
        "--single-transaction",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
        "--skip-dump-date",
        "--default-character-set=utf8mb4",
    ];
    for flag in flags {
        assert!(arguments.contains(flag), "{flag}: {arguments}");
    }
    let options = fs::read_to_string(shop.machine.at("mysqldump.options")).unwrap();
    assert!(options.starts_with("[client]\n") && options.contains("\nssl-mode=DISABLED\n"), "{options}");
    assert!(arguments.starts_with("--defaults-file=/dev/fd/3 "), "first, or it is refused: {arguments}");
    let record = shop.newest()["items"]["database"]["database"].clone();
    assert!(
        record["flags"].to_string().contains("--set-gtid-purged=OFF") && record["client_version"].to_string().contains("8.0.36"),
        "{record}"
    );
    // Another's client for this server is no error, but said.
    assert!(record["warnings"].to_string().contains("is of MySQL, the server is MariaDB"), "{record}");
    server.sql("DROP DATABASE trap_mysql");
    shop.call(&["restore", "--project", "shop", "--item", "database", "--yes"]).ended(0);
    assert_eq!(server.sql("SELECT b FROM trap_mysql.t; SELECT a FROM trap_mysql.v; DROP DATABASE trap_mysql"), "é\n1\n");
    let given = fs::read_to_string(shop.machine.at("mysql.arguments")).unwrap();
    assert!(given.contains("--binary-mode") && given.contains("--local-infile=0") && !given.contains("--sandbox"), "{given}");
}
