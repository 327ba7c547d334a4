//! Test kit: real servers on loopback and real projects, started and stopped by the tests.

#![expect(clippy::expect_used, reason = "a test kit fails loudly")]

mod http_receiver;
mod mariadb;
mod postgresql;
mod program;
mod redis;
mod relay;
mod s3_fake;
mod s3_http;
mod s3_server;
mod smtp;
mod sshd;

pub use http_receiver::{HttpReceiver, Received};
pub use mariadb::MariaDb;
pub use postgresql::PostgreSql;
pub use program::{Called, Machine, copy_tree, program, tree_difference};
pub use redis::RedisServer;
pub use relay::Relay;
pub use s3_fake::{FakeRules, FakeS3};
pub use s3_server::S3Server;
pub use smtp::{Mail, SmtpBehaviour, SmtpSecurity, SmtpServer};
pub use sshd::{CREATE_AND_READ, Sshd};
