//! vault
pub mod chunk;
pub mod frame;
pub mod index;
pub mod keys;
pub mod pack;
pub mod seal;
pub mod store;
mod toc;
mod beneath;
pub mod entry;
pub mod manifest;
pub mod metadata;
pub mod paths;
pub mod state;
#[cfg(test)]
mod testing;
pub mod matcher;
pub mod walk;
