//! The `files` strategy.

use havun_backup_sdk::prelude::*;
use havun_strategy_files::{Files, FilesSettings};

fn context(settings: &str) -> Context<FilesSettings> {
    Context::for_test(settings).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn without_settings_everything_is_taken() {
    let tree = FakeTree::new().file("a/b", "x").file(".hidden", "x").symlink("l", "a");
    let plan = Files::plan_backup(&context("{}"), &tree).expect("plan");
    assert_eq!(plan.items.len(), 1);
    let taken = tree.taken_by(&plan).expect("good globs");
    assert_eq!(taken.keys().map(String::as_str).collect::<Vec<_>>(), [".hidden", "a", "a/b", "l"]);
}

#[test]
fn includes_and_excludes_are_as_the_operator_says() {
    let tree = FakeTree::new().file("one-file", "x").file("two", "x").file("docs/a.txt", "x").file("docs/tmp/b", "x");
    let plan = Files::plan_backup(&context(r#"{"include":["one-file","docs/"],"exclude":["docs/tmp/**"]}"#), &tree).expect("plan");
    let taken = tree.taken_by(&plan).expect("good globs");
    assert_eq!(taken.keys().map(String::as_str).collect::<Vec<_>>(), ["docs", "docs/a.txt", "docs/tmp", "one-file"]);
    assert!(plan.warnings.is_empty());
}

#[test]
fn an_include_that_is_not_there_is_warned_about() {
    let plan = Files::plan_backup(&context(r#"{"include":["gone","*.txt"]}"#), &FakeTree::new()).expect("plan");
    assert_eq!(plan.warnings.len(), 1);
    assert!(plan.warnings[0].contains("gone"));
}

#[test]
fn all_listed_databases_are_taken_or_the_named_ones() {
    let cx = |settings: &str| context(settings).with_connection("shop", "mariadb").with_connection("Stats DB", "mysql");
    let names = |settings: &str| {
        let plan = Files::plan_backup(&cx(settings), &FakeTree::new()).expect("plan");
        plan.items.iter().map(|item| item.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("{}"), ["database-shop", "database-stats-db", "files"]);
    assert_eq!(names(r#"{"databases":["shop"]}"#), ["database", "files"]);
    assert_eq!(names(r#"{"databases":[]}"#), ["files"]);
    let error = Files::plan_backup(&cx(r#"{"databases":["shpo"]}"#), &FakeTree::new()).expect_err("unknown");
    assert!(error.text().contains("`shpo`") && error.text().contains("shop"), "{}", error.text());
}

#[test]
fn wrong_settings_are_refused_with_the_nearest_known_key() {
    for (settings, expected) in [
        (r#"{"includes":[]}"#, "did you mean `include`"),
        (r#"{"colour":1}"#, "known are include, exclude, databases"),
        (r#"{"include":"a"}"#, "setting `include`"),
        ("[1]", "not a table"),
        ("{", "not JSON"),
    ] {
        let error = Context::<FilesSettings>::for_test(settings).expect_err(settings);
        assert!(error.text().contains(expected), "{settings}: {}", error.text());
    }
}

#[test]
fn the_settings_are_described() {
    let schema: havun_backup_sdk::serde_json::Value =
        havun_backup_sdk::serde_json::from_str(&havun_backup_sdk::settings::schema::<FilesSettings>()).expect("JSON");
    assert_eq!(schema["properties"]["include"]["type"], "array");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn a_drill_looks_at_files_and_tables() {
    let tree = FakeTree::new().file("a", "x");
    let database = FakeDatabase::new("database").table("t", 1);
    let checks = Files::verify(&context("{}"), &tree, &[&database]).expect("checks");
    assert!(checks.iter().all(|check| check.outcome == "pass"), "{checks:?}");
    let checks = Files::verify(&context("{}"), &FakeTree::new(), &[&FakeDatabase::new("database")]).expect("checks");
    assert!(checks.iter().all(|check| check.outcome == "warn"), "{checks:?}");
}
