//! The command line. The documentation of each struct is its help.

use crate::commands;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Keeps every project of a server recoverable: databases, files and history; encrypted, deduplicated, with proof
#[derive(Debug, Parser)]
#[command(name = "havun-backup", bin_name = "havun-backup", version, max_term_width = 110, disable_help_subcommand = true, after_long_help = EXIT_STATUS)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
    0  ok                    3  partial                      11  locked by another run
    1  failed                4  something needs attention    12  wrong key
    2  wrong command line    5  something stored is damaged  78  wrong configuration
    6  a drill did not pass  10  store or audit database unreachable, or store full
  130  interrupted; any other one is a failure too

Configuration:
  --config FILE, else $HAVUN_BACKUP_CONFIG, ./havun-backup.toml, /etc/havun-backup/config.toml";

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors and what went wrong
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more; twice for details
    #[arg(long, short, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// No progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Shape of the messages on standard error
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Shape of the messages on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(commands::init::InitArgs),
    Run(commands::run::RunArgs),
    List(commands::list::ListArgs),
    Restore(commands::restore::RestoreArgs),
    Recover(commands::recover::RecoverArgs),
    Verify(commands::verify::VerifyArgs),
    Test(commands::test::TestArgs),
    Export(commands::export::ExportArgs),
    Cleanup(commands::cleanup::CleanupArgs),
    Archive(commands::archive::ArchiveArgs),
    Health(commands::health::HealthArgs),
    Doctor(commands::doctor::DoctorArgs),
    Status(commands::status::StatusArgs),
    Report(commands::report::ReportArgs),
    Store(commands::store::StoreArgs),
    Scrub(commands::scrub::ScrubArgs),
    Repair(commands::scrub::RepairArgs),
    Hold(commands::hold::HoldArgs),
    Erasure(commands::erasure::ErasureArgs),
    Logs(commands::logs::LogsArgs),
    Notify(commands::notify::NotifyArgs),
    Config(commands::config::ConfigArgs),
    Daemon(commands::daemon::DaemonArgs),
    Demo(commands::demo::DemoArgs),
    Completions(commands::completions::CompletionsArgs),
    Man(commands::man::ManArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use havun_operations::incidents::{Language, PAGES, Place};

    /// Words as a shell would make them of a line of the pages: double quotes, no variables.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('"').enumerate();
        let mut words = Vec::new();
        for (place, part) in parts {
            if place % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    /// The commands of this program in the fenced blocks of a page.
    fn commands(text: &str) -> Vec<String> {
        let blocks = text.split("```").enumerate().filter(|(place, _)| place % 2 == 1);
        let lines = blocks.flat_map(|(_, block)| block.lines().map(str::trim));
        lines.filter(|line| line.starts_with("havun-backup ")).map(str::to_owned).collect()
    }

    #[test]
    fn every_command_of_the_incident_pages_exists() {
        let mut seen = 0;
        for page in PAGES.iter().flat_map(|page| [*page, page.localised(Language::Dutch)]) {
            for place in [Place::default(), Place { project: "shop", store: "hetzner", state_dir: "/srv/state" }] {
                for line in commands(&page.text(place)) {
                    seen += 1;
                    let parsed = Cli::try_parse_from(words(&line));
                    assert!(parsed.is_ok(), "{}: `{line}`: {}", page.slug, parsed.unwrap_err());
                }
            }
        }
        assert!(seen > 200, "only {seen} commands were found");
    }

    #[test]
    fn each_page_that_another_names_is_there() {
        for page in PAGES {
            for line in commands(&page.text(Place::default())) {
                if let Some(slug) = line.split("--kind ").nth(1).and_then(|rest| rest.split_whitespace().next()) {
                    assert!(PAGES.iter().any(|page| page.slug == slug), "{}: {line}", page.slug);
                }
            }
        }
    }
}
