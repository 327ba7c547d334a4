//! Units for systemd: the daemon, or a timer that calls it. Made from the configuration, so that each may write where this
//! one has to and nowhere else.
//!
//! A unit that a person has changed is never replaced: what would have been written lies beside it as `NAME.new`.

use super::InitError;
use crate::config::{Config, SnapshotSource, StoreKind};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Where an administrator's units lie.
pub const UNIT_DIR: &str = "/etc/systemd/system";
/// Where an administrator's credentials lie.
const CREDENTIALS: &str = "/etc/credstore";
/// In the first line of a unit; the SHA-256 of what follows comes after it.
const MARK: &str = "# Written by `havun-backup init --systemd`; nobody has changed it while this is the SHA-256 of what follows: ";

const DAEMON: &str = "havun-backup.service";
const ONCE: &str = "havun-backup-once.service";
const TIMER: &str = "havun-backup.timer";

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its file name.
    pub name: &'static str,
    /// All of the file.
    pub text: String,
}

/// What became of a unit's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitState {
    /// It was not there.
    Made,
    /// It is there, as it would be written.
    Same,
    /// It was as an earlier version of this program wrote it.
    Renewed,
    /// A person has changed it; it stays, and the new one lies there.
    KeptBeside(PathBuf),
}

/// The units for this configuration, with this program.
pub fn units(config: &Config, program: &Path) -> Vec<Unit> {
    let service = |head: &str, body: String| format!("{head}\n{}{}", body, sandbox(config));
    let call = |more: &str| format!("{} --config {} {more}", quoted(program), quoted(&config.path));
    let daemon = format!(
        "Type=notify\nNotifyAccess=main\nExecStart={}\nExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\nRestartSec=30\n# The command line, another daemon, the configuration: another try changes nothing, and each one sends mail.\n\
         RestartPreventExitStatus=2 11 78\nTimeoutStartSec=10min\nTimeoutStopSec=90\nWatchdogSec=3min\nKillMode=mixed\n",
        call("daemon")
    );
    let once = format!("Type=oneshot\nExecStart={}\nTimeoutStartSec=infinity\nTimeoutStopSec=90\nKillMode=mixed\n", call("daemon --once"));
    let install = "\n[Install]\nWantedBy=multi-user.target\n";
    vec![
        unit(DAEMON, service(&head("Backups by havun-backup"), daemon) + install),
        unit(ONCE, service(&head("Backups by havun-backup that are due now"), once)),
        unit(
            TIMER,
            format!(
                "[Unit]\nDescription=Backups by havun-backup, every five minutes what is due\n{DOCUMENTATION}\n\
                 # One or the other: the daemon does the same by itself.\nConflicts={DAEMON}\n\n\
                 [Timer]\nOnCalendar=*:0/5\nPersistent=true\nAccuracySec=30\nUnit={ONCE}\n\n[Install]\nWantedBy=timers.target\n"
            ),
        ),
    ]
}

const DOCUMENTATION: &str = "Documentation=man:havun-backup(1)";

/// Databases that are dumped should be up, and go down later.
fn head(description: &str) -> String {
    format!(
        "[Unit]\nDescription={description}\n{DOCUMENTATION}\nWants=network-online.target\n\
         After=network-online.target local-fs.target remote-fs.target time-sync.target mariadb.service mysql.service postgresql.service \
         mongod.service redis-server.service\n\n[Service]"
    )
}

/// What the program may do: read everything, write where it has to.
fn sandbox(config: &Config) -> String {
    let snapshots = config.projects.values().filter_map(|project| project.snapshot.as_ref());
    let (lvm, any) = snapshots.fold((false, false), |(lvm, _), source| (lvm || matches!(source, SnapshotSource::Lvm { .. }), true));
    let mut lines = vec![
        "User=root".to_owned(),
        "UMask=0077".to_owned(),
        "# Production comes first: for the processor, the disk and, when memory runs out, for the kernel.".to_owned(),
        "Nice=10".to_owned(),
        "IOSchedulingClass=best-effort".to_owned(),
        "IOSchedulingPriority=7".to_owned(),
        "OOMScoreAdjust=250".to_owned(),
        String::new(),
        "ProtectSystem=strict".to_owned(),
        "ProtectHome=read-only".to_owned(),
        "PrivateTmp=yes".to_owned(),
    ];
    lines.extend(writable(config).iter().map(|path| format!("ReadWritePaths={}", quoted_path(path))));
    lines.push("NoNewPrivileges=yes".to_owned());
    lines.push(format!("CapabilityBoundingSet={}", capabilities(any, lvm).join(" ")));
    lines.push(format!("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6{}", if lvm { " AF_NETLINK" } else { "" }));
    lines.push("SystemCallArchitectures=native".to_owned());
    lines.push(format!("SystemCallFilter=@system-service{}", if any { " @mount" } else { "" }));
    lines.push("SystemCallErrorNumber=EPERM".to_owned());
    if !lvm {
        lines.push("PrivateDevices=yes".to_owned());
    }
    for protection in PROTECTIONS {
        lines.push((*protection).to_owned());
    }
    let credentials = credentials(config);
    if !credentials.is_empty() {
        lines.push("# `systemd-creds encrypt` makes files for LoadCredentialEncrypted= in their place.".to_owned());
    }
    lines.extend(credentials.iter().map(|name| format!("LoadCredential={name}:{CREDENTIALS}/{name}")));
    lines.join("\n") + "\n"
}

