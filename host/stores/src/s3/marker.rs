//! The object that says which store a prefix is, and what it serves for beside that: writing it once more under the
//! condition that it is not there shows whether the server knows conditions, at no risk.

use super::{
    Root,
    client::{Request, Verb},
    error::{Situation, sort},
};
use havun_model::StoreName;
use havun_vault::store::{MARKER, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fs, io, path::PathBuf, sync::atomic::Ordering};

/// Content of the marker object: as that of a local store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// The store's name in the configuration that made it.
    store: String,
    /// Random, 32 hex digits.
    id: String,
}

pub(super) fn prepare(root: &Root, name: &StoreName) -> Result<(), StoreError> {
    if let Some(marker) = read(root)? {
        return named(root, &marker, name);
    }
    let marker = Marker { store: name.to_string(), id: super::store::random_hex()? };
    match write(root, &marker)? {
        Written::Taken => match read(root)? {
            Some(other) => named(root, &other, name),
            None => Err(missing(root)),
        },
        Written::Yes | Written::NoConditions => Ok(()),
    }
}

fn named(root: &Root, marker: &Marker, name: &StoreName) -> Result<(), StoreError> {
    if marker.store == name.as_str() {
        return Ok(());
    }
    let path = PathBuf::from(root.client.place(&root.key("")));
    Err(StoreError::WrongMarker { path, expected: name.to_string(), found: marker.store.clone() })
}

fn missing(root: &Root) -> StoreError {
    StoreError::NoMarker { path: PathBuf::from(root.client.place(&root.key(""))) }
}

/// The marker; `None` where there is none. An error where there is no such bucket.
fn read(root: &Root) -> Result<Option<Marker>, StoreError> {
    let key = root.key(MARKER);
    let answer = root.client.send(&Request::new(Verb::Get, &key))?;
    if !answer.is_ok() {
        let (what, said) = answer.said();
        if said.status == 404 && said.code != "NoSuchBucket" {
            root.bucket_seen.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        return Err(sort(&what, &said, &Situation { place: &root.client.place(&key), name: None }));
    }
    root.bucket_seen.store(true, Ordering::Relaxed);
    let text = answer.text()?;
    let path = PathBuf::from(root.client.place(&key));
    let marker = serde_json::from_str(&text).map_err(|e| StoreError::Io { path, source: io::Error::new(io::ErrorKind::InvalidData, e) })?;
    Ok(Some(marker))
}

enum Written {
    Yes,
    /// It is there.
    Taken,
    /// The server does not do it under a condition.
    NoConditions,
}

fn write(root: &Root, marker: &Marker) -> Result<Written, StoreError> {
    let key = root.key(MARKER);
    let mut text = serde_json::to_vec(marker).map_err(|e| StoreError::at(&PathBuf::from(&key), e.into()))?;
    text.push(b'\n');
    let sha256: [u8; 32] = Sha256::digest(&text).into();
    let request = Request::new(Verb::Put, &key).body(&text, &sha256);
    let answer = root.client.send(&request.clone().header("if-none-match", "*"))?;
    match answer.status {
        412 => Ok(Written::Taken),
        _ if answer.is_ok() => Ok(Written::Yes),
        400 | 501 => {
            root.client.ask(&request, None)?;
            Ok(Written::NoConditions)
        }
        _ => Err(answer.error(&Situation { place: &root.client.place(&key), name: None })),
    }
}

impl Root {
    /// Whether this is a store at all; asked once.
    ///
    /// # Errors
    /// [`StoreError::NoMarker`]; [`StoreError::Refused`] where the bucket is not there or not ours.
    pub(super) fn marker(&self) -> Result<&Marker, StoreError> {
        if self.marker.get().is_none() {
            let found = read(self)?.ok_or_else(|| missing(self))?;
            let _ = self.marker.set(found);
        }
        self.marker.get().ok_or_else(|| missing(self))
    }

    /// Whether `If-None-Match: *` works here; tried once, and remembered in the spool folder.
    pub(super) fn is_conditional(&self) -> Result<bool, StoreError> {
        if let Some(known) = self.conditional.get() {
            return Ok(*known);
        }
        let marker = self.marker()?;
        let remembered =
            self.spool_dir()?.join(format!("conditional-{}", marker.id.chars().filter(char::is_ascii_hexdigit).collect::<String>()));
        let known = match fs::read_to_string(&remembered) {
            Ok(text) if text == "yes" => true,
            _ => {
                let works = matches!(write(self, marker)?, Written::Taken);
                if works {
                    fs::write(&remembered, "yes").map_err(|e| StoreError::at(&remembered, e))?;
                }
                works
            }
        };
        Ok(*self.conditional.get_or_init(|| known))
    }

    /// A `HEAD` that finds nothing does not say whether the object or the bucket is missing: asked once.
    pub(super) fn see_bucket(&self) -> Result<(), StoreError> {
        if !self.bucket_seen.load(Ordering::Relaxed) {
            read(self)?;
        }
        Ok(())
    }
}
