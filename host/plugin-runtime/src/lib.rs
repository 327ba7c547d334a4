//! plugin-runtime
