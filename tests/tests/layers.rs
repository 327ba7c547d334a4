//! The layers of the workspace: dependencies run one way, and heavy crates are named in one place only. What the documents say
//! of tests is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// Normal dependencies of each member.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let out = Command::new(cargo).args(["metadata", "--format-version", "1", "--no-deps"]).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
            let names = dependencies.map(|d| d["name"].as_str().unwrap().to_owned()).collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn dependencies_run_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("havun-model", [].as_slice()),
        ("havun-dotenv", &[]),
        ("havun-vault", &["havun-model"]),
        ("havun-stores", &["havun-model", "havun-vault"]),
        ("havun-notify", &["havun-model"]),
        ("havun-plugin-runtime", &["havun-model"]),
        ("havun-operations", &["havun-model", "havun-vault", "havun-stores", "havun-notify", "havun-plugin-runtime", "havun-dotenv"]),
        (
            "havun-backup",
            &["havun-model", "havun-vault", "havun-stores", "havun-notify", "havun-plugin-runtime", "havun-operations", "havun-dotenv"],
        ),
    ]);
    let found = dependencies();
    for (member, may) in &allowed {
        let ours: Vec<&String> = found[*member].iter().filter(|name| name.starts_with("havun-")).collect();
        for name in ours {
            assert!(may.contains(&name.as_str()), "{member} depends on {name}");
        }
    }
}

#[test]
fn heavy_crates_are_named_in_one_place() {
    for (member, names) in dependencies() {
        for (heavy, home) in [
            ("wasmtime", "havun-plugin-runtime"),
            ("sqlx", "havun-operations"),
            ("age", "havun-vault"),
            ("clap", "havun-backup"),
            ("russh", "havun-stores"),
            ("rusty-s3", "havun-stores"),
            ("lettre", "havun-notify"),
        ] {
            assert!(!names.contains(heavy) || member == home, "{member} names {heavy}");
        }
    }
}

/// `docs/testing.md`: each row names a test, each name is one of a test.
#[test]
fn every_trap_of_the_table_is_shown_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/testing.md")).unwrap();
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| trap")) {
        let names: Vec<(&str, &str)> =
            row.split('`').filter_map(|text| text.split_once("::")).filter(|(file, _)| file.ends_with(".rs")).collect();
        assert!(!names.is_empty(), "no test is named: {row}");
        for (file, name) in names {
            let source = fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("{file} is not there: {row}"));
            // A test of its own, or one case of a table that says so.
            let at = source.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{file} has no `{name}`: {row}"));
            let before = source[..at].lines().rev().take(6).collect::<Vec<_>>().join("\n");
            assert!(before.contains("#[test]") || before.contains("#[tokio::test"), "{file}: `{name}` is no test");
            assert!(!before.contains("#[ignore"), "{file}: `{name}` is never run");
        }
        rows += 1;
    }
    assert!(rows > 80, "{rows} rows");
}
