//! vault
pub mod store;
