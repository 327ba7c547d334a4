//! vault
pub mod store;
pub mod chunk;
pub mod frame;
pub mod index;
pub mod keys;
pub mod pack;
pub mod seal;
mod toc;
