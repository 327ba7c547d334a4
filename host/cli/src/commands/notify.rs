//! `notify`.

use crate::{app::App, error::CliError, ui::format};
use clap::{Args, Subcommand};
use havun_operations::{
    audit::DeliveryRow,
    notify::{Outbox, test_channels},
};
use jiff::tz::TimeZone;

/// Test the channels that messages go out by, or show what waits for them
#[derive(Debug, Args)]
pub struct NotifyArgs {
    #[command(subcommand)]
    pub action: NotifyAction,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum NotifyAction {
    /// Send a test message by every channel of [notify]
    ///
    /// Ends with 1 when a server refused it, 10 when one could not be reached, 78 when a setting is wrong.
    Test {
        /// Only by this channel
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
    },
    /// Show messages that wait to be delivered, and those that were given up within a week
    Queue,
}

pub fn execute(app: &App, args: &NotifyArgs) -> Result<u8, CliError> {
    match &args.action {
        NotifyAction::Test { channel } => test(app, channel.as_deref()),
        NotifyAction::Queue => queue(app),
    }
}

fn test(app: &App, channel: Option<&str>) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = test_channels(&cx, channel)?;
    app.screen.clear();
    if report.channels.is_empty() {
        app.ui.line("[notify] has no channel: nobody is told when something goes wrong.");
    }
    for channel in &report.channels {
        match &channel.failure {
            None => app.ui.line(format!("ok       {}: {}", channel.channel, channel.found)),
            Some(failure) => app.ui.trouble(crate::ui::failure_text(failure, &format!("failed   {}: ", channel.channel))),
        }
    }
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn queue(app: &App) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = Outbox::new(&cx).queue(cx.now())?;
    if report.waiting.is_empty() {
        app.ui.line("No message waits.");
    }
    let zone = cx.zone();
    report.waiting.iter().for_each(|row| print(app, row, &zone));
    report.given_up.iter().for_each(|row| print(app, row, &zone));
    app.ui.document(&report)?;
    Ok(0)
}

fn print(app: &App, row: &DeliveryRow, zone: &TimeZone) {
    let state = match (row.state.as_str(), row.attempts) {
        ("given-up", _) => "given up".to_owned(),
        (_, 0) => "not tried yet".to_owned(),
        (_, tries) => format!("tried {tries} times, again at {}", format::time(row.next_try, zone)),
    };
    app.ui.line(format!("{}  {}: {} ({state})", format::time(row.created_at, zone), row.channel, row.subject));
    if !row.last_error.is_empty() {
        app.ui.line(format!("    {}", row.last_error));
    }
}
