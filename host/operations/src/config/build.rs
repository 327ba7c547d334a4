//! A checked document into a [`Config`]: defaults filled in, paths made absolute. What `check` has already
//! refused reads as absent here.

mod notify;

use super::{
    Span,
    check::{Checker, port, whole},
    secret::Secret,
    types::{
        Audit, Config, DaemonConfig, DatabaseConfig, Drill, DrillChoice, Health, Host, Keys, LockMode, Ping, PluginConfig, Priority,
        ProjectConfig, ProjectDrill, QuiesceConfig, Retention, S3Store, SftpStore, SnapshotSource, StoreConfig, StoreKind, Tier,
        UploadCheck,
    },
};
use havun_model::{ProjectName, StoreName, retention::Term};
use jiff::tz::TimeZone;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

/// Strategies that are embedded in the program.
pub const BUILT_IN_STRATEGIES: &[&str] = &["files", "laravel", "laravel-package", "nodejs"];

const STATE_DIR: &str = "/var/lib/havun-backup";
/// Every stored byte is read once in this time, unless the store says otherwise.
const SCRUB: &str = "90d";
/// A project that was not drilled within this time is overdue.
const EVERY: Term = Term::days(90);
/// Where scratch servers keep their data: everybody may reach it, and it is on a disk.
const SCRATCH_DIR: &str = "/var/tmp";
/// Who has no files on a machine.
const SCRATCH_USER: &str = "nobody";
/// A run that does not renew its lease for so long has ended, unless the configuration says otherwise.
const LEASE: Span = Span::seconds(300);
/// Shorter, and a busy server would take leases from runs that live.
const SHORTEST_LEASE: Span = Span::seconds(1);
/// Projects that the daemon backs up at once.
const PARALLEL: usize = 2;
/// Connections to a store over the network, unless it says otherwise.
const CONNECTIONS: usize = 4;

/// Builds the configuration; what only shows between tables is reported to `checker`.
pub(super) fn build(document: &DeTable<'_>, path: &Path, checker: &mut Checker<'_>) -> Config {
    let base = path.parent().unwrap_or(Path::new("/"));
    let root = Section { table: Some(document), base };
    let host = host(&root.section("host"));
    let stores = root.named("stores").filter_map(|(name, at, table)| Some((store(name, at, &table, checker)?, at))).collect::<Vec<_>>();
    let plugins = root.named("plugins").map(|(name, at, table)| (name.to_owned(), plugin(name, at, &table, checker))).collect();
    report_shared_folders(&stores, checker);
    let projects = root.named("projects").filter_map(|(name, _, table)| project(name, &table, &plugins, checker)).collect();
    Config {
        path: path.to_owned(),
        audit: audit(&root.section("audit"), &host, checker),
        keys: keys(&root.section("keys")),
        stores: stores.into_iter().map(|(store, _)| (store.name.clone(), store)).collect(),
        notify: notify::notify(&root.section("notify"), checker),
        health: health(&root.section("health")),
        drill: drill(&root.section("drill"), checker),
        daemon: daemon(&root.section("daemon")),
        host,
        plugins,
        projects,
        warnings: Vec::new(),
    }
}

/// One table, or nothing: every read of an absent or refused value is `None`.
struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    base: &'a Path,
}

impl<'a> Section<'a> {
    fn get(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(name)
    }

    fn value(&self, name: &str) -> Option<&'a DeValue<'a>> {
        self.get(name).map(Spanned::get_ref)
    }

    fn section(&self, name: &str) -> Section<'a> {
        Section { table: self.value(name).and_then(DeValue::as_table), base: self.base }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = (&'a str, usize, Section<'a>)> {
        let base = self.base;
        let tables = self.section(name).table.into_iter().flatten();
        tables.filter_map(move |(key, value)| {
            let table = Some(value.get_ref().as_table()?);
            Some((key.get_ref().as_ref(), key.span().start, Section { table, base }))
        })
    }

