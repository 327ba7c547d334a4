//! Names of tables with `*`.

/// Whether `pattern`, in which `*` matches any run of characters, matches the whole of `name`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = name.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    name.ends_with(tail)
}

/// Whether any of `patterns` matches.
pub(super) fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_matches_any_run_and_nothing_else_is_special() {
        for (pattern, name, expected) in [
            ("cache", "cache", true),
            ("cache", "cache_locks", false),
            ("telescope_*", "telescope_entries", true),
            ("telescope_*", "telescope_", true),
            ("*", "", true),
            ("*_log", "a_log", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("a?c", "abc", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
