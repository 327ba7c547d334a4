//! `project`: the tree, and the restored tree that can be written.

use super::{
    Fatal, HostError,
    bindings::havun::backup::project::{Host, HostTarget, HostTree, Stat},
};
use crate::{
    call::Guest,
    globs::Selection,
    tree::{Entry, Tree, TreeError},
    walk,
};
use std::sync::Arc;
use wasmtime::component::Resource;

/// Most bytes of one `read`.
const MAX_READ: u32 = 16 << 20;
/// Most results of one `find`.
const MAX_FOUND: u32 = 10_000;
/// Most bytes of one `write-file`.
const MAX_WRITE: usize = 1 << 20;

/// A guest's read-only tree.
#[derive(Debug, Clone)]
pub struct TreeHandle(pub Arc<Tree>);

/// A guest's writable tree.
#[derive(Debug, Clone)]
pub struct TargetHandle(pub Arc<Tree>);

impl Guest {
    fn readable(&self, handle: &Resource<TreeHandle>) -> Result<Arc<Tree>, HostError> {
        Ok(Arc::clone(&self.table.get(handle).map_err(Fatal)?.0))
    }

    fn writable(&self, handle: &Resource<TargetHandle>) -> Result<Arc<Tree>, HostError> {
        Ok(Arc::clone(&self.table.get(handle).map_err(Fatal)?.0))
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes above 2^53 bytes do not occur, and WIT has no 64-bit integers")]
fn stat(entry: Entry) -> Stat {
    Stat { path: entry.path, kind: entry.kind.to_owned(), size: entry.size as f64, modified_ms: entry.modified_ms }
}

impl Host for Guest {}

impl HostTree for Guest {
    fn stat(&mut self, this: Resource<TreeHandle>, path: String) -> Result<Option<Stat>, HostError> {
        Ok(self.readable(&this)?.stat(&path)?.map(stat))
    }

    fn read(&mut self, this: Resource<TreeHandle>, path: String, max_bytes: u32) -> Result<Vec<u8>, HostError> {
        Ok(self.readable(&this)?.read(&path, max_bytes.min(MAX_READ).into())?)
    }

    fn read_link(&mut self, this: Resource<TreeHandle>, path: String) -> Result<String, HostError> {
        Ok(self.readable(&this)?.read_link(&path)?)
    }

    fn list_dir(&mut self, this: Resource<TreeHandle>, path: String) -> Result<Vec<Stat>, HostError> {
        Ok(self.readable(&this)?.list_dir(&path)?.into_iter().map(stat).collect())
    }

    fn find(&mut self, this: Resource<TreeHandle>, includes: Vec<String>, excludes: Vec<String>, max: u32) -> Result<Vec<Stat>, HostError> {
        let selection = Selection::new(&includes, &excludes)?;
        let tree = self.readable(&this)?;
        let max = usize::try_from(max.min(MAX_FOUND)).unwrap_or_default();
        let found = walk::find(&tree, &selection, max, &|| self.must_stop().is_some())?;
        match (found, self.must_stop()) {
            (Some(found), _) => Ok(found.into_iter().map(stat).collect()),
            (None, Some(stop)) => Err(Fatal(stop).into()),
            (None, None) => Ok(Vec::new()),
        }
    }

    fn drop(&mut self, this: Resource<TreeHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostTarget for Guest {
    fn tree(&mut self, this: Resource<TargetHandle>) -> wasmtime::Result<Resource<TreeHandle>> {
        let tree = Arc::clone(&self.table.get(&this)?.0);
        Ok(self.table.push(TreeHandle(tree))?)
    }

    fn write_file(&mut self, this: Resource<TargetHandle>, path: String, bytes: Vec<u8>) -> Result<(), HostError> {
        if bytes.len() > MAX_WRITE {
            return Err(TreeError::Limit { path, what: format!("would have {} bytes, more than {MAX_WRITE}", bytes.len()) }.into());
        }
        Ok(self.writable(&this)?.write_file(&path, &bytes)?)
    }

    fn make_dir(&mut self, this: Resource<TargetHandle>, path: String) -> Result<(), HostError> {
        Ok(self.writable(&this)?.make_dir(&path)?)
    }

    fn make_symlink(&mut self, this: Resource<TargetHandle>, path: String, link: String) -> Result<(), HostError> {
        Ok(self.writable(&this)?.make_symlink(&path, &link)?)
    }

    fn set_mode(&mut self, this: Resource<TargetHandle>, path: String, mode: u32) -> Result<(), HostError> {
        Ok(self.writable(&this)?.set_mode(&path, mode)?)
    }

    fn drop(&mut self, this: Resource<TargetHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
