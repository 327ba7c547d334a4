//! Progress while an operation works: bars on a terminal, nothing elsewhere; one line for each project that ends.

use super::{Ui, format};
use crate::commands::run::project_lines;
use havun_model::ProjectName;
use havun_operations::{
    context::Observer,
    drill::ProjectDrill,
    run::{ProjectRun, RunOutcome},
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// The bars of this process, if there are any.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// Runs `write` while no bar is on the screen.
pub fn suspended<T>(write: impl FnOnce() -> T) -> T {
    match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

/// Tells the operator that the first Ctrl-C was heard.
pub fn interrupted() {
    super::complain("Stopping in order; press Ctrl-C again to stop at once.");
}

/// Shows what an operation does.
pub struct Screen {
    ui: Ui,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    project: String,
    step: String,
    files: u64,
    bytes: u64,
    since: Option<Instant>,
}

impl State {
    /// How far the step is: files, bytes and bytes a second.
    fn done(&self) -> String {
        if self.files == 0 && self.bytes == 0 {
            return String::new();
        }
        let millis = self.since.map_or(0, |since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
        let rate = match self.bytes.saturating_mul(1000).checked_div(millis) {
            Some(rate) if millis >= 1000 && rate > 0 => format!(", {}/s", format::size(rate)),
            _ => String::new(),
        };
        format!("  {}, {}{rate}", format::counted(self.files, "file", "files"), format::size(self.bytes))
    }
}

impl Screen {
    /// For this command.
    pub fn new(ui: Ui) -> Self {
        let bar = ui.bars.then(|| {
            let bars = BARS.get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
            let bar = bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { ui, bar, state: Mutex::default() }
    }

    /// Takes the bars off the screen until [`Screen::resume`].
    pub fn pause(&self) {
        if let Some(bars) = BARS.get() {
            drop(bars.clear());
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Shows the bars again.
    pub fn resume(&self) {
        if let Some(bars) = BARS.get() {
            bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
    }

    /// Takes the bars off the screen for good.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let Some(bar) = &self.bar else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let text = format!("{}  {}{}", state.project, state.step, state.done());
        bar.set_message(format::printable(&text).replace('\n', " "));
    }
}

impl Observer for Screen {
    fn drill_ends(&self, drill: &ProjectDrill) {
        self.change(|state| *state = State::default());
        let lines = crate::commands::test::project_lines(drill);
        if crate::commands::test::is_good(drill) {
            self.ui.lines(lines);
        } else {
            lines.iter().for_each(|line| self.ui.trouble(line));
        }
    }

    fn project_begins(&self, project: &ProjectName, place: usize, of: usize) {
        tracing::info!(%project, "begins ({place} of {of})");
        self.change(|state| *state = State { project: format!("[{place}/{of}] {project}"), ..State::default() });
    }

    fn step(&self, text: &str) {
        tracing::info!("{text}");
        self.change(|state| {
            *state = State {
                project: std::mem::take(&mut state.project),
                step: text.to_owned(),
                since: Some(Instant::now()),
                ..State::default()
            }
        });
    }

    fn advance(&self, stage: &str, files: u64, bytes: u64) {
        self.change(|state| {
            if state.step != stage && !stage.is_empty() && state.step.is_empty() {
                state.step = stage.to_owned();
            }
            state.files += files;
            state.bytes += bytes;
        });
    }

    fn project_ends(&self, run: &ProjectRun) {
        let lines = project_lines(run);
        if matches!(run.outcome, RunOutcome::Ok | RunOutcome::Planned | RunOutcome::NotDue | RunOutcome::Paused) {
            self.ui.lines(lines);
        } else {
            lines.iter().for_each(|line| self.ui.trouble(line));
        }
    }

    fn strategy_says(&self, project: &str, level: &str, message: &str) {
        match level {
            "error" => tracing::error!(project, "{message}"),
            "warn" => tracing::warn!(project, "{message}"),
            "info" => tracing::info!(project, "{message}"),
            _ => tracing::debug!(project, "{message}"),
        }
    }
}
