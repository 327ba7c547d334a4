//! Drills: three projects that pass, and each way to fail with its exact reason; nothing stays, not even after `kill -9`.

use havun_tests::{Called, Machine, MariaDb, PostgreSql};
use rusqlite::Connection;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// `12345678901234567890123456789012`.
const KEY: &str = "base64:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=";
/// `Crypt::encryptString('secret')` with that key, as Laravel makes it.
const ENCRYPTED: &str = include_str!("../fixtures/laravel-encrypted.txt");

/// A Laravel application with a MariaDB database of its own name.
pub(crate) fn laravel(machine: &mut Machine, server: &MariaDb, name: &str, more: &str) -> PathBuf {
    let root = machine.project(name, "laravel", more);
    for folder in
        "bootstrap config database/migrations public storage/app/private storage/app/public storage/framework/views storage/logs".split(' ')
    {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(root.join(path), text).unwrap();
    write("artisan", "#!/usr/bin/env php\n");
    write("composer.json", r#"{"require":{"laravel/framework":"^12.0"}}"#);
    write("composer.lock", r#"{"packages":[{"name":"laravel/framework","version":"v12.30.0"}]}"#);
    write("bootstrap/app.php", "<?php\n");
    write("config/database.php", "<?php return [];\n");
    write("public/index.php", "<?php\n");
    write(
        "database/migrations/2026_01_01_000000_create_orders_table.php",
        "<?php\nreturn new class extends Migration {\n    public function up(): void\n    {\n        Schema::create('orders', function ($table) {\n            $table->id();\n        });\n    }\n\n    public function down(): void\n    {\n        Schema::dropIfExists('orders');\n    }\n};\n",
    );
    fs::write(root.join("storage/app/private/invoice.pdf"), pdf()).unwrap();
    write(
        ".env",
        &format!(
            "APP_NAME=Shop\nAPP_KEY={KEY}\nDB_CONNECTION=mariadb\nDB_HOST=127.0.0.1\nDB_PORT={}\nDB_DATABASE={name}\nDB_USERNAME={name}\nDB_PASSWORD=geheim\n",
            server.port()
        ),
    );
    server.sql(&format!(
        "CREATE DATABASE {name} CHARACTER SET utf8mb4;
         CREATE USER {name}@'%' IDENTIFIED BY 'geheim'; GRANT ALL ON {name}.* TO {name}@'%';
         CREATE USER {name}@localhost IDENTIFIED BY 'geheim'; GRANT ALL ON {name}.* TO {name}@localhost;
         USE {name};
         CREATE TABLE migrations (id INT PRIMARY KEY AUTO_INCREMENT, migration VARCHAR(255), batch INT);
         INSERT INTO migrations (migration, batch) VALUES ('2026_01_01_000000_create_orders_table', 1);
         CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), two_factor_secret TEXT);
         INSERT INTO users (name, two_factor_secret) VALUES ('Zoë', NULL), ('Ömer', '{}');
         CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR(80));
         INSERT INTO orders SELECT seq, CONCAT('Customer ', seq, ' 🍕') FROM seq_1_to_2000;
         CREATE DEFINER = {name}@localhost VIEW recent AS SELECT * FROM orders WHERE id > 1900;
         CREATE DEFINER = {name}@localhost EVENT nightly ON SCHEDULE EVERY 1 SECOND DO DELETE FROM {name}.orders WHERE id > 1000000;",
        ENCRYPTED.trim()
    ));
    root
}

fn pdf() -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    bytes.extend(std::iter::repeat_n(b'x', 60_000));
    bytes.extend_from_slice(b"\nstartxref\n9\n%%EOF\n");
    bytes
}

