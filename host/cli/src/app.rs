//! What every command is given, and how each one ends.

use crate::{
    args::{Cli, Command, Global},
    commands,
    error::CliError,
    interrupt, log,
    ui::{Ui, progress::Screen},
};
use havun_model::Cancel;
use havun_operations::{
    config::{self, Config},
    context::Context,
};
use std::{path::PathBuf, sync::Arc};

/// What every command is given.
pub struct App {
    /// Options of every command.
    pub global: Global,
    /// How to print.
    pub ui: Ui,
    /// Set by Ctrl-C.
    pub cancel: Cancel,
    /// Takes progress.
    pub screen: Arc<Screen>,
}

impl App {
    /// The file to read the configuration from.
    ///
    /// # Errors
    /// [`CliError::Config`] when there is none.
    pub fn config_path(&self) -> Result<PathBuf, CliError> {
        Ok(config::locate(self.global.config.as_deref())?)
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`CliError::Config`].
    pub fn config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.config_path()?)?)
    }

    /// Tells what is allowed in the configuration but unwise.
    pub fn warn(&self, config: &Config) {
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    }

    /// The configuration and what operations need.
    ///
    /// # Errors
    /// [`CliError::Config`].
    pub fn context(&self) -> Result<Context, CliError> {
        Ok(self.context_of(self.config()?))
    }

    /// What operations need, with this configuration.
    pub fn context_of(&self, config: Config) -> Context {
        interrupt::watch(&self.cancel);
        let observer = Arc::clone(&self.screen);
        Context::new(config, self.cancel.clone(), observer)
    }
}

/// Runs the command; the exit status.
pub fn start(cli: Cli) -> u8 {
    let is_daemon = matches!(&cli.command, Command::Daemon(args) if commands::daemon::is_talkative(args));
    log::start(cli.global.log_format, cli.global.quiet, cli.global.verbose.max(is_daemon.into()));
    let ui = Ui::new(&cli.global);
    let app = App { ui, global: cli.global, cancel: Cancel::default(), screen: Arc::new(Screen::new(ui)) };
    let ended = execute(&app, &cli.command);
    app.screen.clear();
    ended.unwrap_or_else(|error| {
        let failure = error.to_failure();
        ui.failure(&failure);
        failure.exit_status
    })
}

fn execute(app: &App, command: &Command) -> Result<u8, CliError> {
    match command {
        Command::Init(args) => commands::init::execute(app, args),
        Command::Run(args) => commands::run::execute(app, args),
        Command::List(args) => commands::list::execute(app, args),
        Command::Restore(args) => commands::restore::execute(app, args),
        Command::Recover(args) => commands::recover::execute(app, args),
        Command::Verify(args) => commands::verify::execute(app, args),
        Command::Test(args) => commands::test::execute(app, args),
        Command::Export(args) => commands::export::execute(app, args),
        Command::Cleanup(args) => commands::cleanup::execute(app, args),
        Command::Archive(args) => commands::archive::execute(app, args),
        Command::Health(args) => commands::health::execute(app, args),
        Command::Doctor(args) => commands::doctor::execute(app, args),
        Command::Status(args) => commands::status::execute(app, args),
        Command::Report(args) => commands::report::execute(app, args),
        Command::Store(args) => commands::store::execute(app, args),
        Command::Scrub(args) => commands::scrub::execute(app, args),
        Command::Repair(args) => commands::scrub::execute_repair(app, args),
        Command::Hold(args) => commands::hold::execute(app, args),
        Command::Erasure(args) => commands::erasure::execute(app, args),
        Command::Logs(args) => commands::logs::execute(app, args),
        Command::Notify(args) => commands::notify::execute(app, args),
        Command::Config(args) => commands::config::execute(app, args),
        Command::Daemon(args) => commands::daemon::execute(app, args),
        Command::Demo(args) => commands::demo::execute(app, args),
        Command::Completions(args) => commands::completions::execute(app, args),
        Command::Man(args) => commands::man::execute(app, args),
    }
}