    fn str(&self, name: &str) -> Option<&'a str> {
        self.value(name)?.as_str()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.str(name).map(str::to_owned)
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let list = self.value(name).and_then(DeValue::as_array);
        list.into_iter().flat_map(|items| items.iter()).filter_map(|item| item.get_ref().as_str()).map(str::to_owned).collect()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.value(name)?.as_bool()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.str(name).map(|text| self.absolute(text))
    }

    fn absolute(&self, text: &str) -> PathBuf {
        self.base.join(text).components().collect()
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        match self.value(name)? {
            DeValue::String(text) => Some(Secret::Plain(Zeroizing::new(text.as_ref().to_owned()))),
            DeValue::Table(table) => {
                let form = Section { table: Some(table), base: self.base };
                let file = form.path("file").map(Secret::File);
                file.or_else(|| form.text("env").map(Secret::Env)).or_else(|| form.text("credential").map(Secret::Credential))
            }
            _ => None,
        }
    }

    fn connections(&self) -> usize {
        self.value("connections").and_then(whole).map_or(CONNECTIONS, usize::from)
    }

    fn term(&self, name: &str) -> Option<Term> {
        self.str(name)?.parse().ok()
    }
}

fn host(section: &Section<'_>) -> Host {
    Host {
        name: section.text("name").unwrap_or_else(host_name),
        state_dir: section.path("state_dir").unwrap_or_else(|| PathBuf::from(STATE_DIR)),
        timezone: section.str("timezone").and_then(|name| TimeZone::get(name).ok()).unwrap_or_else(TimeZone::system),
    }
}

/// As the kernel says it.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn audit(section: &Section<'_>, host: &Host, checker: &mut Checker<'_>) -> Audit {
    let default = || Secret::Plain(Zeroizing::new(format!("sqlite://{}", host.state_dir.join("audit.db").display())));
    let lease = section.str("lease").and_then(|text| text.parse().ok()).unwrap_or(LEASE);
    if let Some(said) = section.get("lease").filter(|_| lease < SHORTEST_LEASE) {
        checker.report(said.span().start, "`lease` is 1s at least: a run renews it three times in that time".to_owned());
    }
    Audit { url: section.secret("url").unwrap_or_else(default), password: section.secret("password"), lease }
}

fn keys(section: &Section<'_>) -> Keys {
    Keys { identity: section.secret("identity"), escrow: section.texts("escrow") }
}

fn store(name: &str, at: usize, section: &Section<'_>, checker: &mut Checker<'_>) -> Option<StoreConfig> {
    if name == super::types::SPOOL {
        checker.report(at, format!("`{name}` is the program's own store: give this one another name"));
    }
    let tier = match section.str("tier")? {
        "hot" => Tier::Hot,
        "archive" => Tier::Archive,
        "test" => Tier::Test,
        _ => return None,
    };
    let kind = match section.str("kind")? {
        "local" => StoreKind::Local { path: section.path("path")? },
        "sftp" => {
            report_login(name, at, section, checker);
            StoreKind::Sftp(sftp(section)?)
        }
        "s3" => {
            report_keys(name, at, section, checker);
            StoreKind::S3(s3(section)?)
        }
        _ => return None,
    };
    Some(StoreConfig {
        name: StoreName::new(name).ok()?,
        tier,
        kind,
        bandwidth: section.str("bandwidth").and_then(|text| text.parse().ok()),
        par2: section.value("par2").and_then(whole).and_then(|percent| u8::try_from(percent).ok()),
        scrub: section.term("scrub").or_else(|| SCRUB.parse().ok())?,
        cost: section.str("cost_per_tb_month").and_then(|text| text.parse().ok()),
    })
}

fn sftp(section: &Section<'_>) -> Option<SftpStore> {
    Some(SftpStore {
        host: section.text("host")?,
        port: section.value("port").map_or(Some(22), port)?,
        user: section.text("user")?,
        path: section.text("path")?,
        identity: section.secret("identity"),
        passphrase: section.secret("passphrase"),
        password: section.secret("password"),
        agent: section.flag("agent").unwrap_or(false),
        host_key: section.text("host_key")?,
        connections: section.connections(),
        put_once: section.flag("put_once").unwrap_or(false),
        verify: match section.str("verify") {
            Some("read-back") => UploadCheck::ReadBack,
            Some("size") => UploadCheck::Size,
            _ => UploadCheck::Auto,
        },
    })
}