/// A Node.js application with a SQLite database and a JSON one.
pub(crate) fn nodejs(machine: &mut Machine, more: &str) -> PathBuf {
    let root = machine.project("orders", "nodejs", more);
    fs::create_dir_all(root.join("data")).unwrap();
    fs::write(root.join("package.json"), r#"{"name":"orders","dependencies":{"express":"^5.0.0"}}"#).unwrap();
    let lock = r#"{"name":"orders","lockfileVersion":3,"packages":{"":{"name":"orders","dependencies":{"express":"^5.0.0"}},"node_modules/express":{"version":"5.1.0"}}}"#;
    fs::write(root.join("package-lock.json"), lock).unwrap();
    fs::write(root.join("index.js"), "require('express')\n").unwrap();
    fs::write(root.join("data/users.json"), r#"[{"id":1,"name":"Zoë"}]"#).unwrap();
    fs::write(root.join(".env"), "DATABASE_URL=\"file:./data/app.sqlite\"\n").unwrap();
    let database = Connection::open(root.join("data/app.sqlite")).unwrap();
    let fill = "PRAGMA journal_mode = WAL; CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO notes SELECT i, 'note ' || i FROM n;";
    database.execute_batch(fill).unwrap();
    root
}

/// Bytes that do not compress, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(count).collect()
}

pub(crate) fn files(machine: &mut Machine, name: &str, more: &str) -> PathBuf {
    let root = machine.project(name, "files", more);
    fs::create_dir_all(root.join("2026")).unwrap();
    fs::write(root.join("2026/contract.pdf"), pdf()).unwrap();
    fs::write(root.join("2026/large.bin"), noise(3_000_000)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    std::os::unix::fs::symlink("2026/contract.pdf", root.join("latest.pdf")).unwrap();
    fs::set_permissions(root.join("2026"), std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    root
}

/// The one project of a report, and its certificates.
pub(crate) fn only(report: &Value) -> (&Value, Vec<&Value>) {
    let project = &report["projects"][0];
    (project, project["drills"].as_array().unwrap().iter().map(|drill| &drill["certificate"]).collect())
}

/// Drills one project, expects it to fail, and returns its reasons.
pub(crate) fn reasons(machine: &Machine, project: &str) -> String {
    let report = machine.json(&["test", "--project", project]).ended(6).json();
    let (project, certificates) = only(&report);
    assert_eq!(project["outcome"], "failed", "{report}");
    certificates
        .iter()
        .flat_map(|c| c["reasons"].as_array().unwrap().clone())
        .map(|r| r.as_str().unwrap().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// What drills have left on this machine: folders of this one, and servers' folders of anybody's that name it.
pub(crate) fn left(machine: &Machine) -> Vec<PathBuf> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut found = entries(&machine.at("state/drills"));
    found.extend(entries(&machine.at("scratch")));
    found
}

/// Server processes whose command line names this machine's folder.
pub(crate) fn servers(machine: &Machine) -> Vec<u32> {
    let scratch = machine.at("scratch").to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    processes
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&scratch)))
        .collect()
}

/// A machine whose scratch servers lie in its own folder, so that a test sees its own only.
pub(crate) fn machine(drill: &str) -> Machine {
    use std::os::unix::fs::PermissionsExt;
    let mut machine = Machine::new();
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o711)).unwrap();
    fs::create_dir(machine.at("scratch")).unwrap();
    fs::set_permissions(machine.at("scratch"), fs::Permissions::from_mode(0o711)).unwrap();
    machine.section(&format!("[drill]\nscratch_dir = \"scratch\"\nchoose = [\"newest\"]\n{drill}"));
    machine
}

