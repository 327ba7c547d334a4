//! `demo`: the main job on a small project of its own, with the program itself as an operator calls it.

mod compare;
mod project;

use crate::{app::App, error::CliError};
use clap::Args;
use serde_json::Value;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Show the main job on a small project: back up, change, back up, restore both, compare
///
/// Everything happens in a temporary folder that is removed afterwards. Ends with 1 when anything differs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Work in this new folder and leave everything there
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// The folders of a demonstration.
struct Stage {
    folder: PathBuf,
    program: PathBuf,
    app_ui: crate::ui::Ui,
}

pub fn execute(app: &App, args: &DemoArgs) -> Result<u8, CliError> {
    let temporary = match &args.keep {
        Some(folder) => {
            std::fs::create_dir(folder).map_err(|source| CliError::Io { doing: format!("cannot make {}", folder.display()), source })?;
            None
        }
        None => {
            Some(tempfile::Builder::new().prefix("havun-demo-").tempdir().map_err(|source| io("cannot make a temporary folder", source))?)
        }
    };
    let folder = match (&temporary, &args.keep) {
        (Some(temporary), _) => temporary.path().to_owned(),
        (None, keep) => {
            std::path::absolute(keep.as_deref().unwrap_or(Path::new("."))).map_err(|source| io("cannot find the folder", source))?
        }
    };
    let program = std::env::current_exe().map_err(|source| io("cannot find this program", source))?;
    let stage = Stage { folder, program, app_ui: app.ui };
    stage.play()?;
    Ok(0)
}

impl Stage {
    fn play(&self) -> Result<(), CliError> {
        let root = self.folder.join("bookshop");
        self.tell("A small bookshop: a Node.js application with JSON files, uploads and a SQLite database in use.");
        let mut shop = project::Bookshop::open(&root).map_err(failed)?;

        self.tell("The program looks at it, proposes a configuration, makes keys and folders, and tests everything.");
        self.run([
            "init".into(),
            root.clone().into(),
            "--store".into(),
            self.folder.join("store").into(),
            "--archive".into(),
            self.folder.join("archive").into(),
            "--state-dir".into(),
            self.folder.join("state").into(),
            "--escrow-file".into(),
            self.folder.join("escrow-kit.txt").into(),
            "--yes".into(),
        ])?;

        self.tell("The first backup, while the database is open.");
        self.run(["run".into()])?;
        let monday = shop.photograph(&self.folder.join("as-it-was-1")).map_err(failed)?;

        self.tell("A day's work: orders come in, a file is changed, one is deleted, one is new.");
        shop.trade().map_err(failed)?;
        self.run(["run".into()])?;
        let tuesday = shop.photograph(&self.folder.join("as-it-was-2")).map_err(failed)?;
        self.run(["list".into()])?;

        self.tell("Both days come back, each into a folder of its own, one from the archive.");
        let [newest, oldest] = self.snapshots()?;
        let (first, second) = (self.folder.join("restored-1"), self.folder.join("restored-2"));
        self.restore(&oldest, &first, "local")?;
        self.restore(&newest, &second, "archive")?;
        self.compare("the first day", &monday, &first)?;
        self.compare("the second day", &tuesday, &second)?;

        self.tell("Everything stored is opened, decrypted and compared with its checksums.");
        self.run(["verify".into(), "--read-data".into()])?;
        drop(shop);
        self.tell("All is well: what was backed up is what came back.");
        Ok(())
    }

    fn tell(&self, text: &str) {
        self.app_ui.line(format!("\n# {text}"));
    }

    fn restore(&self, snapshot: &str, target: &Path, store: &str) -> Result<(), CliError> {
        let target = OsString::from(target);
        let words = ["restore", "--project", "bookshop", "--snapshot", snapshot, "--store", store, "--yes", "--target"];
        self.run(words.into_iter().map(OsString::from).chain([target]))
    }

    fn compare(&self, day: &str, then: &compare::Photograph, restored: &Path) -> Result<(), CliError> {
        let compared = compare::against(then, restored).map_err(failed)?;
        if compared.differences.is_empty() {
            let text =
                format!("# Equal to {day}: {} files and folders byte for byte, {} rows of the database", compared.entries, compared.rows);
            self.app_ui.line(text);
            return Ok(());
        }
        compared.differences.iter().for_each(|difference| self.app_ui.trouble(format!("  differs: {difference}")));
        Err(CliError::Demo(format!("what came back of {day} differs from what was there")))
    }

    /// Runs this program as an operator would, with its output on the screen.
    fn run(&self, words: impl IntoIterator<Item = OsString>) -> Result<(), CliError> {
        let words: Vec<OsString> = words.into_iter().collect();
        let shown: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        self.app_ui.line(format!("$ havun-backup {}", shown.join(" ")));
        let status = self.command(&words).status().map_err(|source| io("cannot start this program", source))?;
        if status.success() { Ok(()) } else { Err(CliError::Demo(format!("`havun-backup {}` ended with {status}", shown.join(" ")))) }
    }

    fn command(&self, words: &[OsString]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.join("config.toml")).arg("--no-progress").args(words).stdin(Stdio::null());
        if self.app_ui.quiet || self.app_ui.json {
            command.arg("--quiet");
        }
        command
    }

    /// The two snapshots, newest first.
    fn snapshots(&self) -> Result<[String; 2], CliError> {
        let output = self.command(&["list".into(), "--json".into()]).output().map_err(|source| io("cannot start this program", source))?;
        let list: Value =
            serde_json::from_slice(&output.stdout).map_err(|e| CliError::Demo(format!("`list --json` printed no JSON: {e}")))?;
        let snapshots = list.pointer("/projects/0/stores/0/snapshots").and_then(Value::as_array);
        let ids: Vec<String> =
            snapshots.into_iter().flatten().filter_map(|snapshot| Some(snapshot.get("id")?.as_str()?.to_owned())).collect();
        <[String; 2]>::try_from(ids).map_err(|ids| CliError::Demo(format!("{} snapshots instead of two", ids.len())))
    }
}

fn io(doing: &str, source: std::io::Error) -> CliError {
    CliError::Io { doing: doing.to_owned(), source }
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Demo(error.to_string())
}
