//! Paths that a guest names: relative, `/`-separated, without a way up. Purely lexical; the kernel holds the
//! rest (`tree`).

/// Longest path accepted, bytes.
const MAX_PATH: usize = 4096;

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a path beneath the root: {why}")]
pub struct PathError {
    /// What was given, cleaned and cut.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Checks a path for reading: relative, no `..`, no NUL; empty is the root.
pub fn check(path: &str) -> Result<&str, PathError> {
    let refuse = |why| Err(PathError { path: crate::text::line(path, 200), why });
    if path.is_empty() {
        return Ok(path);
    }
    if path.len() > MAX_PATH {
        return refuse("it is too long");
    }
    if path.starts_with('/') {
        return refuse("it is absolute");
    }
    if path.contains('\0') {
        return refuse("it holds a NUL");
    }
    match path.split('/').find_map(wrong_component) {
        Some(why) => refuse(why),
        None => Ok(path),
    }
}

fn wrong_component(component: &str) -> Option<&'static str> {
    match component {
        "" => Some("a component is empty"),
        "." => Some("write it without `.`"),
        ".." => Some("`..` leads up"),
        long if long.len() > 255 => Some("a component is longer than 255 bytes"),
        _ => None,
    }
}

/// Checks a path of a plan: as [`check`], and without backslashes and control characters.
pub fn check_planned(path: &str) -> Result<&str, PathError> {
    check(path)?;
    let refuse = |why| Err(PathError { path: crate::text::line(path, 200), why });
    if path.contains('\\') {
        return refuse("it holds a backslash");
    }
    if crate::text::has_control(path) {
        return refuse("it holds a control character");
    }
    Ok(path)
}

/// Checks the text of a symbolic link at `path`: `..` only at the beginning and no more often than `path` is
/// deep, so that it stays beneath the root whatever other links there are.
pub fn check_link(path: &str, link: &str) -> Result<(), PathError> {
    let refuse = |why| Err(PathError { path: crate::text::line(link, 200), why });
    let depth = path.split('/').count().saturating_sub(1);
    let up = link.split('/').take_while(|part| *part == "..").count();
    if up > depth {
        return refuse("`..` leads out of the root");
    }
    let rest = link.split('/').skip(up).collect::<Vec<_>>().join("/");
    if link.is_empty() {
        return refuse("a link needs a text");
    }
    check(&rest).map_err(|source| PathError { path: crate::text::line(link, 200), why: source.why }).map(|_| ())
}

/// The folder and the name of a path that is not the root.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_out_are_refused() {
        for path in ["/etc/passwd", "../a", "a/../../b", "a/..", "..", "a//b", "./a", "a\0b", "/", "a/", &"x".repeat(256)] {
            assert!(check(path).is_err(), "{path:?}");
        }
        for path in ["", "a", "a/b.c", "...", "..a", "a\\b", ".env"] {
            assert!(check(path).is_ok(), "{path:?}");
        }
        for path in ["a\\..\\b", "a\nb", "a\u{202e}"] {
            assert!(check_planned(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn link_texts_stay_beneath_the_root() {
        for (path, link) in [("public/storage", "../storage/app/public"), ("a", "b"), ("a/b/c", "../../d")] {
            assert!(check_link(path, link).is_ok(), "{path} -> {link}");
        }
        for (path, link) in [("a", "../b"), ("a/b", "../../c"), ("a", "/etc"), ("a/b", "c/../d"), ("a/b", ""), ("a", "b/../../../etc")] {
            assert!(check_link(path, link).is_err(), "{path} -> {link}");
        }
    }
}
