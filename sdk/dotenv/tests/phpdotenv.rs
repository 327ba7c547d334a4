//! phpdotenv's rules, case by case.

use havun_dotenv::{Fault, Syntax, get, parse};

fn value(text: &str) -> Option<String> {
    let entries = parse(text, Syntax::Phpdotenv).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    get(&entries, "A").map(str::to_owned)
}

fn fault(text: &str) -> (usize, Fault) {
    match parse(text, Syntax::Phpdotenv) {
        Err(error) => (error.line, error.fault),
        Ok(_) => panic!("{text:?} was taken"),
    }
}

#[test]
fn values_are_what_php_sees() {
    let cases = [
        ("A=b", "b"),
        ("A = b ", "b"),
        ("\"A\"=b", "b"),
        ("'A'=b", "b"),
        ("A=", ""),
        ("A=\"\"", ""),
        ("A=#x", ""),
        ("A=b#c", "b"),
        ("A=b #c", "b"),
        ("A='b#c' # d", "b#c"),
        ("A=\"b#c\"#d", "b#c"),
        ("A='b\\n$C${C}'", "b\\n$C${C}"),
        ("A=\"a\\n\\t\\r\\v\\f\\\\\\\"\\$\"", "a\n\t\r\u{b}\u{c}\\\"$"),
        ("A=a\\nb", "a\\nb"),
        ("A=a\"b'c", "a\"b'c"),
        ("B=x\nA=${B}y", "xy"),
        ("B=x\nA=\"${B}y\"", "xy"),
        ("B=x\nA=\"\\${B}y\"", "${B}y"),
        ("B=x\nA=$B", "$B"),
        ("A=${NONE}", "${NONE}"),
        ("B=C\nC=d\nA=${${B}}", "d"),
        ("A=\"b\nc\"", "b\nc"),
        ("A=\"b\r\nc\"", "b\nc"),
        ("A=\"b\n\"", "b\n"),
        ("A=1\nA=2", "2"),
        ("\u{feff}A=b", "b"),
        ("A=p:w/é€", "p:w/é€"),
        ("# =\"\n\"\nA=b", "b"),
        ("A=\"#'\\\"\\\\:\\$é\"", "#'\"\\:$é"),
        ("A=base64:aGk=", "base64:aGk="),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text).as_deref(), Some(expected), "{text:?}");
    }
}

#[test]
fn export_is_taken_off_a_name_of_two_letters_or_more() {
    for text in ["export AB=c", "export\tAB=c", "export  AB = c"] {
        let entries = parse(text, Syntax::Phpdotenv).expect(text);
        assert_eq!(get(&entries, "AB"), Some("c"), "{text:?}");
    }
    assert_eq!(fault("export A=b"), (1, Fault::InvalidName));
}

#[test]
fn a_name_alone_unsets_it() {
    assert_eq!(value("A=b\nA"), None);
}

#[test]
fn a_quote_that_is_never_closed_swallows_the_rest_as_in_php() {
    let entries = parse("B=1\nA=\"b\nC=2\n", Syntax::Phpdotenv).expect("the library drops it silently");
    assert_eq!(entries, [("B".to_owned(), "1".to_owned())]);
}

#[test]
fn what_php_refuses_is_refused_with_its_line() {
    let cases = [
        ("A=b c", 1, Fault::UnexpectedWhitespace),
        ("\n\nA='b'c", 3, Fault::UnexpectedWhitespace),
        ("X=\"1\n2\"\nA='b", 3, Fault::MissingClosingQuote),
        ("A=\"\\q\"", 1, Fault::UnexpectedEscape),
        ("=b", 1, Fault::MissingName),
        ("A-B=c", 1, Fault::InvalidName),
        ("A B=c", 1, Fault::InvalidName),
        ("中=c", 1, Fault::InvalidName),
        ("A='b\nc'", 1, Fault::MissingClosingQuote),
    ];
    for (text, line, expected) in cases {
        assert_eq!(fault(text), (line, expected), "{text:?}");
    }
}

#[test]
fn an_error_never_shows_the_value() {
    let error = parse("DB_PASSWORD=top secret", Syntax::Phpdotenv).expect_err("blank");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn references_that_double_on_each_line_are_refused() {
    let lines: String = (1..64).map(|n| format!("A{n}=${{A{}}}${{A{}}}\n", n - 1, n - 1)).collect();
    let error = parse(&format!("A0=xxxxxxxxxx\n{lines}"), Syntax::Phpdotenv).expect_err("2^64 bytes");
    assert_eq!(error.fault, Fault::TooComplex);
    let many = format!("A={}\nB={}\n", "x".repeat(40), "${A}".repeat(250_000));
    assert_eq!(fault(&many), (2, Fault::TooComplex));
}

#[test]
fn a_hundred_thousand_names_are_read_at_once() {
    let text: String = (0..100_000).map(|n| format!("N{n}=${{N{}}}x\nN{n}\n", n / 2)).collect();
    for syntax in [Syntax::Phpdotenv, Syntax::Dotenv] {
        assert!(parse(&text, syntax).is_ok());
    }
}
