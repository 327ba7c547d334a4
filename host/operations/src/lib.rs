//! What an operator can ask for: back up, list, verify, restore, export, clean up, look at the logs. Each is a function
//! of a [`context::Context`] and a value of options, and returns a value that the command line prints or serialises.
//!
//! Nothing here prints, asks or ends the process. Deciding is apart from doing: plans of runs, restores and clean-ups
//! are values that can be shown before anything is written.
//!
//! Read `config` and `context` (what is given), `project` and `strategies` (what it names, opened), then `run`,
//! `daemon` (which calls it by itself), `replication`, `restore`, `verify`, `list`, `export`, `cleanup`, `init`, `logs`; `databases`, `git` and `audit` stand for
//! themselves; `error` and `report` are what comes out.

pub mod audit;
pub mod cleanup;
pub mod config;
pub mod context;
pub mod daemon;
pub mod databases;
pub mod doctor;
pub mod drill;
pub mod erasures;
pub mod error;
pub mod expire;
pub mod export;
pub mod git;
pub mod health;
pub mod holds;
pub mod incidents;
pub mod init;
pub mod list;
pub mod logs;
pub mod losses;
pub mod notify;
mod process;
pub mod project;
pub mod recover;
mod remote;
pub mod replication;
pub mod report;
pub mod reporting;
pub mod restore;
pub mod run;
pub mod schedule;
mod scratch_server;
pub mod scrub;
pub mod selection;
pub mod signing;
pub mod storage;
pub mod stores;
mod strategies;
mod users;
pub mod verify;