fn s3(section: &Section<'_>) -> Option<S3Store> {
    Some(S3Store {
        endpoint: section.text("endpoint").unwrap_or_default(),
        region: section.text("region").unwrap_or_else(|| "us-east-1".to_owned()),
        bucket: section.text("bucket")?,
        prefix: section.text("prefix").unwrap_or_default(),
        access_key_id: section.secret("access_key_id"),
        secret_access_key: section.secret("secret_access_key"),
        session_token: section.secret("session_token"),
        object_lock: match section.str("object_lock") {
            Some("governance") => Some(LockMode::Governance),
            Some("compliance") => Some(LockMode::Compliance),
            _ => None,
        },
        // Services of one's own rarely have a name for each bucket; AWS asks for it.
        path_style: section.flag("path_style").unwrap_or_else(|| section.get("endpoint").is_some()),
        connections: section.connections(),
    })
}

/// One way to log in, so that nobody wonders which of two was tried; a passphrase belongs to a key.
fn report_login(name: &str, at: usize, section: &Section<'_>, checker: &mut Checker<'_>) {
    let agent = section.get("agent").is_some_and(|value| value.get_ref().as_bool() == Some(true));
    let given = [("identity", section.get("identity").is_some()), ("agent", agent), ("password", section.get("password").is_some())];
    let given: Vec<&str> = given.into_iter().filter_map(|(key, is_given)| is_given.then_some(key)).collect();
    match given.as_slice() {
        [] => checker.report(at, format!("[stores.{name}] has no way to log in: give `identity`, `agent = true` or `password`")),
        [_] => {}
        several => checker.report(at, format!("[stores.{name}] has {} ways to log in ({}): keep one", several.len(), several.join(", "))),
    }
    if section.get("passphrase").is_some() && section.get("identity").is_none() {
        checker.report(at, format!("`passphrase` in [stores.{name}] belongs to a private key, and `identity` names none"));
    }
}

/// A bucket is never used without a name: an anonymous request that is let through would be everybody's.
fn report_keys(name: &str, at: usize, section: &Section<'_>, checker: &mut Checker<'_>) {
    for key in ["access_key_id", "secret_access_key"] {
        if section.get(key).is_none() {
            checker.report(at, format!("`{key}` is missing in [stores.{name}]: without it nobody can write to the bucket"));
        }
    }
}

/// Two stores in one folder would be one copy that counts as two.
fn report_shared_folders(stores: &[(StoreConfig, usize)], checker: &mut Checker<'_>) {
    let mut seen: BTreeMap<&Path, &StoreName> = BTreeMap::new();
    for (store, at) in stores {
        let StoreKind::Local { path } = &store.kind else { continue };
        if let Some(other) = seen.insert(path, &store.name) {
            checker.report(*at, format!("stores `{other}` and `{}` are the same folder {}", store.name, path.display()));
        }
    }
}

fn health(section: &Section<'_>) -> Health {
    let ping = section.section("ping");
    let ping = ping.secret("url").map(|url| Ping { url, start: ping.secret("start"), failure: ping.secret("failure") });
    Health { textfile: section.path("textfile"), ping }
}

fn drill(section: &Section<'_>, checker: &mut Checker<'_>) -> Drill {
    for (name, at, _) in section.named("databases") {
        if !super::shape::ENGINES.contains(&name) {
            checker.report(at, format!("[drill.databases.{name}]: `{name}` is no engine: there are {}", super::shape::ENGINES.join(", ")));
        }
    }
    let given = choices(section);
    Drill {
        every: section.term("every").unwrap_or(EVERY),
        choose: if given.is_empty() { vec![DrillChoice::Newest, DrillChoice::Random] } else { given },
        store: drill_store(section),
        scratch_dir: section.path("scratch_dir").unwrap_or_else(|| PathBuf::from(SCRATCH_DIR)),
        user: section.text("user").unwrap_or_else(|| SCRATCH_USER.to_owned()),
        accept_unproven: section.texts("accept_unproven"),
        databases: section.named("databases").map(|(name, _, table)| (name.to_owned(), database(name, &table))).collect(),
    }
}

