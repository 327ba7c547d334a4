//! Names and literals: from bytes of any encoding, and into SQL.

/// Bytes of a dump or an answer as text: UTF-8, or else each byte a character, so that two names never become one.
pub(super) fn decode(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}

/// How a record calls a table: `orders`, outside of the schema `public` with the schema before it: `audit.orders`. A
/// name that holds a dot or a quote stands in quotes, so that two tables never share a key.
pub(super) fn key(schema: &str, table: &str) -> String {
    let part = |name: &str| if name.contains(['.', '"']) { quoted(name) } else { name.to_owned() };
    if schema == "public" { part(table) } else { format!("{}.{}", part(schema), part(table)) }
}

/// Undoes [`key`].
pub(super) fn parse_key(key: &str) -> Option<(String, String)> {
    let (first, rest) = key_part(key)?;
    match rest.strip_prefix('.') {
        None if rest.is_empty() => Some(("public".to_owned(), first)),
        None => None,
        Some(rest) => key_part(rest).filter(|(_, rest)| rest.is_empty()).map(|(table, _)| (first, table)),
    }
}

fn key_part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        return Some((text.get(..end)?.to_owned(), text.get(end..)?));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => rest = after,
            None => return Some((name, after)),
        }
        name.push('"');
    }
}

/// `name` as an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// `text` as a string literal, however the session takes backslashes.
pub(super) fn literal(text: &str) -> String {
    let text = text.replace('\0', "");
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') { format!("E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

/// The longest prefix of `name` that leaves room for `suffix` in the 63 bytes of an identifier, and `suffix`.
pub(super) fn with_suffix(name: &str, suffix: &str) -> String {
    let room = 63usize.saturating_sub(suffix.len());
    let mut end = name.len().min(room);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back_to_their_table_and_never_meet() {
        let names = [
            ("public", "a"),
            ("a", "b"),
            ("public", "a.b"),
            ("a.b", "c"),
            ("a", "b.c"),
            ("public", "x\"y"),
            ("é", "ü \"."),
            ("public", ""),
        ];
        let keys: std::collections::BTreeSet<String> = names.iter().map(|(schema, table)| key(schema, table)).collect();
        assert_eq!(keys.len(), names.len());
        for (schema, table) in names {
            assert_eq!(parse_key(&key(schema, table)), Some((schema.to_owned(), table.to_owned())));
        }
        assert_eq!((parse_key("\"a"), parse_key("a.b.c")), (None, Some(("a".to_owned(), "b.c".to_owned())).filter(|_| false)));
    }

    #[test]
    fn literals_hold_whatever_they_are_given() {
        assert_eq!((literal("it's"), literal(r"a\b'")), ("'it''s'".to_owned(), r"E'a\\b'''".to_owned()));
        assert_eq!(with_suffix(&"é".repeat(40), "_before").len(), 63);
    }
}
