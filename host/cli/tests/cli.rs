//! What an operator and a program see: help, output, errors, exit statuses.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod common;

use common::{Called, Machine, program};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use std::{
    fs::{self, File},
    io::{Read, Write},
    process::{Child, Command, Stdio},
};

const COMMANDS: [&str; 26] = [
    "init",
    "run",
    "list",
    "restore",
    "recover",
    "verify",
    "test",
    "export",
    "cleanup",
    "archive",
    "health",
    "doctor",
    "status",
    "report",
    "store",
    "scrub",
    "repair",
    "hold",
    "erasure",
    "logs",
    "notify",
    "config",
    "daemon",
    "demo",
    "completions",
    "man",
];

fn call(arguments: &[&str]) -> Called {
    Called::of(program().args(arguments).output().unwrap())
}

#[test]
fn the_help_names_every_command_and_exit_status() {
    let called = call(&["--help"]).ended(0);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/help.txt");
    if std::env::var_os("HAVUN_WRITE_GOLDEN").is_some() {
        fs::write(path, &called.stdout).unwrap();
    }
    assert_eq!(called.stdout, fs::read_to_string(path).unwrap(), "HAVUN_WRITE_GOLDEN=1 writes it anew");
}

#[test]
fn every_command_explains_itself_and_no_other_is_there() {
    let overview = call(&["-h"]).ended(0).stdout;
    let listed: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().filter(|_| !line.starts_with("   ")))
        .collect();
    assert_eq!(listed, COMMANDS);
    for command in COMMANDS {
        let help = call(&[command, "--help"]).ended(0).stdout;
        assert!(help.contains(&format!("Usage: havun-backup {command}")), "{help}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_near() {
    call(&["restor"]).ended(2).says("'restore'");
    call(&["deamon"]).ended(2).says("'daemon'");
    call(&["run", "--projcet", "x"]).ended(2).says("--project");
    call(&[]).ended(2);
    call(&["restore"]).ended(2).says("--project");
    call(&["restore", "--project", "x", "--latest", "--date", "2026-01-01"]).ended(2);
    call(&["logs", "--limit", "many"]).ended(2);
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let text = call(&["completions", shell]).ended(0).stdout;
        assert!(COMMANDS.iter().all(|command| text.contains(command)), "{shell}");
    }
    assert!(call(&["man"]).ended(0).stdout.contains(".TH havun"));
    let folder = tempfile::tempdir().unwrap();
    call(&["man", "--output", folder.path().to_str().unwrap()]).ended(0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), COMMANDS.len() + 1);
    assert!(fs::read_to_string(folder.path().join("havun-backup-restore.1")).unwrap().contains("Bring back a project"));
}

