//! The JSON Schema (draft 2020-12) of the configuration, made from its shape.

use super::shape::{Kind, ROOT, Rule, Shape};
use serde_json::{Map, Value, json};

/// The schema, for `config --schema` and editors.
pub fn schema() -> Value {
    let mut schema = object(&ROOT);
    if let Some(top) = schema.as_object_mut() {
        top.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        top.insert("title".to_owned(), json!("havun-backup configuration"));
    }
    schema
}

fn object(shape: &Shape) -> Value {
    let properties: Map<String, Value> = shape.keys.iter().map(|key| (key.name.to_owned(), described(value(key.kind), key.doc))).collect();
    let required: Vec<&str> = shape.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "description": shape.doc, "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        merge(&mut schema, json!({ "required": required }));
    }
    schema
}

fn value(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string", "minLength": 1 } }),
        Kind::Command => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Port => json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        Kind::Count(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Checked(rule) => text(rule),
        Kind::CheckedList(rule) => json!({ "type": "array", "items": text(rule), "uniqueItems": matches!(rule, Rule::StoreName) }),
        Kind::Secret => secret(json!({ "type": "string" })),
        Kind::SecretUrl(schemes) => {
            secret(json!({ "type": "string", "pattern": format!("^({}):", schemes.join("|").replace('+', "\\+")) }))
        }
        Kind::Section(shape) => object(shape),
        Kind::Named(shape) => json!({ "type": "object", "additionalProperties": object(shape) }),
        Kind::Kinds(kinds) => {
            json!({ "type": "object", "additionalProperties": { "oneOf": kinds.iter().map(|(word, shape)| of_kind(word, shape)).collect::<Vec<_>>() } })
        }
        Kind::OneOf(kinds) => json!({ "oneOf": kinds.iter().map(|(word, shape)| of_kind(word, shape)).collect::<Vec<_>>() }),
        Kind::Free => json!({ "type": "object" }),
    }
}

fn of_kind(word: &str, shape: &Shape) -> Value {
    let mut schema = object(shape);
    if let Some(kind) = schema.pointer_mut("/properties/kind") {
        *kind = json!({ "const": word });
    }
    schema
}

fn secret(plain: Value) -> Value {
    let form = |name: &str| json!({ "type": "object", "properties": { name: { "type": "string", "minLength": 1 } }, "required": [name], "additionalProperties": false });
    json!({ "oneOf": [plain, form("file"), form("env"), form("credential")] })
}

fn text(rule: Rule) -> Value {
    let pattern = match rule {
        Rule::Term => "^[1-9][0-9]{0,3}[dwmy]$",
        Rule::Recipient => "^age1",
        Rule::StoreName => "^[a-z0-9][a-z0-9._-]{0,63}$",
        Rule::Price => "^[0-9]+([.][0-9]{1,2})? +[A-Z]{3}$",
        Rule::Rate => "^[0-9]+ *([KMG]iB|kB|[MG]B|B)/s$",
        Rule::Digest => "^[0-9a-f]{64}$",
        Rule::Address => "@",
        Rule::HttpUrl => "^https?:",
        Rule::HostKey => "^(hetzner$|SHA256:|ssh-|ecdsa-)",
        Rule::Volume => "^[A-Za-z0-9_.+:/-]+$",
        Rule::VolumeSize => "^[1-9][0-9]*([MGT]|%ORIGIN|%FREE|%VG)$",
        Rule::Objective => "^[1-9][0-9]{0,5}(min|h|d)$",
        Rule::Span => "^[0-9]+(s|m|min|h)$",
        Rule::Socket => ":[0-9]+$",
        Rule::DrillChoice => "^(newest|oldest|random)$",
        Rule::Event => "^(failure|recovery|digest|report)$",
        Rule::TimeOfDay => "^([01][0-9]|2[0-3]):[0-5][0-9]$",
        Rule::Schedule | Rule::TimeZone | Rule::User | Rule::AnyStore => ".",
    };
    json!({ "type": "string", "pattern": pattern })
}

fn described(mut schema: Value, doc: &str) -> Value {
    merge(&mut schema, json!({ "description": doc }));
    schema
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}
