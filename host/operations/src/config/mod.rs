//! The configuration: one TOML file that other programs write too, so its keys are a contract.
//!
//! Owns finding the file, checking every key of it with all errors at once (file, line, column, nearest known
//! key), and the JSON Schema. Never reads a secret before it is used, and never prints a plain one.
//!
//! Read `shape` (every key there is), `check` (a document against its shape), `build` (checked values into
//! [`Config`]), `locate` (finding and reading the file).

mod build;
mod check;
mod locate;
mod notify;
mod objective;
mod portable;
mod price;
mod rate;
mod schema;
mod secret;
mod shape;
mod show;
mod span;
#[cfg(test)]
mod tests;
mod types;

pub use build::BUILT_IN_STRATEGIES;
pub use check::Problem;
pub use locate::{CONFIG_VARIABLE, ConfigError, LOCAL_CONFIG, SYSTEM_CONFIG, locate};
pub use notify::{ChannelConfig, ChannelKind, EmailConfig, Notify, ToldEvent};
pub use objective::{Objective, ObjectiveError};
pub use portable::portable;
pub use price::{Price, PriceError};
pub use rate::{Rate, RateError};
pub use schema::schema;
pub use secret::{Secret, SecretError};
pub(crate) use shape::ENGINES;
pub use show::{Shown, show};
pub use span::{Span, SpanError};
pub use types::{
    Audit, Config, DaemonConfig, DatabaseConfig, Drill, DrillChoice, Health, Host, Keys, LockMode, Ping, PluginConfig, Priority,
    ProjectConfig, ProjectDrill, QuiesceConfig, Retention, S3Store, SPOOL, SftpStore, SnapshotSource, StoreConfig, StoreKind, Tier,
    UploadCheck,
};
