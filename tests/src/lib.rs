//! Test kit: real servers on loopback and real projects, started and stopped by the tests.

#![expect(clippy::expect_used, reason = "a test kit fails loudly")]

mod mariadb;

pub use mariadb::MariaDb;