fn daemon(section: &Section<'_>) -> DaemonConfig {
    DaemonConfig {
        jitter: section.str("jitter").and_then(|text| text.parse().ok()).unwrap_or_default(),
        parallel: section.value("parallel").and_then(whole).map_or(PARALLEL, usize::from),
        metrics: section.str("metrics").and_then(|text| text.parse().ok()),
    }
}

fn project_drill(section: &Section<'_>) -> ProjectDrill {
    ProjectDrill {
        every: section.term("every"),
        choose: choices(section),
        store: drill_store(section),
        accept_unproven: section.texts("accept_unproven"),
        known_bad: section.texts("known_bad"),
    }
}

fn choices(section: &Section<'_>) -> Vec<DrillChoice> {
    let choice = |word: String| DrillChoice::ALL.into_iter().find(|choice| choice.word() == word);
    section.texts("choose").into_iter().filter_map(choice).collect()
}

fn drill_store(section: &Section<'_>) -> Option<StoreName> {
    section.str("store").filter(|name| *name != "any").and_then(|name| StoreName::new(name).ok())
}

fn plugin(name: &str, at: usize, section: &Section<'_>, checker: &mut Checker<'_>) -> PluginConfig {
    if BUILT_IN_STRATEGIES.contains(&name) {
        checker.report(at, format!("`{name}` is a built-in strategy: give the plugin another name"));
    }
    let digest = section.str("digest").and_then(|text| text.parse().ok());
    let grant = section.texts("grant");
    if !grant.is_empty() && section.get("digest").is_none() {
        checker.report(
            at,
            format!("`digest` is missing in [plugins.{name}]: a grant holds for one component only (`sha256sum FILE` prints it)"),
        );
    }
    PluginConfig { name: name.to_owned(), path: section.path("path").unwrap_or_default(), digest, grant }
}

fn project(
    name: &str,
    section: &Section<'_>,
    plugins: &BTreeMap<String, PluginConfig>,
    checker: &mut Checker<'_>,
) -> Option<(ProjectName, ProjectConfig)> {
    report_strategy(section, plugins, checker);
    report_stores(section, checker);
    let settings = section.get("settings").map_or_else(|| Some(serde_json::json!({})), |value| json(value, checker));
    let retention = section.section("retention");
    let name = ProjectName::new(name).ok()?;
    let databases = section.named("databases").map(|(name, _, table)| (name.to_owned(), database(name, &table))).collect();
    let project = ProjectConfig {
        title: section.text("title").unwrap_or_else(|| name.to_string()),
        strategy: section.text("strategy")?,
        root: section.path("root")?,
        priority: priority(section.str("priority")),
        compliance: section.texts("compliance"),
        schedule: section.str("schedule").and_then(|text| text.parse().ok()),
        stores: section.texts("stores").into_iter().filter_map(|text| StoreName::new(text).ok()).collect(),
        encryption: section.flag("encryption").unwrap_or(true),
        paused: section.flag("paused").unwrap_or(false),
        retention: Retention {
            hot: retention.term("hot").or_else(|| "30d".parse().ok())?,
            archive: retention.term("archive").or_else(|| "7y".parse().ok())?,
            archive_auto_delete: retention.flag("archive_auto_delete").unwrap_or(false),
            explicit_hot: retention.get("hot").is_some(),
            explicit_archive: retention.get("archive").is_some(),
        },
        rto: section.str("rto").and_then(|text| text.parse().ok()),
        rpo: section.str("rpo").and_then(|text| text.parse().ok()),
        drill: project_drill(&section.section("drill")),
        databases,
        quiesce: section.get("quiesce").and_then(|value| quiesce(value.span().start, &section.section("quiesce"), checker)),
        snapshot: snapshot(&section.section("snapshot")),
        settings: settings?,
        name: name.clone(),
    };
    Some((name, project))
}

/// A pause that nothing ends would last until somebody notices.
fn quiesce(at: usize, section: &Section<'_>, checker: &mut Checker<'_>) -> Option<QuiesceConfig> {
    let (before, after) = (section.texts("before"), section.texts("after"));
    if before.is_empty() && after.is_empty() {
        checker.report(at, "`quiesce` has neither `before` nor `after`".to_owned());
    }
    for (name, command) in [("before", &before), ("after", &after)] {
        if command.first().is_some_and(String::is_empty) {
            checker.report(at, format!("`{name}` names no program"));
        }
    }
    Some(QuiesceConfig {
        before,
        after,
        user: section.text("user"),
        timeout_secs: section.value("timeout").and_then(whole).unwrap_or(60),
        goes_on: section.str("on_failure") == Some("continue"),
    })
}

