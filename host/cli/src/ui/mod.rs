//! What a person and a program see: lines and JSON on standard output, everything else on standard error.

pub mod format;
pub mod progress;
pub mod table;

use crate::{args::Global, error::CliError, interrupt};
use havun_operations::report::{Failure, SCHEMA_VERSION};
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// One JSON document instead of lines.
    pub json: bool,
    /// Nothing but what went wrong.
    pub quiet: bool,
    /// Say more.
    pub verbose: u8,
    /// Bars are wanted and possible.
    pub bars: bool,
    log_json: bool,
}

impl Ui {
    /// As the options of the command line ask.
    pub fn new(global: &Global) -> Self {
        let log_json = global.log_format == crate::args::LogFormat::Json;
        let bars = !global.quiet && !global.no_progress && !global.json && !log_json && io::stderr().is_terminal();
        Self { json: global.json, quiet: global.quiet, verbose: global.verbose, bars, log_json }
    }

    /// A line of the result: standard output, unless quiet or JSON.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            print(text.as_ref());
        }
    }

    /// Lines of the result.
    pub fn lines(&self, lines: impl IntoIterator<Item = impl AsRef<str>>) {
        lines.into_iter().for_each(|line| self.line(line));
    }

    /// Something that went wrong, which `-q` does not hide: standard error where standard output is not for people.
    pub fn trouble(&self, text: impl AsRef<str>) {
        if self.quiet || self.json {
            complain(text.as_ref());
        } else {
            print(text.as_ref());
        }
    }

    /// The result as JSON, when that is asked for.
    ///
    /// # Errors
    /// [`CliError::Io`] when standard output is closed.
    pub fn document(&self, report: &impl Serialize) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(report).map_err(|e| output_error(e.into()))?;
        writeln!(io::stdout().lock(), "{text}").map_err(output_error)
    }

    /// An error: `Error:`, `Caused by:`, `Hint:` on standard error; with `--json` also as the document.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            let document = serde_json::json!({ "schema_version": SCHEMA_VERSION, "error": failure });
            drop(writeln!(io::stdout().lock(), "{document:#}"));
        }
        if self.log_json {
            tracing::error!(causes = ?failure.causes, hint = failure.hint, exit_status = failure.exit_status, "{}", failure.message);
        } else {
            complain(&failure_text(failure, "Error: "));
        }
    }

    /// Asks on the terminal; the answer without its line break. `None` when nobody can answer.
    ///
    /// # Errors
    /// [`CliError::Io`] when the terminal is gone.
    pub fn ask(&self, question: &str) -> Result<Option<String>, CliError> {
        if !io::stdin().is_terminal() || self.json {
            return Ok(None);
        }
        let failed = |source| CliError::Io { doing: "cannot ask on the terminal".to_owned(), source };
        let mut out = io::stderr().lock();
        write!(out, "{question} ").and_then(|()| out.flush()).map_err(failed)?;
        let mut answer = String::new();
        interrupt::while_asking(|| io::stdin().lock().read_line(&mut answer)).map_err(failed)?;
        Ok(Some(answer.trim_end_matches(['\r', '\n']).trim().to_owned()))
    }
}

/// `Error: …`, `Caused by: …` for each cause that says something new, `Hint: …`.
pub fn failure_text(failure: &Failure, head: &str) -> String {
    let mut text = format!("{head}{}", failure.message);
    let mut said = failure.message.as_str();
    for cause in &failure.causes {
        if !said.contains(cause.as_str()) {
            text.push_str("\nCaused by: ");
            text.push_str(cause);
        }
        said = cause;
    }
    if let Some(hint) = &failure.hint {
        text.push_str("\nHint: ");
        text.push_str(hint);
    }
    text
}

/// A line on standard output. A reader that has gone (`| head`) ends the program quietly.
fn print(text: &str) {
    let written = progress::suspended(|| writeln!(io::stdout().lock(), "{}", format::printable(text)));
    if written.is_err() {
        std::process::exit(i32::from(havun_operations::error::exit::FAILED));
    }
}

fn complain(text: &str) {
    progress::suspended(|| drop(writeln!(io::stderr().lock(), "{}", format::printable(text))));
}

pub fn output_error(source: io::Error) -> CliError {
    CliError::Io { doing: "cannot write to standard output".to_owned(), source }
}
