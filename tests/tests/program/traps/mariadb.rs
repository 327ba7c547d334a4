//! Dumps by MariaDB's own programs: a real server, the real client, and between them what goes wrong.

use super::{Shop, find};
use havun_tests::MariaDb;
use std::fs;

/// A table of 20 MB that comes first, and a small one that comes last.
fn large(server: &MariaDb, database: &str) {
    server.sql(&format!(
        "CREATE DATABASE {database}; USE {database};
         CREATE TABLE a_large(id INT PRIMARY KEY, t TEXT); INSERT INTO a_large SELECT seq, REPEAT(MD5(seq), 20) FROM seq_1_to_30000;
         CREATE TABLE z_last(a INT); INSERT INTO z_last VALUES (1), (2); CREATE VIEW names AS SELECT a FROM z_last"
    ));
}

/// Lets the first dump stand still after 2 MB, and does `sql` meanwhile; counts the dumps in the file `dumps`.
fn disturb(shop: &Shop, server: &MariaDb, sql: &str) {
    let socket = server.socket().display().to_string();
    let client = find("mariadb").display().to_string();
    shop.wrap(
        "mariadb-dump",
        &format!(
            "echo >> HERE/dumps\n[ $(wc -l < HERE/dumps) = 1 ] || exec REAL \"$@\"\nset -o pipefail\n\
             REAL \"$@\" | {{ head -c 2000000; {client} --no-defaults -S {socket} -u root -e '{sql}' > /dev/null 3<&-; cat; }}"
        ),
    );
}

fn dumps(shop: &Shop) -> usize {
    fs::read_to_string(shop.machine.at("dumps")).unwrap().lines().count()
}

#[test]
fn ddl_during_the_dump_is_retried_and_the_second_attempt_is_what_is_stored() {
    let server = MariaDb::shared();
    for (n, sql, rows) in [
        (1, "TRUNCATE TABLE trap_ddl_1.z_last", Some(0)),
        (2, "ALTER TABLE trap_ddl_2.z_last MODIFY a BIGINT NOT NULL", Some(2)),
        (3, "DROP VIEW trap_ddl_3.names; DROP TABLE trap_ddl_3.z_last", None),
    ] {
        let database = format!("trap_ddl_{n}");
        large(&server, &database);
        let shop = Shop::mariadb(&server, &database);
        disturb(&shop, &server, sql);
        let item = shop.run(0);
        assert_eq!((item["outcome"].as_str(), dumps(&shop)), (Some("ok"), 2), "{sql}: {item}");
        let record = &shop.newest()["items"]["database"]["database"];
        assert_eq!((record["rows"]["z_last"].as_u64(), record["rows"]["a_large"].as_u64()), (rows, Some(30_000)), "{sql}: {record}");
        server.sql(&format!("DROP DATABASE {database}"));
    }
}

#[test]
fn a_column_added_before_its_table_is_reached_is_in_the_dump_or_the_dump_is_begun_again() {
    let server = MariaDb::shared();
    large(&server, "trap_column");
    let shop = Shop::mariadb(&server, "trap_column");
    disturb(&shop, &server, "ALTER TABLE trap_column.z_last ADD COLUMN b INT DEFAULT 7");
    shop.run(0);
    assert!((1..=2).contains(&dumps(&shop)));
    server.sql("DROP DATABASE trap_column");
    shop.call(&["restore", "--project", "shop", "--item", "database", "--yes"]).ended(0);
    assert_eq!(server.sql("SELECT a, b FROM trap_column.z_last ORDER BY a"), "1\t7\n2\t7\n");
    server.sql("DROP DATABASE trap_column");
}

#[test]
fn a_table_that_is_changed_again_and_again_fails_the_dump_after_three_attempts() {
    let server = MariaDb::shared();
    large(&server, "trap_restless");
    let shop = Shop::mariadb(&server, "trap_restless");
    disturb(&shop, &server, "TRUNCATE TABLE trap_restless.z_last; INSERT INTO trap_restless.z_last VALUES (1)");
    // Every dump, not the first one only.
    let script = fs::read_to_string(shop.machine.at("bin/mariadb-dump")).unwrap();
    shop.install("mariadb-dump", &script.replace("[ $(wc -l <", "true || [ $(wc -l <"));
    let said = shop.failed_dump();
    assert!(said.contains("a table changed its definition during the dump") && dumps(&shop) == 3, "{} dumps: {said}", dumps(&shop));
    server.sql("DROP DATABASE trap_restless");
}

#[test]
fn a_dump_killed_half_way_leaves_no_artefact_and_nothing_is_pruned() {
    let server = MariaDb::shared();
    large(&server, "trap_killed");
    let shop = Shop::new(
        &format!("engine = \"mariadb\"\nsocket = \"{}\"\nuser = \"root\"\ndatabase = \"trap_killed\"", server.socket().display()),
        "[projects.shop.retention]\nhot = \"1d\"\n",
    );
    shop.call_at("2026-11-10 03:00:00", &["run"]).ended(0);
    shop.wrap("mariadb-dump", "REAL \"$@\" | head -c 10000000\nkill -9 $$");
    let said = shop.failed_dump_at("2026-11-11 03:00:00");
    assert!(said.contains("signal 9"), "{said}");
    for day in 12..16 {
        shop.failed_dump_at(&format!("2026-11-{day} 03:00:00"));
    }
    // The one good snapshot is the oldest, and past its term of a day.
    let kept = |plan: &serde_json::Value| {
        let snapshots = plan["stores"][0]["snapshots"].as_array().unwrap().clone();
        snapshots
            .into_iter()
            .filter(|snapshot| snapshot["taken_at"].as_str().unwrap() < "2026-11-11")
            .all(|snapshot| snapshot["keep"] == true)
    };
    let plan = shop.call_at("2026-11-16 12:00:00", &["--json", "cleanup", "--dry-run"]).ended(0).json();
    assert!(kept(&plan), "{plan}");
    shop.call_at("2026-11-16 12:00:00", &["cleanup"]).ended(0);
    // `--latest` is the newest that is whole.
    server.sql("DROP DATABASE trap_killed");
    shop.call(&["restore", "--project", "shop", "--latest", "--item", "database", "--yes"]).ended(0);
    assert_eq!(server.sql("SELECT COUNT(*) FROM trap_killed.a_large"), "30000\n");
    server.sql("DROP DATABASE trap_killed");
}