#[test]
fn three_projects_pass_and_certify() {
    let (mut machine, server) = (machine(""), MariaDb::shared());
    laravel(&mut machine, &server, "shop", "rto = \"4h\"\nrpo = \"26h\"\ncompliance = [\"belastingdienst\"]\n");
    nodejs(&mut machine, "encryption = false\n");
    files(&mut machine, "papers", "");
    machine.call(&["run"]).ended(0);
    assert!(machine.json(&["health"]).stdout.contains("no restore was proven yet"));
    let state = || server.sql("SHOW DATABASES LIKE 'havun%'; CHECKSUM TABLE shop.orders, shop.users, shop.migrations EXTENDED");
    let before = state();
    let report = machine.json(&["test", "--all"]);
    let document = report.ended(0).json();
    for project in document["projects"].as_array().unwrap() {
        assert_eq!(project["outcome"], "passed", "{project:#}");
    }
    assert_eq!(state(), before, "production was not touched");
    let certificate = |name: &str| {
        let projects = document["projects"].as_array().unwrap();
        let project = projects.iter().find(|project| project["project"] == name).unwrap();
        project["drills"][0].clone()
    };
    of_laravel(&certificate("shop"));
    let orders = certificate("orders");
    assert_eq!(orders["certificate"]["databases"][0]["rows_found"], 500, "{orders:#}");
    assert_eq!(certificate("papers")["certificate"]["files"]["failed_count"], 0);
    kept(&machine, &certificate("shop"), &orders);
    assert_eq!(left(&machine), Vec::<PathBuf>::new());
    assert_eq!(servers(&machine), Vec::<u32>::new());
    let rows = machine.json(&["logs"]).ended(0).json();
    let drills = rows["rows"].as_array().unwrap().iter().filter(|row| row["action"] == "drill" && row["status"] == "ok").count();
    assert_eq!(drills, 3);
    // Nothing is due any more.
    let again = machine.json(&["test", "--due"]).ended(0).json();
    assert!(again["projects"].as_array().unwrap().iter().all(|project| project["outcome"] == "not-due"), "{again}");
    machine.call(&["health"]).ended(0);
    machine.call(&["verify", "--read-data"]).ended(0);
}

