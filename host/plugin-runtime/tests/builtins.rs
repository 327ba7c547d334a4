//! The strategies inside this program: through the same door, and the host takes their plans.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod common;

use common::{Bench, bench, told};
use havun_model::{BackupPlan, Cancel, Detection, StoredItem};
use havun_plugin_runtime::{Limits, builtin, builtin_ids};

fn project(files: &[(&str, &str)]) -> Bench {
    let bench = bench(Limits::default());
    for (path, content) in files {
        let path = bench.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    bench
}

fn looked_at(bench: &Bench, id: &str) -> (Option<Detection>, BackupPlan) {
    let strategy = bench.runtime.load(builtin(id).unwrap(), id).unwrap();
    assert_eq!(strategy.info().id, id);
    let found = strategy.detect(&bench.root(), &Cancel::default()).unwrap();
    (found, strategy.plan_backup(&told(&[]), &bench.root()).unwrap())
}

fn kinds(plan: &BackupPlan) -> Vec<&'static str> {
    plan.items.iter().map(|item| item.kind.word()).collect()
}

#[test]
fn there_are_four() {
    assert_eq!(builtin_ids().collect::<Vec<_>>(), ["files", "laravel", "laravel-package", "nodejs"]);
    assert!(builtin("nobody").is_none());
}

#[test]
fn files_takes_any_folder() {
    assert_eq!(kinds(&looked_at(&project(&[]), "files").1), ["tree"]);
}

#[test]
fn laravel_names_its_database() {
    let (found, plan) = looked_at(
        &project(&[
            ("artisan", "#!/usr/bin/env php\n"),
            ("composer.json", r#"{"require":{"laravel/framework":"^11.0"}}"#),
            (".env", "APP_KEY=base64:AAAA\nDB_CONNECTION=mysql\nDB_DATABASE=shop\nDB_USERNAME=shop\nDB_PASSWORD='a#b'\n"),
        ]),
        "laravel",
    );
    assert!(found.unwrap().confidence >= 80);
    assert!(kinds(&plan).contains(&"database") && kinds(&plan).contains(&"tree"), "{plan:?}");
    assert!(!format!("{plan:?}").contains("a#b"), "a plan holds no secret");
}

#[test]
fn nodejs_and_packages_are_planned() {
    let node = project(&[
        ("package.json", r#"{"name":"app","dependencies":{"express":"4"}}"#),
        ("package-lock.json", "{}"),
        ("data/db.json", "{}"),
    ]);
    assert!(looked_at(&node, "nodejs").0.is_some());
    let package = project(&[
        ("composer.json", r#"{"name":"acme/kit","type":"library","require":{"illuminate/support":"^11.0"}}"#),
        ("src/Kit.php", "<?php\n"),
    ]);
    assert!(kinds(&looked_at(&package, "laravel-package").1).contains(&"tree"));
}

#[test]
fn erase_steps_say_what_the_operator_set() {
    let bench = project(&[]);
    let item = |name: &str, kind: &str| StoredItem { name: name.to_owned(), kind: kind.to_owned(), complete: true, bytes: 0, files: 0 };
    let items = [item("source", "tree"), item("database", "database")];
    let mut context = told(&[]);
    context.settings = serde_json::json!({ "erasure": [{ "table": "users", "column": "email" }, { "files": "avatars/{subject}.png" }] });
    for id in ["files", "laravel", "nodejs"] {
        let strategy = bench.runtime.load(builtin(id).unwrap(), id).unwrap();
        let rules = strategy.plan_erase(&context, &items).unwrap().unwrap();
        assert_eq!(rules.iter().map(|rule| rule.item.as_str()).collect::<Vec<_>>(), ["database", "source"], "{id}");
        assert!(strategy.plan_erase(&told(&[]), &items).unwrap().unwrap().is_empty());
        context.settings["erasure"][0]["action"] = "drop".into();
        let error = strategy.plan_erase(&context, &items).unwrap_err();
        assert_eq!((error.call, error.code.as_str()), ("plan-erase", "invalid"));
        context.settings["erasure"][0]["action"] = "delete".into();
    }
}
