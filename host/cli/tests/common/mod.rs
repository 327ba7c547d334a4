//! The real program on a machine of its own: a configuration, a store and one project in a temporary folder.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// A recipient whose secret nobody has.
pub const ESCROW: &str = "age1fscwsxekakuzmkl30vqg4krk2ke0ewxmrqy9x6tss5cwjwlfcvnqdzzfxr";

/// How a call ended.
#[derive(Debug)]
pub struct Called {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Called {
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Itself, if it ended with `status`.
    #[track_caller]
    pub fn ended(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Itself, if standard error says `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no `{text}` in\n{}\n(stdout: {})", self.stderr, self.stdout);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program without a configuration.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_havun-backup"));
    command.env_remove("HAVUN_BACKUP_CONFIG").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

/// A folder with a configuration.
pub struct Machine {
    folder: TempDir,
}

impl Machine {
    /// A prepared machine with the project `blog`: strategy `files`, store `local`.
    pub fn prepared() -> Self {
        let machine = Self::configured();
        machine.call(&["init"]).ended(0);
        machine
    }

    /// The same with a configuration only.
    pub fn configured() -> Self {
        let machine = Self::empty();
        fs::create_dir(machine.at("blog")).unwrap();
        fs::write(machine.at("blog/post.txt"), "hello\n").unwrap();
        machine.configure(&machine.usual());
        machine
    }

    /// Only a folder.
    pub fn empty() -> Self {
        Self { folder: tempfile::Builder::new().prefix("havun-cli-").tempdir().unwrap() }
    }

    /// The configuration of [`Machine::configured`].
    pub fn usual(&self) -> String {
        format!(
            "[host]\nname = \"host\"\nstate_dir = \"state\"\ntimezone = \"UTC\"\n\
             [keys]\nidentity = {{ file = \"keys/service.agekey\" }}\nescrow = [\"{ESCROW}\"]\n\
             [stores.local]\ntier = \"hot\"\nkind = \"local\"\npath = \"store\"\n\
             [projects.blog]\nstrategy = \"files\"\nroot = \"blog\"\nstores = [\"local\"]\n"
        )
    }

    pub fn configure(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
        fs::set_permissions(self.config(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Replaces a part of the configuration.
    #[track_caller]
    pub fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from}");
        self.configure(&text.replace(from, to));
    }

    pub fn config(&self) -> PathBuf {
        self.at("havun-backup.toml")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.config()).args(arguments).current_dir(self.path());
        command
    }

    pub fn call(&self, arguments: &[&str]) -> Called {
        Called::of(self.command(arguments).output().unwrap())
    }

    /// Path, size and mode of everything in a folder, to see that nothing was written.
    pub fn listing(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.at(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let meta = entry.metadata().unwrap();
                if meta.is_dir() {
                    folders.push(entry.path());
                }
                found.push(format!(
                    "{} {} {:o}",
                    entry.path().display(),
                    if meta.is_dir() { 0 } else { meta.len() },
                    meta.permissions().mode()
                ));
            }
        }
        found.sort();
        found
    }
}
