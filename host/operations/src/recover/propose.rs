//! The configuration of a host that takes over from a lost one: the archive, a hot store, and every project as its newest
//! snapshot says that it was.

use super::{RecoverError, StoreAddress, survey::FoundVault};
use crate::config::{BUILT_IN_STRATEGIES, Config};
use havun_model::StoreName;
use havun_vault::store::LocalRoot;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Where things of the new host go.
#[derive(Debug, Clone)]
pub struct Place {
    /// The new configuration, absolute.
    pub config: PathBuf,
    /// Caches and the audit database.
    pub state_dir: PathBuf,
    /// The key that was given.
    pub identity: PathBuf,
    /// The new key of this host.
    pub service_key: PathBuf,
    /// Folder of the hot store.
    pub hot: PathBuf,
}

/// The name of the hot store that is proposed.
const HOT: &str = "local";

/// The archive's name (`name` where that is known already), and a configuration that knows nothing but it and the key.
///
/// # Errors
/// [`RecoverError::Folder`], [`RecoverError::Config`].
pub fn archive_config(address: &StoreAddress, place: &Place, name: Option<StoreName>) -> Result<(StoreName, Config), RecoverError> {
    let name = name.map_or_else(|| archive_name(address), Ok)?;
    let text = json!({
        "host": { "state_dir": place.state_dir },
        "keys": { "identity": { "file": place.identity } },
        "stores": { name.as_str(): store_table(address) },
    });
    let text = toml::to_string(&text).unwrap_or_default();
    let config = Config::parse(&text, &place.config, 0o600).map_err(RecoverError::Config)?;
    Ok((name, config))
}

/// A folder says its name itself; another store gets one.
fn archive_name(address: &StoreAddress) -> Result<StoreName, RecoverError> {
    let name = match address.local() {
        Some(path) => {
            let root = LocalRoot::open(path).map_err(|source| RecoverError::Folder { path: path.to_owned(), source })?;
            root.name().to_owned()
        }
        None => "archive".to_owned(),
    };
    StoreName::new(name).map_err(|e| RecoverError::Operation(e.into()))
}

fn store_table(address: &StoreAddress) -> Value {
    let mut table = address.table().clone();
    table.insert("tier".to_owned(), json!("archive"));
    Value::Object(table)
}

/// What the whole configuration is made of.
pub(super) struct Recovered<'a> {
    pub place: &'a Place,
    pub archive: &'a StoreName,
    pub address: &'a StoreAddress,
    pub vaults: &'a [FoundVault],
    /// Whom the keys of new epochs are wrapped for, beside the holder of `identity`.
    pub escrow: Vec<String>,
    /// The key that opens the vaults from now on.
    pub identity: &'a Path,
    pub host: String,
}

