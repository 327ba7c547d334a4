//! The package strategy over trees as an operator has them.

use havun_backup_sdk::prelude::*;
use havun_strategy_laravel_package::{LaravelPackage, PackageSettings};

fn package() -> FakeTree {
    FakeTree::new()
        .file(
            "composer.json",
            r#"{"name":"havun/vault","type":"library","require":{"illuminate/support":"^11"},"autoload":{"psr-4":{"Havun\\Vault\\":"src/"}}}"#,
        )
        .file("src/Vault.php", "<?php")
        .file("config/vault.php", "<?php")
        .file("secrets/production.vault", "$VAULT;1.1")
        .file("vault/keys.json", "x")
        .file(".vault_pass", "secret")
        .file("vendor/autoload.php", "<?php")
        .file(".git/HEAD", "ref: refs/heads/main")
        .file(".git/lfs/objects/x", "x")
}

fn plan(settings: &str, tree: &FakeTree) -> BackupPlan {
    let cx = Context::for_test(settings).unwrap_or_else(|error| panic!("{error}"));
    LaravelPackage::plan_backup(&cx, tree).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_package_is_detected_and_an_application_is_not() {
    let found = LaravelPackage::detect(&package()).expect("readable").expect("found");
    assert_eq!((found.confidence, found.label.as_str()), (85, "Laravel package havun/vault"));
    assert!(found.notes.iter().any(|note| note.contains("bundle")), "{:?}", found.notes);
    for other in [
        package().file("artisan", ""),
        FakeTree::new().file("composer.json", r#"{"type":"project","require":{"laravel/framework":"^11"}}"#),
        FakeTree::new().file("composer.json", r#"{"type":"library","require":{"symfony/yaml":"7"}}"#),
        FakeTree::new().file("composer.json", "nonsense"),
        FakeTree::new(),
    ] {
        assert!(LaravelPackage::detect(&other).expect("readable").is_none());
    }
}

#[test]
fn history_vaults_settings_and_source_are_told_apart() {
    let tree = package();
    let plan = plan("{}", &tree);
    let kinds: Vec<(&str, &str)> = plan.items.iter().map(|item| (item.name.as_str(), item.kind.as_str())).collect();
    assert_eq!(kinds, [("history", "git"), ("lfs", "tree"), ("vaults", "tree"), ("config", "tree"), ("source", "tree")]);
    let taken = tree.taken_by(&plan).expect("good globs");
    for (path, item) in [
        ("secrets/production.vault", "vaults"),
        ("vault/keys.json", "vaults"),
        ("config/vault.php", "config"),
        ("src/Vault.php", "source"),
        ("vendor", "source"),
        (".git/lfs/objects/x", "lfs"),
    ] {
        assert_eq!(taken.get(path).map(String::as_str), Some(item), "{path}");
    }
    for path in [".git/HEAD", "vendor/autoload.php", ".vault_pass"] {
        assert!(!taken.contains_key(path), "{path}");
    }
    assert!(plan.warnings.iter().any(|warning| warning.contains(".vault_pass")), "{:?}", plan.warnings);
}

#[test]
fn passwords_of_vaults_are_kept_only_when_asked_for() {
    let tree = package();
    let taken = tree.taken_by(&plan(r#"{"include_vault_passwords":true,"include_vendor":true}"#, &tree)).expect("good globs");
    assert!(taken.contains_key(".vault_pass") && taken.contains_key("vendor/autoload.php"));
    assert!(Context::<PackageSettings>::for_test(r#"{"vault":[]}"#).is_err_and(|error| error.text().contains("did you mean `vaults`")));
}

#[test]
fn a_history_that_lies_elsewhere_is_warned_about_and_its_pointer_kept() {
    let tree = FakeTree::new().file("composer.json", "{}").file(".git", "gitdir: /elsewhere");
    let plan = plan("{}", &tree);
    assert!(plan.item("history").is_none());
    assert!(tree.taken_by(&plan).expect("good globs").contains_key(".git"));
    assert!(plan.warnings.iter().any(|warning| warning.contains("elsewhere")), "{:?}", plan.warnings);
}

#[test]
fn listed_databases_come_along() {
    let cx = Context::for_test("{}").expect("good").with_connection("docs", "mariadb");
    let plan = LaravelPackage::plan_backup(&cx, &package()).expect("plan");
    assert_eq!(plan.items[0].name, "database-docs");
    let cx = Context::for_test(r#"{"databases":["nope"]}"#).expect("good");
    assert!(LaravelPackage::plan_backup(&cx, &package()).is_err());
}

#[test]
fn verification_sees_missing_source_and_an_empty_vault() {
    let cx = Context::for_test("{}").expect("good");
    let outcome = |tree: &FakeTree, name: &str| {
        let checks = LaravelPackage::verify(&cx, tree, &[]).expect("checks");
        checks.into_iter().find(|check| check.name == name).map(|check| check.outcome)
    };
    for name in ["composer.json", "source", "vaults", "history"] {
        assert_eq!(outcome(&package(), name).as_deref(), Some("pass"), "{name}");
    }
    assert_eq!(outcome(&package().file("secrets/production.vault", ""), "vaults").as_deref(), Some("warn"));
    let lost = FakeTree::new().file("composer.json", r#"{"autoload":{"psr-4":{"A\\":["src/"]}}}"#);
    assert_eq!(outcome(&lost, "source").as_deref(), Some("fail"));
    assert_eq!(outcome(&FakeTree::new(), "composer.json").as_deref(), Some("fail"));
}
