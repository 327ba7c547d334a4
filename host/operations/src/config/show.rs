//! A configuration as it is understood: defaults filled in, secrets masked.

mod notify;

use super::{Config, DatabaseConfig, LockMode, ProjectConfig, QuiesceConfig, Secret, SnapshotSource, StoreConfig, StoreKind};
use serde_json::{Map, Value, json};
use url::Url;

/// In place of a plain secret.
pub(super) const MASK: &str = "×××";

/// What [`show`] made.
pub struct Shown {
    /// Keys as in the file.
    pub json: Value,
}

impl Shown {
    /// As TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.json).unwrap_or_default()
    }
}

/// The whole configuration, or only what concerns one project.
pub fn show(config: &Config, project: Option<&str>) -> Shown {
    let wanted = |name: &str| project.is_none_or(|only| only == name);
    let projects: Vec<&ProjectConfig> = config.projects.values().filter(|p| wanted(p.name.as_str())).collect();
    let used = |name| project.is_none() || projects.iter().any(|p| p.stores.contains(name));
    let stores = config.stores.values().filter(|s| used(&s.name)).map(|s| (s.name.to_string(), store(s)));
    let plugins = config.plugins.values().filter(|p| project.is_none() || projects.iter().any(|used| used.strategy == p.name));
    let plugin = |p: &super::PluginConfig| clean(json!({ "path": p.path, "digest": p.digest, "grant": p.grant }));
    let mut all = json!({
        "host": { "name": config.host.name, "state_dir": config.host.state_dir, "timezone": config.host.timezone.iana_name().unwrap_or("UTC") },
        "audit": clean(json!({
            "url": url(&config.audit.url),
            "password": config.audit.password.as_ref().map(secret),
            "lease": config.audit.lease.to_string(),
        })),
        "keys": clean(json!({ "identity": config.keys.identity.as_ref().map(secret), "escrow": config.keys.escrow })),
        "stores": stores.collect::<Map<_, _>>(),
        "plugins": plugins.map(|p| (p.name.clone(), plugin(p))).collect::<Map<_, _>>(),
        "projects": projects.iter().map(|p| (p.name.to_string(), one_project(p))).collect::<Map<_, _>>(),
    });
    if project.is_none() {
        add(&mut all, "notify", notify::notify(config));
        add(&mut all, "health", health(config));
        add(&mut all, "drill", drill(config));
        add(&mut all, "daemon", daemon(config));
    }
    Shown { json: clean(all) }
}

fn store(store: &StoreConfig) -> Value {
    let mut shown = match &store.kind {
        StoreKind::Local { path } => json!({ "path": path }),
        StoreKind::Sftp(s) => json!({
            "host": s.host, "port": s.port, "user": s.user, "path": s.path, "host_key": s.host_key,
            "identity": s.identity.as_ref().map(secret), "passphrase": s.passphrase.as_ref().map(secret),
            "password": s.password.as_ref().map(secret), "agent": s.agent.then_some(true),
            "connections": s.connections, "put_once": s.put_once, "verify": s.verify.word(),
        }),
        StoreKind::S3(s) => json!({
            "endpoint": s.endpoint, "region": s.region, "bucket": s.bucket, "prefix": s.prefix,
            "access_key_id": s.access_key_id.as_ref().map(secret), "secret_access_key": s.secret_access_key.as_ref().map(secret),
            "session_token": s.session_token.as_ref().map(secret), "object_lock": s.object_lock.map(LockMode::word),
            "path_style": s.path_style, "connections": s.connections,
        }),
    };
    add(&mut shown, "tier", store.tier.word().into());
    add(&mut shown, "kind", store.kind.word().into());
    add(&mut shown, "bandwidth", json!(store.bandwidth.map(|rate| rate.to_string())));
    add(&mut shown, "par2", json!(store.par2));
    add(&mut shown, "cost_per_tb_month", json!(store.cost.map(|cost| cost.to_string())));
    add(&mut shown, "scrub", store.scrub.to_string().into());
    clean(shown)
}

fn health(config: &Config) -> Value {
    let ping = config.health.ping.as_ref().map(|ping| {
        let own = |address: &Option<Secret>| address.as_ref().map(secret);
        clean(json!({ "url": secret(&ping.url), "start": own(&ping.start), "failure": own(&ping.failure) }))
    });
    clean(json!({ "textfile": config.health.textfile, "ping": ping }))
}

fn daemon(config: &Config) -> Value {
    let d = &config.daemon;
    clean(json!({ "jitter": d.jitter.to_string(), "parallel": d.parallel, "metrics": d.metrics.map(|at| at.to_string()) }))
}

