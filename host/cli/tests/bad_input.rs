//! Bad input: one clear error each (what, where, why, what next), the documented exit status, nothing written.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod common;

use common::{Called, ESCROW, Machine, program};
use std::{fs, os::unix::fs::PermissionsExt};

/// Calls a command that must fail, and sees that neither the store nor the project has changed.
#[track_caller]
fn refused(machine: &Machine, arguments: &[&str], status: i32) -> Called {
    let before = (machine.listing("store"), machine.listing("blog"));
    let called = machine.call(arguments).ended(status);
    assert_eq!((machine.listing("store"), machine.listing("blog")), before);
    called
}

#[test]
fn a_missing_configuration_says_where_it_was_looked_for() {
    let machine = Machine::empty();
    let named = machine.call(&["run"]).ended(78);
    named
        .says("Error: cannot read the configuration")
        .says("havun-backup.toml")
        .says("No such file")
        .says("Hint: `havun-backup init PATH…`");
    if fs::metadata("/etc/havun-backup/config.toml").is_err() {
        let unnamed = Called::of(program().arg("list").current_dir(machine.path()).output().unwrap()).ended(78);
        unnamed.says("looked at havun-backup.toml and /etc/havun-backup/config.toml").says("Hint: ");
    }
    let variable = program().arg("list").env("HAVUN_BACKUP_CONFIG", "/nowhere/c.toml").output().unwrap();
    Called::of(variable).ended(78).says("/nowhere/c.toml");
    assert_eq!(machine.listing(""), [""; 0]);
}

#[test]
fn an_unreadable_configuration_is_told() {
    let machine = Machine::empty();
    fs::create_dir(machine.config()).unwrap();
    machine.call(&["run"]).ended(78).says("cannot read the configuration").says("not a regular file");
    fs::remove_dir(machine.config()).unwrap();
    fs::write(machine.config(), b"[host]\nname = \"\xff\"\n").unwrap();
    machine.call(&["run"]).ended(78).says("cannot read the configuration").says("UTF-8");
}

#[test]
fn every_error_of_a_configuration_is_told_with_its_place() {
    let machine = Machine::configured();
    let text = machine.usual().replace("tier = \"hot\"", "teir = \"hot\"");
    machine.configure(&format!("{text}encryption = \"yes\"\n"));
    let called = refused(&machine, &["run"], 78);
    let place = machine.config().display().to_string();
    let called = called.says(&format!("the configuration {place} has 3 errors:"));
    let called = called.says(&format!("{place}:8:9: `tier` is missing in [stores.local]"));
    let called = called.says(&format!("{place}:9:1: unknown key `teir` in [stores.local] (did you mean `tier`?)"));
    called.says(&format!("{place}:16:14: `encryption` must be true or false, not a string"));
}

#[test]
fn an_unknown_strategy_names_the_nearest() {
    let machine = Machine::prepared();
    machine.change("strategy = \"files\"", "strategy = \"laravell\"");
    refused(&machine, &["run"], 78).says("there is no strategy `laravell`").says("(did you mean `laravel`?)");
}

#[test]
fn secrets_in_a_configuration_that_others_can_read_are_refused() {
    let machine = Machine::prepared();
    machine.configure(&format!("{}[projects.blog.databases.main]\nengine = \"mysql\"\npassword = \"hunter2\"\n", machine.usual()));
    fs::set_permissions(machine.config(), fs::Permissions::from_mode(0o644)).unwrap();
    let called =
        refused(&machine, &["run"], 78).says("can be read by others (mode 0644)").says("line 18: password").says("Hint: run `chmod 600");
    assert!(!called.stderr.contains("hunter2"));
}

