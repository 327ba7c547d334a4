//! What is known on disk of a multipart upload that was not finished, so that a later try, or a later process, goes on
//! where it stopped.

use super::{
    Root,
    client::{Request, Verb},
    exists::Expected,
    xml,
};
use havun_vault::store::StoreError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf};

/// An upload under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub key: String,
    pub upload_id: String,
    size: u64,
    sha256: String,
    pub part_bytes: u64,
    /// By number.
    pub parts: BTreeMap<u32, SentPart>,
}

/// A part that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SentPart {
    pub etag: String,
    /// Of its bytes as they were sent, in hex.
    pub sha256: String,
    /// The server's checksum, where it gives one: it wants it back at the end.
    pub checksum: Option<String>,
}

impl Record {
    pub fn new(expected: &Expected<'_>, upload_id: String, part_bytes: u64) -> Self {
        let (key, sha256) = (expected.key.to_owned(), hex::encode(expected.sha256));
        Self { key, upload_id, size: expected.size, sha256, part_bytes, parts: BTreeMap::new() }
    }

    /// What an earlier try left of the same object.
    pub fn load(root: &Root, expected: &Expected<'_>, part_bytes: u64) -> Option<Self> {
        let text = fs::read(path(root, expected.key)).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        let new = Self::new(expected, record.upload_id.clone(), part_bytes);
        (Self { parts: BTreeMap::new(), ..record.clone() } == new).then_some(record)
    }

    /// Written anew after each part: a crash loses one part per connection at most.
    pub fn save(&self, root: &Root) -> Result<(), StoreError> {
        let folder = root.spool_dir()?;
        let path = path(root, &self.key);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.persist(&path).map_err(|e| e.error)
        };
        write().map(|_| ()).map_err(|e| StoreError::at(&path, e))
    }

    /// Nothing is left to resume.
    pub fn forget(root: &Root, key: &str) {
        let _ = fs::remove_file(path(root, key));
    }

    /// Keeps the parts that the server really has. False where it does not know the upload any more.
    pub fn check(&mut self, root: &Root) -> Result<bool, StoreError> {
        let mut found: BTreeMap<u32, (String, u64)> = BTreeMap::new();
        let mut marker = String::new();
        loop {
            let mut request = Request::new(Verb::Get, &self.key).query("uploadId", &*self.upload_id);
            if !marker.is_empty() {
                request = request.query("part-number-marker", &*marker);
            }
            let answer = root.client.send(&request)?;
            if answer.status == 404 {
                return Ok(false);
            }
            if !answer.is_ok() {
                return Err(answer.error(&super::error::Situation { place: &root.client.place(&self.key), name: None }));
            }
            let unreadable = || super::versions::unreadable(&root.client, &self.key);
            let page = xml::parse(&answer.text()?).ok_or_else(unreadable)?;
            for part in page.all("Part") {
                let number = |name| part.text_of(name).and_then(|text| text.parse::<u64>().ok());
                let (Some(n), Some(size)) = (number("PartNumber").and_then(|n| u32::try_from(n).ok()), number("Size")) else { continue };
                found.insert(n, (part.text_of("ETag").unwrap_or_default().to_owned(), size));
            }
            let next = page.text_of("NextPartNumberMarker").unwrap_or_default();
            if !page.is_true("IsTruncated") || next.is_empty() || next == marker {
                break;
            }
            marker = next.to_owned();
        }
        let (size, part_bytes) = (self.size, self.part_bytes);
        self.parts.retain(|number, part| {
            let expected = (part.etag.clone(), part_len(size, part_bytes, *number));
            found.get(number) == Some(&expected)
        });
        Ok(true)
    }
}

/// Bytes of part `number`, from 1.
pub(super) fn part_len(size: u64, part_bytes: u64, number: u32) -> u64 {
    let start = u64::from(number.saturating_sub(1)).saturating_mul(part_bytes);
    size.saturating_sub(start).min(part_bytes)
}

fn path(root: &Root, key: &str) -> PathBuf {
    let place = format!("{} {}", root.client.host(), root.client.place(key));
    let short: String = hex::encode(Sha256::digest(place)).chars().take(32).collect();
    root.options.spool_dir.join(format!("multipart-{short}.json"))
}
