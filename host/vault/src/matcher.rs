//! Which files a plan's tree items claim.
//!
//! A [`PathMatcher`] is asked from the root downwards: each folder has a [`Scope`], which says what is still to be
//! decided beneath it, so that most files need no glob at all.
//!
//! Globs are relative to the root; `*` and `?` stay within a component, `**` does not. An include or exclude that
//! matches a folder covers everything in it; `a/**` covers what is in `a` and not `a`. Excludes win over includes
//! of the same item; a file that several items claim belongs to the first of them.

use crate::paths::{check_path, is_within};
use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use havun_model::TreeItem;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, sync::Arc};

/// A tree item that cannot be matched.
#[derive(Debug, thiserror::Error)]
pub enum MatchError {
    /// A pattern is no glob.
    #[error("`{pattern}` is not a glob")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        source: globset::Error,
    },
    /// A path leads out of the root.
    #[error("`{path}` is not a path beneath the root")]
    Path {
        /// The path.
        path: String,
    },
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It belongs to the item of this number.
    Claimed(usize),
    /// A folder that no item claims, but the item of this number may claim something beneath it.
    Descend(usize),
    /// Nobody wants it, nor anything beneath it.
    Skip,
}

/// The rules of all tree items of a plan.
#[derive(Debug)]
pub struct PathMatcher {
    items: Vec<Rules>,
}

#[derive(Debug)]
struct Rules {
    base: Vec<u8>,
    include: Patterns,
    exclude: Patterns,
    /// Of excludes that end in `/**`, what stands before: folders that are kept and not entered.
    exclude_contents: Patterns,
}

#[derive(Debug)]
struct Patterns {
    set: GlobSet,
    shapes: Vec<Shape>,
}

/// Where a pattern can match at all.
#[derive(Debug)]
struct Shape {
    /// The folders before the first component with a wildcard, or before the last component.
    literal: Vec<u8>,
    /// Number of components, unless a `**` leaves that open.
    components: Option<usize>,
}

/// What is still to be decided for the children of one folder.
#[derive(Debug, Clone)]
pub struct Scope {
    parts: Arc<[Part]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    item: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The item's folder lies deeper.
    Above,
    /// Within the item's folder.
    Inside {
        /// Everything is included that is not excluded.
        all: bool,
        /// Some exclude may match somewhere beneath.
        excludes: bool,
    },
}

impl PathMatcher {
    /// The rules of `items`, in the plan's order.
    ///
    /// # Errors
    /// [`MatchError`] names the pattern or path.
    pub fn new<'a>(items: impl IntoIterator<Item = &'a TreeItem>) -> Result<Self, MatchError> {
        Ok(Self { items: items.into_iter().map(Rules::new).collect::<Result<_, _>>()? })
    }

    /// What becomes of the root itself.
    pub fn decide_root(&self) -> Decision {
        self.decide_parts(&self.outside(), b"", true)
    }

    /// The scope of the root's children.
    pub fn root_scope(&self) -> Scope {
        self.enter_parts(&self.outside(), b"")
    }

    /// What becomes of `path`, a child of the folder that `scope` is of.
    pub fn decide(&self, scope: &Scope, path: &[u8], is_dir: bool) -> Decision {
        match scope.certain() {
            Some(item) => Decision::Claimed(item),
            None => self.decide_parts(&scope.parts, path, is_dir),
        }
    }

    /// The scope of the children of the folder `path`, which [`PathMatcher::decide`] did not skip.
    pub fn enter(&self, scope: &Scope, path: &[u8]) -> Scope {
        if scope.certain().is_some() { scope.clone() } else { self.enter_parts(&scope.parts, path) }
    }

    fn outside(&self) -> Vec<Part> {
        (0..self.items.len()).map(|item| Part { item, state: State::Above }).collect()
    }

    fn decide_parts(&self, parts: &[Part], path: &[u8], is_dir: bool) -> Decision {
        let candidate = Candidate::new(Path::new(OsStr::from_bytes(path)));
        let mut descend = None;
        for part in parts {
            let Some(rules) = self.items.get(part.item) else { continue };
            match rules.decide(part.state, path, &candidate, is_dir) {
                Some(true) => return Decision::Claimed(part.item),
                Some(false) => descend = descend.or(Some(part.item)),
                None => {}
            }
        }
        descend.map_or(Decision::Skip, Decision::Descend)
    }

    fn enter_parts(&self, parts: &[Part], path: &[u8]) -> Scope {
        let candidate = Candidate::new(Path::new(OsStr::from_bytes(path)));
        let entered = |part: &Part| {
            let state = self.items.get(part.item)?.enter(part.state, path, &candidate)?;
            Some(Part { item: part.item, state })
        };
        Scope { parts: parts.iter().filter_map(entered).collect() }
    }
}

