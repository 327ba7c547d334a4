//! The Laravel strategy over trees as an operator has them.

use havun_backup_sdk::prelude::*;
use havun_strategy_laravel::{Laravel, LaravelSettings};

const DATABASE_PHP: &str = "<?php return ['default' => env('DB_CONNECTION', 'sqlite'), 'connections' => [
    'mysql' => ['driver' => 'mysql', 'url' => env('DB_URL'), 'host' => env('DB_HOST', '127.0.0.1'), 'port' => env('DB_PORT', '3306'),
        'database' => env('DB_DATABASE', 'laravel'), 'username' => env('DB_USERNAME', 'root'), 'password' => env('DB_PASSWORD', ''),
        'unix_socket' => env('DB_SOCKET', ''), 'charset' => env('DB_CHARSET', 'utf8mb4')],
    'tenant' => ['driver' => 'mariadb', 'host' => env('TENANT_HOST'), 'database' => env('TENANT_DB'), 'username' => 'tenant',
        'password' => env('TENANT_PASSWORD')]]];";

const ENV: &str = "APP_KEY=base64:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\nDB_CONNECTION=mysql\nDB_HOST=db\nDB_PORT=3306\nDB_DATABASE=shop\nDB_USERNAME=shop\nDB_PASSWORD=\"#'\\\"\\\\:\\$é\"\n";

const SQLITE: &str = "SQLite format 3\0and so on";

