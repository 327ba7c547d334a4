//! The words that the layers share: ids, names, plans, the snapshot object, retention decisions and the
//! `Strategy` trait. No I/O, no clock, hardly a dependency.
//!
//! Read `ids`, `plan`, `strategy`, `snapshot`, `holds`, `erasures`, `retention`, `anomalies`, in that order.

pub mod anomalies;
pub mod erasures;
pub mod holds;
mod ids;
mod names;
mod plan;
pub mod retention;
mod snapshot;
mod strategy;

pub use ids::{ChunkId, Digest, IndexId, PackId, ParseIdError, SnapshotId};
pub use names::{ItemName, NameError, ProjectName, StoreName};
pub use plan::{
    BackupPlan, Check, Connection, DatabaseItem, GeneratedItem, GitItem, ItemKind, Parameter, ParameterSource, PlanItem, RestorePlan,
    RestoreStep, StepReport, TreeItem,
};
pub use snapshot::{
    ConsistencyRecord, DatabaseRecord, FileOwnerRecord, ItemRecord, ManifestRoot, Outcome, RetentionRecord, Snapshot, SnapshotStrategy,
};
pub use strategy::{
    Blame, Cancel, ConnectionInfo, Detection, ProposedSetting, ScratchDatabase, SilentLog, StoredItem, Strategy, StrategyContext,
    StrategyError, StrategyInfo, StrategyLog,
};