impl Scope {
    /// Whether nothing beneath can be claimed: the folder need not be read.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The item that claims everything beneath, whatever it is called.
    pub fn certain(&self) -> Option<usize> {
        let first = self.parts.first()?;
        (first.state == State::Inside { all: true, excludes: false }).then_some(first.item)
    }
}

impl Rules {
    fn new(item: &TreeItem) -> Result<Self, MatchError> {
        let base = trimmed(&item.path).to_owned();
        if !base.is_empty() && check_path(base.as_bytes()).is_err() {
            return Err(MatchError::Path { path: item.path.clone() });
        }
        let exclude: Vec<&str> = item.exclude.iter().map(|p| trimmed(p)).collect();
        let contents: Vec<&str> = exclude.iter().filter_map(|p| p.strip_suffix("/**")).collect();
        let include: Vec<&str> = item.include.iter().map(|p| trimmed(p)).collect();
        Ok(Self {
            base: base.into_bytes(),
            include: Patterns::new(&include)?,
            exclude: Patterns::new(&exclude)?,
            exclude_contents: Patterns::new(&contents)?,
        })
    }

    /// `Some(true)` claims, `Some(false)` descends.
    fn decide(&self, state: State, path: &[u8], candidate: &Candidate<'_>, is_dir: bool) -> Option<bool> {
        let (all, excludes) = match state {
            State::Above if self.base != path => return (is_dir && is_within(&self.base, path)).then_some(false),
            State::Above => (self.include.is_empty(), true),
            State::Inside { all, excludes } => (all, excludes),
        };
        if excludes && self.exclude.set.is_match_candidate(candidate) {
            return None;
        }
        if all || self.include.set.is_match_candidate(candidate) {
            return Some(true);
        }
        (is_dir && self.include.may_match_beneath(path)).then_some(false)
    }

    fn enter(&self, state: State, path: &[u8], candidate: &Candidate<'_>) -> Option<State> {
        let (all, excludes) = match state {
            State::Above if self.base != path => return is_within(&self.base, path).then_some(State::Above),
            State::Above => (self.include.is_empty(), true),
            State::Inside { all, excludes } => (all, excludes),
        };
        if excludes && (self.exclude.set.is_match_candidate(candidate) || self.exclude_contents.set.is_match_candidate(candidate)) {
            return None;
        }
        let all = all || self.include.set.is_match_candidate(candidate);
        let excludes = excludes && self.exclude.may_match_beneath(path);
        (all || self.include.may_match_beneath(path)).then_some(State::Inside { all, excludes })
    }
}

impl Patterns {
    fn new(patterns: &[&str]) -> Result<Self, MatchError> {
        let failed = |pattern: &str, source| MatchError::Pattern { pattern: pattern.to_owned(), source };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(|e| failed(pattern, e))?);
        }
        let set = set.build().map_err(|e| failed("the patterns together", e))?;
        Ok(Self { set, shapes: patterns.iter().map(|p| Shape::of(p)).collect() })
    }

    fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    fn may_match_beneath(&self, folder: &[u8]) -> bool {
        let depth = if folder.is_empty() { 0 } else { 1 + folder.iter().filter(|b| **b == b'/').count() };
        let can = |shape: &Shape| {
            shape.components.is_none_or(|n| depth < n) && (is_within(folder, &shape.literal) || is_within(&shape.literal, folder))
        };
        self.shapes.iter().any(can)
    }
}

impl Shape {
    fn of(pattern: &str) -> Self {
        let is_literal = |component: &&str| !component.contains(['*', '?', '[', ']', '{', '}', '\\']);
        let components: Vec<&str> = pattern.split('/').collect();
        let folders = components.iter().take(components.len() - 1);
        let literal: Vec<&str> = folders.copied().take_while(|c| is_literal(c)).collect();
        // A brace may hold a separator, so that components cannot be counted.
        let open = pattern.contains("**") || pattern.contains(['{', '[', '\\']);
        Self { literal: literal.join("/").into_bytes(), components: (!open).then_some(components.len()) }
    }
}

