//! Disaster recovery as `docs/operations/disaster-recovery.md` has it: the commands are taken from the page and run.

use havun_tests::{Called, Machine, Sshd, copy_tree, program, tree_difference};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PAGE: &str = include_str!("../../../docs/operations/disaster-recovery.md");

/// The `sh` blocks of the section whose heading begins with `number`, in order.
fn blocks(number: &str) -> Vec<String> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(number)).unwrap();
    let fenced = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let all: Vec<String> = fenced.collect();
    assert!(!all.is_empty(), "section {number} has no commands");
    all
}

/// A shell on a machine: `havun-backup` is the program, the placeholders of the page are variables.
struct Shell {
    folder: PathBuf,
    variables: Vec<(String, String)>,
}

impl Shell {
    fn new(folder: &Path) -> Self {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let _ = symlink(program(), bin.join("havun-backup"));
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        Self { folder: folder.to_owned(), variables: vec![("PATH".to_owned(), path)] }
    }

    fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    fn run(&self, script: &str) -> Called {
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(&self.folder).env_remove("HAVUN_BACKUP_CONFIG");
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Called::of(shell.output().unwrap())
    }

    /// Runs the commands of a section; all of them must end well.
    fn follow(&self, number: &str) -> String {
        blocks(number).iter().map(|block| self.run(block).ended(0).text()).collect()
    }
}

