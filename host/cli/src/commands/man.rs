//! `man`.

use crate::{app::App, args::Cli, error::CliError};
use clap::{Args, CommandFactory};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Print the manual page, or write one for each command to a folder
#[derive(Debug, Args)]
#[command(after_help = "Example: havun-backup man --output /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Folder that the pages go to
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

pub fn execute(app: &App, args: &ManArgs) -> Result<u8, CliError> {
    let mut root = Cli::command();
    root.build();
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(root).render(&mut page).map_err(crate::ui::output_error)?;
        std::io::stdout().lock().write_all(&page).map_err(crate::ui::output_error)?;
        return Ok(0);
    };
    write_page(folder, root.clone(), "havun-backup")?;
    for command in root.get_subcommands() {
        write_page(folder, command.clone(), &format!("havun-backup-{}", command.get_name()))?;
    }
    app.ui.line(format!("{} pages written to {}", root.get_subcommands().count() + 1, folder.display()));
    Ok(0)
}

fn write_page(folder: &Path, command: clap::Command, name: &str) -> Result<(), CliError> {
    let path = folder.join(format!("{name}.1"));
    let failed = |source| CliError::Io { doing: format!("cannot write {}", path.display()), source };
    let name: &'static str = String::leak(name.to_owned());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.name(name)).render(&mut page).map_err(failed)?;
    std::fs::write(&path, page).map_err(failed)
}
