//! `config`.

use crate::{app::App, commands::init::print_steps, error::CliError};
use clap::Args;
use havun_operations::{
    config::{Config, schema, show},
    error::{OperationError, nearest},
    init,
    report::SCHEMA_VERSION,
};

/// Show the configuration as it is understood, or check it
///
/// Defaults are filled in, and secrets are masked. An error in the file ends with 78, and all errors are told at once.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Only this project
    #[arg(long, short, value_name = "NAME")]
    pub project: Option<String>,
    /// Say whether it is right, and print nothing of it
    #[arg(long)]
    pub check: bool,
    /// With --check: also test keys, stores, strategies and databases, and write nothing
    #[arg(long, requires = "check")]
    pub online: bool,
    /// Print the JSON Schema of the file
    #[arg(long, conflicts_with_all = ["check", "project"])]
    pub schema: bool,
}

pub fn execute(app: &App, args: &ConfigArgs) -> Result<u8, CliError> {
    if args.schema {
        println(&format!("{:#}", schema()))?;
        return Ok(0);
    }
    let config = app.config()?;
    app.warn(&config);
    if let Some(name) = &args.project {
        known(&config, name)?;
    }
    match (args.check, args.online) {
        (false, _) => print_whole(app, &config, args.project.as_deref()),
        (true, false) => print_verdict(app, &config),
        (true, true) => test(app, config, args.project.as_deref()),
    }
}

fn known(config: &Config, name: &str) -> Result<(), CliError> {
    let mut names = config.projects.keys().map(|name| name.as_str());
    if names.any(|known| known == name) {
        return Ok(());
    }
    let nearest = nearest(name, config.projects.keys().map(|name| name.as_str()));
    Err(OperationError::UnknownProject { name: name.to_owned(), nearest }.into())
}

fn print_whole(app: &App, config: &Config, project: Option<&str>) -> Result<u8, CliError> {
    let shown = show(config, project);
    app.ui.line(format!("# {}", config.path.display()));
    app.ui.line(shown.to_toml().trim_end());
    app.ui.document(
        &serde_json::json!({ "schema_version": SCHEMA_VERSION, "path": config.path, "warnings": config.warnings, "config": shown.json }),
    )?;
    Ok(0)
}

fn print_verdict(app: &App, config: &Config) -> Result<u8, CliError> {
    let (projects, stores) = (config.projects.len(), config.stores.len());
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    app.ui.line(format!("{} is right: {}, {}", config.path.display(), count(projects, "project"), count(stores, "store")));
    app.ui.document(&serde_json::json!({
        "schema_version": SCHEMA_VERSION, "path": config.path, "ok": true, "warnings": config.warnings, "projects": projects, "stores": stores
    }))?;
    Ok(0)
}

fn test(app: &App, mut config: Config, project: Option<&str>) -> Result<u8, CliError> {
    if let Some(name) = project {
        config.projects.retain(|known, _| known.as_str() == name);
    }
    let report = init::check(&app.context_of(config));
    app.screen.clear();
    print_steps(app, &report);
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn println(text: &str) -> Result<(), CliError> {
    use std::io::Write;
    writeln!(std::io::stdout().lock(), "{text}").map_err(crate::ui::output_error)
}