fn drill(config: &Config) -> Value {
    let d = &config.drill;
    clean(json!({
        "every": d.every.to_string(),
        "choose": d.choose.iter().map(|choice| choice.word()).collect::<Vec<_>>(),
        "store": d.store.as_ref().map_or("any", |name| name.as_str()),
        "scratch_dir": d.scratch_dir,
        "user": d.user,
        "accept_unproven": d.accept_unproven,
        "databases": d.databases.values().map(|server| (server.name.clone(), database(server))).collect::<Map<_, _>>(),
    }))
}

fn one_project(p: &ProjectConfig) -> Value {
    clean(json!({
        "title": p.title,
        "strategy": p.strategy,
        "root": p.root,
        "priority": p.priority.word(),
        "compliance": p.compliance,
        "schedule": p.schedule.as_ref().map(ToString::to_string),
        "stores": p.stores,
        "encryption": p.encryption,
        "paused": p.paused,
        "retention": {
            "hot": p.retention.hot.to_string(),
            "archive": p.retention.archive.to_string(),
            "archive_auto_delete": p.retention.archive_auto_delete,
        },
        "rto": p.rto.map(|rto| rto.to_string()),
        "rpo": p.rpo.map(|rpo| rpo.to_string()),
        "drill": clean(json!({
            "every": p.drill.every.map(|term| term.to_string()),
            "choose": p.drill.choose.iter().map(|choice| choice.word()).collect::<Vec<_>>(),
            "store": p.drill.store,
            "accept_unproven": p.drill.accept_unproven,
            "known_bad": p.drill.known_bad,
        })),
        "databases": p.databases.values().map(|d| (d.name.clone(), database(d))).collect::<Map<_, _>>(),
        "quiesce": p.quiesce.as_ref().map(quiesce),
        "snapshot": p.snapshot.as_ref().map(snapshot),
        "settings": p.settings,
    }))
}

fn quiesce(q: &QuiesceConfig) -> Value {
    let on_failure = if q.goes_on { "continue" } else { "fail" };
    clean(json!({ "before": q.before, "after": q.after, "user": q.user, "timeout": q.timeout_secs, "on_failure": on_failure }))
}

fn snapshot(source: &SnapshotSource) -> Value {
    let mut shown = match source {
        SnapshotSource::Btrfs { subvolume } => json!({ "subvolume": subvolume }),
        SnapshotSource::Zfs { dataset } => json!({ "dataset": dataset }),
        SnapshotSource::Lvm { volume_group, logical_volume, size } => {
            json!({ "volume_group": volume_group, "logical_volume": logical_volume, "size": size })
        }
    };
    add(&mut shown, "kind", source.word().into());
    shown
}

fn database(d: &DatabaseConfig) -> Value {
    clean(json!({
        "engine": d.engine, "url": d.url.as_ref().map(url), "host": d.host, "port": d.port, "socket": d.socket, "user": d.user,
        "password": d.password.as_ref().map(secret), "database": d.database, "path": d.path, "charset": d.charset, "tls": d.tls,
        "tls_ca": d.tls_ca,
    }))
}

fn secret(secret: &Secret) -> Value {
    match secret {
        Secret::Plain(_) => json!(MASK),
        Secret::File(path) => json!({ "file": path }),
        Secret::Env(name) => json!({ "env": name }),
        Secret::Credential(name) => json!({ "credential": name }),
    }
}

/// A URL is shown but for its password, wherever that stands; one that cannot be understood is not shown.
fn url(shown: &Secret) -> Value {
    let Secret::Plain(text) = shown else { return secret(shown) };
    let Ok(mut url) = Url::parse(text) else { return json!(MASK) };
    // A password with a `/`, `?` or `#` in it ends the host too early: what then looks like a path is half of it.
    let is_odd = url.fragment().is_some() || url.path().contains('@') || url.query().is_some_and(|query| query.contains('@'));
    if is_odd || url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("password")) {
        return json!(MASK);
    }
    if url.password().is_none() {
        return json!(text.as_str());
    }
    match url.set_password(Some("xxx")) {
        Ok(()) => json!(url.as_str().replacen(":xxx@", &format!(":{MASK}@"), 1)),
        Err(()) => json!(MASK),
    }
}

/// Without what is absent or empty; an empty `settings` says nothing either.
fn clean(value: Value) -> Value {
    let empty = |v: &Value| v.is_null() || *v == json!("") || *v == json!([]) || *v == json!({});
    match value {
        Value::Object(entries) => entries.into_iter().filter(|(_, v)| !empty(v)).collect::<Map<_, _>>().into(),
        other => other,
    }
}

fn add(to: &mut Value, key: &str, value: Value) {
    if let Some(entries) = to.as_object_mut() {
        entries.insert(key.to_owned(), value);
    }
}
