//! The Node.js strategy over trees as an operator has them.

use havun_backup_sdk::prelude::*;
use havun_strategy_nodejs::{NodeJs, NodeSettings};

const SQLITE: &str = "SQLite format 3\0and so on";

fn app() -> FakeTree {
    FakeTree::new()
        .file("package.json", r#"{"dependencies":{"express":"5","lowdb":"7"},"scripts":{"build":"tsc"}}"#)
        .file("package-lock.json", r#"{"lockfileVersion":3,"packages":{"":{"dependencies":{"express":"5","lowdb":"7"}}}}"#)
        .file("tsconfig.json", "{ // comment\n}")
        .file("src/index.ts", "x")
        .file("dist/index.js", "x")
        .file("node_modules/express/index.js", "x")
        .file("packages/a/node_modules/b/index.js", "x")
        .file(".npmrc", "//registry/:_authToken=x")
        .file(".env", "PORT=1\n")
        .file("data/users.json", "[]")
        .file("state.json", "{}")
        .file("uploads/a.png", "x")
}

fn plan(settings: &str, tree: &FakeTree) -> BackupPlan {
    let cx = Context::for_test(settings).unwrap_or_else(|error| panic!("{error}"));
    NodeJs::plan_backup(&cx, tree).unwrap_or_else(|error| panic!("{error}"))
}

fn parameters(plan: &BackupPlan, item: &str) -> Vec<String> {
    let connection = plan.item(item).and_then(|item| item.connection.clone());
    let parameters = connection.map(|connection| connection.parameters).unwrap_or_default();
    parameters.iter().map(|p| format!("{}={}{}", p.name, if p.source == "variable" { "$" } else { "" }, p.value)).collect()
}

#[test]
fn an_application_is_detected_with_its_framework() {
    let found = NodeJs::detect(&app()).expect("readable").expect("found");
    assert_eq!((found.confidence, found.label.as_str()), (90, "Node.js application, Express"));
    assert!(found.settings.iter().any(|setting| setting.key == "json_databases" && setting.value.contains("data/**/*.json")));
    assert!(found.notes.iter().any(|note| note.contains("npm ci")));
    assert!(NodeJs::detect(&FakeTree::new()).expect("readable").is_none());
    assert!(NodeJs::detect(&FakeTree::new().file("package.json", "[").special("x")).expect("readable").is_none());
    let php = app().file("artisan", "").file("composer.json", "{}");
    assert!(NodeJs::detect(&php).expect("readable").expect("found").confidence < 50);
}

#[test]
fn json_databases_settings_uploads_and_source_are_told_apart() {
    let tree = app();
    let plan = plan("{}", &tree);
    let json = plan.item("json-data").expect("found");
    assert!(json.ext.contains(&("json".to_owned(), "true".to_owned())));
    let taken = tree.taken_by(&plan).expect("good globs");
    for (path, item) in [
        ("data/users.json", "json-data"),
        ("state.json", "json-data"),
        ("package.json", "config"),
        ("package-lock.json", "config"),
        (".env", "config"),
        (".npmrc", "config"),
        ("tsconfig.json", "source"),
        ("src/index.ts", "source"),
        ("uploads/a.png", "uploads"),
        ("node_modules", "source"),
        ("dist", "source"),
    ] {
        assert_eq!(taken.get(path).map(String::as_str), Some(item), "{path}");
    }
    for path in ["node_modules/express", "packages/a/node_modules/b", "dist/index.js"] {
        assert!(!taken.contains_key(path), "{path}");
    }
}

#[test]
fn json_databases_are_as_the_operator_says() {
    let tree = app();
    let named = plan(r#"{"json_databases":["state.json"]}"#, &tree);
    assert_eq!(named.item("json-data").map(|item| item.includes.clone()), Some(vec!["state.json".to_owned()]));
    assert!(plan(r#"{"json_databases":[]}"#, &tree).item("json-data").is_none());
    let error = Context::<NodeSettings>::for_test(r#"{"json_database":[]}"#).expect_err("unknown");
    assert!(error.text().contains("did you mean `json_databases`"), "{}", error.text());
}

#[test]
fn a_prisma_file_url_is_relative_to_the_schema() {
    let schema = "// datasource\ngenerator client {\n}\ndatasource db {\n  provider = \"sqlite\"\n  url      = env(\"DATABASE_URL\")\n}\n";
    let tree = app()
        .file("prisma/schema.prisma", schema)
        .file("prisma/dev.db", SQLITE)
        .file("prisma/dev.db-wal", "x")
        .file(".env", "DATABASE_URL=\"file:./dev.db\"\n");
    let plan = plan("{}", &tree);
    assert_eq!(parameters(&plan, "database"), ["path=prisma/dev.db"]);
    let taken = tree.taken_by(&plan).expect("good globs");
    assert!(!taken.contains_key("prisma/dev.db") && !taken.contains_key("prisma/dev.db-wal"));
    assert_eq!(taken.get("prisma/schema.prisma").map(String::as_str), Some("config"));
}

#[test]
fn prisma_seven_keeps_its_url_in_a_configuration_file() {
    let config =
        "export default defineConfig({\n  schema: './db/schema.prisma',\n  datasource: {\n    url: process.env.SHOP_DB,\n  },\n});\n";
    let tree = app()
        .file("prisma.config.ts", config)
        .file("db/schema.prisma", "datasource db {\n provider = \"mysql\"\n}\n")
        .file(".env.local", "SHOP_DB=mysql://u:p@h/x\n");
    let plan = plan("{}", &tree);
    assert_eq!(parameters(&plan, "database"), ["url=$SHOP_DB"]);
    assert!(!format!("{plan:?}").contains("u:p@h"));
}

#[test]
fn parts_of_a_connection_are_found_with_the_driver_among_the_packages() {
    let tree = app()
        .file("package.json", r#"{"dependencies":{"mysql2":"3"}}"#)
        .file(".env", "DB_HOST=h\nDB_NAME=shop\nDB_USER=u\nDB_PASS=geheim\n");
    let plan = plan("{}", &tree);
    assert_eq!(parameters(&plan, "database"), ["host=$DB_HOST", "user=$DB_USER", "password=$DB_PASS", "database=$DB_NAME"]);
    assert_eq!(plan.item("database").and_then(|item| item.connection.clone()).map(|c| c.engine), Some("mysql".to_owned()));
    assert!(!format!("{plan:?}").contains("geheim"));
}

#[test]
fn sqlite_files_are_found_by_their_first_bytes_and_their_logs() {
    let tree = app()
        .file("var/app.db", SQLITE)
        .file("var/plain.db", "no database, only called like one")
        .file("var/odd", SQLITE)
        .file("var/odd-wal", "x")
        .file("uploads/theirs.sqlite", SQLITE);
    let plan = plan("{}", &tree);
    assert_eq!(parameters(&plan, "sqlite-var-app.db"), ["path=var/app.db"]);
    assert_eq!(parameters(&plan, "sqlite-var-odd"), ["path=var/odd"]);
    let taken = tree.taken_by(&plan).expect("good globs");
    assert!(taken.contains_key("var/plain.db") && taken.contains_key("uploads/theirs.sqlite"));
    assert!(!taken.contains_key("var/app.db") && !taken.contains_key("var/odd-wal"));
}

#[test]
fn a_sqlite_file_that_is_not_there_is_an_item_that_fails_and_a_warning() {
    let tree = app().file(".env", "DATABASE_URL=file:/srv/other/x.db\n");
    let plan = plan("{}", &tree);
    assert_eq!(parameters(&plan, "database"), ["url=$DATABASE_URL"]);
    assert!(plan.warnings.iter().any(|warning| warning.contains("/srv/other/x.db")), "{:?}", plan.warnings);
}

#[test]
fn listed_databases_are_taken_and_unlisted_names_refused() {
    let cx = Context::for_test("{}").expect("good").with_connection("main", "mariadb").with_connection("stats", "mysql");
    let plan = NodeJs::plan_backup(&cx, &app()).expect("plan");
    let databases: Vec<&str> = plan.items.iter().filter(|item| item.kind == "database").map(|item| item.name.as_str()).collect();
    assert_eq!(databases, ["database", "database-stats"]);
    let cx = Context::for_test(r#"{"databases":["nope"]}"#).expect("good");
    assert!(NodeJs::plan_backup(&cx, &app()).is_err());
}

#[test]
fn build_results_stay_where_nothing_would_bring_them_back() {
    let tree = app().file("package.json", "{}");
    let plan = plan("{}", &tree);
    assert!(tree.taken_by(&plan).expect("good globs").contains_key("dist/index.js"));
    assert!(plan.warnings.iter().any(|warning| warning.contains("build")), "{:?}", plan.warnings);
}

#[test]
fn strange_trees_never_panic() {
    let strange = [
        FakeTree::new(),
        FakeTree::new().special("package.json").dir(".env").symlink("data", "/srv/data"),
        FakeTree::new().file("package.json", "{\"prisma\":{\"schema\":\"../../x\"},\"scripts\":[]}").file(".env", [0xff]),
        FakeTree::new()
            .file("package.json", "{}")
            .file("prisma/schema.prisma", "datasource url = \"file:../../../x\" }\nurl=\nurl = \"file:../../x\""),
        FakeTree::new()
            .file("package.json", "{}")
            .file("prisma/schema.prisma", "datasource db {\nurl = \"file:../../../x\"\n}")
            .file(".env", "DATABASE_URL=é"),
        FakeTree::new().file("package.json", "{}").file("prisma.config.ts", "schema: é\nurl: process.env[").deny(".env"),
    ];
    for tree in &strange {
        let _ = plan("{}", tree);
        let _ = NodeJs::detect(tree);
        NodeJs::verify(&Context::for_test("{}").expect("good"), tree, &[]).expect("reports");
        NodeJs::after_restore(&Context::for_test("{}").expect("good"), tree).expect("reports");
    }
}

#[test]
fn verification_reads_every_json_database() {
    let cx = Context::for_test("{}").expect("good");
    let outcome = |tree: &FakeTree| {
        let checks = NodeJs::verify(&cx, tree, &[&FakeDatabase::new("database").table("t", 2)]).expect("checks");
        checks.into_iter().map(|check| (check.name, check.outcome)).collect::<Vec<_>>()
    };
    assert!(outcome(&app()).iter().all(|(_, outcome)| outcome == "pass"), "{:?}", outcome(&app()));
    let torn = app().file("data/users.json", "[1,");
    assert!(outcome(&torn).contains(&("JSON databases".to_owned(), "fail".to_owned())));
}
