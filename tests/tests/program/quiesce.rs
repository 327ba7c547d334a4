//! Commands that let an application rest, and a snapshot of the file system as the source of its files.

use havun_tests::{Called, Machine};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A project whose commands write down that they ran.
fn project(machine: &mut Machine, more: &str) -> PathBuf {
    let log = machine.at("log");
    let say = |word: &str| format!("[\"sh\", \"-c\", \"echo {word} $(pwd) >> {}\"]", log.display());
    let hooks = format!("[projects.shop.quiesce]\nbefore = {}\nafter = {}\n{more}", say("before"), say("after"));
    let root = machine.project("shop", "files", &hooks);
    fs::write(root.join("a"), "1").unwrap();
    root
}

fn said(machine: &Machine) -> Vec<String> {
    let text = fs::read_to_string(machine.at("log")).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

fn change_config(machine: &Machine, from: &str, to: &str) {
    let text = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(machine.at("havun-backup.toml"), text.replace(from, to)).unwrap();
}

#[test]
fn the_application_rests_while_it_is_read_and_the_snapshot_says_how_long() {
    let mut machine = Machine::new();
    let root = project(&mut machine, "");
    let plan = machine.call(&["run", "--dry-run"]).ended(0).stdout;
    assert!(plan.contains("before the databases: sh -c") && plan.contains("after the files: sh -c"), "{plan}");
    assert!(said(&machine).is_empty(), "a dry run runs nothing");
    let report = machine.json(&["run"]).ended(0).json();
    assert_eq!(said(&machine), ["before", "after"]);
    assert!(fs::read_to_string(machine.at("log")).unwrap().contains(root.to_str().unwrap()), "in the project's root");
    assert!(report["projects"][0]["consistency"]["paused_ms"].is_u64(), "{report}");
    assert!(machine.json(&["logs"]).ended(0).text().contains("paused_ms"));
    assert_eq!(fs::read_dir(machine.at("state/pauses")).unwrap().count(), 0, "nothing is left to be undone");
}

#[test]
fn a_failed_before_fails_the_run_unless_told_otherwise_and_after_is_run_in_any_case() {
    let mut machine = Machine::new();
    project(&mut machine, "");
    let text = fs::read_to_string(machine.at("havun-backup.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("before = ")).unwrap().to_owned();
    change_config(&machine, &line, "before = [\"sh\", \"-c\", \"printf '\\\\033[31mno\\\\n' >&2; exit 9\"]");
    let failed = machine.call(&["run"]).ended(1);
    assert!(failed.text().contains("exit status 9") && failed.text().contains(": no"), "{}", failed.text());
    assert!(!failed.text().contains('\u{1b}'));
    assert_eq!(said(&machine), ["after"]);
    assert!(machine.json(&["list"]).json().to_string().find("\"snapshots\":[{").is_none(), "nothing was committed");
    change_config(&machine, "[projects.shop.quiesce]", "[projects.shop.quiesce]\non_failure = \"continue\"");
    let gone_on = machine.call(&["run"]).ended(0);
    assert!(gone_on.text().contains("not made to rest"), "{}", gone_on.text());
    assert_eq!(said(&machine), ["after", "after"]);
}

#[test]
fn when_both_fail_the_error_says_that_the_application_may_still_rest() {
    let mut machine = Machine::new();
    project(&mut machine, "");
    for word in ["before", "after"] {
        change_config(&machine, &format!("echo {word} $(pwd)"), &format!("echo {word}-broke; exit 4; echo $(pwd)"));
    }
    let failed = machine.call(&["run"]).ended(1).text();
    assert!(failed.contains("before-broke") && failed.contains("may still be resting") && failed.contains("after-broke"), "{failed}");
    machine.call(&["health"]).ended(4);
}

#[test]
fn a_failed_after_is_no_green_run_and_is_tried_again() {
    let mut machine = Machine::new();
    project(&mut machine, "");
    let (good, bad) = ("echo after $(pwd)", "test -e broken && exit 3; echo after $(pwd)");
    change_config(&machine, good, bad);
    let broken = machine.at("projects/shop/broken");
    fs::write(&broken, "").unwrap();
    let failed = machine.json(&["run"]).ended(3).json();
    assert!(failed["projects"][0]["problems"].to_string().contains("may still be resting"), "{failed}");
    assert_eq!(said(&machine), ["before"]);
    fs::remove_file(&broken).unwrap();
    let again = machine.call(&["run"]).ended(0);
    assert!(again.text().contains("was killed while the application rested"), "{}", again.text());
    assert_eq!(said(&machine), ["before", "after", "before", "after"]);
}

#[test]
fn a_run_that_was_killed_is_made_good_by_the_next() {
    let mut machine = Machine::new();
    project(&mut machine, "");
    // The run dies in its own `before`, so that it is surely between the two.
    change_config(&machine, "echo before $(pwd)", "test -e kill && kill -9 $PPID; echo before $(pwd)");
    let trap = machine.at("projects/shop/kill");
    fs::write(&trap, "").unwrap();
    assert_eq!(machine.call(&["run"]).status, -1, "killed");
    fs::remove_file(&trap).unwrap();
    let health = machine.call(&["health"]).ended(4);
    assert!(health.text().contains("has not let the application go on"), "{}", health.text());
    let next = machine.call(&["run"]).ended(0);
    assert!(next.text().contains("was killed while the application rested; `sh -c"), "{}", next.text());
    let all = said(&machine);
    assert_eq!(all.iter().filter(|word| *word == "after").count(), 2, "{all:?}");
    assert_eq!(fs::read_dir(machine.at("state/pauses")).unwrap().count(), 0);
}

#[test]
fn sigterm_lets_the_application_go_on() {
    let mut machine = Machine::new();
    project(&mut machine, "");
    // `before` waits until it is stopped, which SIGTERM to the program does.
    change_config(&machine, "echo before $(pwd)", "kill -TERM $PPID; sleep 600; echo before $(pwd)");
    let stopped = machine.call(&["run"]);
    assert_eq!(stopped.status, 130, "{stopped:?}");
    assert_eq!(said(&machine), ["after"]);
}

#[test]
fn commands_run_as_the_user_that_is_named() {
    let mut machine = Machine::new();
    project(&mut machine, "user = \"nobody\"\n");
    let log = machine.at("log");
    fs::write(&log, "").unwrap();
    assert!(Command::new("chown").arg("nobody").arg(&log).status().unwrap().success());
    assert!(Command::new("chmod").arg("a+rx").arg(machine.path()).arg(machine.at("projects")).status().unwrap().success());
    change_config(&machine, "echo before $(pwd)", "echo before $(id -un) $HOME");
    machine.call(&["run"]).ended(0);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("before nobody /"), "{text}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let mut machine = Machine::new();
    project(&mut machine, "user = \"no-such-user\"\ntimeout = 0\n[projects.shop.snapshot]\nkind = \"zfs\"\ndataset = \"-rf\"\n");
    let refused = machine.call(&["config", "--check"]).ended(78).text();
    for part in ["no user `no-such-user`", "`timeout` must be a whole number", "`dataset`"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

/// A Btrfs file system in a file, mounted for as long as the value lives.
struct Btrfs(PathBuf);

impl Btrfs {
    fn make(machine: &Machine) -> Self {
        let (image, point) = (machine.at("btrfs.img"), machine.at("projects"));
        fs::create_dir_all(&point).unwrap();
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run("mkfs.btrfs", &["-q", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), point.to_str().unwrap()]);
        Self(point)
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(&self.0).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn mounted_beneath(folder: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(folder.to_str().unwrap())).count()
}

/// A project on a subvolume, read from a snapshot. `before` prepares a change that `after` makes: a snapshot does not see it.
fn on_btrfs(machine: &mut Machine) -> (Btrfs, PathBuf) {
    let disk = Btrfs::make(machine);
    let subvolume = machine.at("projects/shop");
    run("btrfs", &["subvolume", "create", subvolume.to_str().unwrap()]);
    let snapshot = format!("[projects.shop.snapshot]\nkind = \"btrfs\"\nsubvolume = \"{}\"\n", subvolume.display());
    let root = project(machine, &snapshot);
    change_config(machine, "echo after $(pwd)", "echo changed > late; echo after $(pwd)");
    for n in 0..50 {
        fs::write(root.join(format!("file-{n}")), format!("content {n}")).unwrap();
    }
    (disk, root)
}

#[test]
fn files_are_read_from_a_btrfs_snapshot_of_the_moment_of_the_dump() {
    let mut machine = Machine::new();
    let (disk, root) = on_btrfs(&mut machine);
    let plan = machine.call(&["run", "--dry-run"]).ended(0).stdout;
    assert!(plan.contains("read from a btrfs snapshot"), "{plan}");
    let report = machine.json(&["run"]).ended(0).json();
    assert_eq!(report["projects"][0]["consistency"]["source"], "btrfs", "{report}");
    assert!(root.join("late").exists());
    let target = machine.at("target");
    machine.call(&["restore", "--project", "shop", "--yes", "--target", target.to_str().unwrap()]).ended(0);
    assert!(target.join("file-49").exists() && !target.join("late").exists(), "the application had gone on when files were read");
    // The file-state cache of the root holds for a snapshot of it: nothing is read again, once the files are older than
    // the two seconds for which a change could go unseen.
    let stats = |report: &serde_json::Value| report["projects"][0]["stats"].clone();
    let unchanged = |stats: &serde_json::Value| stats["files_unchanged"].as_u64() >= Some(51) && stats["files_new"].as_u64() <= Some(1);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut again = stats(&machine.json(&["run"]).ended(0).json());
    while !unchanged(&again) && std::time::Instant::now() < deadline {
        again = stats(&machine.json(&["run"]).ended(0).json());
    }
    assert!(unchanged(&again), "{again}");
    assert!(!root.join(".havun-backup-shop").exists(), "the snapshot is gone");
    assert_eq!(mounted_beneath(&machine.at("state")), 0);
    drop(disk);
}

#[test]
fn the_snapshot_of_a_killed_run_is_removed_by_the_next() {
    let mut machine = Machine::new();
    let (disk, root) = on_btrfs(&mut machine);
    // `after` runs when the snapshot is there, and kills the run.
    change_config(&machine, "echo changed > late;", "test -e kill && kill -9 $PPID;");
    fs::write(root.join("kill"), "").unwrap();
    assert_eq!(machine.call(&["run"]).status, -1, "killed");
    assert!(root.join(".havun-backup-shop").exists() && mounted_beneath(&machine.at("state")) == 1, "something is left behind");
    fs::remove_file(root.join("kill")).unwrap();
    let next: Called = machine.call(&["run"]).ended(0);
    assert!(next.text().contains("its snapshot of the file system has been removed"), "{}", next.text());
    assert!(!root.join(".havun-backup-shop").exists());
    assert_eq!(mounted_beneath(&machine.at("state")), 0);
    drop(disk);
}

#[test]
fn a_snapshot_that_would_not_hold_everything_is_refused() {
    let mut machine = Machine::new();
    let (disk, root) = on_btrfs(&mut machine);
    run("btrfs", &["subvolume", "create", root.join("uploads").to_str().unwrap()]);
    let refused = machine.call(&["run"]).ended(1);
    assert!(refused.text().contains("uploads is a subvolume of its own"), "{}", refused.text());
    assert_eq!(said(&machine), ["before", "after"], "the application goes on all the same");
    run("btrfs", &["subvolume", "delete", root.join("uploads").to_str().unwrap()]);
    fs::create_dir(root.join("cache")).unwrap();
    run("mount", &["-t", "tmpfs", "none", root.join("cache").to_str().unwrap()]);
    let refused = machine.call(&["run"]).ended(1);
    run("umount", &[root.join("cache").to_str().unwrap()]);
    assert!(refused.text().contains("cache is a file system of its own"), "{}", refused.text());
    machine.command(&["run"]).stdout(Stdio::null()).status().unwrap();
    drop(disk);
}
