//! Stores on other machines: what needs heavy dependencies.
//!
//! Each is a [`havun_vault::store::Store`] and passes the same conformance suite as the local one. Both are synchronous on
//! the outside; `sftp` runs its connections on a small runtime of its own, `s3` does blocking HTTP.

pub mod s3;
pub mod sftp;
