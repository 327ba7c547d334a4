//! Listing: folders in parallel over the connections, several requests for each under way.

use super::{
    failure::Said,
    link::{Kind, Link, Seen},
    shared::Shared,
};
use havun_vault::store::StoreError;
use std::{collections::VecDeque, sync::Arc};
use tokio::task::JoinSet;

/// A reply holds 100 names; this many are asked for at once.
const AHEAD: usize = 3;
/// Folders at a time.
const FOLDERS: usize = 32;

impl Shared {
    /// What is in a folder; a missing one is empty.
    pub async fn entries(&self, link: &Arc<Link>, path: &str) -> Result<Vec<(String, Seen)>, StoreError> {
        self.turn();
        let Some(handle) = link.opendir(path).await.said(|| format!("listing {path}"))? else { return Ok(Vec::new()) };
        self.turn();
        let mut waiting: VecDeque<_> = (0..AHEAD).map(|_| link.readdir(&handle)).collect();
        let mut entries = Vec::new();
        while let Some(request) = waiting.pop_front() {
            let Some(names) = request.await.said(|| format!("listing {path}"))? else { break };
            entries.extend(names.into_iter().filter(|(name, _)| name != "." && name != ".."));
            waiting.push_back(link.readdir(&handle));
        }
        drop(link.close(&handle));
        Ok(entries)
    }

    /// Every file beneath `path`, by its path from there. `enter` says which folders are looked into.
    pub async fn walk(self: &Arc<Self>, path: String, enter: impl Fn(&str) -> bool) -> Result<Vec<(String, Seen)>, StoreError> {
        let (mut files, mut folders, mut tasks) = (Vec::new(), vec![String::new()], JoinSet::new());
        loop {
            while tasks.len() < FOLDERS
                && let Some(folder) = folders.pop()
            {
                let (shared, path) = (Arc::clone(self), if folder.is_empty() { path.clone() } else { format!("{path}/{folder}") });
                tasks.spawn(async move {
                    let ticket = shared.ticket().await?;
                    Ok::<_, StoreError>((folder, shared.entries(&ticket, &path).await?))
                });
            }
            let Some(done) = tasks.join_next().await else { return Ok(files) };
            let (folder, entries) = done.map_err(|e| StoreError::Unreachable { what: format!("listing {path}: {e}") })??;
            for (name, seen) in entries {
                let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                match seen.kind {
                    Kind::File => files.push((name, seen)),
                    Kind::Folder if enter(&name) => folders.push(name),
                    Kind::Folder | Kind::Other => {}
                }
            }
        }
    }
}