fn today() -> String {
    let out = Command::new("date").arg("+%F").env("TZ", "Europe/Amsterdam").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A machine with one project that has been backed up, and a copy of the project as it was then.
fn shop() -> (Machine, PathBuf, PathBuf) {
    let mut machine = Machine::new();
    let root = machine.project(
        "shop",
        "files",
        "title = \"The shop\"\npriority = \"critical\"\nschedule = \"daily 03:00\"\ncompliance = [\"belastingdienst\"]\n\
         [projects.shop.retention]\nhot = \"14d\"\narchive = \"9y\"\n[projects.shop.settings]\nexclude = [\"cache/**\"]",
    );
    fs::create_dir_all(root.join("invoices/2026")).unwrap();
    fs::write(root.join("invoices/2026/1.txt"), "one hundred euros").unwrap();
    fs::write(root.join("index.html"), "hello").unwrap();
    machine.call(&["run"]).ended(0);
    let copy = machine.at("as-it-was");
    copy_tree(&root, &copy);
    (machine, root, copy)
}

#[test]
fn recent_damage_is_mended_from_the_hot_store() {
    let (machine, root, copy) = shop();
    fs::remove_dir_all(root.join("invoices")).unwrap();
    fs::write(root.join("index.html"), "newer than the backup").unwrap();
    let aside = machine.at("aside");
    Shell::new(machine.path())
        .set("HAVUN_BACKUP_CONFIG", machine.at("havun-backup.toml").display())
        .set("PROJECT", "shop")
        .set("HOT", "local")
        .set("DATE", today())
        .set("FILES", "invoices/**")
        .set("ASIDE", aside.display())
        .follow("1.");
    assert_eq!(fs::read_to_string(root.join("invoices/2026/1.txt")).unwrap(), "one hundred euros");
    assert_eq!(fs::read_to_string(root.join("index.html")).unwrap(), "newer than the backup");
    assert_eq!(tree_difference(&copy, &aside, &[]), "");
}

#[test]
fn old_data_comes_from_the_archive_by_its_date() {
    let (machine, root, copy) = shop();
    fs::remove_dir_all(machine.at("local/shop")).unwrap();
    fs::remove_dir_all(&root).unwrap();
    let aside = machine.at("aside");
    Shell::new(machine.path())
        .set("HAVUN_BACKUP_CONFIG", machine.at("havun-backup.toml").display())
        .set("PROJECT", "shop")
        .set("ARCHIVE", "archive")
        .set("DATE", today())
        .set("ASIDE", aside.display())
        .follow("2.");
    assert_eq!(tree_difference(&copy, &aside, &[]), "");
}

/// Everything of a host but its archive and the escrow key.
fn burn_down(machine: &Machine) {
    fs::remove_file(machine.at("havun-backup.toml")).unwrap();
    fs::remove_file(machine.at("service.agekey")).unwrap();
    for folder in ["state", "local", "projects"] {
        fs::remove_dir_all(machine.at(folder)).unwrap();
    }
}

#[test]
fn a_lost_server_comes_back_from_a_disk_and_the_escrow_key() {
    let (machine, root, copy) = shop();
    burn_down(&machine);
    let address = format!("file://{}", machine.at("archive").display());
    the_server_comes_back(&machine, &root, &copy, &address, "");
}

#[test]
fn a_lost_server_comes_back_over_sftp_with_the_escrow_key() {
    let (machine, root, copy) = shop();
    burn_down(&machine);
    let server = Sshd::start(&[]);
    copy_tree(&machine.at("archive"), &server.store());
    fs::remove_dir_all(machine.at("archive")).unwrap();
    let address = format!("sftp://{}@127.0.0.1:{}/{}", server.user(), server.port(), server.store().display());
    let login = format!("--host-key {} --ssh-identity {}", fingerprint(&server.host_key()), server.client_key_file().display());
    the_server_comes_back(&machine, &root, &copy, &address, &login);
}

/// As `ssh-keygen -l` says it.
fn fingerprint(key: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key.pub"), key).unwrap();
    let out = Command::new("ssh-keygen").arg("-lf").arg(folder.path().join("key.pub")).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

fn the_server_comes_back(machine: &Machine, root: &Path, copy: &Path, address: &str, login: &str) {
    let new = machine.at("new");
    // `recover` writes where the system has its configuration; the test machine has its own place for all of it.
    let said = Shell::new(machine.path())
        .set("HAVUN_BACKUP_CONFIG", new.join("config.toml").display())
        .set("PROJECT", "shop")
        .set("ADDRESS", address)
        .set("LOGIN", format!("{login} --config-out {0}/config.toml --state-dir {0}/state --hot {0}/hot", new.display()))
        .set("ESCROW", machine.at("escrow.agekey").display())
        .follow("3.");
    assert_eq!(tree_difference(copy, root, &[]), "", "{said}");
    assert!(!machine.at("escrow.agekey").exists());
    let config = fs::read_to_string(new.join("config.toml")).unwrap();
    for line in [
        "title = \"The shop\"",
        "priority = \"critical\"",
        "schedule = \"daily 03:00\"",
        "hot = \"14d\"",
        "archive = \"9y\"",
        "exclude = [\"cache/**\"]",
        "compliance = [\"belastingdienst\"]",
        "[stores.archive]",
    ] {
        assert!(config.contains(line), "{line} is not in\n{config}");
    }
    // The run after the recovery went on where the lost host had stopped: one vault, two snapshots, one year's key.
    let shell = Shell::new(machine.path()).set("HAVUN_BACKUP_CONFIG", new.join("config.toml").display());
    let list = shell.run("havun-backup --json list").ended(0).json();
    for store in list["projects"][0]["stores"].as_array().unwrap() {
        assert_eq!(store["snapshots"].as_array().unwrap().len(), 2, "{list}");
    }
    let logs = shell.run("havun-backup --json logs").ended(0).json();
    let recovered = logs["rows"].as_array().unwrap_or_else(|| panic!("{logs}")).iter().filter(|row| row["started_by"] == "recover");
    assert_eq!(recovered.count(), 1, "{logs}");
    // A second recovery replaces nothing.
    let again =
        format!("havun-backup recover --store '{address}' {login} --identity new/keys/service.agekey --config-out new/config.toml --yes");
    let refused = Shell::new(machine.path()).run(&again);
    assert!(refused.status == 1 && refused.text().contains("config.toml"), "{refused:?}");
    assert_eq!(fs::read_to_string(new.join("config.toml")).unwrap(), config);
}

#[test]
fn one_command_recovers_and_restores_and_a_wrong_key_says_so() {
    let (machine, root, copy) = shop();
    burn_down(&machine);
    let shell = Shell::new(machine.path());
    let place = "--config-out new/config.toml --state-dir new/state --hot new/hot";
    let wrong = format!("havun-backup recover --store file://$PWD/archive --identity wrong.agekey {place} --yes");
    let kit = havun_vault::keys::Identity::generate();
    havun_vault::keys::write_private_file(&machine.at("wrong.agekey"), kit.file_text("another key").as_bytes()).unwrap();
    shell.run(&wrong).ended(12);
    assert!(!machine.at("new").exists());
    let init = format!("havun-backup init --from-archive file://$PWD/archive --identity escrow.agekey --restore {place} --yes");
    shell.run(&init).ended(0);
    assert_eq!(tree_difference(&copy, &root, &[]), "");
    for (address, status) in [("file:///nowhere", 10), ("ftp://x/y", 2), ("sftp://u@127.0.0.1/x", 2)] {
        let command = format!("havun-backup recover --store {address} --identity escrow.agekey --config-out other.toml --yes");
        let refused = shell.run(&command);
        assert_eq!(refused.status, status, "{address}: {refused:?}");
    }
}

#[test]
fn a_recovery_that_was_killed_is_called_again_and_goes_on() {
    let (machine, _, _) = shop();
    let escrow = machine.at("escrow.agekey");
    burn_down(&machine);
    let address = format!("file://{}", machine.at("archive").display());
    let mut killed = 0;
    for round in 0..20 {
        let folder = machine.at(&format!("new{round}"));
        let (config, state, hot) = (folder.join("config.toml"), folder.join("state"), folder.join("hot"));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (config_text, state, hot, key) = (text(&config), text(&state), text(&hot), text(&escrow));
        let arguments = [
            "recover",
            "--store",
            &address,
            "--identity",
            &key,
            "--config-out",
            &config_text,
            "--state-dir",
            &state,
            "--hot",
            &hot,
            "--yes",
        ];
        let mut child = machine.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !folder.join("keys/service.agekey").exists() && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();
        if !folder.join("config.toml.recovering").exists() {
            // It was faster than the test.
            continue;
        }
        killed += 1;
        machine.call(&arguments).ended(0);
        assert!(!folder.join("config.toml.recovering").exists());
        let listed = Command::new(program()).args(["--config", &config_text, "list"]).output().unwrap();
        assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("shop"), "{listed:?}");
        // What is complete is not touched again.
        assert_ne!(machine.call(&arguments).status, 0);
        if killed == 3 {
            break;
        }
    }
    assert!(killed > 0, "no recovery could be killed half-way");
}
