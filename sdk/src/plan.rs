//! Builders of the plan's records.

use crate::{BackupPlan, Check, Connection, Detection, Item, Parameter, ProposedSetting, RestorePlan, RestoreStep, StepReport, StoredItem};
use havun_dotenv::Syntax;

fn owned<S: AsRef<str>>(texts: &[S]) -> impl Iterator<Item = String> {
    texts.iter().map(|text| text.as_ref().to_owned())
}

impl Item {
    fn of(kind: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            path: String::new(),
            includes: Vec::new(),
            excludes: Vec::new(),
            connection: None,
            exclude_rows: Vec::new(),
            reason: String::new(),
            ext: Vec::new(),
        }
    }

    /// Files beneath the root; everything, until [`at`](Self::at) or [`include`](Self::include) says less.
    pub fn tree(name: &str) -> Self {
        Self::of("tree", name)
    }

    /// A database, dumped by the host.
    pub fn database(name: &str, connection: Connection) -> Self {
        Self { connection: Some(connection), ..Self::of("database", name) }
    }

    /// The history of the Git repository at the root, or [`at`](Self::at) a folder.
    pub fn git(name: &str) -> Self {
        Self::of("git", name)
    }

    /// Bytes that the strategy writes when asked; `file_name` is one path component.
    pub fn generated(name: &str, file_name: &str, media_type: &str) -> Self {
        let ext = vec![("media-type".to_owned(), media_type.to_owned())];
        Self { path: file_name.to_owned(), ext, ..Self::of("generated", name) }
    }

    /// Only what is at `path`, relative to the root.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Only what one of these globs matches (added to earlier ones); relative to the root.
    #[must_use]
    pub fn include<S: AsRef<str>>(mut self, globs: &[S]) -> Self {
        self.includes.extend(owned(globs));
        self
    }

    /// Nothing that one of these globs matches; `a/**` keeps the folder `a`, `a` leaves it out as well.
    #[must_use]
    pub fn exclude<S: AsRef<str>>(mut self, globs: &[S]) -> Self {
        self.excludes.extend(owned(globs));
        self
    }

    /// Tables whose rows, not whose schema, are left out; `*` matches any run of characters.
    #[must_use]
    pub fn without_rows<S: AsRef<str>>(mut self, tables: &[S]) -> Self {
        self.exclude_rows.extend(owned(tables));
        self
    }

    /// Each file must parse as JSON: the host reads it again while it does not.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.ext.push(("json".to_owned(), "true".to_owned()));
        self
    }

    /// One line for the operator: why this is backed up.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }
}

impl Connection {
    /// `name`: `main`, or as the operator listed it. `engine` may be empty when the URL says it.
    pub fn new(name: &str, engine: &str) -> Self {
        Self { name: name.to_owned(), engine: engine.to_owned(), parameters: Vec::new(), ext: Vec::new() }
    }

    /// A parameter with its value, never a secret.
    #[must_use]
    pub fn literal(mut self, name: &str, value: impl Into<String>) -> Self {
        let source = "literal".to_owned();
        self.parameters.push(Parameter { name: name.to_owned(), source, file: String::new(), syntax: String::new(), value: value.into() });
        self
    }

    /// A parameter that the host reads from `variable` of the dotenv file `file` when it connects.
    #[must_use]
    pub fn variable(mut self, name: &str, file: &str, syntax: Syntax, variable: &str) -> Self {
        self.parameters.push(Parameter {
            name: name.to_owned(),
            source: "variable".to_owned(),
            file: file.to_owned(),
            syntax: syntax.word().to_owned(),
            value: variable.to_owned(),
        });
        self
    }
}

impl BackupPlan {
    /// Items in this order; a file that several tree items claim belongs to the first.
    pub fn of(items: impl IntoIterator<Item = Item>) -> Self {
        Self { items: items.into_iter().collect(), warnings: Vec::new() }
    }

    /// Adds a warning for the operator.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// The item of this name.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.name == name)
    }
}

impl Detection {
    /// `confidence`: 0 to 100.
    pub fn new(confidence: u8, label: impl Into<String>) -> Self {
        Self { confidence, label: label.into(), settings: Vec::new(), notes: Vec::new(), ext: Vec::new() }
    }

    /// Proposes a setting; `value` is JSON.
    pub fn propose(&mut self, key: &str, value: impl serde::Serialize, reason: impl Into<String>) {
        if let Ok(value) = serde_json::to_string(&value) {
            self.settings.push(ProposedSetting { key: key.to_owned(), value, reason: reason.into() });
        }
    }

    /// A finding that needs no setting, one line.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl RestorePlan {
    /// Every item back to where it was: files first, so that the folder of a SQLite database is there when it comes.
    pub fn in_place(items: &[StoredItem]) -> Self {
        let step = |item: &StoredItem| RestoreStep { item: item.name.clone(), destination: String::new(), must_be_empty: false };
        let (databases, files): (Vec<_>, Vec<_>) = items.iter().partition(|item| item.kind == "database");
        let steps = files.into_iter().chain(databases).map(step).collect();
        let incomplete = items.iter().filter(|item| !item.complete);
        let warnings = incomplete.map(|item| format!("`{}` was not backed up whole; see `logs` for the reason", item.name)).collect();
        Self { steps, before: Vec::new(), after: Vec::new(), warnings }
    }

    /// What the operator must do first, one line.
    pub fn before(&mut self, hint: impl Into<String>) {
        self.before.push(hint.into());
    }

    /// What the operator must do afterwards, one line.
    pub fn after(&mut self, hint: impl Into<String>) {
        self.after.push(hint.into());
    }
}

/// How a step after a restore ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// It was done.
    Done,
    /// There was nothing to do.
    Skipped,
    /// It could not be done.
    Failed,
    /// A person must look.
    Review,
}

impl StepReport {
    /// One step: what, how it ended, details.
    pub fn new(title: impl Into<String>, outcome: StepOutcome, detail: impl Into<String>) -> Self {
        let outcome = match outcome {
            StepOutcome::Done => "done",
            StepOutcome::Skipped => "skipped",
            StepOutcome::Failed => "failed",
            StepOutcome::Review => "review",
        };
        Self { title: title.into(), outcome: outcome.to_owned(), detail: detail.into() }
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Odd, but the application will run.
    Warn,
    /// The restored application is not whole.
    Fail,
    /// Could not be looked at.
    Skipped,
}

impl Check {
    /// One check: what, what it found, details.
    pub fn new(name: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        let outcome = match verdict {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
            Verdict::Skipped => "skipped",
        };
        Self { name: name.into(), outcome: outcome.to_owned(), detail: detail.into() }
    }
}
