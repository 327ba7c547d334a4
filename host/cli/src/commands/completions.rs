//! `completions`.

use crate::{app::App, args::Cli, error::CliError};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::Write;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "Example: havun-backup completions bash > /etc/bash_completion.d/havun-backup")]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: Shell,
}

pub fn execute(_app: &App, args: &CompletionsArgs) -> Result<u8, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "havun-backup", &mut text);
    std::io::stdout().lock().write_all(&text).map_err(crate::ui::output_error)?;
    Ok(0)
}
