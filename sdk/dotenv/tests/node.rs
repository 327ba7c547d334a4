//! Node's dotenv, case by case; each expectation is what `dotenv` 17 printed.

use havun_dotenv::{Fault, Syntax, get, parse};

fn value(text: &str) -> Option<String> {
    let entries = parse(text, Syntax::Dotenv).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    get(&entries, "A").map(str::to_owned)
}

#[test]
fn values_are_what_node_sees() {
    let cases = [
        ("A=b", "b"),
        ("export A = b ", "b"),
        ("A: b", "b"),
        ("A=b c", "b c"),
        ("A=b#c", "b"),
        ("A='b#c'#d", "b#c"),
        ("A=`b'\"c`", "b'\"c"),
        ("A='b\\nc'", "b\\nc"),
        ("A=\"b\\nc\\rd\\te\"", "b\nc\rd\\te"),
        ("A=\"b\nc\"", "b\nc"),
        ("A='b\r\nc'", "b\nc"),
        ("A=`b\nc`", "b\nc"),
        ("A=\"b\\\"c\"", "b\\\"c"),
        ("A='b' c", "'b' c"),
        ("A='b' c'", "b' c"),
        ("A=\"b", "\"b"),
        ("A=", ""),
        ("A=\nB=c", ""),
        ("A=\n'b'", "b"),
        ("A=1\nA=2", "2"),
        ("A=${B}$B", "${B}$B"),
        ("A=\"\\$\"", "\\$"),
        ("# c\n\n  A=b", "b"),
        ("A='\\'", "\\"),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text).as_deref(), Some(expected), "{text:?}");
    }
}

#[test]
fn lines_that_are_no_entries_are_passed_over() {
    for text in ["A", "A b=c", "-=", "=b", "#A=b", "A:b"] {
        assert_eq!(value(text), None, "{text:?}");
    }
}

#[test]
fn a_file_made_to_take_for_ever_is_refused() {
    let text = format!("A={}x\n", " \n".repeat(200_000));
    let text = format!("{}{text}", "A='\\'\\'\\'x\n".repeat(1000));
    let hostile = format!("A={}\u{1}=", "' ".repeat(20_000));
    for text in [text, hostile, "A=\n".repeat(20_000), "\n".repeat(300_000)] {
        match parse(&text, Syntax::Dotenv) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.fault, Fault::TooComplex),
        }
    }
}
