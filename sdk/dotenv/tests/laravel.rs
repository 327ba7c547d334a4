//! Laravel's `env()`.

use havun_dotenv::{
    Syntax,
    laravel::{EnvValue, cast, env},
    parse,
};

#[test]
fn words_are_cast_and_other_text_is_kept() {
    let text = |text: &str| EnvValue::Text(text.to_owned());
    let cases = [
        ("true", EnvValue::Bool(true)),
        ("(TRUE)", EnvValue::Bool(true)),
        ("False", EnvValue::Bool(false)),
        ("(false)", EnvValue::Bool(false)),
        ("null", EnvValue::Null),
        ("(null)", EnvValue::Null),
        ("empty", text("")),
        ("(empty)", text("")),
        ("'x'", text("x")),
        ("\"x\"", text("x")),
        ("'x\"", text("'x\"")),
        ("'", text("'")),
        ("'a\nb'", text("'a\nb'")),
        ("yes", text("yes")),
        ("0", text("0")),
    ];
    for (value, expected) in cases {
        assert_eq!(cast(value), expected, "{value:?}");
    }
}

#[test]
fn an_unset_variable_is_not_null() {
    let entries = parse("A=null", Syntax::Phpdotenv).expect("good");
    assert_eq!(env(&entries, "A"), Some(EnvValue::Null));
    assert_eq!(env(&entries, "B"), None);
}
