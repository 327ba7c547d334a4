//! The program as a shell sees it: exit statuses and where the words go.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::{Command, Output};

fn call(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_havun-backup"))
        .args(args)
        .current_dir(folder.path())
        .env_remove("HAVUN_BACKUP_CONFIG")
        .output()
        .unwrap()
}

#[test]
fn the_version_and_the_help_go_to_standard_output() {
    for args in [["--version"], ["--help"]] {
        let out = call(&args);
        assert_eq!(out.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&out.stdout).contains("havun-backup"));
        assert!(out.stderr.is_empty());
    }
}

#[test]
fn bad_usage_is_2_and_a_missing_configuration_is_78() {
    assert_eq!(call(&["restroe"]).status.code(), Some(2));
    assert_eq!(call(&["restore"]).status.code(), Some(2));
    let out = call(&["--config", "/nonexistent/havun.toml", "run"]);
    assert_eq!(out.status.code(), Some(78), "{out:?}");
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(words.contains("/nonexistent/havun.toml") && words.contains("Hint:"), "{words}");
    assert!(out.stdout.is_empty());
}

#[test]
fn completions_and_the_manual_are_printed() {
    for args in [["completions", "bash"].as_slice(), &["completions", "zsh"], &["completions", "fish"], &["man"]] {
        let out = call(args);
        assert_eq!(out.status.code(), Some(0), "{args:?}");
        assert!(out.stdout.len() > 500, "{args:?}");
    }
}
