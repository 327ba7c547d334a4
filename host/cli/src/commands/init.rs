//! `init`.

use crate::{
    app::App,
    commands::recover::{self, ArchiveArgs, RecoverArgs},
    error::CliError,
    ui::{failure_text, format::printable},
};
use clap::Args;
use havun_operations::{
    config::{CONFIG_VARIABLE, Config, ConfigError, LOCAL_CONFIG, SYSTEM_CONFIG},
    init::{self, EscrowKit, InitError, InitReport, Proposal, ProposeRequest, StepState, UNIT_DIR, UnitState},
};
use std::{
    env,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

/// Propose a configuration for projects; make keys, folders and tables; test every connection
///
/// With folders: each is looked at, and a configuration with a reason at each line is shown, and written when you agree.
/// Without: what the configuration names is made where it is missing, and tested. Nothing that exists is replaced.
///
/// Every backup can also be opened with an offline escrow key. Unless the configuration or --escrow names its recipient,
/// one is made, shown once, and has to be acknowledged.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folders of projects to propose a configuration for
    #[arg(value_name = "PATH", group = "what")]
    pub paths: Vec<PathBuf>,
    /// Take over from a lost host: as `recover --store URL`
    #[arg(long, value_name = "URL", group = "what", conflicts_with = "paths", requires = "identity")]
    pub from_archive: Option<String>,
    #[command(flatten)]
    pub with: ArchiveArgs,
    /// Name of the project; made of the folder's name otherwise
    #[arg(long, value_name = "NAME", requires = "paths")]
    pub name: Option<String>,
    /// Folder of the hot store in a new configuration
    #[arg(long, value_name = "DIR", requires = "paths")]
    pub store: Option<PathBuf>,
    /// Folder of an archive store in a new configuration
    #[arg(long, value_name = "DIR", requires = "paths")]
    pub archive: Option<PathBuf>,
    /// Folder for caches and the audit database in a new configuration
    #[arg(long, value_name = "DIR", requires = "what")]
    pub state_dir: Option<PathBuf>,
    /// Recipient (age1…) of an escrow key that you have already; can be repeated
    #[arg(long, value_name = "RECIPIENT")]
    pub escrow: Vec<String>,
    /// Make an escrow key and write its kit to this new file, which you take off this host
    #[arg(long, value_name = "FILE", conflicts_with = "escrow")]
    pub escrow_file: Option<PathBuf>,
    /// Print the proposal and write nothing
    #[arg(long, short = 'n', requires = "what")]
    pub dry_run: bool,
    /// Add the proposal to a configuration that exists
    #[arg(long, requires = "paths")]
    pub write: bool,
    /// Do not ask before writing the configuration
    #[arg(long, short)]
    pub yes: bool,
    /// Write units for systemd into this folder, made for the configuration that there is: the daemon, and a timer in its
    /// place
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = UNIT_DIR, group = "what")]
    pub systemd: Option<PathBuf>,
}