#[test]
fn the_schema_needs_no_configuration() {
    let schema = call(&["config", "--schema"]).ended(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn the_first_day_of_an_operator() {
    let machine = Machine::configured();
    let init = machine.call(&["init"]).ended(0);
    assert!(init.stdout.contains("made     service key: "), "{}", init.stdout);
    assert!(init.stdout.contains("made     store local: "), "{}", init.stdout);
    assert!(init.stdout.contains("ok       project blog: strategy files: files (tree)"), "{}", init.stdout);
    let again = machine.call(&["init"]).ended(0).stdout;
    assert!(!again.contains("made"), "{again}");
    let plan = machine.call(&["run", "--dry-run"]).ended(0).stdout;
    assert!(plan.contains("planned  blog") && plan.contains("1 new, 0 changed, 0 gone of 1 file"), "{plan}");
    assert!(!machine.at("store/blog").exists());
    let run = machine.call(&["run"]).ended(0).stdout;
    assert!(run.starts_with("ok       blog  snapshot "), "{run}");
    let list = machine.call(&["list"]).ended(0).stdout;
    assert_eq!(list.lines().count(), 3, "{list}");
    let logs = machine.call(&["logs"]).ended(0).stdout;
    assert!(logs.contains("run") && logs.contains("blog") && logs.contains("ok"), "{logs}");
    machine.call(&["verify", "--read-data"]).ended(0);
    machine.call(&["config", "--check", "--online"]).ended(0);
    let cleanup = machine.call(&["cleanup", "--dry-run"]).ended(0).stdout;
    assert!(cleanup.contains("`hot` is not set in [projects.blog.retention]: nothing is deleted"), "{cleanup}");
    machine.configure(&format!("{}[projects.blog.retention]\nhot = \"30d\"\n", machine.usual()));
    let cleanup = machine.call(&["cleanup", "--dry-run"]).ended(0).stdout;
    assert!(cleanup.contains("0 of 1 snapshot would go") && cleanup.contains("stays"), "{cleanup}");
}

#[test]
fn quiet_is_silent_when_all_is_well_and_only_then() {
    let machine = Machine::prepared();
    for command in [&["run"][..], &["list"], &["verify"], &["logs"], &["cleanup"], &["config"], &["init"]] {
        let called = machine.call(&[&["-q"], command].concat()).ended(0);
        assert_eq!((called.stdout.as_str(), called.stderr.as_str()), ("", ""), "{command:?}");
    }
    fs::remove_dir_all(machine.at("blog")).unwrap();
    let called = machine.call(&["-q", "run"]).ended(1);
    assert!(called.stdout.is_empty() && called.stderr.contains("failed   blog"), "{called:?}");
}

#[test]
fn every_command_prints_one_document_with_its_version() {
    let machine = Machine::prepared();
    let dir = machine.at("restored");
    let archive = machine.at("blog.tar.zst");
    let (dir, archive) = (dir.to_str().unwrap(), archive.to_str().unwrap());
    for command in [
        &["init"][..],
        &["run", "--dry-run"],
        &["run"],
        &["list"],
        &["verify"],
        &["logs"],
        &["cleanup", "--dry-run"],
        &["cleanup"],
        &["config"],
        &["config", "--check"],
        &["restore", "--project", "blog", "--target", dir, "--dry-run"],
        &["restore", "--project", "blog", "--target", dir, "--yes"],
        &["export", "--project", "blog", "--output", archive],
    ] {
        let called = machine.call(&[&["--json"], command].concat()).ended(0);
        assert_eq!(called.json()["schema_version"], 1, "{command:?}");
        assert_eq!(called.stderr, "", "{command:?}");
    }
    let error = machine.call(&["--json", "list", "--project", "blgo"]).ended(2).json();
    assert_eq!(error["error"]["exit_status"], 2);
    assert_eq!(error["error"]["hint"], "did you mean `blog`?");
}

#[test]
fn messages_can_be_json_lines() {
    let machine = Machine::prepared();
    let called = machine.call(&["--log-format", "json", "-v", "run"]).ended(0);
    let lines: Vec<serde_json::Value> = called.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["project"] == "blog"), "{}", called.stderr);
    let error = machine.call(&["--log-format", "json", "list", "--project", "x"]).ended(2);
    assert_eq!(serde_json::from_str::<serde_json::Value>(error.stderr.trim()).unwrap()["level"], "ERROR");
}

