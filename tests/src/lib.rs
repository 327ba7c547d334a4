//! Test kit: real servers on loopback and real projects, started and stopped by the tests.
