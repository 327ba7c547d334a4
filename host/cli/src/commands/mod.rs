//! The commands, one file each: its arguments (whose documentation is its help), and its output.

pub mod archive;
pub mod cleanup;
pub mod completions;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod doctor;
pub mod erasure;
pub mod export;
pub mod health;
pub mod hold;
pub mod init;
pub mod list;
pub mod logs;
pub mod man;
pub mod notify;
pub mod recover;
pub mod report;
pub mod restore;
pub mod run;
pub mod scrub;
pub mod status;
pub mod store;
pub mod test;
pub mod verify;
