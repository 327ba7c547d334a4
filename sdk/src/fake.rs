//! An in-memory tree and database for native tests, with the host's rules.
#![cfg(not(target_family = "wasm"))]

use crate::{BackupPlan, Database, Error, Output, Result, Stat, Target, Tree};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::{
    cell::{Ref, RefCell},
    collections::BTreeMap,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File { bytes: Vec<u8>, mode: u32 },
    Directory,
    Symlink(String),
    Other,
}

/// A tree as a value. Parents come by themselves.
#[derive(Debug, Default)]
pub struct FakeTree {
    nodes: RefCell<BTreeMap<String, Node>>,
    denied: Vec<String>,
}

impl FakeTree {
    /// An empty root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.put(path, Node::File { bytes: bytes.as_ref().to_vec(), mode: 0o644 });
        self
    }

    /// Adds a folder.
    #[must_use]
    pub fn dir(self, path: &str) -> Self {
        self.put(path, Node::Directory);
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, link: &str) -> Self {
        self.put(path, Node::Symlink(link.to_owned()));
        self
    }

    /// Adds a FIFO, socket or device.
    #[must_use]
    pub fn special(self, path: &str) -> Self {
        self.put(path, Node::Other);
        self
    }

    /// Every call about `path` fails as an unreadable file does.
    #[must_use]
    pub fn deny(mut self, path: &str) -> Self {
        self.denied.push(path.to_owned());
        self
    }

    /// Permission bits of a file, as `set_mode` left them.
    pub fn mode(&self, path: &str) -> Option<u32> {
        match self.nodes.borrow().get(path) {
            Some(Node::File { mode, .. }) => Some(*mode),
            _ => None,
        }
    }

    /// Which tree item of `plan` would take each file, link and folder, by the host's rules: what no item takes is
    /// missing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad glob.
    pub fn taken_by(&self, plan: &BackupPlan) -> Result<BTreeMap<String, String>> {
        let mut rules = Vec::new();
        for item in plan.items.iter().filter(|item| item.kind == "tree") {
            let globs = |globs: &[String]| glob_set(&globs.iter().map(|glob| glob.trim_end_matches('/')).collect::<Vec<_>>());
            rules.push((item, globs(&item.includes)?, globs(&item.excludes)?));
        }
        let takes = |path: &str| {
            let rule = rules.iter().find(|(item, includes, excludes)| {
                let beneath = item.path.is_empty() || with_parents(path).any(|parent| parent == item.path);
                let included = item.includes.is_empty() || with_parents(path).any(|parent| includes.is_match(parent));
                beneath && included && !with_parents(path).any(|parent| excludes.is_match(parent))
            });
            rule.map(|(item, ..)| item.name.clone())
        };
        let nodes = self.nodes.borrow();
        Ok(nodes.keys().filter_map(|path| Some((path.clone(), takes(path)?))).collect())
    }

    fn put(&self, path: &str, node: Node) {
        let mut nodes = self.nodes.borrow_mut();
        for (at, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..at) {
                nodes.entry(parent.to_owned()).or_insert(Node::Directory);
            }
        }
        nodes.insert(path.to_owned(), node);
    }

    fn node(&self, path: &str) -> Result<Ref<'_, Node>> {
        self.check(path)?;
        // A link in the middle of a path is followed beneath the root, as the host does.
        let path = self.resolve(path, 0)?;
        Ref::filter_map(self.nodes.borrow(), |nodes| nodes.get(&path)).map_err(|_| Error::NotFound(path))
    }

    fn resolve(&self, path: &str, depth: u8) -> Result<String> {
        for (at, _) in path.match_indices('/') {
            let (parent, rest) = path.split_at(at);
            let link = match self.nodes.borrow().get(parent) {
                Some(Node::Symlink(link)) => link.clone(),
                _ => continue,
            };
            if link.starts_with('/') || depth > 16 {
                return Err(Error::Invalid(format!("{path} leads out of the root")));
            }
            let base = parent.rsplit_once('/').map_or("", |(base, _)| base);
            let joined =
                normalize(&format!("{base}/{link}{rest}")).ok_or_else(|| Error::Invalid(format!("{path} leads out of the root")))?;
            return self.resolve(&joined, depth + 1);
        }
        Ok(path.to_owned())
    }

    fn check(&self, path: &str) -> Result<()> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(Error::Invalid(format!("{path} leads out of the root")));
        }
        if self.denied.iter().any(|denied| denied == path) {
            return Err(Error::Io(format!("{path}: permission denied")));
        }
        Ok(())
    }
}

/// `a/b/c`, `a/b`, `a`.
fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(parent, _)| parent))
}

fn normalize(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn stat_of(path: &str, node: &Node) -> Stat {
    let (kind, size) = match node {
        Node::File { bytes, .. } => ("file", bytes.len()),
        Node::Directory => ("directory", 0),
        Node::Symlink(_) => ("symlink", 0),
        Node::Other => ("other", 0),
    };
    #[expect(clippy::cast_precision_loss, reason = "a test's file is small")]
    let size = size as f64;
    Stat { path: path.to_owned(), kind: kind.to_owned(), size, modified_ms: 0.0 }
}

/// Globs with the host's rules: `*` and `?` stop at `/`, `**` does not.
fn glob_set(globs: &[&str]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let glob = GlobBuilder::new(glob).literal_separator(true).build().map_err(|error| Error::Invalid(error.to_string()))?;
        set.add(glob);
    }
    set.build().map_err(|error| Error::Invalid(error.to_string()))
}