#[test]
fn a_root_that_is_gone_is_not_an_empty_backup() {
    let machine = Machine::prepared();
    machine.call(&["run"]).ended(0);
    fs::rename(machine.at("blog"), machine.at("elsewhere")).unwrap();
    let called = refused(&machine, &["-q", "run"], 1);
    called.says("blog").says("cannot be read").says("No such file").says("Hint: mount it, or correct `root` in [projects.blog]");
    let rows = machine.call(&["logs", "--json", "--limit", "1"]).ended(0).json();
    assert_eq!(rows["rows"][0]["status"], "failed");
}

#[test]
fn a_store_that_is_not_mounted_is_not_filled() {
    let machine = Machine::prepared();
    fs::remove_dir_all(machine.at("store")).unwrap();
    fs::create_dir(machine.at("store")).unwrap();
    refused(&machine, &["-q", "run"], 10).says("store").says("Hint: ");
    refused(&machine, &["-q", "verify"], 10);
    refused(&machine, &["-q", "list"], 10);
    refused(&machine, &["restore", "--project", "blog", "--yes"], 10);
}

#[test]
fn a_folder_that_is_another_store_is_refused() {
    let machine = Machine::prepared();
    machine.configure(&machine.usual().replace("stores.local", "stores.other").replace("[\"local\"]", "[\"other\"]"));
    refused(&machine, &["-q", "run"], 10).says("local").says("other");
    refused(&machine, &["-q", "init"], 10).says("local").says("other");
}

#[test]
fn a_foreign_or_newer_vault_is_left_alone() {
    let machine = Machine::prepared();
    machine.call(&["run"]).ended(0);
    let path = machine.at("store/blog/vault.json");
    let text = fs::read_to_string(&path).unwrap();
    for (broken, told) in [
        (text.replace("\"format\":1", "\"format\":9").replace("\"format\": 1", "\"format\": 9"), "format 9"),
        ("{}".to_owned(), "not a vault"),
        (text.replace("\"blog\"", "\"shop\""), "another one"),
    ] {
        assert_ne!(broken, text);
        fs::remove_file(&path).unwrap();
        fs::write(&path, broken).unwrap();
        let called = refused(&machine, &["-q", "run"], 1).says(told).says("Hint: ");
        assert!(called.stderr.contains("blog"), "{called:?}");
        let listed = refused(&machine, &["-q", "list"], 1);
        assert!(listed.stderr.contains(told), "{listed:?}");
    }
}

#[test]
fn a_component_that_is_none_is_refused() {
    let machine = Machine::prepared();
    let usual = machine.usual().replace("\"files\"", "\"acme\"");
    machine.configure(&format!("{usual}[plugins.acme]\npath = \"acme.wasm\"\n"));
    refused(&machine, &["-q", "run"], 1).says("acme.wasm").says("No such file");
    fs::write(machine.at("acme.wasm"), "hello").unwrap();
    refused(&machine, &["-q", "run"], 78)
        .says("`acme` of project `blog` cannot be loaded")
        .says("is not a WebAssembly component: it is text");
    fs::write(machine.at("acme.wasm"), wat::parse_str("(module)").unwrap()).unwrap();
    refused(&machine, &["-q", "run"], 78).says("core module");
    fs::write(machine.at("acme.wasm"), wat::parse_str("(component)").unwrap()).unwrap();
    refused(&machine, &["-q", "run"], 78).says("not a strategy");
}