#[test]
fn a_program_that_ends_well_without_its_last_line_or_without_everything_is_no_dump() {
    let server = MariaDb::shared();
    large(&server, "trap_short");
    let shop = Shop::mariadb(&server, "trap_short");
    let first = "first=$1; shift; ";
    for (script, said) in [
        ("REAL \"$@\" | head -n -1".to_owned(), "cut short"),
        ("REAL \"$@\" | head -c 10000000".to_owned(), "cut short"),
        (format!("{first}exec REAL \"$first\" --ignore-table=trap_short.names \"$@\""), "views"),
        (format!("{first}exec REAL \"$first\" --ignore-table=trap_short.names --ignore-table=trap_short.z_last \"$@\""), "z_last"),
        ("exit 0".to_owned(), "cut short"),
    ] {
        shop.wrap("mariadb-dump", &script);
        let problem = shop.failed_dump();
        assert!(problem.contains(said), "{script}: {problem}");
    }
    server.sql("DROP DATABASE trap_short");
}

#[test]
fn a_myisam_table_is_a_warning_of_the_run_and_in_the_snapshot() {
    let server = MariaDb::shared();
    server.sql("CREATE DATABASE trap_myisam; CREATE TABLE trap_myisam.old(a INT) ENGINE=MyISAM; CREATE TABLE trap_myisam.aria(a INT) ENGINE=Aria; CREATE TABLE trap_myisam.new(a INT) ENGINE=InnoDB");
    let shop = Shop::mariadb(&server, "trap_myisam");
    let item = shop.run(0);
    let warned = |warnings: &serde_json::Value| {
        let texts: Vec<String> = warnings.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
        assert!(texts.iter().any(|text| text.contains("no transactions: aria, old")), "{texts:?}");
    };
    warned(&item["database"]["warnings"]);
    warned(&shop.newest()["items"]["database"]["database"]["warnings"]);
    server.sql("DROP DATABASE trap_myisam");
}

#[test]
fn no_option_file_of_the_machine_changes_what_a_dump_holds() {
    let server = MariaDb::shared();
    large(&server, "trap_options");
    let shop = Shop::mariadb(&server, "trap_options");
    fs::write(shop.machine.at(".my.cnf"), "[client]\nuser = nobody_at_all\n[mariadb-dump]\nno-data\n[mysqldump]\nno-data\n").unwrap();
    let run = |shop: &Shop| {
        let mut command = shop.command(&["run"]);
        havun_tests::Called::of(command.env("HOME", shop.machine.path()).output().unwrap()).ended(0);
    };
    run(&shop);
    assert_eq!(shop.newest()["items"]["database"]["database"]["rows"]["a_large"], 30_000);
    server.sql("DROP DATABASE trap_options");
}

#[test]
fn a_name_that_a_shell_would_run_is_only_a_name() {
    let server = MariaDb::shared();
    let name = "a;touch pwned $(touch pwned) `touch pwned` ' \" --help";
    let quoted = format!("`{}`", name.replace('`', "``"));
    server.sql(&format!("CREATE DATABASE {quoted}; CREATE TABLE {quoted}.t(a INT); INSERT INTO {quoted}.t VALUES (1)"));
    let parameters = format!(
        "engine = \"mariadb\"\nsocket = \"{}\"\nuser = \"root\"\ndatabase = \"{}\"",
        server.socket().display(),
        name.replace('"', "\\\"")
    );
    let shop = Shop::new(&parameters, "");
    shop.run(0);
    server.sql(&format!("DROP DATABASE {quoted}"));
    shop.call(&["restore", "--project", "shop", "--item", "database", "--yes"]).ended(0);
    assert_eq!(server.sql(&format!("SELECT a FROM {quoted}.t; DROP DATABASE {quoted}")), "1\n");
    assert!(!shop.machine.at("pwned").exists() && !shop.root.join("pwned").exists() && !std::path::Path::new("pwned").exists());
}

#[test]
fn binary_columns_are_text_in_the_dump() {
    let server = MariaDb::shared();
    server.sql("CREATE DATABASE trap_hex; CREATE TABLE trap_hex.t(a BLOB, b BINARY(4), c BIT(9)); INSERT INTO trap_hex.t VALUES (0xff00276622c3280a, 0x80818283, 257)");
    let shop = Shop::mariadb(&server, "trap_hex");
    shop.run(0);
    let text = String::from_utf8(shop.dump("databases/database.sql")).expect("a dump is valid UTF-8");
    assert!(text.contains("(0xFF00276622C3280A,0x80818283,0x0101)"), "{text}");
    server.sql("DROP DATABASE trap_hex");
}
