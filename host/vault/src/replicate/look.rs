//! What is at the replica: by the catalogue and a look at what is not settled, or by a listing.

use super::{
    ReplicationReport,
    catalogue::{Catalogue, CatalogueFiles},
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

/// By epoch: what the source has of it, in short.
pub(super) type Digests = BTreeMap<String, String>;

/// Names with the size that the replica gives for them.
pub(super) type Sizes = BTreeMap<ObjectName, Option<u64>>;

impl Copier<'_> {
    /// Makes sure that the replica is one of this vault (or empty), and finds out what can be known without listing it.
    pub fn known(&self) -> Result<Known, VaultError> {
        let Some(catalogue) = self.lock().files.as_mut().and_then(CatalogueFiles::load) else {
            self.check_vault()?;
            return Ok(Known::Listing(self.salvage()));
        };
        let unsettled = catalogue.unsettled();
        if self.options.full || unsettled.len() > MOST_LOOKS {
            self.check_vault()?;
            return Ok(Known::Listing(self.salvage()));
        }
        let names: Vec<ObjectName> = unsettled.iter().map(|(name, _)| name.clone()).collect();
        let sizes = self.sizes(&names)?;
        // A folder that holds an object of ours under the SHA-256 of its bytes is a replica of this vault. That saves the
        // reading of its description.
        let is_seen = |(name, size): &(ObjectName, u64)| sizes.get(name) == Some(&Some(*size));
        let is_ours = unsettled.iter().any(|object| layout::claimed_hash(object.0.as_str()).is_some() && is_seen(object));
        if is_ours || self.check_vault()? { Ok(Known::Catalogue(catalogue, sizes)) } else { Ok(Known::Listing(self.salvage())) }
    }

    /// Whatever is remembered of the replica, in spite of any damage; that is said.
    fn salvage(&self) -> Option<Catalogue> {
        let mut state = self.lock();
        let (catalogue, lost) = state.files.as_ref()?.salvage();
        if !lost.is_empty() {
            state.report.notes.push(format!(
                "the memory of what this replica held was lost for {} (damaged in the state folder): what may have vanished of that cannot be told",
                lost.join(", ")
            ));
        }
        catalogue
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

    /// Takes what is known as the catalogue of this copy, and notes what vanished. Epochs of which the replica is known to
    /// lack nothing are struck from `source`.
    pub fn settle(&self, known: Known, source: &mut SourceObjects, digests: &Digests) -> Result<(), VaultError> {
        let notes = self.to.notes();
        self.lock().report.notes.extend(notes);
        match known {
            Known::Catalogue(mut catalogue, sizes) => {
                if self.load_source(&mut catalogue, source, digests) {
                    return self.looked(catalogue, sizes, source);
                }
                self.take_listing(&self.salvage().unwrap_or_default(), source)
            }
            Known::Listing(before) => self.take_listing(&before.unwrap_or_default(), source),
        }
    }

    /// Loads the epochs that are to be compared with the source. `false` where one cannot be.
    fn load_source(&self, catalogue: &mut Catalogue, source: &mut SourceObjects, digests: &Digests) -> bool {
        let mut state = self.lock();
        let Some(files) = &mut state.files else { return true };
        let is_done = |epoch: &String| digests.get(epoch).is_some_and(|digest| catalogue.is_done(epoch, digest));
        let open: BTreeSet<String> = source.epochs.keys().filter(|epoch| !is_done(epoch)).cloned().collect();
        let loaded = open.iter().all(|epoch| files.load_epoch(catalogue, epoch));
        if loaded {
            source.epochs.retain(|epoch, _| open.contains(epoch));
        }
        loaded
    }

    fn take_listing(&self, before: &Catalogue, source: &SourceObjects) -> Result<(), VaultError> {
        let found = self.listed(before)?;
        let mut state = self.lock();
        state.report.listed = true;
        self.note_vanished(&mut state, &found, before, source)?;
        state.catalogue = found;
        // A listing is not made twice because the copy that follows it is killed.
        state.save();
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

    /// What was looked at is settled, or gone.
    fn looked(&self, catalogue: Catalogue, sizes: Sizes, source: &SourceObjects) -> Result<(), VaultError> {
        let mut state = self.lock();
        let mut found = catalogue.clone();
        for (name, size) in &sizes {
            match size {
                Some(size) => found.insert(name.clone(), *size, true),
                None => found.remove(name),
            }
        }
        if !sizes.is_empty() {
            self.note_vanished(&mut state, &found, &catalogue, source)?;
        }
        state.catalogue = found;
        sizes.keys().for_each(|name| state.append(name));
        Ok(())
    }

    /// What is lost is said before the catalogue forgets it.
    fn note_vanished(&self, state: &mut State, found: &Catalogue, before: &Catalogue, source: &SourceObjects) -> Result<(), VaultError> {
        let lost = vanished(&mut state.report, found, before, source);
        match &self.options.on_lost {
            Some(on_lost) if !lost.is_empty() => (on_lost.0)(&lost)?,
            _ => {}
        }
        let (names, sizes): (Vec<String>, Vec<u64>) = lost.into_iter().unzip();
        state.report.lost.extend(names);
        state.report.lost_bytes.extend(sizes);
        Ok(())
    }
}

/// Notes what is gone or has another size, and gives what of that the source has no more.
fn vanished(report: &mut ReplicationReport, found: &Catalogue, before: &Catalogue, source: &SourceObjects) -> Vec<(String, u64)> {
    let changed = |name: &ObjectName, known: u64| found.size(name) != Some(known);
    let gone: Vec<(&ObjectName, u64)> =
        before.iter().map(|(name, known)| (name, known.size)).filter(|(name, known)| changed(name, *known)).collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let at_source: BTreeSet<&ObjectName> = source.all().map(|object| &object.name).collect();
    for (name, _) in &gone {
        if found.size(name).is_none() {
            tracing::warn!(object = %name, "an object that the replica held is gone from it");
            report.vanished.push(name.as_str().to_owned());
        } else if !at_source.contains(name) {
            // Cut or grown behind our back, and the source cannot say any more what it was.
            tracing::warn!(object = %name, "an object at the replica has another size than it was written with");
        }
    }
    let lost = gone.into_iter().filter(|(name, _)| !at_source.contains(name));
    lost.map(|(name, size)| (name.as_str().to_owned(), size)).collect()
}
