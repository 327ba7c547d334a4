//! What a drill says of stored values that the restored key does not open, and of a configuration that hides the `.env`.

use havun_tests::Machine;
use rusqlite::Connection;
use std::{fs, path::PathBuf};

/// `12345678901234567890123456789012`.
const KEY: &str = "base64:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=";
/// By that key.
const OURS: &str = include_str!("../../fixtures/laravel-encrypted.txt");
/// By `ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef`.
const ANOTHERS: &str = include_str!("../../fixtures/laravel-encrypted-by-another-key.txt");
const OTHER_KEY: &str = "base64:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

/// A Laravel application on SQLite.
fn application(machine: &mut Machine, settings: &str) -> PathBuf {
    let root = machine.project("shop", "laravel", settings);
    for folder in [
        "bootstrap/cache",
        "config",
        "database/migrations",
        "public",
        "storage/app/private",
        "storage/app/public",
        "storage/framework/views",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    write("artisan", "#!/usr/bin/env php\n");
    write("composer.json", r#"{"require":{"laravel/framework":"^12.0"}}"#);
    write("composer.lock", r#"{"packages":[{"name":"laravel/framework","version":"v12.30.0"}]}"#);
    write("bootstrap/app.php", "<?php\n");
    write("config/database.php", "<?php return [];\n");
    write("public/index.php", "<?php\n");
    write(".env", &format!("APP_NAME=Shop\nAPP_KEY={KEY}\nDB_CONNECTION=sqlite\n"));
    Connection::open(root.join("database/database.sqlite"))
        .unwrap()
        .execute_batch(&format!(
            "CREATE TABLE migrations(id INTEGER PRIMARY KEY, migration TEXT, batch INT); INSERT INTO migrations VALUES (1, 'x', 1);
             CREATE TABLE users(id INTEGER PRIMARY KEY, two_factor_secret TEXT); INSERT INTO users VALUES (1, '{}'), (2, NULL);
             CREATE TABLE tokens(id INTEGER PRIMARY KEY, secret TEXT); INSERT INTO tokens VALUES (1, '{}'), (2, '{}')",
            OURS.trim(),
            ANOTHERS.trim(),
            ANOTHERS.trim()
        ))
        .unwrap();
    root
}

/// Nobody may take a value that opens in one column for a proof of another.
#[test]
fn a_column_of_which_no_value_opens_fails_the_drill_though_another_column_opens() {
    let mut machine = Machine::new();
    machine.section("[drill]\nchoose = [\"newest\"]\n");
    let root = application(&mut machine, "[projects.shop.settings]\nencrypted_columns = [\"tokens.secret\"]\n");
    machine.call(&["run"]).ended(0);
    let report = machine.json(&["test", "--project", "shop"]).ended(6).json();
    let said = report["projects"][0]["drills"][0]["certificate"]["reasons"].to_string();
    assert!(
        said.contains("neither APP_KEY nor APP_PREVIOUS_KEYS opens 2 of tokens.secret") && !said.contains("users.two_factor_secret"),
        "{said}"
    );
    // One that opens among others that do not is said, and fails nothing: old rows may be of a key that is gone.
    let database = Connection::open(root.join("database/database.sqlite")).unwrap();
    database.execute("UPDATE tokens SET secret = ?1 WHERE id = 1", [OURS.trim()]).unwrap();
    machine.call(&["run"]).ended(0);
    let report = machine.json(&["test", "--project", "shop"]).ended(0).json();
    assert!(report.to_string().contains("not 1 of tokens.secret"), "{report}");
    // The other key was this application's before: everything opens.
    fs::write(root.join(".env"), format!("APP_KEY={KEY}\nAPP_PREVIOUS_KEYS={OTHER_KEY}\nDB_CONNECTION=sqlite\n")).unwrap();
    machine.call(&["run"]).ended(0);
    let report = machine.json(&["test", "--project", "shop"]).ended(0).json();
    assert!(report.to_string().contains("2 of tokens.secret") && !report.to_string().contains("not 1 of"), "{report}");
}

/// `php artisan config:cache`: from then on Laravel does not read the `.env` that we read.
#[test]
fn a_cached_configuration_is_warned_about() {
    let mut machine = Machine::new();
    let root = application(&mut machine, "");
    let plan = machine.call(&["run", "--dry-run"]).ended(0).text();
    assert!(!plan.contains("bootstrap/cache/config.php"), "{plan}");
    fs::write(root.join("bootstrap/cache/config.php"), "<?php return ['database' => ['default' => 'mysql']];\n").unwrap();
    let plan = machine.call(&["run", "--dry-run"]).ended(0).text();
    assert!(plan.contains("bootstrap/cache/config.php"), "{plan}");
    let report = machine.json(&["run"]).ended(0).json();
    assert!(report.to_string().contains("bootstrap/cache/config.php"), "{report}");
}

/// A URL stands above the parts, as in Laravel: the file that `DB_DATABASE` names is not the database.
#[test]
fn db_url_beats_db_database() {
    let mut machine = Machine::new();
    let root = application(&mut machine, "");
    let other = root.join("database/other.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE only_here(x); INSERT INTO only_here VALUES (1)").unwrap();
    let env = format!(
        "APP_KEY={KEY}\nDB_CONNECTION=sqlite\nDB_DATABASE={}\nDB_URL=sqlite:///{}\n",
        root.join("database/database.sqlite").display(),
        other.display()
    );
    fs::write(root.join(".env"), env).unwrap();
    let report = machine.json(&["run"]).json();
    assert_eq!(report["projects"][0]["items"]["database"]["database"]["rows"]["only_here"], 1, "{report}");
}
