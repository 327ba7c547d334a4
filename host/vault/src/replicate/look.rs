//! What is at the replica: by the catalogue and a look at what is not settled, or by a listing.

use super::{
    catalogue::{Catalogue, CatalogueFile},
    copy::{Copier, State},
    plan::SourceObjects,
};
use crate::{
    error::VaultError,
    layout,
    open::{at, read_info},
    store::{ObjectName, StoreError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// More unsettled objects than this are looked at by one listing.
const MOST_LOOKS: usize = 256;

/// What is known of the replica before anything is written.
pub(super) enum Known {
    /// The catalogue stands; these sizes are what the unsettled objects have.
    Catalogue(Catalogue, Sizes),
    /// The replica has to be listed; the catalogue, where there is one, says what should be there.
    Listing(Option<Catalogue>),
}

/// Names with the size that the replica gives for them.
pub(super) type Sizes = BTreeMap<ObjectName, Option<u64>>;

impl Copier<'_> {
    /// Makes sure that the replica is one of this vault (or empty), and finds out what can be known without listing it.
    pub fn known(&self) -> Result<Known, VaultError> {
        let Some(catalogue) = self.lock().file.as_ref().and_then(CatalogueFile::load) else {
            self.check_vault()?;
            return Ok(Known::Listing(None));
        };
        let unsettled = catalogue.unsettled();
        if self.options.full || unsettled.len() > MOST_LOOKS {
            self.check_vault()?;
            return Ok(Known::Listing(Some(catalogue)));
        }
        let names: Vec<ObjectName> = unsettled.iter().map(|(name, _)| name.clone()).collect();
        let sizes = self.sizes(&names)?;
        // A folder that holds an object of ours under the SHA-256 of its bytes is a replica of this vault. That saves the
        // reading of its description.
        let is_seen = |(name, size): &(ObjectName, u64)| sizes.get(name) == Some(&Some(*size));
        let is_ours = unsettled.iter().any(|object| layout::claimed_hash(object.0.as_str()).is_some() && is_seen(object));
        if is_ours || self.check_vault()? { Ok(Known::Catalogue(catalogue, sizes)) } else { Ok(Known::Listing(Some(catalogue))) }
    }

    /// Whether there is a vault; it must be this one.
    fn check_vault(&self) -> Result<bool, VaultError> {
        match read_info(self.to) {
            Ok(info) if info.vault_id == self.from.info.vault_id => Ok(true),
            Ok(info) => {
                Err(VaultError::OtherVault { place: self.to.describe(), found: info.vault_id, expected: self.from.info.vault_id.clone() })
            }
            Err(VaultError::NoVault { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Takes what is known as the catalogue of this copy, and notes what vanished.
    pub fn settle(&self, known: Known, source: &SourceObjects) -> Result<(), VaultError> {
        let (found, before) = match known {
            Known::Catalogue(mut catalogue, sizes) => {
                let before = catalogue.clone();
                apply(&mut catalogue, sizes);
                (catalogue, before)
            }
            Known::Listing(before) => {
                let before = before.unwrap_or_default();
                self.lock().report.listed = true;
                (self.listed(&before)?, before)
            }
        };
        let notes = self.to.notes();
        let mut state = self.lock();
        state.report.notes.extend(notes);
        note_vanished(&mut state, &found, &before, source);
        state.unsaved = found != before;
        state.catalogue = found;
        // A listing is not made twice because the copy that follows it is killed.
        if state.report.listed {
            state.save();
        }
        Ok(())
    }

    /// Everything at the replica. What a listing does not show though the catalogue has it is asked for by name: a
    /// listing may be stale.
    fn listed(&self, before: &Catalogue) -> Result<Catalogue, VaultError> {
        let mut found = Catalogue::default();
        for object in self.to.list("").map_err(|e| at(self.to, e))? {
            found.insert(object.name, object.size, true);
        }
        let unseen: Vec<ObjectName> = before.iter().map(|(name, _)| name).filter(|name| found.size(name).is_none()).cloned().collect();
        for (name, size) in self.sizes(&unseen)? {
            if let Some(size) = size {
                found.insert(name, size, true);
            }
        }
        Ok(found)
    }

    /// Asks for several sizes at once.
    fn sizes(&self, names: &[ObjectName]) -> Result<Sizes, VaultError> {
        let (next, found) = (AtomicUsize::new(0), Mutex::new((Sizes::new(), None)));
        let turn = || {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let size = if self.options.cancel.is_cancelled() { Err(VaultError::Cancelled) } else { self.size(name) };
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                match size {
                    Ok(size) => found.0.insert(name.clone(), size),
                    Err(error) => {
                        found.1.get_or_insert(error);
                        break;
                    }
                };
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.threads().min(names.len()) {
                scope.spawn(turn);
            }
        });
        let (sizes, failure) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(sizes), Err)
    }

    fn size(&self, name: &ObjectName) -> Result<Option<u64>, VaultError> {
        match self.to.size(name) {
            Err(StoreError::NotFound { .. }) => Ok(None),
            other => other.map_err(|e| at(self.to, e)),
        }
    }
}

/// What was looked at is settled, or gone.
fn apply(catalogue: &mut Catalogue, sizes: Sizes) {
    for (name, size) in sizes {
        match size {
            Some(size) => catalogue.insert(name, size, true),
            None => catalogue.remove(&name),
        }
    }
}

fn note_vanished(state: &mut State, found: &Catalogue, before: &Catalogue, source: &SourceObjects) {
    let at_source: BTreeSet<&ObjectName> = source.all().map(|object| &object.name).collect();
    for (name, known) in before.iter() {
        // Cut or grown behind our back, and the source cannot say any more what it was.
        if found.size(name).is_some_and(|size| size != known.size) && !at_source.contains(name) {
            tracing::warn!(object = %name, "an object at the replica has another size than it was written with");
            state.report.lost.push(name.as_str().to_owned());
        }
    }
    let vanished: Vec<&ObjectName> = before.iter().map(|(name, _)| name).filter(|name| found.size(name).is_none()).collect();
    if vanished.is_empty() {
        return;
    }
    for name in vanished {
        tracing::warn!(object = %name, "an object that the replica held is gone from it");
        state.report.vanished.push(name.as_str().to_owned());
        if !at_source.contains(name) {
            state.report.lost.push(name.as_str().to_owned());
        }
    }
}
