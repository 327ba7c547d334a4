//! Test kit: real servers on loopback and real projects, started and stopped by the tests.

#![expect(clippy::expect_used, reason = "a test kit fails loudly")]

mod mariadb;
mod postgresql;
mod program;
mod redis;
mod relay;
mod s3_fake;
mod s3_http;
mod s3_server;
mod sshd;

pub use mariadb::MariaDb;
pub use postgresql::PostgreSql;
pub use program::{Called, Machine, copy_tree, program, tree_difference};
pub use redis::RedisServer;
pub use relay::Relay;
pub use s3_fake::{FakeRules, FakeS3};
pub use s3_server::S3Server;
pub use sshd::{CREATE_AND_READ, Sshd};