fn of_laravel(drill: &Value) {
    let c = &drill["certificate"];
    let database = &c["databases"][0];
    assert_eq!((&database["tables_expected"], &database["tables_found"]), (&Value::from(3), &Value::from(3)), "{database:#}");
    assert_eq!((&database["rows_expected"], &database["rows_found"]), (&Value::from(2003), &Value::from(2003)), "{database:#}");
    assert!(database["scratch_server"].as_str().unwrap().contains("MariaDB"), "{database:#}");
    let files = &c["files"];
    assert_eq!((&files["to_compare"], &files["compared"]), (&Value::from(9), &Value::from(9)), "{files:#}");
    assert!(files["expected"] == files["found"] && files["bytes_expected"] == files["bytes_found"], "{files:#}");
    let outcome = |name: &str| {
        let checks = c["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|check| check["name"] == name)
            .map_or(String::new(), |check| format!("{}: {}", check["outcome"], check["detail"]))
    };
    for name in ["APP_KEY", "APP_KEY decrypts", "database: migrations", "storage/app", "uploads end where they should"] {
        assert!(outcome(name).starts_with("\"pass\""), "{name}: {} of {c:#}", outcome(name));
    }
    assert_eq!((&c["objectives"]["within_rto"], &c["objectives"]["within_rpo"]), (&Value::from(true), &Value::from(true)));
}

/// On this host in four forms, in each store, in the clear only where the vault is; and the signature holds.
fn kept(machine: &Machine, shop: &Value, orders: &Value) {
    let stored = |project: &str, store: &str| {
        let folder = machine.at(store).join(project).join("audit/drills");
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_by_key(|name| name.split('.').next_back().map(str::to_owned));
        names
    };
    for store in ["local", "archive"] {
        assert_eq!(stored("shop", store).iter().filter(|name| name.ends_with(".age")).count(), 4);
        let open = stored("orders", store);
        assert_eq!(open.len(), 4);
        let note = open.iter().find(|name| name.ends_with(".note")).unwrap();
        let sum = Command::new("sha256sum").arg(machine.at(store).join("orders/audit/drills").join(note)).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert!(note.contains(sum.split(' ').next().unwrap()), "{note} {sum}");
    }
    assert_eq!(orders["stored_in"].as_array().unwrap().len(), 2);
    let files: Vec<PathBuf> = shop["files"].as_array().unwrap().iter().map(|path| PathBuf::from(path.as_str().unwrap())).collect();
    let with = |extension: &str| files.iter().find(|path| path.extension().is_some_and(|e| e == extension)).unwrap();
    let html = fs::read_to_string(with("html")).unwrap();
    for fact in [
        "PASSED",
        "2,003 rows",
        "at most 4h",
        "APP_KEY decrypts",
        "belastingdienst",
        shop["certificate"]["snapshot"]["id"].as_str().unwrap(),
    ] {
        assert!(html.contains(fact), "{fact}: {html}");
    }
    let check = |file: &Path| machine.call(&["test", "--verify", file.to_str().unwrap()]);
    files.iter().for_each(|file| assert!(check(file).ended(0).stdout.contains("valid")));
    // On another machine with nothing but the key; and not with another key.
    let key = shop["certificate"]["signer"].as_str().unwrap();
    let elsewhere = |key: &str| {
        let mut command = Command::new(havun_tests::program());
        Called::of(
            command
                .args(["test", "--key", key, "--verify"])
                .arg(with("note"))
                .current_dir("/")
                .env_remove("HAVUN_BACKUP_CONFIG")
                .output()
                .unwrap(),
        )
    };
    elsewhere(key).ended(0);
    let other = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    assert!(elsewhere(other).ended(5).stderr.contains("not signed by sum.golang.org"));
    openssl(machine, with("json"), with("note"), key);
    // A page that says something else is found out; so is a note.
    for (extension, from, to) in [("html", "2,003 rows", "9,999 rows"), ("md", "PASSED", "PERFECT"), ("note", "\"passed\"", "\"PASSED\"")] {
        let path = with(extension);
        let whole = fs::read_to_string(path).unwrap();
        fs::write(path, whole.replacen(from, to, 1)).unwrap();
        let said = check(path).ended(5).stderr;
        assert!(said.contains("was changed") || said.contains("not what was signed"), "{said}");
        fs::write(path, whole).unwrap();
    }
}

/// The signature is plain Ed25519 over the JSON form: OpenSSL agrees.
fn openssl(machine: &Machine, json: &Path, note: &Path, key: &str) {
    let script = format!(
        "{{ printf '302a300506032b6570032100' | xxd -r -p; printf %s '{key}' | cut -d+ -f3- | base64 -d | tail -c 32; }} > pub.der
         tail -n 1 '{}' | cut -d' ' -f3 | base64 -d | tail -c 64 > sig.bin
         openssl pkeyutl -verify -pubin -keyform DER -inkey pub.der -rawin -in '{}' -sigfile sig.bin",
        note.display(),
        json.display()
    );
    let output = Command::new("bash").args(["-euc", &script]).current_dir(machine.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_missing_table_fails_by_its_name() {
    let (mut machine, server) = (machine(""), MariaDb::shared());
    laravel(&mut machine, &server, "gone", "");
    server.sql("DROP VIEW gone.recent; DROP TABLE gone.orders");
    machine.call(&["run"]).ended(0);
    let said = reasons(&machine, "gone");
    assert!(said.contains("orders") && said.contains("2026_01_01_000000_create_orders_table"), "{said}");
    server.sql("DROP TABLE gone.migrations");
    machine.call(&["run"]).ended(0);
    let said = reasons(&machine, "gone");
    assert!(said.contains("migrations") && said.contains("missing"), "{said}");
}

#[test]
fn a_truncated_upload_fails_by_its_path() {
    let mut machine = machine("");
    for (name, more) in [("papers", ""), ("known", "[projects.known.drill]\nknown_bad = [\"scan.pdf\"]\n")] {
        let root = files(&mut machine, name, &format!("stores = [\"local\"]\n{more}"));
        fs::write(root.join("scan.pdf"), &pdf()[..30_000]).unwrap();
    }
    machine.call(&["run"]).ended(0);
    let said = reasons(&machine, "papers");
    assert!(said.contains("tree/scan.pdf") && said.contains("PDF without its end"), "{said}");
    let alerts = machine.json(&["logs", "--alerts"]).ended(0).stdout;
    assert!(alerts.contains("\"drill\"") && alerts.contains("scan.pdf"), "{alerts}");
    assert!(machine.json(&["health", "--project", "papers"]).ended(4).stdout.contains("scan.pdf"));
    // One that came like that is no fault of the backup.
    machine.call(&["test", "--project", "known"]).ended(0);
}

#[test]
fn a_damaged_pack_fails_by_the_files_that_it_hits() {
    let mut machine = machine("");
    files(&mut machine, "papers", "stores = [\"local\"]\n");
    machine.call(&["run"]).ended(0);
    let packs = Command::new("find")
        .arg(machine.at("local/papers/epochs"))
        .args(["-path", "*/packs/*", "-type", "f", "-size", "+1000k"])
        .output()
        .unwrap();
    let pack = PathBuf::from(String::from_utf8(packs.stdout).unwrap().lines().next().unwrap());
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let said = reasons(&machine, "papers");
    assert!(said.contains("tree/2026/large.bin"), "{said}");
}

#[test]
fn an_env_that_lost_its_key_fails_and_so_does_one_with_another_key() {
    let (mut machine, server) = (machine(""), MariaDb::shared());
    let root = laravel(&mut machine, &server, "keyless", "");
    let env = fs::read_to_string(root.join(".env")).unwrap();
    fs::write(root.join(".env"), env.replace(&format!("APP_KEY={KEY}"), "APP_KEY=")).unwrap();
    machine.call(&["run"]).ended(0);
    let said = reasons(&machine, "keyless");
    assert!(said.contains("APP_KEY") && said.contains("not in the dotenv file"), "{said}");
    let other = "base64:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
    fs::write(root.join(".env"), env.replace(KEY, other)).unwrap();
    machine.call(&["run"]).ended(0);
    let said = reasons(&machine, "keyless");
    assert!(said.contains("users.two_factor_secret") && said.contains("APP_KEY"), "{said}");
    // The old key is still known: all is well.
    fs::write(root.join(".env"), env.replace(&format!("APP_KEY={KEY}"), &format!("APP_KEY={other}\nAPP_PREVIOUS_KEYS={KEY}"))).unwrap();
    machine.call(&["run"]).ended(0);
    machine.call(&["test", "--project", "keyless"]).ended(0);
    let alerts = machine.json(&["logs", "--alerts"]).json();
    let open =
        alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["kind"] == "drill" && alert["resolved_at"].is_null()).count();
    assert_eq!(open, 0, "{alerts}");
}

#[test]
fn a_snapshot_older_than_the_objective_fails_with_its_age_and_a_project_becomes_overdue() {
    let mut machine = machine("every = \"30d\"\n");
    files(&mut machine, "papers", "rpo = \"26h\"\n");
    machine.call(&["run"]).ended(0);
    machine.call(&["test"]).ended(0);
    let later = |days: &str, arguments: &[&str]| {
        let inner = machine.command(arguments);
        let mut command = Command::new("faketime");
        command.arg(format!("+{days} days")).arg(inner.get_program()).args(inner.get_args()).current_dir(machine.path());
        Called::of(command.output().unwrap())
    };
    let report = later("2", &["--json", "test"]).ended(6).json();
    let (_, certificates) = only(&report);
    let said = certificates[0]["reasons"].to_string();
    assert!(said.contains("older than the recovery-point objective of 26h"), "{said}");
    assert!(later("29", &["--json", "health"]).stdout.contains("the last drill"));
    assert!(!later("29", &["--json", "health"]).stdout.contains("overdue for a drill"));
    assert!(later("31", &["--json", "health"]).ended(4).stdout.contains("overdue for a drill since"));
}

/// Lets the next dumps of the machine hold `attack` at their end, as one would that somebody else has written.
fn poisoned_run(machine: &Machine, attack: &str) {
    use std::os::unix::fs::PermissionsExt;
    let (bin, dump) = (machine.at("bin"), machine.at("bin/mariadb-dump"));
    fs::create_dir_all(&bin).unwrap();
    fs::write(machine.at("attack.sql"), attack).unwrap();
    let real = String::from_utf8(Command::new("sh").args(["-c", "command -v mariadb-dump"]).output().unwrap().stdout).unwrap();
    let script = format!(
        "#!/bin/bash\nset -o pipefail\ncase \"$*\" in *--version*) exec {real} \"$@\";; esac\n\
         {real} \"$@\" | awk '/^-- Dump completed/ {{ while ((getline line < \"{}\") > 0) print line }} {{ print }}'\n",
        machine.at("attack.sql").display(),
        real = real.trim(),
    );
    fs::write(&dump, script).unwrap();
    fs::set_permissions(&dump, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    Called::of(machine.command(&["run"]).env("PATH", path).output().unwrap()).ended(0);
}

/// What a dump may hold when somebody else has written it: it does not load, or loads and does no harm.
#[test]
fn a_database_that_does_not_load_fails_and_a_hostile_one_touches_nothing() {
    let (mut machine, server) = (machine(""), MariaDb::shared());
    laravel(&mut machine, &server, "hostile", "");
    server.sql("CREATE DATABASE innocent; CREATE TABLE innocent.t (id INT); INSERT INTO innocent.t VALUES (1)");
    let sentinel = machine.at("sentinel");
    for attack in [
        "INSERT INTO orders VALUES (1, 'twice');\n".to_owned(),
        "USE mysql; DELETE FROM global_priv;\n".to_owned(),
        format!("SELECT 'x' INTO OUTFILE '{}';\n", sentinel.display()),
        format!("\\! touch {}\n", sentinel.display()),
        "DROP DATABASE innocent;\n".to_owned(),
        "SET GLOBAL event_scheduler = ON;\n".to_owned(),
    ] {
        poisoned_run(&machine, &attack);
        let said = reasons(&machine, "hostile");
        assert!(said.contains("database `database`: "), "{attack}: {said}");
        assert!(!sentinel.exists(), "{attack}");
        assert_eq!(server.sql("SELECT COUNT(*) FROM innocent.t").trim(), "1", "{attack}");
    }
    assert_eq!(servers(&machine), Vec::<u32>::new());
}

/// Waits until `ready`, or fails after two minutes.
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// At three moments, with and without what lets the kernel end the server with us.
#[test]
fn a_drill_that_is_killed_leaves_nothing_after_the_next_start() {
    let (mut machine, server) = (machine(""), MariaDb::shared());
    laravel(&mut machine, &server, "killed", "");
    machine.call(&["run"]).ended(0);
    let places = |name: &str| {
        let found = Command::new("find").arg(machine.at("scratch")).arg(machine.at("state/drills")).args(["-name", name]).output().unwrap();
        !found.stdout.is_empty()
    };
    // Without setpriv the server is nobody's child when we are gone.
    let bin = machine.at("bin");
    let script =
        format!("mkdir {bin}; ln -s /usr/bin/* {bin}/; ln -sf /bin/* {bin}/ 2>/dev/null || :; rm -f {bin}/setpriv", bin = bin.display());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let lonely = format!("{}:/usr/sbin", bin.display());
    for (moment, path) in [("data", None), ("s", None), ("artisan", Some(&lonely)), ("s", Some(&lonely))] {
        let mut command = machine.command(&["test", "-q"]);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let mut drill = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for(moment, || places(moment));
        drill.kill().unwrap();
        drill.wait().unwrap();
        assert!(!left(&machine).is_empty(), "it was killed in the middle: {moment}");
        if path.is_some() {
            assert!(!servers(&machine).is_empty(), "{moment}");
        }
        machine.call(&["run", "-q"]).ended(0);
        assert_eq!((left(&machine), servers(&machine)), (Vec::new(), Vec::new()), "{moment}");
    }
    let rows = machine.json(&["logs"]).json();
    assert!(rows["rows"].as_array().unwrap().iter().any(|row| row["action"] == "drill" && row["status"] == "interrupted"), "{rows}");
    machine.call(&["test"]).ended(0);
}

/// A server that the configuration names is used, cleaned, also after a kill, and never the project's own.
#[test]
fn a_configured_scratch_server_is_used_and_cleaned_and_never_the_production_one() {
    let (production, scratch) = (MariaDb::shared(), MariaDb::start());
    let databases = |server: &MariaDb| server.sql("SHOW DATABASES LIKE 'havun%'");
    let named = |server: &MariaDb| format!("[drill.databases.mariadb]\nsocket = \"{}\"\nuser = \"root\"\n", server.socket().display());
    let mut machine = machine(&named(&scratch));
    laravel(&mut machine, &production, "elsewhere", "");
    machine.call(&["run"]).ended(0);
    machine.call(&["test"]).ended(0);
    assert_eq!(databases(&scratch), "");
    let mut drill = machine.command(&["test", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("a scratch database", || !databases(&scratch).is_empty());
    drill.kill().unwrap();
    drill.wait().unwrap();
    assert_ne!(databases(&scratch), "");
    machine.call(&["run", "-q"]).ended(0);
    assert_eq!((databases(&scratch).as_str(), left(&machine)), ("", Vec::new()));
    // By its socket, though the project goes by its port.
    let config = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
    let config = config.replace(&scratch.socket().display().to_string(), &production.socket().display().to_string());
    fs::write(machine.at("havun-backup.toml"), config).unwrap();
    let said = reasons(&machine, "elsewhere");
    assert!(said.contains("never goes to a production server"), "{said}");
    assert_eq!(databases(&production), "");
}

/// Where nobody can say whether the scratch server is the production one, nothing is loaded into it.
#[test]
fn a_scratch_server_that_may_be_the_production_one_is_not_used() {
    let (production, scratch) = (MariaDb::start(), MariaDb::start());
    let mut machine = machine(&format!("[drill.databases.mariadb]\nsocket = \"{}\"\nuser = \"root\"\n", scratch.socket().display()));
    laravel(&mut machine, &production, "unknown", "");
    machine.call(&["run"]).ended(0);
    drop(production);
    let report = machine.json(&["test"]).ended(6).json();
    let (project, certificates) = only(&report);
    assert_eq!(project["outcome"], "incomplete", "{report}");
    let said = certificates[0]["reasons"].to_string();
    assert!(said.contains("is a production server cannot be told"), "{said}");
    assert_eq!(scratch.sql("SHOW DATABASES LIKE 'havun%'"), "");
    assert_eq!(left(&machine), Vec::<PathBuf>::new());
}

/// Types, a view, a sequence and an owner that the scratch server does not know.
#[test]
fn a_postgresql_database_is_loaded_into_a_server_of_its_own() {
    let (mut machine, server) = (machine(""), PostgreSql::shared());
    server.sql("postgres", "CREATE ROLE ledger LOGIN PASSWORD 'geheim'; CREATE DATABASE ledger OWNER ledger");
    server.sql(
        "ledger",
        "SET ROLE ledger; CREATE SCHEMA book; CREATE TABLE book.lines (id BIGSERIAL PRIMARY KEY, at TIMESTAMPTZ, amount NUMERIC(12,2), tags TEXT[], doc JSONB);
         INSERT INTO book.lines (at, amount, tags, doc) SELECT now(), n / 7.0, ARRAY['a', 'ü'], jsonb_build_object('n', n) FROM generate_series(1, 3000) n;
         CREATE TABLE names (name TEXT PRIMARY KEY); INSERT INTO names VALUES ('Zoë'), ('Ömer');
         CREATE VIEW book.large AS SELECT * FROM book.lines WHERE amount > 400;",
    );
    let secret = machine.at("database-url");
    fs::write(&secret, format!("postgres://ledger:geheim@127.0.0.1:{}/ledger", server.port())).unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let root = machine.project("ledger", "files", "[projects.ledger.databases.main]\nurl = { file = \"database-url\" }\n");
    fs::write(root.join("readme"), "x").unwrap();
    machine.call(&["run"]).ended(0);
    let report = machine.json(&["test"]).ended(0).json();
    let (_, certificates) = only(&report);
    let database = &certificates[0]["databases"][0];
    assert_eq!((&database["tables_found"], &database["rows_found"]), (&Value::from(2), &Value::from(3002)), "{database:#}");
    assert!(database["scratch_server"].as_str().unwrap().contains("PostgreSQL"), "{database:#}");
    assert_eq!((left(&machine), servers(&machine)), (Vec::new(), Vec::new()));
    assert_eq!(server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'havun%'"), "");
}

/// A host without the server's program cannot prove its dumps, and says so.
#[test]
fn without_a_server_program_a_drill_is_incomplete_unless_that_is_accepted() {
    let server = MariaDb::shared();
    for (accepted, status, outcome) in [("", 6, "incomplete"), ("accept_unproven = [\"mariadb\"]\n", 0, "passed")] {
        let mut machine = machine(accepted);
        let name = format!("bare{status}");
        laravel(&mut machine, &server, &name, "");
        machine.call(&["run"]).ended(0);
        // Servers are looked for where distributions put them, too: none of that is seen here.
        let mut command = Command::new("unshare");
        let hide = "mkdir -p empty && mount --bind empty /usr/sbin && exec \"$@\"";
        let inner = machine.command(&["--json", "test"]);
        command.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program()).args(inner.get_args());
        let output = command.current_dir(machine.path()).env("PATH", "/usr/bin:/bin").output().unwrap();
        let report = Called::of(output).ended(status).json();
        assert_eq!(report["projects"][0]["outcome"], outcome, "{report}");
        let text = report.to_string();
        assert!(text.contains("no MariaDB server is installed") && text.contains("mariadb-server"), "{text}");
    }
}

/// Flips a bit in the middle of the largest pack of a project.
fn damage(machine: &Machine, project: &str) {
    let packs = Command::new("find")
        .arg(machine.at("local").join(project).join("epochs"))
        .args(["-path", "*/packs/*", "-type", "f"])
        .output()
        .unwrap();
    let packs = String::from_utf8(packs.stdout).unwrap();
    let pack = packs.lines().map(PathBuf::from).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
}

/// A dump that may stay unproven is read all the same.
#[test]
fn a_dump_that_cannot_be_read_fails_though_it_may_stay_unproven() {
    let server = MariaDb::shared();
    let mut machine = machine("accept_unproven = [\"mariadb\"]\n");
    laravel(&mut machine, &server, "unread", "stores = [\"local\"]\n");
    server.sql("USE unread; INSERT INTO orders SELECT seq + 10000, HEX(RANDOM_BYTES(40)) FROM seq_1_to_20000");
    machine.call(&["run"]).ended(0);
    damage(&machine, "unread");
    let mut command = Command::new("unshare");
    let hide = "mkdir -p empty && mount --bind empty /usr/sbin && exec \"$@\"";
    let inner = machine.command(&["--json", "test"]);
    command.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program()).args(inner.get_args());
    let output = command.current_dir(machine.path()).env("PATH", "/usr/bin:/bin").output().unwrap();
    let report = Called::of(output).ended(6).json();
    let (project, certificates) = only(&report);
    assert_eq!(project["outcome"], "failed", "{report}");
    let said = certificates[0]["reasons"].to_string();
    assert!(said.contains("database `database`: databases/database.sql cannot be read from the store"), "{said}");
}

/// The newest snapshot fails, an older one passes: the project has not passed, whoever drills the older one alone.
#[test]
fn a_project_passes_only_when_each_of_its_snapshots_does() {
    let mut machine = machine("");
    let root = files(&mut machine, "papers", "[projects.papers.drill]\nchoose = [\"newest\", \"oldest\"]\n");
    machine.call(&["run"]).ended(0);
    fs::write(root.join("scan.pdf"), &pdf()[..30_000]).unwrap();
    machine.call(&["run"]).ended(0);
    let report = machine.json(&["test"]).ended(6).json();
    let (project, certificates) = only(&report);
    assert_eq!(project["outcome"], "failed", "{report}");
    assert_eq!((&certificates[0]["result"], &certificates[1]["result"]), (&Value::from("failed"), &Value::from("passed")));
    assert_ne!(certificates[0]["snapshot"]["store"], certificates[1]["snapshot"]["store"], "each is of another store");
    let old = certificates[1]["snapshot"]["id"].as_str().unwrap();
    let open = || {
        let alerts = machine.json(&["logs", "--alerts"]).json();
        alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["kind"] == "drill" && alert["resolved_at"].is_null()).count()
    };
    for _ in 0..2 {
        assert!(machine.json(&["health"]).ended(4).stdout.contains("scan.pdf"));
        assert_eq!(open(), 1);
        machine.call(&["test", "--snapshot", old]).ended(0);
    }
    let again = machine.json(&["test", "--due"]).ended(6).json();
    let (project, certificates) = only(&again);
    assert_eq!(project["outcome"], "failed", "it is still due: {again}");
    let first = only(&report).1[0]["snapshot"]["store"].clone();
    assert_ne!(certificates[0]["snapshot"]["store"], first, "the stores take turns, and a named snapshot takes none");
}
