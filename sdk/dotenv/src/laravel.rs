//! What Laravel's `env()` helper makes of a value (`Illuminate\Support\Env::getOption`).

/// A value after `env()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Text, with one pair of matching outer quotes taken off.
    Text(String),
    /// `true`, `(true)`, `false`, `(false)`, in any case.
    Bool(bool),
    /// `null`, `(null)`, in any case: as if the variable were not there, except that no default is taken.
    Null,
}

impl EnvValue {
    /// What PHP makes of it where a string is wanted; `None` for null.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bool(true) => Some("1"),
            Self::Bool(false) => Some(""),
            Self::Null => None,
        }
    }
}

/// Casts one parsed value as `env()` does.
pub fn cast(value: &str) -> EnvValue {
    match value.to_ascii_lowercase().as_str() {
        "true" | "(true)" => EnvValue::Bool(true),
        "false" | "(false)" => EnvValue::Bool(false),
        "empty" | "(empty)" => EnvValue::Text(String::new()),
        "null" | "(null)" => EnvValue::Null,
        _ => EnvValue::Text(without_outer_quotes(value).to_owned()),
    }
}

/// `env(name)` over parsed entries; `None` when the variable is not set, so that a default applies.
pub fn env(entries: &[(String, String)], name: &str) -> Option<EnvValue> {
    crate::get(entries, name).map(cast)
}

/// `preg_match('/\A([\'"])(.*)\1\z/')`: the dot stops at a newline.
fn without_outer_quotes(value: &str) -> &str {
    ['\'', '"']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .filter(|inner| !inner.contains('\n'))
        .unwrap_or(value)
}
