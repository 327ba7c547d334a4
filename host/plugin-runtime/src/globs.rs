//! Globs relative to the root, with the plan's meaning: `*` and `?` stay within one component, `**` crosses them.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Most globs in one list.
pub const MAX_GLOBS: usize = 1000;
/// Longest glob, bytes.
const MAX_GLOB: usize = 1024;

/// Why a glob is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{glob}` is not a glob beneath the root: {why}")]
pub struct GlobError {
    /// What was given, cleaned and cut.
    pub glob: String,
    /// What is wrong with it.
    pub why: String,
}

/// Checks one glob and compiles it.
pub fn parse(glob: &str) -> Result<Glob, GlobError> {
    let refuse = |why: String| GlobError { glob: crate::text::line(glob, 200), why };
    if glob.is_empty() || glob.len() > MAX_GLOB {
        return Err(refuse(format!("use 1 to {MAX_GLOB} bytes")));
    }
    if glob.starts_with('/') || glob.split('/').any(|part| part == ".." || part == ".") {
        return Err(refuse("it must be relative, without `.` and `..`".to_owned()));
    }
    if crate::text::has_control(glob) {
        return Err(refuse("it holds a control character".to_owned()));
    }
    GlobBuilder::new(glob).literal_separator(true).build().map_err(|source| refuse(source.kind().to_string()))
}

/// Checks a list of globs.
pub fn check_all(globs: &[String]) -> Result<(), GlobError> {
    within_bounds(globs)?;
    globs.iter().try_for_each(|glob| parse(glob).map(|_| ()))
}

fn within_bounds(globs: &[String]) -> Result<(), GlobError> {
    if globs.len() <= MAX_GLOBS {
        return Ok(());
    }
    Err(GlobError {
        glob: globs.first().map(|g| crate::text::line(g, 200)).unwrap_or_default(),
        why: format!("more than {MAX_GLOBS} globs"),
    })
}

/// What one walk is after.
#[derive(Debug)]
pub struct Selection {
    includes: GlobSet,
    /// Folders in which something may match an include; `None` means any.
    leading: Option<GlobSet>,
    excludes: GlobSet,
    /// Folders all of whose content is excluded.
    emptied: GlobSet,
}

impl Selection {
    /// Compiles both lists; without includes nothing is wanted.
    pub fn new(includes: &[String], excludes: &[String]) -> Result<Self, GlobError> {
        within_bounds(includes)?;
        within_bounds(excludes)?;
        let emptied: Vec<String> = excludes.iter().filter_map(|glob| glob.strip_suffix("/**").map(str::to_owned)).collect();
        Ok(Self {
            includes: set(includes)?,
            leading: leading(includes).map(|globs| set(&globs)).transpose()?,
            excludes: set(excludes)?,
            emptied: set(&emptied)?,
        })
    }

    /// Whether the entry at `path` is wanted.
    pub fn selects(&self, path: &str) -> bool {
        self.includes.is_match(path) && !self.excludes.is_match(path)
    }

    /// Whether something beneath the folder `path` may be wanted.
    pub fn descends(&self, path: &str) -> bool {
        let may_match = self.leading.as_ref().is_none_or(|set| set.is_match(path));
        may_match && !self.excludes.is_match(path) && !self.emptied.is_match(path)
    }
}

fn set(globs: &[String]) -> Result<GlobSet, GlobError> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(parse(glob)?);
    }
    builder.build().map_err(|source| GlobError { glob: String::new(), why: source.kind().to_string() })
}

/// Globs of the folders that lead to a match, so that a walk for `a/*.json` never enters `b`.
fn leading(includes: &[String]) -> Option<Vec<String>> {
    let mut folders = Vec::new();
    for glob in includes {
        if glob.contains(['{', '[', '\\']) {
            return None;
        }
        let mut prefix = String::new();
        for part in glob.split('/') {
            if !prefix.is_empty() {
                folders.push(prefix.clone());
                prefix.push('/');
            }
            prefix.push_str(part);
            if part.contains("**") {
                folders.push(prefix.clone());
                break;
            }
        }
    }
    Some(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(includes: &[&str], excludes: &[&str]) -> Selection {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        Selection::new(&own(includes), &own(excludes)).unwrap()
    }

    #[test]
    fn a_walk_enters_only_where_something_can_match() {
        let s = selection(&["a/b/*.json", "c/**/x", "*.md"], &[]);
        for folder in ["a", "a/b", "c", "c/d/e"] {
            assert!(s.descends(folder), "{folder}");
        }
        for folder in ["b", "a/c", "a/b/c", "node_modules"] {
            assert!(!s.descends(folder), "{folder}");
        }
        assert!(s.selects("a/b/1.json") && s.selects("c/x") && s.selects("c/d/x") && s.selects("R.md"));
        assert!(!s.selects("a/b/c/1.json") && !s.selects("a/R.md"));
    }

    #[test]
    fn an_excluded_content_keeps_its_folder() {
        let s = selection(&["**"], &["a/**", "b"]);
        assert!(s.selects("a") && !s.selects("a/x") && !s.selects("b"));
        assert!(!s.descends("a") && !s.descends("b") && s.descends("c"));
    }

    #[test]
    fn globs_that_lead_out_or_do_not_parse_are_refused() {
        for glob in ["", "/etc/*", "../*", "a/../b", "a[", "{a", "a\0"] {
            assert!(parse(glob).is_err(), "{glob:?}");
        }
    }
}
