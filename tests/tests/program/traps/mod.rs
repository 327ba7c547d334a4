//! One test for each trap of dumps and restores, through the whole program against real servers. `docs/testing.md` says which
//! trap is tested where.

mod clients;
mod disks;
mod kept;
mod laravel;
mod mariadb;
mod mysql;
mod record;
mod secrets;
mod sqlite;
mod swaps;
mod tls;
mod torn;

use havun_tests::{Called, Machine, MariaDb};
use havun_vault::{
    Vault,
    keys::Identity,
    store::{LocalRoot, Store},
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// A machine with one project `shop`: a file, and a database of a server.
pub(super) struct Shop {
    pub machine: Machine,
    pub root: PathBuf,
}

impl Shop {
    /// With the parameters of its database as TOML.
    pub fn new(parameters: &str, more: &str) -> Self {
        let mut machine = Machine::new();
        let root = machine.project("shop", "files", &format!("{more}[projects.shop.databases.main]\n{parameters}\n"));
        fs::write(root.join("file"), "x").unwrap();
        fs::create_dir(machine.at("bin")).unwrap();
        Self { machine, root }
    }

    /// With a database of a MariaDB server, as root over its socket.
    pub fn mariadb(server: &MariaDb, database: &str) -> Self {
        Self::new(
            &format!("engine = \"mariadb\"\nsocket = \"{}\"\nuser = \"root\"\ndatabase = \"{database}\"", server.socket().display()),
            "",
        )
    }

    pub fn at(&self, path: &str) -> String {
        self.machine.at(path).to_string_lossy().into_owned()
    }

    /// Puts a script before a program on the PATH. `REAL` in it is the program itself, `HERE` the machine's folder. Asked for
    /// its version, the program answers itself.
    pub fn wrap(&self, program: &str, script: &str) {
        let real = find(program);
        let script = script.replace("REAL", &real.to_string_lossy()).replace("HERE", &self.machine.path().to_string_lossy());
        let text = format!("#!/bin/bash\ncase \"$*\" in *--version*) exec {} \"$@\" ;; esac\n{script}\n", real.display());
        self.install(program, &text);
    }

    /// Puts a script on the PATH. Written by another program, so that nothing that is run is still open for writing here.
    pub fn install(&self, program: &str, text: &str) {
        let mut command = Command::new("install");
        let path = self.machine.at("bin").join(program);
        let mut child = command.args(["-D", "-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub fn unwrap_all(&self) {
        fs::remove_dir_all(self.machine.at("bin")).unwrap();
        fs::create_dir(self.machine.at("bin")).unwrap();
    }

    /// The program, which finds the scripts first.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command(arguments);
        let path = format!("{}:{}", self.at("bin"), std::env::var("PATH").unwrap());
        command.env("PATH", path);
        command
    }

    pub fn call(&self, arguments: &[&str]) -> Called {
        Called::of(self.command(arguments).output().unwrap())
    }

    /// As [`Self::call`], at another time of day: `2026-11-10 03:00:00`.
    pub fn call_at(&self, time: &str, arguments: &[&str]) -> Called {
        let inner = self.command(arguments);
        let mut command = Command::new("faketime");
        command.arg(time).arg(inner.get_program()).args(inner.get_args()).current_dir(self.machine.path());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Called::of(command.output().unwrap())
    }

    pub fn json(&self, arguments: &[&str]) -> Called {
        self.call(&[&["--json"], arguments].concat())
    }

    /// Runs, expects an exit status, and returns what is said of the database.
    pub fn run(&self, status: i32) -> Value {
        item(self.json(&["run"]).ended(status))
    }

    /// A run whose dump fails: nothing of the dump is in the snapshot, and the item's one problem is returned.
    pub fn failed_dump(&self) -> String {
        self.no_dump(item(self.json(&["run"]).ended(3)))
    }

    /// As [`Self::failed_dump`], at another time.
    pub fn failed_dump_at(&self, time: &str) -> String {
        self.no_dump(item(self.call_at(time, &["--json", "run"]).ended(3)))
    }

    fn no_dump(&self, item: Value) -> String {
        assert_eq!(item["outcome"], "failed", "{item}");
        let stored = self.newest();
        assert_eq!((stored["outcome"].as_str(), stored["items"]["database"]["outcome"].as_str()), (Some("partial"), Some("failed")));
        assert!(stored["items"]["database"]["database"].is_null(), "{stored}");
        assert_eq!(self.dumps_in_newest(), Vec::<String>::new(), "no artefact");
        item["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap()).collect::<Vec<_>>().join("; ")
    }

    fn vault(&self) -> Vault {
        let store = LocalRoot::open(&self.machine.at("local")).unwrap().vault(&"shop".parse().unwrap());
        let keys = Identity::read_file(&self.machine.at("service.agekey")).unwrap();
        Vault::open(Arc::new(store) as Arc<dyn Store>, &keys).unwrap()
    }

    /// The newest snapshot, as it is stored.
    pub fn newest(&self) -> Value {
        let list = self.vault().snapshots().unwrap();
        serde_json::to_value(&list.snapshots.last().unwrap().snapshot).unwrap()
    }

    /// Paths of dumps in the newest snapshot.
    pub fn dumps_in_newest(&self) -> Vec<String> {
        self.paths_in_newest().into_iter().filter(|path| path.starts_with("databases/")).collect()
    }

    /// All paths of the newest snapshot.
    pub fn paths_in_newest(&self) -> Vec<String> {
        let vault = self.vault();
        let list = vault.snapshots().unwrap();
        let entries = vault.entries(&list.snapshots.last().unwrap().snapshot).unwrap();
        entries.map(|entry| String::from_utf8(entry.unwrap().path).unwrap()).collect()
    }

    /// The bytes of one dump of the newest snapshot.
    pub fn dump(&self, path: &str) -> Vec<u8> {
        let vault = self.vault();
        let list = vault.snapshots().unwrap();
        let snapshot = &list.snapshots.last().unwrap().snapshot;
        let entry = vault.entries(snapshot).unwrap().map(Result::unwrap).find(|entry| entry.path == path.as_bytes()).unwrap();
        let (mut contents, mut bytes) = (vault.contents(snapshot).unwrap(), Vec::new());
        contents.write(&entry, &mut bytes).unwrap();
        bytes
    }

    pub fn snapshots(&self) -> usize {
        self.vault().snapshots().unwrap().snapshots.len()
    }
}

fn item(called: Called) -> Value {
    called.json()["projects"][0]["items"]["database"].clone()
}

/// Where a program is.
pub(super) fn find(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    let mut folders = std::env::split_paths(&path);
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file())).unwrap_or_else(|| panic!("{program} is not there"))
}

/// Waits until `ready`, or fails after two minutes.
pub(super) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