const PROTECTIONS: &[&str] = &[
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "# Not set: MemoryDenyWriteExecute (strategies are compiled code that is mapped), RestrictSUIDSGID (a drill restores files as they were).",
];

/// Reading everything; owners and modes of what a drill restores; other users for scratch servers and the commands of
/// `quiesce`; ending those servers. Mounting only where the configuration has snapshots of file systems.
fn capabilities(mounts: bool, devices: bool) -> Vec<&'static str> {
    let mut all = vec![
        "CAP_DAC_READ_SEARCH",
        "CAP_DAC_OVERRIDE",
        "CAP_CHOWN",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_KILL",
    ];
    all.extend(mounts.then_some("CAP_SYS_ADMIN"));
    all.extend(devices.then_some("CAP_MKNOD"));
    all
}

/// The state folder, stores on this machine, and the roots of projects whose own commands write there. What is not mounted
/// at start is no reason not to start: the run of that project says so.
fn writable(config: &Config) -> BTreeSet<PathBuf> {
    let stores = config.stores.values().filter_map(|store| match &store.kind {
        StoreKind::Local { path } => Some(path.clone()),
        _ => None,
    });
    let resting = config.projects.values().filter(|project| project.quiesce.is_some()).map(|project| project.root.clone());
    let scratch = Some(config.drill.scratch_dir.clone()).filter(|path| !["/tmp", "/var/tmp"].iter().any(|tmp| path.starts_with(tmp)));
    let sockets = ["/run/lock"].map(PathBuf::from).into_iter().filter(|_| config.projects.values().any(|p| p.snapshot.is_some()));
    std::iter::once(config.host.state_dir.clone()).chain(stores).chain(resting).chain(scratch).chain(sockets).collect()
}

/// Every `{ credential = "…" }` of the configuration, wherever it stands.
fn credentials(config: &Config) -> BTreeSet<String> {
    let text = fs::read_to_string(&config.path).unwrap_or_default();
    let mut found = BTreeSet::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        table.values().for_each(|value| collect_credentials(value, &mut found));
    }
    found
}

fn collect_credentials(value: &toml::Value, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            if let (1, Some(name)) = (table.len(), table.get("credential").and_then(toml::Value::as_str)) {
                found.insert(name.to_owned());
            }
            table.values().for_each(|value| collect_credentials(value, found));
        }
        toml::Value::Array(list) => list.iter().for_each(|value| collect_credentials(value, found)),
        _ => {}
    }
}

/// A path in a command line of a unit.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    if text.chars().any(char::is_whitespace) { format!("\"{text}\"") } else { text }
}

/// A path in a list of paths; a leading `-` lets it be missing.
fn quoted_path(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if text.chars().any(char::is_whitespace) { format!("\"-{text}\"") } else { format!("-{text}") }
}

fn unit(name: &'static str, body: String) -> Unit {
    Unit { name, text: format!("{MARK}{}\n{body}", digest(&body)) }
}

fn digest(body: &str) -> String {
    hex::encode(Sha256::digest(body.as_bytes()))
}

/// Whether the text is as this program, in whichever version, wrote it.
fn is_untouched(text: &str) -> bool {
    let parts = text.strip_prefix(MARK).and_then(|rest| rest.split_once('\n'));
    parts.is_some_and(|(found, body)| digest(body) == found)
}

/// Writes units into `folder`; one state for each.
///
/// # Errors
/// [`InitError::Write`].
pub fn write_units(folder: &Path, units: &[Unit]) -> Result<Vec<UnitState>, InitError> {
    units.iter().map(|unit| write_unit(&folder.join(unit.name), &unit.text)).collect()
}

