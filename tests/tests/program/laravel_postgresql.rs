//! A Laravel application with a real PostgreSQL: proposed by `init`, backed up, wiped, restored, compared; then restored over
//! what is there, which stays under another name.

use havun_tests::{Machine, PostgreSql, copy_tree, tree_difference};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PASSWORD: &str = "p#a'ss\"w\\o:r$d é";

fn application(machine: &Machine, server: &PostgreSql) -> PathBuf {
    let root = machine.at("shop");
    for folder in "app bootstrap/cache config database/migrations public routes storage/app/private storage/app/public \
                   storage/framework/cache/data storage/framework/sessions storage/framework/testing storage/framework/views storage/logs"
        .split_whitespace()
    {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    write("artisan", "#!/usr/bin/env php\n");
    write("composer.json", r#"{"name":"acme/shop","type":"project","require":{"php":"^8.2","laravel/framework":"^12.0"}}"#);
    write("composer.lock", r#"{"packages":[{"name":"laravel/framework","version":"v12.30.0"}]}"#);
    write("bootstrap/app.php", "<?php\n");
    write("config/database.php", "<?php return [];\n");
    write("public/index.php", "<?php\n");
    write("storage/app/private/invoice 2026.pdf", "%PDF-1.7\n");
    let env_password = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
    write(
        ".env",
        &format!(
            "APP_NAME=Shop\nAPP_ENV=production\nAPP_KEY=base64:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=\n\nDB_CONNECTION=pgsql\n\
             DB_HOST=127.0.0.1\nDB_PORT={}\nDB_DATABASE=shop\nDB_USERNAME=shop\nDB_PASSWORD=\"{env_password}\"\n",
            server.port()
        ),
    );
    root
}

/// Made by the application's own user, as its migrations would.
fn fill(server: &PostgreSql) {
    let password = PASSWORD.replace('\'', "''");
    server.sql(
        "postgres",
        &format!("CREATE ROLE shop LOGIN CREATEDB PASSWORD '{password}'; CREATE DATABASE shop OWNER shop TEMPLATE template0"),
    );
    server.sql("postgres", "ALTER DATABASE shop SET timezone = 'Europe/Amsterdam'; REVOKE CONNECT ON DATABASE shop FROM PUBLIC");
    server.sql(
        "shop",
        "SET SESSION AUTHORIZATION shop;
         CREATE EXTENSION citext;
         CREATE TYPE state AS ENUM ('open', 'it''s paid');
         CREATE TABLE migrations (id serial PRIMARY KEY, migration varchar(255), batch integer);
         INSERT INTO migrations (migration, batch) VALUES ('0001_01_01_000000_create_users_table', 1);
         CREATE TABLE users (id bigserial PRIMARY KEY, email citext UNIQUE, meta jsonb, tags text[], created_at timestamptz);
         INSERT INTO users (email, meta, tags, created_at) SELECT 'u' || n || '@example.org', jsonb_build_object('n', n, 't', E'\\\\.'), ARRAY['🍕', NULL, E'a\\nb'], '2026-01-01'::timestamptz + n * interval '1 s' FROM generate_series(1, 50000) n;
         CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users, total numeric(12, 2), state state, vat numeric GENERATED ALWAYS AS (total * 0.21) STORED);
         INSERT INTO orders (user_id, total, state) SELECT n, n / 7.0, 'it''s paid' FROM generate_series(1, 5000) n;
         CREATE TABLE files (id integer PRIMARY KEY, content bytea);
         INSERT INTO files SELECT n, decode(repeat('00ff275c0a', 500), 'hex') FROM generate_series(1, 200) n;
         CREATE TABLE sessions (id text PRIMARY KEY, payload text); INSERT INTO sessions VALUES ('s', 'x');
         CREATE VIEW paid AS SELECT * FROM orders WHERE state = 'it''s paid';
         CREATE MATERIALIZED VIEW totals AS SELECT user_id, sum(total) AS total FROM orders GROUP BY user_id;
         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.created_at = coalesce(NEW.created_at, now()); RETURN NEW; END $$;
         CREATE TRIGGER stamp BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION touch();
         SELECT lo_from_bytea(4711, '\\x00ff5c27');",
    );
}

/// What must be the same afterwards.
fn state(server: &PostgreSql, database: &str) -> String {
    let rows = ["migrations", "users", "orders", "files", "paid", "totals"].map(|table| {
        server.sql(
            database,
            &format!("SELECT '{table}', count(*), md5(string_agg(t::text, ',' ORDER BY t::text COLLATE \"C\")) FROM {table} t"),
        )
    });
    let more = server.sql(
        database,
        "SELECT sequencename, last_value FROM pg_sequences ORDER BY 1; SELECT oid, lo_get(oid) FROM pg_largeobject_metadata;
         SELECT datcollate, datctype, pg_get_userbyid(datdba),
         (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a) FROM pg_database WHERE datname = current_database(); SHOW timezone",
    );
    let schema = server.client("pg_dump").args(["--schema-only", "--restrict-key=x", "-d", database]).output().unwrap();
    assert!(schema.status.success());
    format!("{}{more}{}", rows.concat(), String::from_utf8_lossy(&schema.stdout))
}

fn call(machine: &Machine, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(havun_tests::program());
    command.args(["--config", &machine.at("shop.toml").to_string_lossy(), "--no-progress"]).args(arguments).current_dir(machine.path());
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("ss\"w"), "no password anywhere: {text}");
    (output.status.code().unwrap_or(-1), text)
}

fn init(machine: &Machine, root: &Path) {
    let at = |path: &str| machine.at(path).to_string_lossy().into_owned();
    let (state, store, escrow) = (at("shop-state"), at("shop-hot"), at("escrow-kit.txt"));
    let root = root.to_string_lossy();
    let (status, text) = call(machine, &["init", &root, "--state-dir", &state, "--store", &store, "--escrow-file", &escrow, "--yes"]);
    assert_eq!(status, 0, "{text}");
    assert!(fs::read_to_string(machine.at("shop.toml")).unwrap().contains("strategy = \"laravel\""));
}

#[test]
fn it_is_backed_up_wiped_restored_and_the_same_and_what_is_replaced_is_kept() {
    let (machine, server) = (Machine::new(), PostgreSql::start());
    fill(&server);
    let root = application(&machine, &server);
    init(&machine, &root);
    let before = machine.at("before");
    copy_tree(&root, &before);
    let (status, text) = call(&machine, &["run"]);
    assert_eq!(status, 0, "{text}");
    server.sql("shop", "TRUNCATE sessions");
    let rows_before = state(&server, "shop");

    fs::remove_dir_all(&root).unwrap();
    server.sql("postgres", "DROP DATABASE shop");
    let (status, text) = call(&machine, &["restore", "--project", "shop", "--latest", "--yes"]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(tree_difference(&before, &root, &[]), "");
    assert_eq!(server.sql("shop", "SELECT count(*) FROM sessions"), "0\n", "their rows are left out");
    assert_eq!(state(&server, "shop"), rows_before);

    server.sql("shop", "DELETE FROM orders WHERE id > 10; CREATE TABLE newer (a integer)");
    let damaged = state(&server, "shop");
    let (status, text) = call(&machine, &["restore", "--project", "shop", "--latest", "--yes", "--replace"]);
    assert_eq!(status, 0, "{text}");
    assert_eq!(state(&server, "shop"), rows_before);
    let kept = server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'shop_before_%'");
    let kept = kept.trim();
    assert!(!kept.is_empty() && text.contains(kept), "{text}");
    assert_eq!(state(&server, kept), damaged);
}
