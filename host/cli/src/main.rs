//! The program `havun-backup`: reads the command line, calls an operation, prints what it says.
//!
//! The only crate that prints, and the only one that ends the process. Read `args` (the command line), `app`
//! (what every command is given), `commands` (one file each), `ui` (what a person and a program see), `error`.

mod app;
mod args;
mod commands;
mod error;
mod interrupt;
mod log;
mod ui;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == havun_plugin_runtime::COMPILE_ARGUMENT) {
        return havun_plugin_runtime::compile_child_main();
    }
    let cli = args::Cli::parse();
    ExitCode::from(app::start(cli))
}
