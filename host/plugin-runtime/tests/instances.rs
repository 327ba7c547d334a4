//! Components that misbehave before they have said a word: while they are instantiated or asked to describe
//! themselves. Each is refused with a reason, and the runtime goes on working.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a failing test may panic")]

mod common;

use common::{UNRULY, bench, component, tight};
use havun_plugin_runtime::LoadError;

#[track_caller]
fn fails(items: &str, describe: &str, code: &str, part: &str) {
    let bench = bench(tight());
    let error = bench.runtime.load(&component(items, describe), "guest.wasm").err().expect("refused");
    let LoadError::Describe { source, .. } = error else {
        panic!("{error}: {:?}", std::error::Error::source(&error).map(|e| e.to_string()))
    };
    assert_eq!((source.strategy.as_str(), source.call, source.code.as_str()), ("guest.wasm", "describe", code), "{source}");
    assert!(source.message.contains(part), "{source}");
    assert!(bench.runtime.load(UNRULY, "unruly.wasm").is_ok(), "the runtime goes on working");
}

#[test]
fn a_start_function_without_end() {
    fails("(func $start (loop (br 0))) (start $start)", "unreachable", "limit", "processor time");
}

#[test]
fn a_description_without_end() {
    fails("", "(loop (br 0)) unreachable", "limit", "processor time");
}

#[test]
fn a_trap() {
    fails("", "unreachable", "trap", "unreachable");
}

#[test]
fn endless_recursion() {
    fails("(func $again (call $again))", "(call $again) unreachable", "limit", "stack");
}

#[test]
fn a_pointer_to_nowhere() {
    fails("", "(i32.const 0x7ffffff0)", "trap", "");
}

#[test]
fn a_string_of_two_gigabytes() {
    let at_8_len = "(i32.store (i32.const 20) (i32.const 0x7fffffff)) (i32.const 16)";
    fails("", at_8_len, "trap", "");
}

#[test]
fn a_memory_of_four_gigabytes() {
    fails("(memory 65536)", "unreachable", "limit", "memory limit");
}

#[test]
fn memory_that_grows_without_end() {
    let grow = "(loop (drop (memory.grow (i32.const 16))) (br 0)) unreachable";
    fails("", grow, "limit", "");
}

#[test]
fn fifty_memories() {
    fails(&"(memory 1)".repeat(50), "unreachable", "limit", "memory count");
}

#[test]
fn memories_that_are_small_each_and_large_together() {
    fails(&"(memory 200)".repeat(10), "unreachable", "limit", "memory limit of 64 MiB");
}

#[test]
fn a_hundred_tables() {
    fails(&"(table 1 funcref)".repeat(100), "unreachable", "limit", "table count");
}

#[test]
fn a_table_of_a_hundred_million() {
    fails("(table 100000000 funcref)", "unreachable", "limit", "table elements");
}

#[test]
fn a_table_that_grows_without_end() {
    let grow = "(loop (drop (table.grow $t (ref.null func) (i32.const 1000))) (br 0)) unreachable";
    fails("(table $t 1 funcref)", grow, "limit", "");
}
