//! Where an archive is, in one word: `sftp://…`, `s3://…`, `file://…`.

use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use url::Url;

/// The address of a store, and how to log in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreAddress {
    table: Map<String, Value>,
    local: Option<PathBuf>,
}

/// How to log in at an SFTP server.
#[derive(Debug, Clone, Default)]
pub struct SshLogin {
    /// The server's key: `hetzner`, `SHA256:…` or `ssh-ed25519 AAAA…`.
    pub host_key: Option<String>,
    /// A private key.
    pub identity: Option<PathBuf>,
    /// Ask the agent at `$SSH_AUTH_SOCK`.
    pub agent: bool,
}

/// An address that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No address of a store.
    #[error("`{text}` is not the address of a store: {why}")]
    Form {
        /// As given, without a password.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// The server cannot be told from another one.
    #[error("the key of the server `{host}` is not known")]
    NoHostKey {
        /// The server.
        host: String,
    },
    /// There is no way to log in.
    #[error("there is no way to log in at `{host}`")]
    NoLogin {
        /// The server.
        host: String,
    },
}

impl AddressError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Form { .. } => {
                "write sftp://USER@HOST:PORT/FOLDER (//FOLDER where it is absolute), s3://BUCKET/PREFIX?endpoint=URL&region=NAME, or file:///FOLDER".to_owned()
            }
            Self::NoHostKey { host } if host.ends_with(".your-storagebox.de") => {
                "this is a Hetzner Storage Box: give --host-key hetzner".to_owned()
            }
            Self::NoHostKey { .. } => {
                "give --host-key SHA256:… as whoever runs the server tells it; it is never taken from the server itself".to_owned()
            }
            Self::NoLogin { .. } => "give --ssh-identity FILE or --ssh-agent".to_owned(),
        }
    }
}

impl StoreAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str, login: &SshLogin) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|e| AddressError::Form { text: hidden(text), why: e.to_string() })?;
        let wrong = |why: &str| AddressError::Form { text: hidden(text), why: why.to_owned() };
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| wrong("it names no folder of this machine"))?;
                let table = json!({ "kind": "local", "path": path });
                Ok(Self { table: object(table), local: Some(path) })
            }
            "sftp" => Ok(Self { table: object(sftp(&url, login, &wrong)?), local: None }),
            "s3" => Ok(Self { table: object(s3(&url, &wrong)?), local: None }),
            other => Err(wrong(&format!("`{other}` is no kind of store"))),
        }
    }

    /// The folder, where it is one of this machine.
    pub fn local(&self) -> Option<&Path> {
        self.local.as_deref()
    }

    /// The store's table of the configuration, but for its tier.
    pub fn table(&self) -> &Map<String, Value> {
        &self.table
    }
}

fn sftp(url: &Url, login: &SshLogin, wrong: &impl Fn(&str) -> AddressError) -> Result<Value, AddressError> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no server"))?;
    if url.password().is_some() {
        return Err(wrong("a password does not belong in it: others see it in the list of processes"));
    }
    let user = decoded(url.username(), wrong)?;
    if user.is_empty() {
        return Err(wrong("it names no user"));
    }
    let path = decoded(url.path(), wrong)?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let path = if path.is_empty() { "." } else { path };
    let host_key = login.host_key.clone().ok_or_else(|| AddressError::NoHostKey { host: host.to_owned() })?;
    let mut table =
        json!({ "kind": "sftp", "host": host, "port": url.port().unwrap_or(22), "user": user, "path": path, "host_key": host_key });
    let (key, value) = match (&login.identity, login.agent) {
        (Some(file), _) => ("identity", json!({ "file": std::path::absolute(file).unwrap_or_else(|_| file.clone()) })),
        (None, true) => ("agent", json!(true)),
        (None, false) => return Err(AddressError::NoLogin { host: host.to_owned() }),
    };
    if let Some(entries) = table.as_object_mut() {
        entries.insert(key.to_owned(), value);
    }
    Ok(table)
}

fn s3(url: &Url, wrong: &impl Fn(&str) -> AddressError) -> Result<Value, AddressError> {
    let bucket = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no bucket"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("keys do not belong in it: they are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
    }
    let mut table = object(json!({
        "kind": "s3", "bucket": bucket,
        "access_key_id": { "env": "AWS_ACCESS_KEY_ID" }, "secret_access_key": { "env": "AWS_SECRET_ACCESS_KEY" },
    }));
    if std::env::var_os("AWS_SESSION_TOKEN").is_some() {
        table.insert("session_token".to_owned(), json!({ "env": "AWS_SESSION_TOKEN" }));
    }
    let prefix = decoded(url.path(), wrong)?;
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() {
        table.insert("prefix".to_owned(), json!(prefix));
    }
    for (key, value) in url.query_pairs() {
        match &*key {
            "endpoint" | "region" => table.insert(key.into_owned(), json!(value)),
            other => return Err(wrong(&format!("`{other}` is neither `endpoint` nor `region`"))),
        };
    }
    Ok(Value::Object(table))
}

/// Without percent signs.
fn decoded(text: &str, wrong: &impl Fn(&str) -> AddressError) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: Option<[u8; 2]> = rest.next().zip(rest.next()).map(|(a, b)| [a, b]);
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok());
        bytes.push(value.ok_or_else(|| wrong("a `%` in it is not followed by two hex digits"))?);
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))
}

/// Without the password that somebody wrote into it all the same.
fn hidden(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) if url.password().is_some() => match url.set_password(None) {
            Ok(()) => url.to_string(),
            Err(()) => url.scheme().to_owned(),
        },
        _ => text.to_owned(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(entries) => entries,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> SshLogin {
        SshLogin { host_key: Some("hetzner".to_owned()), identity: Some("/root/.ssh/id".into()), agent: false }
    }

    #[test]
    fn a_path_is_relative_unless_it_begins_with_two_slashes() {
        let path = |text| StoreAddress::parse(text, &login()).unwrap().table()["path"].clone();
        assert_eq!(path("sftp://u@h:23/backups/havun"), "backups/havun");
        assert_eq!(path("sftp://u@h//srv/backups"), "/srv/backups");
        assert_eq!(path("sftp://u@h"), ".");
        assert_eq!(path("sftp://u@h/a%20b"), "a b");
    }

    #[test]
    fn a_bucket_has_its_keys_from_the_environment() {
        let address = StoreAddress::parse("s3://bucket/some/prefix?endpoint=https://s3.example.org&region=eu", &login()).unwrap();
        let table = address.table();
        assert_eq!(table["bucket"], "bucket");
        assert_eq!(table["prefix"], "some/prefix");
        assert_eq!(table["endpoint"], "https://s3.example.org");
        assert_eq!(table["access_key_id"]["env"], "AWS_ACCESS_KEY_ID");
    }

    #[test]
    fn what_leads_nowhere_is_refused_and_a_password_is_not_repeated() {
        for text in ["", "/srv", "ftp://h/", "sftp://h/path", "s3:///prefix", "s3://b?colour=red", "sftp://u@h/%zz"] {
            assert!(StoreAddress::parse(text, &login()).is_err(), "{text}");
        }
        let error = StoreAddress::parse("sftp://u:hush@h/path", &login()).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
        let none = SshLogin::default();
        assert!(matches!(StoreAddress::parse("sftp://u@h/p", &none), Err(AddressError::NoHostKey { .. })));
        let key_only = SshLogin { host_key: Some("hetzner".to_owned()), ..none };
        assert!(matches!(StoreAddress::parse("sftp://u@h/p", &key_only), Err(AddressError::NoLogin { .. })));
    }
}
