//! Test kit: real servers on loopback and real projects, started and stopped by the tests.

#![expect(clippy::expect_used, reason = "a test kit fails loudly")]

mod mariadb;
mod program;

pub use mariadb::MariaDb;
pub use program::{Called, Machine, copy_tree, program, tree_difference};