impl Tree for FakeTree {
    fn stat(&self, path: &str) -> Result<Option<Stat>> {
        if path.is_empty() {
            return Ok(Some(stat_of("", &Node::Directory)));
        }
        match self.node(path) {
            Ok(node) => Ok(Some(stat_of(path, &node))),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, path: &str, max_bytes: u32) -> Result<Vec<u8>> {
        match &*self.node(path)? {
            Node::File { bytes, .. } if bytes.len() > max_bytes as usize => Err(Error::Limit(format!("{path} is over {max_bytes} bytes"))),
            Node::File { bytes, .. } => Ok(bytes.clone()),
            _ => Err(Error::Invalid(format!("{path} is no regular file"))),
        }
    }

    fn read_link(&self, path: &str) -> Result<String> {
        match &*self.node(path)? {
            Node::Symlink(link) => Ok(link.clone()),
            _ => Err(Error::Invalid(format!("{path} is no symbolic link"))),
        }
    }

    fn list_dir(&self, path: &str) -> Result<Vec<Stat>> {
        if !path.is_empty() && *self.node(path)? != Node::Directory {
            return Err(Error::Invalid(format!("{path} is no folder")));
        }
        let parent = |child: &str| child.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned());
        let nodes = self.nodes.borrow();
        Ok(nodes.iter().filter(|(child, _)| parent(child) == path).map(|(child, node)| stat_of(child, node)).collect())
    }

    fn find(&self, includes: &[&str], excludes: &[&str], max: u32) -> Result<Vec<Stat>> {
        let (includes, excludes) = (glob_set(includes)?, glob_set(excludes)?);
        let nodes = self.nodes.borrow();
        let hidden = |path: &str| path.match_indices('/').any(|(at, _)| path.get(..at).is_some_and(|parent| excludes.is_match(parent)));
        let found = nodes.iter().filter(|(path, _)| includes.is_match(path) && !excludes.is_match(path) && !hidden(path));
        Ok(found.take(max as usize).map(|(path, node)| stat_of(path, node)).collect())
    }
}

impl Target for FakeTree {
    fn write_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.check(path)?;
        self.put(path, Node::File { bytes: bytes.to_vec(), mode: 0o644 });
        Ok(())
    }

    fn make_dir(&self, path: &str) -> Result<()> {
        self.check(path)?;
        self.put(path, Node::Directory);
        Ok(())
    }

    fn make_symlink(&self, path: &str, link: &str) -> Result<()> {
        self.check(path)?;
        let base = path.rsplit_once('/').map_or("", |(base, _)| base);
        if link.starts_with('/') || normalize(&format!("{base}/{link}")).is_none() {
            return Err(Error::Invalid(format!("{link} leads out of the root")));
        }
        self.put(path, Node::Symlink(link.to_owned()));
        Ok(())
    }

    fn set_mode(&self, path: &str, mode: u32) -> Result<()> {
        self.check(path)?;
        match self.nodes.borrow_mut().get_mut(path) {
            Some(Node::File { mode: old, .. }) => *old = mode,
            Some(_) => {}
            None => return Err(Error::NotFound(path.to_owned())),
        }
        Ok(())
    }
}

/// A restored database as a value.
#[derive(Debug, Default)]
pub struct FakeDatabase {
    item: String,
    tables: BTreeMap<String, u64>,
    samples: BTreeMap<(String, String), Vec<Option<String>>>,
}

impl FakeDatabase {
    /// A database without tables, restored from `item`.
    pub fn new(item: &str) -> Self {
        Self { item: item.to_owned(), ..Self::default() }
    }

    /// Adds a table with so many rows.
    #[must_use]
    pub fn table(mut self, name: &str, rows: u64) -> Self {
        self.tables.insert(name.to_owned(), rows);
        self
    }

    /// What `sample` returns for a column.
    #[must_use]
    pub fn values(mut self, table: &str, column: &str, values: &[Option<&str>]) -> Self {
        let values = values.iter().map(|value| value.map(str::to_owned)).collect();
        self.samples.insert((table.to_owned(), column.to_owned()), values);
        self
    }
}

impl Database for FakeDatabase {
    fn item(&self) -> String {
        self.item.clone()
    }

    fn tables(&self) -> Result<Vec<String>> {
        Ok(self.tables.keys().cloned().collect())
    }

    fn count_rows(&self, table: &str) -> Result<u64> {
        self.tables.get(table).copied().ok_or_else(|| Error::NotFound(table.to_owned()))
    }

    fn sample(&self, table: &str, column: &str, limit: u32) -> Result<Vec<Option<String>>> {
        let key = (table.to_owned(), column.to_owned());
        let values = self.samples.get(&key).ok_or_else(|| Error::NotFound(format!("{table}.{column}")))?;
        Ok(values.iter().take(limit as usize).cloned().collect())
    }
}

impl Output for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}
