//! Which version of an object is ours. In a bucket with object lock a thief cannot take a version away, but he can put a
//! delete marker or a version of his own on top of it: what counts is the oldest version of a name, because we never
//! write a name twice.
//!
//! Version ids are kept in `versions.jsonl` in the spool folder; where that is lost they are asked for anew.

use super::{
    client::{Client, Request, Verb},
    xml::{self, Element},
};
use havun_vault::store::StoreError;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::Write as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One line of `versions.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// `s3://bucket/key`
    pub place: String,
    /// As the server gave it.
    pub version: String,
    /// The lock's date; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub until: String,
}

/// The version ids that are known.
pub(super) struct Versions {
    file: PathBuf,
    /// By place; `None` until the file was read.
    known: Mutex<Option<HashMap<String, String>>>,
}

impl Versions {
    pub fn new(file: PathBuf) -> Self {
        Self { file, known: Mutex::new(None) }
    }

    pub fn get(&self, place: &str) -> Option<String> {
        self.known(|known| known.get(place).cloned())
    }

    /// Of an object that was just stored: kept over a restart.
    pub fn record(&self, record: &VersionRecord) -> Result<(), StoreError> {
        self.learn(&record.place, &record.version);
        let mut line = serde_json::to_vec(record).map_err(|e| StoreError::at(&self.file, e.into()))?;
        line.push(b'\n');
        let file = fs::OpenOptions::new().append(true).create(true).open(&self.file);
        file.and_then(|mut file| file.write_all(&line)).map_err(|e| StoreError::at(&self.file, e))
    }

    /// Of an object that was found.
    pub fn learn(&self, place: &str, version: &str) {
        self.known(|known| known.insert(place.to_owned(), version.to_owned()));
    }

    pub fn forget(&self, place: &str) {
        self.known(|known| known.remove(place));
    }

    fn known<T>(&self, with: impl FnOnce(&mut HashMap<String, String>) -> T) -> T {
        let mut known: MutexGuard<'_, _> = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        with(known.get_or_insert_with(|| self.read().into_iter().map(|record| (record.place, record.version)).collect()))
    }

    /// Everything that was recorded. A line cut short by a power cut is passed over.
    pub fn read(&self) -> Vec<VersionRecord> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// A version in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub key: String,
    pub id: String,
    pub size: u64,
    pub is_marker: bool,
}

/// What lies beneath a prefix.
#[derive(Debug, Default)]
pub(super) struct VersionListing {
    /// In the order of the server: by key, the newest first.
    pub versions: Vec<Version>,
    /// With a delimiter: what stands before it.
    pub prefixes: BTreeSet<String>,
}

impl VersionListing {
    /// The oldest version of each key that is no delete marker.
    pub fn oldest(&self) -> BTreeMap<&str, &Version> {
        self.versions.iter().filter(|version| !version.is_marker).map(|version| (version.key.as_str(), version)).collect()
    }
}

/// Lists versions and delete markers.
pub(super) fn list_versions(client: &Client, prefix: &str, delimiter: Option<&str>) -> Result<VersionListing, StoreError> {
    let mut listing = VersionListing::default();
    let (mut key, mut id) = (String::new(), String::new());
    loop {
        let mut request = Request::new(Verb::Get, "").query("versions", "").query("prefix", prefix);
        if let Some(delimiter) = delimiter {
            request = request.query("delimiter", delimiter);
        }
        if !key.is_empty() {
            request = request.query("key-marker", &*key);
        }
        if !id.is_empty() {
            request = request.query("version-id-marker", &*id);
        }
        let text = client.ask(&request, None)?.text()?;
        let page = xml::parse(&text).ok_or_else(|| unreadable(client, prefix))?;
        take_page(&page, &mut listing);
        if !page.is_true("IsTruncated") {
            return Ok(listing);
        }
        let next = (page.text_of("NextKeyMarker").unwrap_or_default(), page.text_of("NextVersionIdMarker").unwrap_or_default());
        if next.0.is_empty() || next == (key.as_str(), id.as_str()) {
            return Err(unreadable(client, prefix));
        }
        (key, id) = (next.0.to_owned(), next.1.to_owned());
    }
}

fn take_page(page: &Element, listing: &mut VersionListing) {
    for child in &page.children {
        let text = |name| child.text_of(name).unwrap_or_default();
        match child.name.as_str() {
            "Version" | "DeleteMarker" => listing.versions.push(Version {
                key: text("Key").to_owned(),
                id: text("VersionId").to_owned(),
                size: text("Size").parse().unwrap_or(0),
                is_marker: child.name == "DeleteMarker",
            }),
            "CommonPrefixes" => {
                listing.prefixes.insert(text("Prefix").to_owned());
            }
            _ => {}
        }
    }
}

/// A listing that is no listing: worth another try, never an empty store.
pub(super) fn unreadable(client: &Client, prefix: &str) -> StoreError {
    StoreError::Unreachable { what: format!("the listing of {} cannot be read", client.place(prefix)) }
}