pub fn execute(app: &App, args: &InitArgs) -> Result<u8, CliError> {
    if let Some(store) = &args.from_archive {
        let (with, state_dir) = (args.with.clone(), args.state_dir.clone());
        return recover::execute(app, &RecoverArgs { store: store.clone(), with, state_dir, dry_run: args.dry_run, yes: args.yes });
    }
    if args.with != ArchiveArgs::default() {
        let message = "these options need an archive to take over from".to_owned();
        return Err(CliError::Usage { message, hint: "give --from-archive URL, or call `havun-backup recover`".to_owned() });
    }
    if let Some(folder) = &args.systemd {
        return write_units(app, folder, args.dry_run);
    }
    init::check_recipients(&args.escrow)?;
    let path = target(app);
    let found = match Config::load(&path) {
        Ok(config) => Some(config),
        Err(ConfigError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    match (found, args.paths.is_empty()) {
        (Some(config), true) => prepare(app, args, config),
        (Some(config), false) => extend(app, args, config),
        (None, false) => create(app, args, &path),
        (None, true) if app.global.config.is_none() => Err(app.config_path().err().unwrap_or_else(|| missing(&path))),
        (None, true) => Err(missing(&path)),
    }
}

fn write_units(app: &App, folder: &Path, dry_run: bool) -> Result<u8, CliError> {
    let config = app.config()?;
    let program = env::current_exe().map_err(|source| CliError::Io { doing: "cannot find this program".to_owned(), source })?;
    let units = init::units(&config, &program);
    if dry_run {
        units.iter().for_each(|unit| app.ui.line(format!("# {}\n{}", folder.join(unit.name).display(), unit.text)));
        return Ok(0);
    }
    let states = init::write_units(folder, &units)?;
    for (unit, state) in units.iter().zip(&states) {
        let path = folder.join(unit.name);
        match state {
            UnitState::Made => app.ui.line(format!("made     {}", path.display())),
            UnitState::Same => app.ui.line(format!("same     {}", path.display())),
            UnitState::Renewed => app.ui.line(format!("renewed  {}", path.display())),
            UnitState::KeptBeside(beside) => {
                app.ui.trouble(format!("kept     {}: it was changed by hand; the new one is {}", path.display(), beside.display()));
            }
        }
    }
    app.ui.line("\nNow let it begin, as a daemon or by a timer, not both:\n  systemctl daemon-reload");
    app.ui.line("  systemctl enable --now havun-backup.service\n  systemctl enable --now havun-backup.timer");
    app.ui.line("`havun-backup status` shows what comes next. After a change of stores or of secrets call `init --systemd` again.");
    Ok(0)
}

fn missing(path: &Path) -> CliError {
    let source = std::io::Error::from(std::io::ErrorKind::NotFound);
    ConfigError::Unreadable { path: path.to_owned(), source }.into()
}

/// Where the configuration is, or will be: as found, else for root the system's, else the working folder's.
fn target(app: &App) -> PathBuf {
    let default = || PathBuf::from(if is_root() { SYSTEM_CONFIG } else { LOCAL_CONFIG });
    app.config_path().unwrap_or_else(|_| default())
}

fn is_root() -> bool {
    env::var_os(CONFIG_VARIABLE).is_none() && havun_operations::init::is_root()
}

/// Makes and tests what an existing configuration names.
fn prepare(app: &App, args: &InitArgs, config: Config) -> Result<u8, CliError> {
    let path = config.path.clone();
    let config = match init::needs_escrow(&config) || !args.escrow.is_empty() || args.escrow_file.is_some() {
        false => config,
        true => {
            let mut recipients = config.keys.escrow.clone();
            recipients.extend(escrow(app, args, &config.host.name)?.into_iter().filter(|new| !config.keys.escrow.contains(new)));
            init::set_escrow(&path, &recipients)?;
            Config::load(&path)?
        }
    };
    app.warn(&config);
    let report = init::prepare(&app.context_of(config));
    app.screen.clear();
    print_steps(app, &report);
    let status = report.exit_status();
    let failed = report.steps.iter().filter(|step| step.failure.is_some()).count();
    if failed > 0 {
        app.ui.line(format!("Not ready: {failed} of {} steps failed. Mend them and call `havun-backup init` again.", report.steps.len()));
    } else {
        app.ui.line("Ready. `havun-backup run --dry-run` shows what would be backed up, `havun-backup run` does it.");
    }
    app.ui.document(&report)?;
    Ok(status)
}

/// Shows or adds sections for projects that an existing configuration does not have.
fn extend(app: &App, args: &InitArgs, config: Config) -> Result<u8, CliError> {
    let path = config.path.clone();
    let cx = app.context_of(config);
    let proposal = init::propose(&cx, &request(args, &path, &cx.config.host.state_dir, Vec::new()), false)?;
    app.screen.clear();
    tell_known(app, &proposal);
    if proposal.projects.is_empty() {
        return prepare(app, args, cx.config);
    }
    show(app, &proposal)?;
    if !args.write || args.dry_run {
        app.ui.line(format!("# Nothing was written. Add this to {}, or call init with --write.", path.display()));
        return Ok(0);
    }
    init::append(&path, &proposal.text())?;
    app.ui.line(format!("Added to {}", path.display()));
    prepare(app, args, Config::load(&path)?)
}

/// Proposes and writes a new configuration.
fn create(app: &App, args: &InitArgs, path: &Path) -> Result<u8, CliError> {
    let path = std::path::absolute(path).map_err(|source| InitError::Write { path: path.to_owned(), source })?;
    let state_dir = args.state_dir.as_deref().map_or_else(default_state_dir, absolute);
    let quoted = toml_text(&state_dir);
    let blank = Config::parse(&format!("[host]\nstate_dir = {quoted}\n"), &path, 0o600)?;
    let cx = app.context_of(blank);
    let draft = init::propose(&cx, &request(args, &path, &state_dir, args.escrow.clone()), true)?;
    app.screen.clear();
    show(app, &draft)?;
    if args.dry_run {
        app.ui.line(format!("# Nothing was written; without --dry-run this goes to {}.", path.display()));
        return Ok(0);
    }
    agree(app, args, &path)?;
    let recipients = escrow(app, args, &cx.config.host.name)?;
    let proposal = init::propose(&cx, &request(args, &path, &state_dir, recipients), true)?;
    init::write_new(&path, &proposal.text())?;
    app.ui.line(format!("Written to {}", path.display()));
    prepare(app, &InitArgs::done(), Config::load(&path)?)
}

impl InitArgs {
    /// No options: what they asked for is in the configuration now.
    fn done() -> Self {
        Self {
            paths: Vec::new(),
            from_archive: None,
            with: ArchiveArgs::default(),
            name: None,
            store: None,
            archive: None,
            state_dir: None,
            escrow: Vec::new(),
            escrow_file: None,
            dry_run: false,
            write: false,
            yes: true,
            systemd: None,
        }
    }
}

fn request(args: &InitArgs, config: &Path, state_dir: &Path, escrow: Vec<String>) -> ProposeRequest {
    let beside = config.parent().unwrap_or(Path::new("/"));
    let default_store = || if is_root() { PathBuf::from("/var/backups/havun") } else { state_dir.join("store") };
    ProposeRequest {
        paths: args.paths.clone(),
        name: args.name.clone(),
        store: args.store.as_deref().map_or_else(default_store, absolute),
        archive: args.archive.as_deref().map(absolute),
        identity: beside.join("keys/service.agekey"),
        escrow,
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

pub fn default_state_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/havun-backup");
    }
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".local/state");
    let base = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(&base.unwrap_or_else(home).join("havun-backup"))
}

/// A TOML text for a path.
fn toml_text(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy().into_owned()).to_string()
}

