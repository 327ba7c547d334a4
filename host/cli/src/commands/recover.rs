//! `recover`, and `init --from-archive`.

use crate::{
    app::App,
    commands::{init, restore},
    error::CliError,
    ui::{Ui, failure_text, format, table::Table},
};
use clap::Args;
use havun_operations::{
    config::{Config, LOCAL_CONFIG, SYSTEM_CONFIG, Secret},
    context::Context,
    recover::{self, FoundProject, Place, RecoverError, Recovery, RestoredProject, SshLogin, StoreAddress, Survey},
    restore::RestoreOptions,
};
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};

/// Take over from a lost host: find the projects in an archive, write a configuration, rebuild the history, restore
///
/// Needs the archive's address and a key that opens it, such as the escrow key, and nothing else. No
/// configuration, key or vault that exists is replaced; with `--restore`, projects and databases are brought back to where they
/// were, as by `restore --latest`, and `--yes` answers its questions. This host gets a key of its own, for which every vault's key is wrapped once more: afterwards
/// the escrow key can leave this machine again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  What is there?
    havun-backup recover --store file:///mnt/archive --identity escrow.agekey --dry-run
  Take over, and restore everything to where it was:
    havun-backup recover --store sftp://u123456@u123456.your-storagebox.de:23/backups --host-key hetzner \\
        --ssh-identity storagebox_ed25519 --identity escrow.agekey --restore --yes")]
