//! The real program, and a machine for it to work on: folders for a configuration, keys, stores and projects.

use havun_model::StoreName;
use havun_vault::{
    keys::{Identity, write_private_file},
    store::LocalRoot,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};
use tempfile::TempDir;

/// The program `havun-backup`: `$HAVUN_BACKUP_PROGRAM` where that is set (`tests/run.sh` sets it, because everything is
/// built by then), else built with the profile of the test that asks.
///
/// # Panics
/// When it does not build.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(built) = std::env::var_os("HAVUN_BACKUP_PROGRAM") {
            return PathBuf::from(built);
        }
        let test = std::env::current_exe().expect("a test knows its own file");
        let folder =
            test.ancestors().find(|folder| folder.join("deps").is_dir() && folder.join("build").is_dir()).expect("a target folder");
        let target = folder.parent().expect("a target folder");
        let mut build = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        build.args(["build", "--quiet", "--package", "havun-backup"]).env("CARGO_TARGET_DIR", target);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "havun-backup does not build");
        folder.join("havun-backup")
    })
}

/// What a call of the program gave.
#[derive(Debug)]
pub struct Called {
    /// Exit status; -1 when a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Called {
    /// What a finished process gave.
    #[must_use]
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// All that it said.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Itself, when it ended with `status`.
    ///
    /// # Panics
    /// When it did not.
    pub fn ended(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A machine of its own: a hot store `local`, an archive `archive`, a key, and whatever projects a test makes.
pub struct Machine {
    folder: TempDir,
    projects: String,
    keys: String,
    sections: String,
}

impl Machine {
    /// Makes folders, stores and a key.
    ///
    /// # Panics
    /// When the disk does not let it.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("havun-machine-").tempdir().expect("a temporary folder");
        let identity = Identity::generate();
        write_private_file(&folder.path().join("service.agekey"), identity.file_text("service key").as_bytes()).expect("a key file");
        for store in ["local", "archive"] {
            LocalRoot::create(&folder.path().join(store), &StoreName::new(store).expect("a name")).expect("a store");
        }
        let escrow = Identity::generate();
        write_private_file(&folder.path().join("escrow.agekey"), escrow.file_text("escrow key").as_bytes()).expect("a key file");
        let escrow = escrow.recipient();
        let keys = format!("[keys]\nidentity = {{ file = \"service.agekey\" }}\nescrow = [\"{escrow}\"]\n");
        let machine = Self { folder, projects: String::new(), keys, sections: String::new() };
        machine.write_config();
        machine
    }

    /// Its folder; everything of it lies in there.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in its folder.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Adds a project with root `projects/NAME` (made when missing) to the configuration. `more` is further TOML of
    /// its table, sub-tables included.
    ///
    /// # Panics
    /// When the disk does not let it.
    pub fn project(&mut self, name: &str, strategy: &str, more: &str) -> PathBuf {
        let root = self.at("projects").join(name);
        fs::create_dir_all(&root).expect("a project's folder");
        let stores = if more.contains("stores =") { "" } else { "stores = [\"local\", \"archive\"]\n" };
        self.projects += &format!("\n[projects.{name}]\nstrategy = \"{strategy}\"\nroot = \"{}\"\n{stores}{more}\n", root.display());
        self.write_config();
        root
    }

    /// Adds further TOML to the configuration: whole tables.
    ///
    /// # Panics
    /// When the disk does not let it.
    pub fn section(&mut self, toml: &str) {
        self.sections += &format!("\n{toml}\n");
        self.write_config();
    }

    /// Replaces the service key by another one, as if the wrong one were installed.
    ///
    /// # Panics
    /// When the disk does not let it.
    pub fn change_key(&self) {
        fs::remove_file(self.at("service.agekey")).expect("the key is there");
        write_private_file(&self.at("service.agekey"), Identity::generate().file_text("another key").as_bytes()).expect("a key file");
    }

    fn write_config(&self) {
        let config = format!(
            "[host]\nname = \"TestHost\"\nstate_dir = \"state\"\ntimezone = \"Europe/Amsterdam\"\n\n{}\n\
             [stores.local]\ntier = \"hot\"\nkind = \"local\"\npath = \"local\"\n\n\
             [stores.archive]\ntier = \"archive\"\nkind = \"local\"\npath = \"archive\"\n{}{}",
            self.keys, self.sections, self.projects
        );
        fs::write(self.at("havun-backup.toml"), config).expect("a configuration");
    }

    /// The program with this machine's configuration, ready for more arguments.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(self.at("havun-backup.toml")).arg("--no-progress").args(arguments).current_dir(self.path());
        command
    }

    /// Calls the program.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn call(&self, arguments: &[&str]) -> Called {
        Called::of(self.command(arguments).output().expect("the program starts"))
    }

    /// Calls the program with `--json`.
    ///
    /// # Panics
    /// As [`Self::call`].
    pub fn json(&self, arguments: &[&str]) -> Called {
        let mut all = vec!["--json"];
        all.extend(arguments);
        self.call(&all)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

/// What `rsync -aHAXni --delete` would change to make `copy` like `original`; empty when they are equal. `excludes`
/// are patterns of rsync.
///
/// # Panics
/// When rsync fails.
#[must_use]
pub fn tree_difference(original: &Path, copy: &Path, excludes: &[&str]) -> String {
    let mut command = Command::new("rsync");
    command.args(["-aHAXni", "--delete", "--checksum"]);
    command.args(excludes.iter().map(|pattern| format!("--exclude={pattern}")));
    let output = command.arg(format!("{}/", original.display())).arg(format!("{}/", copy.display())).output().expect("rsync runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies a tree with everything that `rsync -aHAX` keeps.
///
/// # Panics
/// When rsync fails.
pub fn copy_tree(original: &Path, copy: &Path) {
    let mut command = Command::new("rsync");
    command.args(["-aHAX"]).arg(format!("{}/", original.display())).arg(format!("{}/", copy.display()));
    assert!(command.status().expect("rsync runs").success());
}