fn tell_known(app: &App, proposal: &Proposal) {
    for (path, name) in &proposal.known {
        app.ui.line(format!("# {} is configured already, as project {name}", path.display()));
    }
}

fn show(app: &App, proposal: &Proposal) -> Result<(), CliError> {
    if app.ui.json || app.ui.quiet {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", printable(proposal.text().trim_end())).map_err(crate::ui::output_error)
}

fn agree(app: &App, args: &InitArgs, path: &Path) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    let question = format!("Write this to {}? Type yes:", path.display());
    match app.ui.ask(&question)?.as_deref() {
        Some("yes") => Ok(()),
        Some(_) => Err(CliError::Declined { expected: "yes" }),
        None => Err(CliError::Usage {
            message: "nobody is there to agree to the configuration".to_owned(),
            hint: "call init with --yes, or with --dry-run to see the proposal".to_owned(),
        }),
    }
}

/// The recipients of the escrow: as named, or of a new key that somebody has taken away.
fn escrow(app: &App, args: &InitArgs, host: &str) -> Result<Vec<String>, CliError> {
    if !args.escrow.is_empty() {
        return Ok(args.escrow.clone());
    }
    let kit = EscrowKit::new(host, jiff::Timestamp::now());
    if let Some(path) = &args.escrow_file {
        kit.write(path)?;
        app.ui.line(format!("The escrow kit is in {}: take it off this host now, and delete the file.", path.display()));
        return Ok(vec![kit.recipient().to_owned()]);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(CliError::Usage {
            message: "there is no escrow key, and nobody is there to take one away".to_owned(),
            hint: "name one with --escrow age1…, or let init write its kit with --escrow-file FILE; nothing was written".to_owned(),
        });
    }
    show_kit(&kit)?;
    let question = format!("Type the last {} characters of the secret key, from your copy:", kit.proof_length());
    match app.ui.ask(&question)? {
        Some(answer) if kit.is_proved_by(&answer) => Ok(vec![kit.recipient().to_owned()]),
        _ => Err(CliError::Declined { expected: "the last characters of the escrow key" }),
    }
}

/// Shown on the terminal only, once, and never logged.
fn show_kit(kit: &EscrowKit) -> Result<(), CliError> {
    let failed = |source| CliError::Io { doing: "cannot show the escrow kit".to_owned(), source };
    let mut out = std::io::stderr().lock();
    writeln!(out, "\n{}\nThis is shown once. Copy all of it to a place away from this host.", kit.text()).map_err(failed)
}

/// One line for each step.
pub fn print_steps(app: &App, report: &InitReport) {
    for step in &report.steps {
        match (&step.failure, step.state) {
            (Some(failure), _) => app.ui.trouble(failure_text(failure, &format!("failed   {}: ", step.subject))),
            (None, StepState::Note) => app.ui.line(format!("note     {}: {}", step.subject, step.detail)),
            (None, state) => app.ui.line(format!("{:<8} {}: {}", state.word(), step.subject, step.detail)),
        }
    }
}
