//! The configuration: one TOML file, other programs write it too, so it is a contract (docs/operations).
//!
//! Owns finding the file, checking every key of it with all errors at once (file, line, column, nearest known
//! key), and the JSON Schema. Never reads a secret before it is used, and never prints a plain one.
//!
//! Read `shape` (every key there is), `check` (a document against its shape), `build` (checked values into
//! [`Config`]), `locate` (finding and reading the file).

mod secret;
mod types;

pub use secret::{Secret, SecretError};
pub use types::{
    Audit, Config, DatabaseConfig, Email, Host, Keys, Notify, PluginConfig, Priority, ProjectConfig, Retention, S3Store, SftpStore, Slack,
    StoreConfig, StoreKind, Tier,
};
