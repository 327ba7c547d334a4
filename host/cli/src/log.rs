//! Messages on standard error: what libraries and strategies say while they work.

use crate::{args::LogFormat, ui::progress};
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts the log: warnings, with `-v` also information, with `-vv` also details; errors only with `-q`.
pub fn start(format: LogFormat, quiet: bool, verbose: u8) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(AboveTheBars).with_target(false);
    let started = match format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text if io::stderr().is_terminal() => log.without_time().try_init(),
        LogFormat::Text => log.with_ansi(false).try_init(),
    };
    debug_assert!(started.is_ok());
}

/// Writes to standard error without tearing a progress bar.
struct AboveTheBars;

impl<'a> MakeWriter<'a> for AboveTheBars {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One message, written when it is complete.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        let line = without_controls(&text);
        progress::suspended(|| drop(io::stderr().write_all(line.as_bytes())));
    }
}

/// Escapes what the formatters let through: a terminal takes U+009B for the beginning of an escape sequence, as it does ESC `[`.
fn without_controls(line: &str) -> Cow<'_, str> {
    let is_control = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !line.contains(is_control) {
        return Cow::Borrowed(line);
    }
    let escape = |c: char| if is_control(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(line.chars().map(escape).collect())
}