pub struct RecoverArgs {
    /// The archive: sftp://USER@HOST:PORT/FOLDER, s3://BUCKET/PREFIX?endpoint=URL&region=NAME, file:///FOLDER, or a store of the configuration
    #[arg(long, short, value_name = "URL|NAME")]
    pub store: String,
    #[command(flatten)]
    pub with: ArchiveArgs,
    /// Folder for caches and the audit database
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Show what is there and what would be written, and write nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// How to open an archive, and what to do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "With an archive")]
pub struct ArchiveArgs {
    /// Key file that opens the vaults: the escrow key, or the lost host's key
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Key of the SFTP server: hetzner, SHA256:… or "ssh-ed25519 AAAA…"
    #[arg(long, value_name = "KEY")]
    pub host_key: Option<String>,
    /// Private key to log in at the SFTP server with
    #[arg(long, value_name = "FILE", conflicts_with = "ssh_agent")]
    pub ssh_identity: Option<PathBuf>,
    /// Log in at the SFTP server with the agent at $SSH_AUTH_SOCK
    #[arg(long)]
    pub ssh_agent: bool,
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// The new configuration; an existing file is never replaced
    #[arg(long, value_name = "FILE")]
    pub config_out: Option<PathBuf>,
    /// Folder of the new hot store
    #[arg(long, value_name = "DIR")]
    pub hot: Option<PathBuf>,
    /// Restore the newest good snapshot of each project to where it was
    #[arg(long)]
    pub restore: bool,
    /// With --restore: replace databases that hold something; what they hold is kept under another name
    #[arg(long, requires = "restore")]
    pub replace: bool,
}

pub fn execute(app: &App, args: &RecoverArgs) -> Result<u8, CliError> {
    if args.store.contains("://") { from_address(app, args) } else { from_config(app, args) }
}

/// On a bare machine.
fn from_address(app: &App, args: &RecoverArgs) -> Result<u8, CliError> {
    let login = SshLogin { host_key: args.with.host_key.clone(), identity: args.with.ssh_identity.clone(), agent: args.with.ssh_agent };
    let address = StoreAddress::parse(&args.store, &login).map_err(RecoverError::from)?;
    let place = place(app, args)?;
    let (mut store, config) = recover::archive_config(&address, &place, None)?;
    let mut cx = app.context_of(config);
    if let Some(name) = recover::own_name(&cx, &store)? {
        let (named, config) = recover::archive_config(&address, &place, Some(name))?;
        (store, cx) = (named, app.context_of(config));
    }
    let survey = recover::survey(&cx, &store, &args.with.project)?;
    app.screen.pause();
    let mut recovery = Recovery::new(&survey, place.config.clone());
    show(app.ui, &recovery, &cx.zone());
    if !args.dry_run {
        agree(app, args, &place.config)?;
    }
    app.screen.resume();
    let made = recover::establish(&cx, &place, &address, &survey, args.dry_run)?;
    app.screen.pause();
    recovery.notes = made.notes;
    recovery.dry_run = args.dry_run;
    if args.dry_run {
        recovery.next = commands(&survey, &place.config);
        app.ui.line(format!("\n# {}, as it would be written:\n{}", place.config.display(), made.config_text.trim_end()));
        recovery.config_text = Some(made.config_text);
        print_end(app.ui, &recovery);
        app.ui.document(&recovery)?;
        return Ok(recovery.exit_status());
    }
    recovery.config_text = Some(made.config_text);
    recovery.service_key = Some(made.service_key);
    app.ui.line(format!("Written to {}", place.config.display()));
    let cx = app.context_of(Config::load(&place.config)?);
    let status = go_on(app, args, &cx, &survey, recovery)?;
    recover::finish(&place);
    Ok(status)
}

/// With a configuration that names the archive: the history is rebuilt, the configuration stays.
fn from_config(app: &App, args: &RecoverArgs) -> Result<u8, CliError> {
    let mut config = app.config()?;
    if let Some(file) = &args.with.identity {
        config.keys.identity = Some(Secret::File(absolute(file)));
    }
    let path = config.path.clone();
    let cx = app.context_of(config);
    let store = havun_model::StoreName::new(args.store.clone()).map_err(havun_operations::error::OperationError::from)?;
    let survey = recover::survey(&cx, &store, &args.with.project)?;
    app.screen.pause();
    let mut recovery = Recovery::new(&survey, path);
    show(app.ui, &recovery, &cx.zone());
    let unknown = survey.vaults.iter().filter(|found| !cx.config.projects.contains_key(&found.project));
    recovery.notes.extend(unknown.map(|found| format!("{}: the configuration does not have this project", found.project)));
    recovery.dry_run = args.dry_run;
    if args.dry_run {
        print_end(app.ui, &recovery);
        app.ui.document(&recovery)?;
        return Ok(recovery.exit_status());
    }
    go_on(app, args, &cx, &survey, recovery)
}

fn go_on(app: &App, args: &RecoverArgs, cx: &Context, survey: &Survey, mut recovery: Recovery) -> Result<u8, CliError> {
    app.screen.resume();
    recovery.history_rows = recover::rebuild_history(cx, survey)?;
    if args.with.restore {
        for found in survey.vaults.iter().filter(|found| cx.config.projects.contains_key(&found.project)) {
            if cx.cancel.is_cancelled() {
                break;
            }
            recovery.restored.push(restore_one(cx, found.project.as_str(), survey.store.as_str(), args));
        }
    } else {
        recovery.next = commands(survey, &recovery.config);
    }
    app.screen.clear();
    print_end(app.ui, &recovery);
    app.ui.document(&recovery)?;
    Ok(recovery.exit_status())
}

/// Where there is something already, only `--yes` goes on: `restore` would ask.
fn restore_one(cx: &Context, project: &str, store: &str, args: &RecoverArgs) -> RestoredProject {
    let (store, replace) = (Some(store.to_owned()), args.with.replace);
    let options = RestoreOptions { project: project.to_owned(), store, replace, ..RestoreOptions::default() };
    let restored = havun_operations::restore::prepare(cx, &options).and_then(|prepared| {
        if prepared.view().existing_entries > 0 && !args.yes {
            let path = PathBuf::from(&prepared.view().target);
            return Err(havun_operations::error::OperationError::TargetNotEmpty { path });
        }
        prepared.execute()
    });
    let (outcome, failure) = match restored {
        Ok(outcome) => (Some(outcome), None),
        Err(error) => (None, Some(error.to_failure())),
    };
    RestoredProject { project: project.to_owned(), outcome, failure }
}

fn place(app: &App, args: &RecoverArgs) -> Result<Place, CliError> {
    let root = havun_operations::init::is_root();
    let default = || PathBuf::from(if root { SYSTEM_CONFIG } else { LOCAL_CONFIG });
    let config = absolute(&args.with.config_out.clone().or_else(|| app.global.config.clone()).unwrap_or_else(default));
    let identity = args.with.identity.as_deref().map(absolute).ok_or_else(|| CliError::Usage {
        message: "there is no key to open the archive with".to_owned(),
        hint: "give --identity FILE: the escrow kit, saved as a file of mode 0600".to_owned(),
    })?;
    let state_dir = args.state_dir.as_deref().map_or_else(init::default_state_dir, absolute);
    let default_hot = || if root { PathBuf::from("/var/backups/havun") } else { state_dir.join("store") };
    Ok(Place {
        hot: args.with.hot.as_deref().map_or_else(default_hot, absolute),
        service_key: config.parent().unwrap_or(Path::new("/")).join("keys/service.agekey"),
        config,
        state_dir,
        identity,
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn agree(app: &App, args: &RecoverArgs, config: &Path) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    let what = if args.with.restore { ", and restore everything to where it was" } else { "" };
    match app.ui.ask(&format!("Write {}{what}? Type yes:", config.display()))?.as_deref() {
        Some("yes") => Ok(()),
        Some(_) => Err(CliError::Declined { expected: "yes" }),
        None => Err(CliError::Usage {
            message: "nobody is there to agree to the recovery".to_owned(),
            hint: "look at it with --dry-run, then call it with --yes; nothing was written".to_owned(),
        }),
    }
}

/// What brings each project back, as it is typed.
fn commands(survey: &Survey, config: &Path) -> Vec<String> {
    let restore = survey.vaults.iter().filter(|found| !found.snapshots.is_empty());
    restore
        .map(|found| {
            format!("havun-backup --config {} restore --project {} --latest --store {}", config.display(), found.project, survey.store)
        })
        .collect()
}

fn show(ui: Ui, recovery: &Recovery, zone: &TimeZone) {
    ui.line(format!("{} holds {}:", recovery.place, format::counted(recovery.projects.len() as u64, "project", "projects")));
    let mut table = Table::new(&["project", ">snapshots", "newest", "", ">files", ">size", ">stored", "was at"]);
    for found in recovery.projects.iter().filter(|found| found.failure.is_none()) {
        table.row(row(found, zone));
    }
    ui.lines(table.lines(2));
    for found in &recovery.projects {
        if let Some(failure) = &found.failure {
            ui.trouble(failure_text(failure, &format!("  {} cannot be opened: ", found.project)));
        }
        if found.damaged > 0 {
            ui.trouble(format!("  {}: {} cannot be read", found.project, format::counted(found.damaged, "snapshot", "snapshots")));
        }
    }
}

fn row(found: &FoundProject, zone: &TimeZone) -> [String; 8] {
    let newest = found.newest.as_ref();
    [
        found.project.to_string(),
        format::count(found.snapshots),
        newest.map_or_else(|| "none".to_owned(), |s| format::time(s.taken_at, zone)),
        newest.map(|s| s.outcome.word().to_owned()).unwrap_or_default(),
        newest.map(|s| format::count(s.entries)).unwrap_or_default(),
        newest.map(|s| format::size(s.bytes)).unwrap_or_default(),
        format::size(found.stored_bytes),
        found.root.clone(),
    ]
}

fn print_end(ui: Ui, recovery: &Recovery) {
    if let Some(key) = &recovery.service_key {
        ui.line(format!("This host has a key of its own now: {}. Take the key that you gave off this host again.", key.display()));
    }
    if !recovery.dry_run {
        let rows = format::counted(recovery.history_rows, "row", "rows");
        ui.line(format!("History: {rows} written to the audit database from the snapshots."));
    }
    recovery.notes.iter().for_each(|note| ui.line(format!("note: {note}")));
    for restored in &recovery.restored {
        match (&restored.outcome, &restored.failure) {
            (_, Some(failure)) => ui.trouble(failure_text(failure, &format!("{} was not restored: ", restored.project))),
            (Some(outcome), None) => restore::print_outcome(ui, outcome),
            (None, None) => {}
        }
    }
    if !recovery.next.is_empty() {
        ui.line("To restore each project to where it was:");
        recovery.next.iter().for_each(|command| ui.line(format!("  {command}")));
    }
    if recovery.dry_run {
        ui.line("Nothing was written: this is a dry run.");
    }
}
