//! The layers of the workspace: dependencies run one way, and heavy crates are named in one place only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::{
    collections::{BTreeMap, BTreeSet},
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