#[test]
fn a_restore_that_nobody_agreed_to_is_refused() {
    let machine = Machine::prepared();
    machine.call(&["run"]).ended(0);
    fs::write(machine.at("blog/post.txt"), "changed\n").unwrap();
    let called = machine.call(&["restore", "--project", "blog"]).ended(2);
    assert!(called.stdout.contains("in place: "), "{}", called.stdout);
    called.says("nobody is there to agree").says("Hint: look at the plan with --dry-run, then call it with --yes");
    assert_eq!(fs::read_to_string(machine.at("blog/post.txt")).unwrap(), "changed\n");
    machine.call(&["restore", "--project", "blog", "--yes"]).ended(0);
    assert_eq!(fs::read_to_string(machine.at("blog/post.txt")).unwrap(), "hello\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let machine = Machine::prepared();
    let mut child = machine.command(&["config"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    child.wait().unwrap();
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn names_of_files_cannot_write_on_the_terminal() {
    let machine = Machine::prepared();
    machine.change("stores = [\"local\"]", "stores = [\"local\"]\nsettings = { include = [\"no\\u001b[31mred\"] }");
    let called = machine.call(&["run", "--dry-run"]);
    assert!(!called.stdout.contains('\u{1b}') && !called.stderr.contains('\u{1b}'), "{called:?}");
}

/// The program on a terminal.
fn on_terminal(machine: &Machine, arguments: &[&str]) -> (Child, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
    let child = machine.command(arguments).stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
    (child, File::from(terminal))
}

/// Reads until `wanted` is on the screen.
fn read_until(terminal: &mut File, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        match terminal.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => panic!("no `{wanted}` in {}", String::from_utf8_lossy(&seen)),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn the_escrow_kit_is_shown_once_and_must_be_acknowledged() {
    for good in [false, true] {
        let machine = Machine::configured();
        machine.change(&format!("escrow = [\"{}\"]\n", common::ESCROW), "");
        let (mut child, mut terminal) = on_terminal(&machine, &["init"]);
        let screen = read_until(&mut terminal, "from your copy:");
        let secret = screen.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().trim();
        let answer = if good { &secret[secret.len() - 8..] } else { "yes" };
        writeln!(terminal, "{answer}").unwrap();
        if good {
            read_until(&mut terminal, "Ready.");
        } else {
            read_until(&mut terminal, "nothing was done");
        }
        assert_eq!(child.wait().unwrap().success(), good);
        let config = fs::read_to_string(machine.config()).unwrap();
        assert_eq!(config.contains("escrow = [\"age1"), good);
        assert_eq!(machine.at("keys/service.agekey").exists(), good);
        assert!(!config.contains("AGE-SECRET"));
    }
}

#[test]
fn without_a_terminal_the_escrow_must_be_named() {
    let machine = Machine::configured();
    machine.change(&format!("escrow = [\"{}\"]\n", common::ESCROW), "");
    machine.call(&["init"]).ended(2).says("there is no escrow key").says("--escrow-file");
    assert!(!machine.at("keys").exists() && !machine.at("store").exists());
    machine.call(&["init", "--escrow", "age1nonsense"]).ended(2).says("is not an age recipient");
    machine.call(&["init", "--escrow-file", "kit.txt"]).ended(0);
    let kit = fs::read_to_string(machine.at("kit.txt")).unwrap();
    assert!(kit.contains("AGE-SECRET-KEY-1"));
    machine.call(&["run"]).ended(0);
    // The kit alone opens what the host stored.
    machine.change("keys/service.agekey", "kit.txt");
    machine.call(&["verify", "--read-data"]).ended(0);
}

#[test]
fn a_restore_asks_on_a_terminal() {
    let machine = Machine::prepared();
    machine.call(&["run"]).ended(0);
    for (answer, restored) in [("no", false), ("yes", true)] {
        let target = machine.at("restored");
        let (mut child, mut terminal) = on_terminal(&machine, &["restore", "--project", "blog", "--target", target.to_str().unwrap()]);
        read_until(&mut terminal, "Type yes:");
        writeln!(terminal, "{answer}").unwrap();
        read_until(&mut terminal, if restored { "ok       blog" } else { "nothing was done" });
        drop(terminal);
        child.wait().unwrap();
        assert_eq!(target.join("post.txt").exists(), restored);
    }
}

/// A run that has come to a database which somebody else has locked.
fn waiting_for_a_lock(machine: &Machine, command: &mut Command) -> (rusqlite::Connection, Child) {
    let connection = rusqlite::Connection::open(machine.at("blog/app.sqlite")).unwrap();
    connection.execute_batch("CREATE TABLE t (n); BEGIN EXCLUSIVE; INSERT INTO t VALUES (1)").unwrap();
    let text = fs::read_to_string(machine.config()).unwrap();
    machine.configure(&format!("{text}[projects.blog.databases.main]\nengine = \"sqlite\"\npath = \"app.sqlite\"\n"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let errors = child.stderr.as_mut().unwrap();
    let mut seen = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&seen).contains("database") {
        assert_eq!(errors.read(&mut byte).unwrap(), 1, "the dump never began");
        seen.push(byte[0]);
    }
    (connection, child)
}

#[test]
fn ctrl_c_stops_in_order_with_130() {
    let machine = Machine::prepared();
    let (waiting, mut child) = waiting_for_a_lock(&machine, &mut machine.command(&["-v", "run"]));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("Stopping in order"), "{rest}");
    let list = machine.call(&["list", "--json"]).ended(0).json();
    assert_eq!(list["projects"][0]["stores"][0]["snapshots"].as_array().unwrap().len(), 0);
    waiting.execute_batch("COMMIT").unwrap();
    machine.call(&["run"]).ended(0);
}

#[test]
fn ctrl_c_at_a_question_ends_at_once() {
    let machine = Machine::prepared();
    machine.call(&["run"]).ended(0);
    let (mut child, mut terminal) = on_terminal(&machine, &["restore", "--project", "blog"]);
    read_until(&mut terminal, "Type yes:");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let machine = Machine::prepared();
    let run = format!("trap '' HUP; exec {} --config {} run", env!("CARGO_BIN_EXE_havun-backup"), machine.config().display());
    let (waiting, mut child) = waiting_for_a_lock(&machine, Command::new("sh").args(["-c", &run.replace(" run", " -v run")]));
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    waiting.execute_batch("COMMIT").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_demonstration_ends_well_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let called = Called::of(program().arg("demo").env("TMPDIR", folder.path()).output().unwrap()).ended(0);
    assert_eq!(called.stdout.matches("# Equal to").count(), 2, "{}", called.stdout);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
