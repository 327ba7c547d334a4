//! Messages to people: what is told, in which words, by which way.
#![forbid(unsafe_code)]