/// Without `./` before it and slashes around it.
fn trimmed(pattern: &str) -> &str {
    let pattern = pattern.trim_matches('/');
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    if pattern == "." { "" } else { pattern }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &str, include: &[&str], exclude: &[&str]) -> TreeItem {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        TreeItem { path: path.to_owned(), include: owned(include), exclude: owned(exclude), json: false }
    }

    /// As the walk asks: from the root down, entering each folder. A trailing slash means a folder.
    fn decide(items: &[TreeItem], path: &str) -> Decision {
        let matcher = PathMatcher::new(items).unwrap();
        let is_dir = path.ends_with('/') || path.is_empty();
        let path = path.trim_end_matches('/');
        let mut scope = matcher.root_scope();
        let mut decision = matcher.decide_root();
        let ends = path.match_indices('/').map(|(at, _)| (at, true)).chain([(path.len(), is_dir)]);
        for (end, is_dir) in ends.filter(|(end, _)| *end > 0) {
            let part = path.as_bytes().get(..end).unwrap();
            decision = if scope.is_empty() { Decision::Skip } else { matcher.decide(&scope, part, is_dir) };
            if decision == Decision::Skip {
                return decision;
            }
            scope = matcher.enter(&scope, part);
        }
        decision
    }

    use Decision::{Claimed, Descend, Skip};

    #[test]
    fn an_item_without_globs_claims_its_folder_and_what_is_in_it() {
        let items = [item("storage/app", &[], &[])];
        for (path, expected) in [
            ("", Descend(0)),
            ("storage/", Descend(0)),
            ("storage/app/", Claimed(0)),
            ("storage/app/x", Claimed(0)),
            ("storage/app/y/z", Claimed(0)),
            ("storage", Skip),
            ("storage/logs/", Skip),
            ("storage/app2/", Skip),
            ("public/", Skip),
        ] {
            assert_eq!(decide(&items, path), expected, "{path}");
        }
    }

    #[test]
    fn a_file_can_be_an_item() {
        let items = [item("config/.env", &[], &[])];
        assert_eq!(decide(&items, "config/.env"), Claimed(0));
        assert_eq!(decide(&items, "config/"), Descend(0));
        assert_eq!(decide(&items, "config/app.php"), Skip);
    }

    #[test]
    fn excludes_leave_out_folders_with_or_without_themselves() {
        let items = [item("", &[], &["vendor", "cache/**", "**/*.log", "/tmp/", "a/*/b"])];
        for (path, expected) in [
            ("", Claimed(0)),
            ("vendor/", Skip),
            ("vendor/x", Skip),
            ("sub/vendor/", Claimed(0)),
            ("cache/", Claimed(0)),
            ("cache/x", Skip),
            ("cache/d/", Skip),
            ("x.log", Skip),
            ("deep/er/x.log", Skip),
            ("tmp/", Skip),
            ("a/x/b", Skip),
            ("a/x/y/b", Claimed(0)),
            ("a/x/bb", Claimed(0)),
        ] {
            assert_eq!(decide(&items, path), expected, "{path}");
        }
    }

    #[test]
    fn includes_descend_only_where_they_can_match() {
        let items = [item("", &["storage/**/*.jpg", "config", "*.json", "{a,b/c}/x"], &["storage/tmp"])];
        for (path, expected) in [
            ("", Descend(0)),
            ("storage/", Descend(0)),
            ("storage/d/e/", Descend(0)),
            ("storage/d/e/x.jpg", Claimed(0)),
            ("storage/d/e/x.png", Skip),
            ("storage/tmp/x.jpg", Skip),
            ("config/", Claimed(0)),
            ("config/deep/x", Claimed(0)),
            ("package.json", Claimed(0)),
            ("b/c/x", Claimed(0)),
            ("a/x", Claimed(0)),
        ] {
            assert_eq!(decide(&items, path), expected, "{path}");
        }
        let items = [item("", &["storage/app/*.txt"], &[])];
        assert_eq!(decide(&items, "vendor/"), Skip);
        assert_eq!(decide(&items, "storage/app/deeper/"), Skip);
        assert_eq!(decide(&items, "storage/app/a.txt"), Claimed(0));
    }

    #[test]
    fn the_first_item_that_claims_a_file_has_it() {
        let items = [item("", &["**/*.json"], &[]), item("data", &[], &["data/x.json"]), item("", &[], &["data/**"])];
        assert_eq!(decide(&items, "data/x.json"), Claimed(0));
        assert_eq!(decide(&items, "data/y"), Claimed(1));
        assert_eq!(decide(&items, "data/"), Claimed(1));
        assert_eq!(decide(&items, "other/y"), Claimed(2));
    }

    #[test]
    fn names_that_are_no_text_are_matched_by_their_bytes() {
        let matcher = PathMatcher::new(&[item("", &[], &["**/*.log"])]).unwrap();
        let scope = matcher.root_scope();
        assert_eq!(matcher.decide(&scope, b"caf\xe9.log", false), Skip);
        assert_eq!(matcher.decide(&scope, b"caf\xe9.txt", false), Claimed(0));
    }

    #[test]
    fn bad_patterns_and_paths_are_named() {
        assert!(matches!(PathMatcher::new(&[item("", &[], &["a[b"])]), Err(MatchError::Pattern { pattern, .. }) if pattern == "a[b"));
        for path in ["../x", "a/../b", "a//b"] {
            assert!(matches!(PathMatcher::new(&[item(path, &[], &[])]), Err(MatchError::Path { .. })), "{path}");
        }
    }
}
