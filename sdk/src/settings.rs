//! Typed settings: declared once, refused with the nearest known key, described as JSON Schema.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// What [`settings!`](crate::settings!) implements.
pub trait Settings: DeserializeOwned + Default {
    /// The struct's doc comment.
    const ABOUT: &'static str;
    /// Key, doc comment, schema of the value.
    fn fields() -> Vec<(&'static str, &'static str, Value)>;
}

/// For a strategy without settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
pub struct NoSettings {}

impl Settings for NoSettings {
    const ABOUT: &'static str = "This strategy has no settings.";

    fn fields() -> Vec<(&'static str, &'static str, Value)> {
        Vec::new()
    }
}

/// A type that a setting may have.
pub trait SettingType {
    /// Its JSON Schema.
    fn schema() -> Value;
}

impl SettingType for bool {
    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl SettingType for String {
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl SettingType for u32 {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

impl<T: SettingType> SettingType for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl<T: SettingType> SettingType for Option<T> {
    fn schema() -> Value {
        T::schema()
    }
}

/// A list of texts.
pub type WordList = Vec<String>;

/// Declares a struct of settings. Every field is optional for the operator and has its type's default, or the one
/// after `=`.
///
/// ```
/// havun_backup_sdk::settings! {
///     /// What the operator may set.
///     pub struct Mine {
///         /// Globs to leave out.
///         exclude: Vec<String>,
///         /// Keep the log files.
///         logs: bool = true,
///     }
/// }
/// assert!(Mine::default().logs);
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])* $field:ident : $type:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, $crate::serde::Deserialize)]
        #[serde(crate = "havun_backup_sdk::serde", default, deny_unknown_fields)]
        $vis struct $name { $( $(#[doc = $doc])* pub $field: $type ),* }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $crate::settings!(@default $($default)?) ),* }
            }
        }

        impl $crate::Settings for $name {
            const ABOUT: &'static str = concat!($($about),*);

            fn fields() -> Vec<(&'static str, &'static str, $crate::serde_json::Value)> {
                vec![ $( (
                    stringify!($field),
                    concat!($($doc),*),
                    <$type as $crate::settings::SettingType>::schema(),
                ) ),* ]
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
}

/// Reads the operator's settings.
///
/// # Errors
/// One line that names the key, and the nearest known one.
pub fn parse<S: Settings>(text: &str) -> Result<S, String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    let value: Value = serde_json::from_str(text).map_err(|error| format!("the settings are not JSON: {error}"))?;
    let Value::Object(map) = &value else {
        return Err("the settings are not a table".to_owned());
    };
    let fields = S::fields();
    for key in map.keys() {
        if !fields.iter().any(|(name, ..)| name == key) {
            return Err(unknown(key, &fields.iter().map(|(name, ..)| *name).collect::<Vec<_>>()));
        }
    }
    // Key by key, so that the error names the key.
    for (key, value) in map {
        let one = Map::from_iter([(key.clone(), value.clone())]);
        serde_json::from_value::<S>(Value::Object(one)).map_err(|error| format!("setting `{key}`: {error}"))?;
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The JSON Schema of `S`.
pub fn schema<S: Settings>() -> String {
    let property = |(name, about, mut schema): (&str, &str, Value)| {
        if let Value::Object(map) = &mut schema {
            map.insert("description".to_owned(), Value::String(about.trim().to_owned()));
        }
        (name.to_owned(), schema)
    };
    let properties: Map<String, Value> = S::fields().into_iter().map(property).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": S::ABOUT.trim(),
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
    .to_string()
}

fn unknown(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|name| distance(key, name));
    match nearest {
        None => format!("unknown setting `{key}`: this strategy has no settings"),
        Some(name) if distance(key, name) <= 1 + name.len() / 3 => format!("unknown setting `{key}`: did you mean `{name}`?"),
        Some(_) => format!("unknown setting `{key}`: known are {}", known.join(", ")),
    }
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), i + 1);
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = diagonal + usize::from(x != *y);
            diagonal = *cell;
            *cell = cost.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("exlude", "exclude"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn a_strategy_without_settings_refuses_any() {
        assert!(parse::<NoSettings>("").is_ok());
        assert!(parse::<NoSettings>("{\"a\":1}").is_err());
        assert!(parse::<NoSettings>("[]").is_err());
    }
}
