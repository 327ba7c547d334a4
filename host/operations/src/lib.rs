//! operations
pub mod audit;
pub mod databases;
mod process;
pub mod config;
pub mod schedule;
