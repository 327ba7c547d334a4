//! Listings: what a bucket shows, and with object lock what it holds beneath delete markers.

use super::{
    Root,
    client::{Request, Verb},
    versions::{list_versions, unreadable},
    xml,
};
use havun_vault::store::{Listed, ObjectName, StoreError};
use std::{collections::BTreeSet, sync::atomic::Ordering};

/// Every object beneath `base/folder`, sorted by name; names are from `base`.
pub(super) fn objects(root: &Root, base: &str, folder: &str) -> Result<Vec<Listed>, StoreError> {
    let prefix = if folder.is_empty() { format!("{base}/") } else { format!("{base}/{folder}/") };
    let cut = base.len() + 1;
    let mut found = Vec::new();
    let mut take = |key: &str, size: u64| {
        if let Some(name) = key.get(cut..).and_then(|rest| ObjectName::new(rest).ok()) {
            found.push(Listed { name, size });
        }
    };
    if root.is_locked() {
        let listing = list_versions(&root.client, &prefix, None)?;
        for (key, version) in listing.oldest() {
            root.versions.learn(&root.client.place(key), &version.id);
            take(key, version.size);
        }
    } else {
        pages(root, &prefix, None, |page| {
            for object in page.all("Contents") {
                let size = object.text_of("Size").and_then(|size| size.parse().ok()).ok_or_else(|| unreadable(&root.client, &prefix))?;
                take(object.text_of("Key").unwrap_or_default(), size);
            }
            Ok(())
        })?;
    }
    root.bucket_seen.store(true, Ordering::Relaxed);
    found.sort_unstable();
    Ok(found)
}

/// Names of the folders directly beneath `prefix`, which is empty or ends in `/`, sorted.
pub(super) fn folders(root: &Root, prefix: &str) -> Result<Vec<String>, StoreError> {
    let mut prefixes = BTreeSet::new();
    if root.is_locked() {
        prefixes = list_versions(&root.client, prefix, Some("/"))?.prefixes;
    } else {
        pages(root, prefix, Some("/"), |page| {
            prefixes.extend(page.all("CommonPrefixes").filter_map(|p| p.text_of("Prefix").map(str::to_owned)));
            Ok(())
        })?;
    }
    root.bucket_seen.store(true, Ordering::Relaxed);
    let names = prefixes.iter().filter_map(|found| found.strip_prefix(prefix)?.strip_suffix('/').map(str::to_owned));
    Ok(names.collect())
}

/// The newest keys beneath a prefix in their order, at most `most`.
pub(super) fn first_keys(root: &Root, prefix: &str, most: u32) -> Result<Vec<String>, StoreError> {
    let request = Request::new(Verb::Get, "").query("list-type", "2").query("prefix", prefix).query("max-keys", most.to_string());
    let page = xml::parse(&root.client.ask(&request, None)?.text()?).ok_or_else(|| unreadable(&root.client, prefix))?;
    Ok(page.all("Contents").filter_map(|object| object.text_of("Key").map(str::to_owned)).collect())
}

fn pages(
    root: &Root,
    prefix: &str,
    delimiter: Option<&str>,
    mut take: impl FnMut(&xml::Element) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut token = String::new();
    loop {
        let mut request = Request::new(Verb::Get, "").query("list-type", "2").query("prefix", prefix);
        if let Some(delimiter) = delimiter {
            request = request.query("delimiter", delimiter);
        }
        if !token.is_empty() {
            request = request.query("continuation-token", &*token);
        }
        let text = root.client.ask(&request, None)?.text()?;
        let page = xml::parse(&text).filter(|page| page.name == "ListBucketResult").ok_or_else(|| unreadable(&root.client, prefix))?;
        take(&page)?;
        if !page.is_true("IsTruncated") {
            return Ok(());
        }
        let next = page.text_of("NextContinuationToken").unwrap_or_default();
        if next.is_empty() || next == token {
            return Err(unreadable(&root.client, prefix));
        }
        token = next.to_owned();
    }
}
