//! Turns a WebAssembly component into a [`havun_model::Strategy`]. The only crate that names wasmtime.
//!
//! A component is foreign code: it may loop, allocate, flood, trap and ask for what it must not have. Each call
//! therefore runs in a sandbox of its own (store, memory, thread) that is thrown away afterwards, under the
//! limits of [`Limits`]; whatever goes wrong ends in a [`havun_model::StrategyError`] that names the strategy.
//!
//! Read `strategy` (loading and calling), `call` (one call in its sandbox), `limits`, `api` (what a guest may
//! ask of the host), `convert` (what the host accepts from a guest), `cache` and `compile`, in that order.

mod api;
mod builtin;
mod cache;
mod call;
mod compile;
mod convert;
mod engine;
mod error;
mod globs;
mod inspect;
mod limits;
mod paths;
mod strategy;
mod text;
mod tree;
mod walk;

pub use builtin::{builtin, builtin_ids};
pub use compile::{COMPILE_ARGUMENT, compile_child_main};
pub use error::{CompileError, LoadError};
pub use limits::{Budget, CompileLimits, Limits};
pub use strategy::{Runtime, RuntimeConfig};