impl Recovered<'_> {
    /// The text, and what the operator should look at.
    pub(super) fn text(&self) -> (String, Vec<String>) {
        let mut out = Lines::default();
        let mut notes = Vec::new();
        let hot = self.hot_name();
        out.comment("Made by `havun-backup recover` from the archive and its newest snapshots. Look it through: what a");
        out.comment("snapshot does not say (notifications, other stores, passwords) is not here.");
        let zone = jiff::tz::TimeZone::system();
        out.table("host", &json!({ "name": self.host, "state_dir": self.place.state_dir, "timezone": zone.iana_name().unwrap_or("UTC") }));
        let audit = format!("sqlite://{}", self.place.state_dir.join("audit.db").display());
        out.table("audit", &json!({ "url": audit }));
        out.table("keys", &json!({ "identity": { "file": self.identity }, "escrow": self.escrow }));
        out.table(&format!("stores.{hot}"), &json!({ "tier": "hot", "kind": "local", "path": self.place.hot }));
        out.table(&format!("stores.{}", key(self.archive.as_str())), &store_table(self.address));
        for vault in self.vaults {
            self.project(vault, &hot, &mut out, &mut notes);
        }
        (out.text, notes)
    }

    fn hot_name(&self) -> String {
        if self.archive.as_str() == HOT { format!("{HOT}-hot") } else { HOT.to_owned() }
    }

    fn project(&self, vault: &FoundVault, hot: &str, out: &mut Lines, notes: &mut Vec<String>) {
        let name = vault.project.as_str();
        let Some(newest) = vault.newest().map(|stored| &stored.snapshot) else {
            notes.push(format!("{name}: its vault has no snapshot that opens; it is not in the configuration"));
            return;
        };
        let mut table = match &newest.project_config {
            Some(Value::Object(table)) => table.clone(),
            _ => {
                notes.push(format!("{name}: its snapshots do not say its priority, schedule and settings: add what it had"));
                Map::new()
            }
        };
        let mut note = |text: String| notes.push(format!("{name}: {text}"));
        let others = others(table.get("stores"), self.archive, hot);
        if !others.is_empty() {
            note(format!("it also had the stores {}: add those that are left", others.join(", ")));
        }
        let auto = table.get("retention").and_then(|r| r.get("archive_auto_delete")).and_then(Value::as_bool) == Some(true);
        if auto {
            note("`archive_auto_delete` was true; it is false until you say so again".to_owned());
        }
        let mut strategy = newest.strategy.id.clone();
        if !BUILT_IN_STRATEGIES.contains(&strategy.as_str()) {
            let (version, digest) = (&newest.strategy.version, newest.strategy.digest);
            note(format!(
                "its strategy `{strategy}` {version} (SHA-256 {digest}) is a plugin: install it, and change `strategy` from files"
            ));
            strategy = "files".to_owned();
            table.remove("settings");
        }
        table.remove("paused");
        table.extend([
            ("title".to_owned(), json!(newest.title)),
            ("strategy".to_owned(), json!(strategy)),
            ("root".to_owned(), json!(newest.root)),
            ("stores".to_owned(), json!([hot, self.archive])),
            ("encryption".to_owned(), json!(vault.vault.is_encrypted())),
        ]);
        let retention = &newest.retention;
        table.insert("retention".to_owned(), json!({ "hot": retention.hot, "archive": retention.archive, "archive_auto_delete": false }));
        out.blank();
        out.comment(&format!("As snapshot {} of {} says", short(vault), newest.started_at));
        out.table(&format!("projects.{}", key(name)), &Value::Object(table));
    }
}

fn short(vault: &FoundVault) -> String {
    vault.newest().map(|stored| stored.id.short()).unwrap_or_default()
}

/// Stores that a project had beside the archive and a hot one of the proposed name.
fn others(stores: Option<&Value>, archive: &StoreName, hot: &str) -> Vec<String> {
    let names = stores.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names.filter(|name| *name != archive.as_str() && *name != hot).map(|name| format!("`{name}`")).collect()
}

/// A name as a part of a table's head: the one that is a store or a project may hold a dot.
fn key(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn comment(&mut self, text: &str) {
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.text.push_str(&format!("# {clean}\n"));
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    /// A table with its sub-tables after it; tables of one value (`{ file = "…" }`) stand in their line.
    fn table(&mut self, head: &str, table: &Value) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") && self.text.lines().last().is_some_and(|line| !line.starts_with('#')) {
            self.blank();
        }
        self.text.push_str(&format!("[{head}]\n"));
        let entries = || table.as_object().into_iter().flatten();
        for (name, value) in entries().filter(|(name, value)| !is_section(name, value)) {
            if let Ok(value) = toml::Value::try_from(value) {
                self.text.push_str(&format!("{} = {value}\n", quoted(name)));
            }
        }
        for (name, value) in entries().filter(|(name, value)| is_section(name, value)) {
            self.table(&format!("{head}.{}", quoted(name)), value);
        }
    }
}

/// What stands under a head of its own; secrets and the free settings of a strategy stand in their line.
fn is_section(name: &str, value: &Value) -> bool {
    value.is_object()
        && (matches!(name, "retention" | "settings" | "databases") || value.as_object().is_some_and(|o| o.values().any(Value::is_object)))
        || (value.is_object() && value.get("engine").is_some())
}

/// A key as TOML has it.
fn quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { Value::from(key).to_string() }
}
