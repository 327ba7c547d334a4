//! A Laravel application with a real MariaDB: proposed by `init`, backed up, wiped, restored, compared.

use havun_tests::{Machine, MariaDb, copy_tree, tree_difference};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PASSWORD: &str = "p#a'ss\"w\\o:r$d é";

/// The skeleton of an application, as `composer create-project` leaves it, with what users add.
fn application(machine: &Machine, server: &MariaDb) -> PathBuf {
    let root = machine.at("shop");
    application_at(&root, server);
    root
}

/// As [`application`], in a folder that may be there.
pub(crate) fn application_at(root: &Path, server: &MariaDb) {
    let folders = "app bootstrap/cache config database/migrations public resources routes storage/app/private storage/app/public \
                   storage/framework/cache/data storage/framework/sessions storage/framework/testing storage/framework/views storage/logs";
    for folder in folders.split_whitespace() {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    write("artisan", "#!/usr/bin/env php\n");
    write("composer.json", r#"{"name":"acme/shop","type":"project","require":{"php":"^8.2","laravel/framework":"^12.0"}}"#);
    write("composer.lock", r#"{"packages":[{"name":"laravel/framework","version":"v12.30.0"}]}"#);
    write("bootstrap/app.php", "<?php\n");
    write("config/database.php", "<?php return [];\n");
    write("public/index.php", "<?php\n");
    write("routes/web.php", "<?php\n");
    write("storage/app/private/invoice 2026.pdf", "%PDF-1.7\n");
    write("storage/app/public/photo.jpg", &"x".repeat(300_000));
    let env_password = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
    write(
        ".env",
        &format!(
            "APP_NAME=Shop\nAPP_ENV=production\nAPP_KEY=base64:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=\n\nDB_CONNECTION=mariadb\n\
             DB_HOST=127.0.0.1\nDB_PORT={}\nDB_DATABASE=shop\nDB_USERNAME=shop\nDB_PASSWORD=\"{env_password}\"\n",
            server.port()
        ),
    );
    std::os::unix::fs::symlink("../storage/app/public", root.join("public/storage")).unwrap();
}

/// Every kind of table and object that a dump could lose, made by the application's own user as its migrations would.
pub(crate) fn fill(server: &MariaDb) {
    let password = PASSWORD.replace('\\', "\\\\").replace('\'', "\\'");
    server.sql(&format!(
        "CREATE DATABASE shop CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
         CREATE USER shop@'%' IDENTIFIED BY '{password}'; GRANT ALL ON shop.* TO shop@'%';
         CREATE USER shop@localhost IDENTIFIED BY '{password}'; GRANT ALL ON shop.* TO shop@localhost;
         USE shop; SET sql_mode = '';
         CREATE TABLE orders (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, customer VARCHAR(80), total DECIMAL(12,2), at DATETIME, KEY (customer));
         INSERT INTO orders (customer, total, at) SELECT CONCAT('Customer ', seq, ' 🍕'), seq / 7, '2026-01-01' + INTERVAL seq SECOND FROM seq_1_to_300000;
         CREATE TABLE files (id INT PRIMARY KEY, content LONGBLOB, zero DATETIME, day DATE) ENGINE=InnoDB;
         INSERT INTO files SELECT seq, UNHEX(REPEAT(HEX(CHAR(seq, 0, 255, 10, 39, 92)), 500)), '0000-00-00 00:00:00', '0000-00-00' FROM seq_1_to_200;
         CREATE TABLE old (id INT PRIMARY KEY, text VARCHAR(200), FULLTEXT (text)) ENGINE=MyISAM;
         INSERT INTO old SELECT seq, CONCAT('zeile \\'', seq, '\\' \\\\ \"é\" \\n;') FROM seq_1_to_1000;
         CREATE TABLE order_lines (order_id INT UNSIGNED, n INT, PRIMARY KEY (order_id, n), FOREIGN KEY (order_id) REFERENCES orders (id));
         INSERT INTO order_lines SELECT seq, 1 FROM seq_1_to_500;
         CREATE DEFINER = shop@localhost VIEW big AS SELECT customer, total FROM orders WHERE total > 1000;
         CREATE DEFINER = shop@localhost TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW SET NEW.at = IFNULL(NEW.at, NOW());
         DELIMITER //
         CREATE DEFINER = shop@localhost PROCEDURE close_day(IN day DATE) BEGIN UPDATE orders SET total = total WHERE DATE(at) = day; SELECT ';'; END//
         CREATE DEFINER = shop@localhost FUNCTION vat(amount DECIMAL(12,2)) RETURNS DECIMAL(12,2) DETERMINISTIC BEGIN RETURN amount * 0.21; END//
         CREATE DEFINER = shop@localhost EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01 03:00:00' DO BEGIN DELETE FROM order_lines WHERE n < 0; END//
         DELIMITER ;"
    ));
}

const TABLES: [&str; 4] = ["files", "old", "order_lines", "orders"];

/// What must be the same afterwards: checksums of all rows, and every routine, trigger, event and view.
pub(crate) fn state(server: &MariaDb) -> String {
    let checksums = format!("CHECKSUM TABLE {} EXTENDED;", TABLES.map(|table| format!("shop.{table}")).join(", "));
    server.sql(&format!(
        "{checksums}
         SELECT ROUTINE_TYPE, ROUTINE_NAME, DTD_IDENTIFIER, ROUTINE_DEFINITION, SQL_MODE, DEFINER, SECURITY_TYPE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'shop' ORDER BY 1, 2;
         SELECT TRIGGER_NAME, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_STATEMENT, ACTION_TIMING, DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop' ORDER BY 1;
         SELECT EVENT_NAME, EVENT_DEFINITION, INTERVAL_VALUE, INTERVAL_FIELD, STARTS, STATUS, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'shop' ORDER BY 1;
         SELECT TABLE_NAME, VIEW_DEFINITION, DEFINER, SECURITY_TYPE FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'shop' ORDER BY 1;
         SELECT TABLE_NAME, ENGINE, TABLE_COLLATION, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop' AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1;
         SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'shop'"
    ))
}

fn call(machine: &Machine, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(havun_tests::program());
    command.args(["--config", &machine.at("shop.toml").to_string_lossy(), "--no-progress"]).args(arguments).current_dir(machine.path());
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}

fn init(machine: &Machine, root: &Path, expected: i32) -> String {
    let at = |path: &str| machine.at(path).to_string_lossy().into_owned();
    let escrow = at("escrow-kit.txt");
    let (state, store, archive) = (at("shop-state"), at("shop-hot"), at("shop-archive"));
    let (status, text) = call(
        machine,
        &[
            "init",
            &root.to_string_lossy(),
            "--state-dir",
            &state,
            "--store",
            &store,
            "--archive",
            &archive,
            "--escrow-file",
            &escrow,
            "--yes",
        ],
    );
    assert_eq!(status, expected, "{text}");
    let config = fs::read_to_string(machine.at("shop.toml")).unwrap();
    assert!(config.contains("strategy = \"laravel\"") && config.contains('#'), "{config}");
    assert!(!config.contains("p#a"), "no password in the configuration: {config}");
    text
}

#[test]
fn it_is_proposed_backed_up_wiped_restored_and_the_same() {
    let (machine, server) = (Machine::new(), MariaDb::start());
    fill(&server);
    let root = application(&machine, &server);
    init(&machine, &root, 0);
    let (before, rows_before) = (machine.at("before"), state(&server));
    copy_tree(&root, &before);
    let (status, text) = call(&machine, &["run"]);
    assert_eq!(status, 0, "{text}");
    fs::remove_dir_all(&root).unwrap();
    server.sql("DROP DATABASE shop");
    let (status, text) = call(&machine, &["restore", "--project", "shop", "--yes"]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(tree_difference(&before, &root, &[]), "");
    assert_eq!(state(&server), rows_before);
    restore_beside(&machine, &server);
    nothing_is_replaced_unless_it_is_said(&machine, &server, &root);
    assert_eq!(state(&server), rows_before);
}

/// Not the database, and not the tree either, though the database's whereabouts stand in the tree that is to come back.
fn nothing_is_replaced_unless_it_is_said(machine: &Machine, server: &MariaDb, root: &Path) {
    server.sql("UPDATE shop.orders SET customer = 'newer' WHERE id = 1");
    let newer = state(server);
    fs::remove_dir_all(root).unwrap();
    let (status, text) = call(machine, &["restore", "--project", "shop", "--yes"]);
    assert!(status == 1 && text.contains("--replace") && text.contains("nothing was changed"), "{status} {text}");
    assert!(!root.exists());
    assert_eq!(state(server), newer);
    let (status, text) = call(machine, &["restore", "--project", "shop", "--dry-run"]);
    assert!(status == 0 && text.contains("refused without --replace") && text.contains("4 tables"), "{status} {text}");
    let (status, text) = call(machine, &["restore", "--project", "shop", "--yes", "--replace"]);
    assert!(status == 0 && text.contains("what was there before"), "{status} {text}");
}

/// Into a database of another name, which must be empty, with the application's own rights.
fn restore_beside(machine: &Machine, server: &MariaDb) {
    let target = machine.at("x").to_string_lossy().into_owned();
    let into = |name: &str| {
        let database = format!("database={name}");
        call(machine, &["restore", "--project", "shop", "--item", "database", "--database-as", &database, "--target", &target, "--yes"])
    };
    let (status, text) = into("not_granted");
    assert!(status == 1 && !text.contains("p#a"), "{status} {text}");
    server.sql("CREATE DATABASE shop_copy; GRANT ALL ON shop_copy.* TO shop@localhost");
    let (status, text) = into("shop_copy");
    assert_eq!(status, 0, "{text}");
    let sums = |database: &str| {
        let tables = TABLES.map(|table| format!("{database}.{table}")).join(", ");
        server.sql(&format!("CHECKSUM TABLE {tables} EXTENDED")).replace(&format!("{database}."), "")
    };
    assert_eq!(sums("shop"), sums("shop_copy"));
    let (status, text) = into("shop_copy");
    assert!(status == 1 && text.contains("shop_copy") && text.contains("--replace"), "{status} {text}");
}

#[test]
fn a_dump_user_who_may_not_see_routines_is_never_ok() {
    let (machine, server) = (Machine::new(), MariaDb::start());
    fill(&server);
    server.sql("CREATE PROCEDURE shop.of_an_administrator() SELECT 1");
    let root = application(&machine, &server);
    let said = init(&machine, &root, 1);
    assert!(said.contains("GRANT"), "{said}");
    let (status, text) = call(&machine, &["run"]);
    assert_eq!(status, 3, "{text}");
    assert!(text.contains("GRANT"), "{text}");
    let (_, rows) = call(&machine, &["logs", "--limit", "1"]);
    assert!(rows.contains("partial"), "{rows}");
}