#[test]
fn a_component_that_imports_what_was_not_granted_is_refused() {
    let machine = Machine::prepared();
    let usual = machine.usual().replace("\"files\"", "\"acme\"");
    machine.configure(&format!("{usual}[plugins.acme]\npath = \"acme.wasm\"\n"));
    let wasm = wat::parse_str(r#"(component (import "acme:shell/run@1.0.0" (instance)))"#).unwrap();
    fs::write(machine.at("acme.wasm"), wasm).unwrap();
    refused(&machine, &["-q", "run"], 78).says("imports what is not granted: acme:shell/run@1.0.0");
}

#[test]
fn a_component_of_another_digest_than_the_granted_is_refused() {
    let machine = Machine::prepared();
    let digest = "ab".repeat(32);
    let usual = machine.usual().replace("\"files\"", "\"acme\"");
    machine.configure(&format!("{usual}[plugins.acme]\npath = \"acme.wasm\"\ndigest = \"{digest}\"\n"));
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/wasm/files.wasm");
    fs::copy(files, machine.at("acme.wasm")).unwrap();
    refused(&machine, &["-q", "run"], 78).says("its SHA-256 is").says(&digest);
}

#[test]
fn a_store_on_a_server_needs_a_way_to_log_in_and_may_be_used_by_no_project() {
    let machine = Machine::prepared();
    let sftp = "[stores.box]\ntier = \"archive\"\nkind = \"sftp\"\nhost = \"h\"\nuser = \"u\"\npath = \"p\"\nhost_key = \"hetzner\"\n";
    machine.configure(&format!("{}{sftp}", machine.usual()));
    refused(&machine, &["-q", "run"], 78).says("[stores.box] has no way to log in");
    machine.configure(&format!("{}{sftp}agent = true\n", machine.usual()));
    machine.call(&["run"]).ended(0);
}

#[test]
fn key_files_that_are_not_safe_are_refused() {
    let machine = Machine::configured();
    fs::create_dir(machine.at(".git")).unwrap();
    machine.call(&["-q", "init"]).ended(78).says("is a Git repository");
    assert!(!machine.at("keys/service.agekey").exists());
    fs::remove_dir(machine.at(".git")).unwrap();
    machine.call(&["init"]).ended(0);
    fs::set_permissions(machine.at("keys/service.agekey"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&machine, &["-q", "run"], 78).says("others can use it").says("chmod 600");
}

#[test]
fn no_key_at_all_is_told_before_anything_is_stored() {
    let machine = Machine::prepared();
    machine.change("identity = { file = \"keys/service.agekey\" }\n", "");
    refused(&machine, &["-q", "run"], 12).says("there is no key");
    machine.change(&format!("escrow = [\"{ESCROW}\"]\n"), "identity = { env = \"HAVUN_TEST_NO_SUCH_KEY\" }\n");
    refused(&machine, &["-q", "run"], 78).says("HAVUN_TEST_NO_SUCH_KEY").says("is not set");
}

#[test]
fn unknown_names_list_the_nearest() {
    let machine = Machine::prepared();
    machine.call(&["run"]).ended(0);
    refused(&machine, &["run", "--project", "blgo"], 2).says("there is no project `blgo`").says("Hint: did you mean `blog`?");
    refused(&machine, &["list", "--store", "locla"], 2).says("there is no store `locla`").says("did you mean `local`?");
    refused(&machine, &["config", "--project", "blgo"], 2).says("did you mean `blog`?");
    refused(&machine, &["restore", "--project", "blog", "--snapshot", "ffff", "--yes"], 1)
        .says("that begins with `ffff`")
        .says("Hint: there are: ");
    refused(&machine, &["restore", "--project", "blog", "--item", "databse", "--yes"], 2).says("no item `databse`").says("files");
    refused(&machine, &["restore", "--project", "blog", "--date", "tomorrow", "--yes"], 2).says("not a date");
}

#[test]
fn an_audit_database_that_cannot_be_used_is_told() {
    let machine = Machine::prepared();
    machine.configure(&format!("{}[audit]\nurl = \"postgres://u@127.0.0.1/audit?sslmodes=require\"\n", machine.usual()));
    let called = refused(&machine, &["-q", "run"], 78);
    assert!(called.stderr.contains("`sslmodes`") && called.stderr.contains("[audit]"), "{called:?}");
    machine.configure(&format!("{}[audit]\nurl = \"postgres://u:hunter2@127.0.0.1:1/audit\"\n", machine.usual()));
    let called = refused(&machine, &["-q", "run"], 10);
    assert!(called.stderr.contains("127.0.0.1:1 does not answer") && !called.stderr.contains("hunter2"), "{called:?}");
}