fn snapshot(section: &Section<'_>) -> Option<SnapshotSource> {
    match section.str("kind")? {
        "btrfs" => Some(SnapshotSource::Btrfs { subvolume: section.path("subvolume")? }),
        "zfs" => Some(SnapshotSource::Zfs { dataset: section.text("dataset")? }),
        "lvm" => Some(SnapshotSource::Lvm {
            volume_group: section.text("volume_group")?,
            logical_volume: section.text("logical_volume")?,
            size: section.text("size")?,
        }),
        _ => None,
    }
}

fn report_strategy(section: &Section<'_>, plugins: &BTreeMap<String, PluginConfig>, checker: &mut Checker<'_>) {
    let Some((value, name)) = section.get("strategy").and_then(|value| Some((value, value.get_ref().as_str()?))) else { return };
    let known = BUILT_IN_STRATEGIES.iter().copied().chain(plugins.keys().map(String::as_str));
    if !known.clone().any(|word| word == name) {
        let near = super::check::did_you_mean(name, known.clone());
        let all = known.collect::<Vec<_>>().join(", ");
        checker.report(value.span().start, format!("there is no strategy `{name}`: there are {all}{near}"));
    }
}

fn report_stores(section: &Section<'_>, checker: &mut Checker<'_>) {
    let Some(list) = section.get("stores").and_then(|value| Some((value.span().start, value.get_ref().as_array()?))) else { return };
    let (at, list) = list;
    if list.is_empty() {
        checker.report(at, "`stores` is empty: a project needs at least one".to_owned());
    }
    let mut seen = Vec::new();
    for item in list.iter() {
        let Some(name) = item.get_ref().as_str() else { continue };
        if seen.contains(&name) {
            checker.report(item.span().start, format!("`stores` names `{name}` twice"));
        }
        seen.push(name);
    }
}

fn priority(word: Option<&str>) -> Priority {
    match word {
        Some("critical") => Priority::Critical,
        Some("high") => Priority::High,
        Some("low") => Priority::Low,
        _ => Priority::Medium,
    }
}

fn database(name: &str, section: &Section<'_>) -> DatabaseConfig {
    DatabaseConfig {
        name: name.to_owned(),
        engine: section.text("engine"),
        url: section.secret("url"),
        host: section.text("host"),
        port: section.value("port").and_then(port),
        socket: section.path("socket"),
        user: section.text("user"),
        password: section.secret("password"),
        database: section.text("database"),
        path: section.text("path").map(PathBuf::from),
        charset: section.text("charset"),
        tls: section.text("tls"),
        tls_ca: section.path("tls_ca"),
    }
}

/// TOML as JSON; dates become texts.
fn json(value: &Spanned<DeValue<'_>>, checker: &mut Checker<'_>) -> Option<serde_json::Value> {
    let at = value.span().start;
    Some(match value.get_ref() {
        DeValue::String(text) => serde_json::Value::from(text.as_ref()),
        DeValue::Boolean(flag) => serde_json::Value::from(*flag),
        DeValue::Datetime(moment) => serde_json::Value::from(moment.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()) {
            Ok(number) => serde_json::Value::from(number),
            Err(_) => {
                checker.report(at, format!("{} is too large a number", integer.as_str()));
                return None;
            }
        },
        DeValue::Float(float) => {
            let number = float.as_str().replace('_', "").parse().ok().and_then(serde_json::Number::from_f64);
            if number.is_none() {
                checker.report(at, format!("{} is not a number that a strategy can be given", float.as_str()));
            }
            serde_json::Value::Number(number?)
        }
        DeValue::Array(list) => serde_json::Value::Array(list.iter().map(|item| json(item, checker)).collect::<Option<_>>()?),
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<_>, _)| Some((AsRef::<str>::as_ref(key.get_ref()).to_owned(), json(value, checker)?));
            serde_json::Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}