fn app() -> FakeTree {
    FakeTree::new()
        .file("artisan", "#!/usr/bin/env php")
        .file("composer.json", r#"{"require":{"laravel/framework":"^11.0"}}"#)
        .file("composer.lock", r#"{"packages":[{"name":"laravel/framework","version":"v11.9.2"}]}"#)
        .file("package.json", r#"{"scripts":{"build":"vite build"}}"#)
        .file("config/database.php", DATABASE_PHP)
        .file("bootstrap/app.php", "<?php")
        .file("bootstrap/cache/.gitignore", "*")
        .file("bootstrap/cache/services.php", "<?php")
        .file("public/index.php", "<?php")
        .file("public/build/app.js", "x")
        .symlink("public/storage", "/var/www/shop/storage/app/public")
        .file(".env", ENV)
        .file(".git/HEAD", "ref")
        .file("vendor/autoload.php", "<?php")
        .file("node_modules/x/index.js", "x")
        .file("storage/app/private/invoice.pdf", "x")
        .file("storage/oauth-private.key", "x")
        .file("storage/logs/laravel.log", "x")
        .file("storage/framework/cache/.gitignore", "*")
        .file("storage/framework/cache/data/.gitignore", "*")
        .file("storage/framework/cache/data/ab/cd/x", "x")
        .file("storage/framework/sessions/.gitignore", "*")
        .file("storage/framework/sessions/abc", "x")
        .file("storage/framework/views/.gitignore", "*")
        .file("storage/framework/views/abc.php", "x")
        .file("storage/framework/testing/.gitignore", "*")
}

fn plan(settings: &str, tree: &FakeTree) -> BackupPlan {
    let cx = Context::for_test(settings).unwrap_or_else(|error| panic!("{error}"));
    Laravel::plan_backup(&cx, tree).unwrap_or_else(|error| panic!("{error}"))
}

fn parameters(item: &Item) -> Vec<String> {
    let connection = item.connection.as_ref().map(|connection| connection.parameters.clone()).unwrap_or_default();
    connection.iter().map(|p| format!("{}={}{}", p.name, if p.source == "variable" { "$" } else { "" }, p.value)).collect()
}

#[test]
fn an_application_is_detected_with_its_version_and_engine() {
    let found = Laravel::detect(&app()).expect("readable").expect("found");
    assert_eq!((found.confidence, found.label.as_str()), (95, "Laravel 11 application, MySQL or MariaDB"));
    assert!(found.notes.iter().any(|note| note.contains("11.9.2")), "{:?}", found.notes);
    assert!(Laravel::detect(&FakeTree::new()).expect("readable").is_none());
    let other = FakeTree::new().file("composer.json", r#"{"require":{"symfony/symfony":"7"}}"#).file("artisan", "");
    assert!(Laravel::detect(&other).expect("readable").is_none());
}

#[test]
fn the_database_is_named_by_reference_and_no_secret_is_in_the_plan() {
    let plan = plan("{}", &app());
    let item = plan.item("database").expect("there");
    assert_eq!(
        parameters(item),
        ["host=$DB_HOST", "port=$DB_PORT", "user=$DB_USERNAME", "password=$DB_PASSWORD", "database=$DB_DATABASE", "charset=utf8mb4"]
    );
    assert_eq!(item.connection.as_ref().map(|c| (c.name.as_str(), c.engine.as_str())), Some(("main", "mysql")));
    assert!(item.exclude_rows.iter().any(|table| table == "sessions") && !item.exclude_rows.iter().any(|table| table == "failed_jobs"));
    assert!(!format!("{plan:?}").contains('é'));
}

#[test]
fn the_tree_keeps_what_only_the_server_has_and_the_skeletons_folders() {
    let tree = app();
    let taken = tree.taken_by(&plan("{}", &tree)).expect("good globs");
    let item = |path: &str| taken.get(path).map(String::as_str);
    for (path, owner) in [
        (".env", "config"),
        ("composer.lock", "config"),
        ("storage/oauth-private.key", "config"),
        ("storage/app/private/invoice.pdf", "uploads"),
        ("storage/logs/laravel.log", "source"),
        ("public/storage", "source"),
        (".git/HEAD", "source"),
        ("vendor", "source"),
        ("node_modules", "source"),
        ("public/build", "source"),
        ("bootstrap/cache/.gitignore", "source"),
        ("storage/framework/cache/data/.gitignore", "source"),
        ("storage/framework/sessions/.gitignore", "source"),
        ("storage/framework/views/.gitignore", "source"),
        ("storage/framework/testing/.gitignore", "source"),
    ] {
        assert_eq!(item(path), Some(owner), "{path}");
    }
    for path in [
        "vendor/autoload.php",
        "node_modules/x",
        "public/build/app.js",
        "bootstrap/cache/services.php",
        "storage/framework/cache/data/ab",
        "storage/framework/sessions/abc",
        "storage/framework/views/abc.php",
    ] {
        assert_eq!(item(path), None, "{path}");
    }
}

#[test]
fn settings_change_what_is_taken() {
    let tree = app();
    let settings =
        r#"{"include_vendor":true,"include_build":true,"exclude_logs":true,"exclude_git":true,"exclude":["storage/app/private/**"]}"#;
    let taken = tree.taken_by(&plan(settings, &tree)).expect("good globs");
    assert!(taken.contains_key("vendor/autoload.php") && taken.contains_key("public/build/app.js"));
    for path in ["storage/logs/laravel.log", ".git", "storage/app/private/invoice.pdf"] {
        assert!(!taken.contains_key(path), "{path}");
    }
}

#[test]
fn unknown_settings_name_the_nearest_one() {
    let error = Context::<LaravelSettings>::for_test(r#"{"exlude":[]}"#).expect_err("unknown");
    assert!(error.text().contains("did you mean `exclude`"), "{}", error.text());
    let error = Context::<LaravelSettings>::for_test(r#"{"include_vendor":"yes"}"#).expect_err("wrong type");
    assert!(error.text().contains("`include_vendor`"), "{}", error.text());
}

#[test]
fn a_url_is_referred_to_with_the_parts_that_it_overrides() {
    let tree = app().file(".env", "DB_CONNECTION=mysql\nDB_URL=mysql://u:p@h/x\nDB_PASSWORD=null\n");
    let plan = plan("{}", &tree);
    let parameters = parameters(plan.item("database").expect("there"));
    assert_eq!(parameters, ["url=$DB_URL", "host=127.0.0.1", "port=3306", "user=root", "database=laravel", "charset=utf8mb4"]);
}

#[test]
fn connections_of_the_configuration_and_of_the_operator_are_taken_by_name() {
    let tree = app().file(".env", format!("{ENV}TENANT_DB=t1\nTENANT_PASSWORD=x\n"));
    let cx = Context::for_test(r#"{"connections":["main","tenant","reports"]}"#).expect("good").with_connection("reports", "mariadb");
    let plan = Laravel::plan_backup(&cx, &tree).expect("good");
    let names: Vec<&str> = plan.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["database", "database-tenant", "database-reports", "config", "uploads", "source"]);
    assert_eq!(parameters(&plan.items[1]), ["user=tenant", "password=$TENANT_PASSWORD", "database=$TENANT_DB"]);
    let cx = Context::for_test(r#"{"connections":["nope"]}"#).expect("good");
    assert!(Laravel::plan_backup(&cx, &tree).is_err());
}

#[test]
fn sqlite_files_are_databases_and_no_tree_item_takes_them() {
    let tree = app()
        .file(".env", "APP_KEY=x\n")
        .file("database/database.sqlite", SQLITE)
        .file("database/database.sqlite-wal", "x")
        .file("database/pulse.sqlite", SQLITE)
        .file("database/notes.db", "plain text, longer than sixteen bytes")
        .file("storage/app/private/upload.sqlite", SQLITE);
    let plan = plan("{}", &tree);
    assert_eq!(parameters(plan.item("database").expect("main")), ["path=database/database.sqlite"]);
    assert_eq!(parameters(plan.item("sqlite-database-pulse.sqlite").expect("other")), ["path=database/pulse.sqlite"]);
    let taken = tree.taken_by(&plan).expect("good globs");
    for path in ["database/database.sqlite", "database/database.sqlite-wal", "database/pulse.sqlite"] {
        assert!(!taken.contains_key(path), "{path}");
    }
    assert!(taken.contains_key("database/notes.db") && taken.contains_key("storage/app/private/upload.sqlite"));
}

#[test]
fn an_absolute_sqlite_path_is_recognised_by_its_end_or_warned_about() {
    let tree = app().file(".env", "DB_CONNECTION=sqlite\nDB_DATABASE=/var/www/shop/database/shop.sqlite\n");
    let inside = plan("{}", &FakeTreeWith(tree).with("database/shop.sqlite"));
    assert_eq!(parameters(inside.item("database").expect("there")), ["path=database/shop.sqlite"]);
    let tree = app().file(".env", "DB_CONNECTION=sqlite\nDB_DATABASE=/srv/elsewhere/shop.sqlite\n");
    let outside = plan("{}", &tree);
    assert_eq!(parameters(outside.item("database").expect("there")), ["path=$DB_DATABASE"]);
    assert!(outside.warnings.iter().any(|warning| warning.contains("not beneath the root")), "{:?}", outside.warnings);
}

struct FakeTreeWith(FakeTree);

impl FakeTreeWith {
    fn with(self, path: &str) -> FakeTree {
        self.0.file(path, SQLITE)
    }
}

#[test]
fn a_damaged_dotenv_file_leaves_an_item_that_the_host_fails_on() {
    let plan = plan("{}", &app().file(".env", "DB_PASSWORD=top secret\n").file("database/database.sqlite", SQLITE));
    assert_eq!(parameters(plan.item("database").expect("there")), ["database=$DB_DATABASE"]);
    assert!(plan.warnings.iter().any(|warning| warning.contains("line 1")), "{:?}", plan.warnings);
    assert!(!format!("{plan:?}").contains("secret"));
}

#[test]
fn what_lies_outside_of_the_root_and_a_cached_configuration_are_warned_about() {
    let tree = app().symlink("storage", "/srv/shared/storage").file("bootstrap/cache/config.php", "<?php");
    let warnings = plan("{}", &tree).warnings;
    assert!(warnings.iter().any(|warning| warning.contains("/srv/shared/storage")), "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("config.php")), "{warnings:?}");
}

#[test]
fn a_shared_storage_within_the_root_is_followed() {
    let tree = FakeTree::new()
        .symlink("storage", "shared/storage")
        .file("shared/storage/app/a", "x")
        .file("shared/storage/framework/views/x.php", "x");
    let plan = plan("{}", &tree);
    assert_eq!(plan.item("uploads").map(|item| item.path.as_str()), Some("shared/storage/app"));
    let taken = tree.taken_by(&plan).expect("good globs");
    assert_eq!(taken.get("storage").map(String::as_str), Some("source"));
    assert!(!taken.contains_key("shared/storage/framework/views/x.php"));
}

#[test]
fn without_a_dotenv_file_the_cached_configuration_is_kept() {
    let tree = FakeTree::new().file("artisan", "").file("bootstrap/cache/config.php", "<?php");
    let plan = plan("{}", &tree);
    assert!(plan.item("database").is_none());
    assert!(tree.taken_by(&plan).expect("good globs").contains_key("bootstrap/cache/config.php"));
    assert!(!plan.warnings.is_empty());
}

#[test]
fn strange_trees_never_panic() {
    let strange = [
        FakeTree::new().special(".env").special("composer.json").special("artisan"),
        FakeTree::new().dir(".env").dir("composer.lock").dir("config/database.php"),
        FakeTree::new().file(".env", [0xff, 0xfe, 0]).file("composer.json", "{").file("config/database.php", "<?php return [[[["),
        FakeTree::new()
            .file("composer.lock", "[]")
            .file(".env", "DB_CONNECTION=sqlite\nDB_DATABASE=../../../x\n")
            .symlink("storage", "../../x"),
        FakeTree::new().file(".env", "DB_URL=sqlite:///../x\nDB_CONNECTION=sqlite").deny("config/database.php"),
    ];
    for tree in &strange {
        let _ = plan("{}", tree);
        let _ = Laravel::detect(tree);
        let cx = Context::for_test("{}").expect("good");
        Laravel::verify(&cx, tree, &[]).expect("reports");
    }
}

#[test]
fn after_a_restore_folders_are_made_and_what_needs_a_person_is_said() {
    let tree = FakeTree::new().file(".env", ENV).file("composer.json", "{}").symlink("public/storage", "/var/www/shop/storage/app/public");
    let cx = Context::for_test("{}").expect("good");
    let reports = Laravel::after_restore(&cx, &tree).expect("reports");
    let outcome = |title: &str| reports.iter().find(|report| report.title == title).map(|report| report.outcome.as_str());
    assert_eq!(outcome("folders of the framework"), Some("done"));
    assert!(tree.is_dir("storage/framework/views") && tree.is_dir("bootstrap/cache"));
    assert_eq!(outcome("APP_KEY"), Some("done"));
    assert_eq!(outcome("public/storage"), Some("review"));
    assert_eq!(outcome("vendor"), Some("review"));
}

#[test]
fn verification_sees_a_missing_key_missing_files_and_empty_databases() {
    let cx = Context::for_test("{}").expect("good");
    let outcome = |tree: &FakeTree, databases: &[&dyn Database], name: &str| {
        let checks = Laravel::verify(&cx, tree, databases).expect("checks");
        checks.iter().find(|check| check.name == name).map(|check| check.outcome.clone())
    };
    let good = FakeDatabase::new("database").table("migrations", 12).table("users", 3);
    assert_eq!(outcome(&app(), &[&good], "APP_KEY").as_deref(), Some("pass"));
    assert_eq!(outcome(&app(), &[&good], "required files").as_deref(), Some("pass"));
    assert_eq!(outcome(&app(), &[&good], "database: migrations").as_deref(), Some("pass"));
    let empty = FakeDatabase::new("database");
    assert_eq!(outcome(&app(), &[&empty], "database: tables").as_deref(), Some("fail"));
    for key in ["", "APP_KEY=\n", "APP_KEY=base64:!!\n", "APP_KEY=base64:YWI=\n"] {
        assert_eq!(outcome(&app().file(".env", key), &[], "APP_KEY").as_deref(), Some("fail"), "{key:?}");
    }
    assert_eq!(outcome(&FakeTree::new(), &[], "required files").as_deref(), Some("fail"));
}

#[test]
fn what_could_not_be_looked_at_is_skipped_and_what_is_not_there_is_not() {
    let outcome = |settings: &str, tree: &FakeTree, databases: &[&dyn Database], name: &str| {
        let checks = Laravel::verify(&Context::for_test(settings).expect("good"), tree, databases).expect("checks");
        checks.iter().find(|check| check.name == name).map(|check| check.outcome.clone())
    };
    let good = FakeDatabase::new("database").table("migrations", 12).table("users", 3);
    assert_eq!(outcome("{}", &app(), &[], "APP_KEY decrypts").as_deref(), Some("skipped"), "its database is missing");
    assert_eq!(outcome("{}", &app(), &[&good], "APP_KEY decrypts").as_deref(), Some("pass"), "nothing is encrypted");
    assert_eq!(outcome(r#"{"connections":[]}"#, &app(), &[], "APP_KEY decrypts").as_deref(), Some("pass"), "no database by choice");
    let linked = FakeTree::new().symlink("storage", "/srv/shared/storage");
    assert_eq!(outcome("{}", &linked, &[&good], "storage/app").as_deref(), Some("skipped"));
}

#[test]
fn a_restore_brings_files_before_databases() {
    let cx = Context::for_test("{}").expect("good");
    let item = |name: &str, kind: &str| StoredItem { name: name.into(), kind: kind.into(), complete: true, bytes: 1.0, files: 1.0 };
    let plan = Laravel::plan_restore(&cx, &[item("database", "database"), item("source", "tree")]).expect("plan");
    let order: Vec<&str> = plan.steps.iter().map(|step| step.item.as_str()).collect();
    assert_eq!(order, ["source", "database"]);
    assert!(
        plan.after.iter().any(|hint| hint.contains("composer install")) && plan.before.iter().any(|hint| hint.contains("artisan down"))
    );
}