fn write_unit(path: &Path, text: &str) -> Result<UnitState, InitError> {
    let failed = |source: io::Error| InitError::Write { path: path.to_owned(), source };
    let found = match fs::read_to_string(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let state = match &found {
        None => UnitState::Made,
        Some(found) if found == text => return Ok(UnitState::Same),
        Some(found) if is_untouched(found) => UnitState::Renewed,
        Some(_) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".new");
            UnitState::KeptBeside(PathBuf::from(name))
        }
    };
    let target = if let UnitState::KeptBeside(beside) = &state { beside.as_path() } else { path };
    let folder = target.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(target).map_err(|error| failed(error.error))?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, more: &str) -> Config {
        let text = format!(
            "[host]\nname = \"h\"\nstate_dir = \"/var/lib/havun-backup\"\n\
             [stores.local]\ntier = \"hot\"\nkind = \"local\"\npath = \"/srv/my backups\"\n\
             [projects.shop]\nstrategy = \"files\"\nroot = \"/var/www/shop\"\nstores = [\"local\"]\n{more}"
        );
        let path = folder.join("config.toml");
        fs::write(&path, &text).unwrap();
        Config::parse(&text, &path, 0o600).unwrap()
    }

    fn text_of(units: &[Unit], name: &str) -> String {
        units.iter().find(|unit| unit.name == name).unwrap().text.clone()
    }

    #[test]
    fn the_service_may_write_where_it_has_to_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let units = units(&config(folder.path(), ""), Path::new("/usr/local/bin/havun-backup"));
        for name in [DAEMON, ONCE] {
            let text = text_of(&units, name);
            let written: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("ReadWritePaths=")).collect();
            assert_eq!(written, ["\"-/srv/my backups\"", "-/var/lib/havun-backup"], "{name}");
            for line in
                ["ProtectSystem=strict", "NoNewPrivileges=yes", "PrivateTmp=yes", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"]
            {
                assert!(text.lines().any(|found| found == line), "{name} lacks {line}:\n{text}");
            }
            assert!(!text.contains("CAP_SYS_ADMIN") && !text.contains("@mount") && !text.contains("LoadCredential="), "{text}");
        }
        let daemon = text_of(&units, DAEMON);
        assert!(daemon.contains("Type=notify") && daemon.contains("WatchdogSec=") && daemon.contains("Restart=on-failure"), "{daemon}");
        assert!(daemon.contains("ExecStart=/usr/local/bin/havun-backup --config "), "{daemon}");
        assert!(text_of(&units, TIMER).contains("Unit=havun-backup-once.service"));
    }

    #[test]
    fn what_the_configuration_needs_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let more = "[projects.shop.quiesce]\nbefore = [\"true\"]\n\
                    [projects.shop.snapshot]\nkind = \"btrfs\"\nsubvolume = \"/var/www\"\n\
                    [projects.shop.databases.main]\nengine = \"mysql\"\nhost = \"h\"\npassword = { credential = \"shop-db\" }\n\
                    [keys]\nidentity = { credential = \"service.agekey\" }\n";
        let text = text_of(&units(&config(folder.path(), more), Path::new("/opt/havun backup/havun-backup")), DAEMON);
        assert!(text.contains("ReadWritePaths=-/var/www/shop\n"), "{text}");
        assert!(text.contains("CAP_SYS_ADMIN") && text.contains("SystemCallFilter=@system-service @mount"), "{text}");
        let loaded: Vec<&str> = text.lines().filter(|line| line.starts_with("LoadCredential=")).collect();
        assert_eq!(
            loaded,
            ["LoadCredential=service.agekey:/etc/credstore/service.agekey", "LoadCredential=shop-db:/etc/credstore/shop-db"]
        );
        assert!(text.contains("ExecStart=\"/opt/havun backup/havun-backup\" --config "), "{text}");
    }

    #[test]
    fn what_a_person_has_changed_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let first = units(&config(folder.path(), ""), Path::new("/usr/bin/havun-backup"));
        let write = |units: &[Unit]| write_units(folder.path(), units).unwrap();
        assert_eq!(write(&first), [UnitState::Made, UnitState::Made, UnitState::Made]);
        assert_eq!(write(&first), [UnitState::Same, UnitState::Same, UnitState::Same]);
        let later = units(&config(folder.path(), ""), Path::new("/usr/local/bin/havun-backup"));
        let path = folder.path().join(DAEMON);
        let changed = fs::read_to_string(&path).unwrap().replace("Nice=10", "Nice=19");
        fs::write(&path, &changed).unwrap();
        let beside = folder.path().join("havun-backup.service.new");
        assert_eq!(write(&later), [UnitState::KeptBeside(beside.clone()), UnitState::Renewed, UnitState::Same]);
        assert_eq!(fs::read_to_string(&path).unwrap(), changed);
        assert_eq!(fs::read_to_string(&beside).unwrap(), text_of(&later, DAEMON));
    }
}
