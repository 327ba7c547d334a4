//! The whole program against real projects, servers and faults. An assertion is on what an operator would see.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test stops at the first surprise")]

mod anomalies;
mod archive;
mod daemon;
mod damage;
mod drill_servers;
mod drills;
mod erasure;
mod erasure_in_place;
mod failures;
mod far;
mod files;
mod health;
mod holds;
mod hostile;
mod laravel;
mod laravel_postgresql;
mod nodejs;
mod notifications;
mod package;
mod quiesce;
mod recovery;
mod repair;
mod reports;
mod shared_audit;
mod traps;
