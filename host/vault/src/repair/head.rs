//! The small files: taken from another replica where it has a pair that agrees, made anew where they can be.

use super::{Found, Repair, RepairOutcome, spool::Spooled};
use crate::{
    error::VaultError,
    layout,
    open::{Vault, at, readme, sum_line},
    scrub,
    store::{ObjectName, Store, StoreError},
};

/// None of them is larger.
const MAX_BYTES: u64 = 1 << 20;

impl Repair<'_> {
    pub(super) fn small(&self, name: &ObjectName) -> Result<(RepairOutcome, Option<String>), VaultError> {
        let good = match scrub::key_id(name.as_str()) {
            Some(id) if name.as_str().ends_with(".age") => self.key(id)?,
            Some(id) => self.key_sum(id)?,
            None => self.top(name.as_str())?,
        };
        let Some((bytes, from)) = good else {
            return Ok((RepairOutcome::Lost { why: "no other store has it together with a sum that agrees".to_owned() }, None));
        };
        if read(&*self.target.store, name)?.as_ref() == Some(&bytes) {
            return Ok((RepairOutcome::Whole, None));
        }
        let bytes = Spooled::of(&self.options.spool, &bytes)?;
        self.replace(name, &Found { bytes, from })
    }

    /// A wrapped key whose sum beside it agrees, in another replica.
    fn key(&self, id: &str) -> Result<Option<(Vec<u8>, String)>, VaultError> {
        for source in self.sources {
            if let (Some(key), Some(sum)) = (read_of(source, &layout::key(id)), read_of(source, &layout::key_sum(id)))
                && sum == sum_line(&key, &format!("{id}.age")).into_bytes()
            {
                return Ok(Some((key, source.store.describe())));
            }
        }
        Ok(None)
    }

    /// The sum of a key file that is whole: another replica has the same with its sum, one of our identities opens it, or
    /// another replica has the same bytes (a crash between the two files was copied).
    fn key_sum(&self, id: &str) -> Result<Option<(Vec<u8>, String)>, VaultError> {
        let line = |key: &[u8]| sum_line(key, &format!("{id}.age")).into_bytes();
        if let Some((key, from)) = self.key(id)? {
            return Ok(Some((line(&key), from)));
        }
        let name = layout::key(id);
        let Some(key) = read(&*self.target.store, &name)? else { return Ok(None) };
        if self.opens(id, &key) {
            return Ok(Some((line(&key), format!("{name}, which opens"))));
        }
        let same = self.sources.iter().find(|source| read_of(source, &name).as_ref() == Some(&key));
        Ok(same.map(|source| (line(&key), format!("{name}, which is the same in {}", source.store.describe()))))
    }

    /// Whether the file `keys/<id>.age` holds the key that it names, as far as our identities can open it.
    fn opens(&self, id: &str, wrapped: &[u8]) -> bool {
        let named = id.split('-').next().unwrap_or(id);
        let opened = crate::keys::unwrap(wrapped, &self.options.identities);
        opened.is_ok_and(|key| crate::keys::KeyId::of(&key).to_string() == named)
            || (self.opened_here && named == id && self.target.ring.ids().iter().any(|known| known.to_string() == id))
    }

    /// `README.txt` and `vault.json` as another replica has them with their sums, else made anew; the sums of both.
    fn top(&self, name: &str) -> Result<Option<(Vec<u8>, String)>, VaultError> {
        if name == layout::HEAD_SUMS {
            let mut sums = String::new();
            if self.is_top_damaged()? {
                return Ok(None);
            }
            for part in [layout::README, layout::VAULT_JSON] {
                let Some(bytes) = read(&*self.target.store, &layout::top(part))? else { return Ok(None) };
                sums += &sum_line(&bytes, part);
            }
            return Ok(Some((sums.into_bytes(), "README.txt and vault.json".to_owned())));
        }
        let part = if name == layout::README { layout::README } else { layout::VAULT_JSON };
        for source in self.sources {
            let sums = read_of(source, &layout::top(layout::HEAD_SUMS)).unwrap_or_default();
            let bytes = read_of(source, &layout::top(part)).filter(|b| contains(&sums, sum_line(b, part).as_bytes()));
            let same_vault = |bytes: &Vec<u8>| part == layout::README || serde_json::from_slice(bytes).ok().as_ref() == Some(self.info());
            if let Some(bytes) = bytes.filter(same_vault) {
                return Ok(Some((bytes, source.store.describe())));
            }
        }
        let (made, from) = match part {
            layout::README => (readme(self.info()).into_bytes(), "made anew by this program"),
            _ => (scrub::info_json(self.info()), "the vault's own description, as it was opened"),
        };
        Ok(Some((made, from.to_owned())))
    }
}

impl Repair<'_> {
    /// Sums of a damaged file would make it look whole for good.
    fn is_top_damaged(&self) -> Result<bool, VaultError> {
        let mut files = scrub::Small::new();
        for name in [layout::README, layout::VAULT_JSON, layout::HEAD_SUMS] {
            if let Some(bytes) = read(&*self.target.store, &layout::top(name))? {
                files.insert(name.to_owned(), bytes);
            }
        }
        Ok(scrub::check_top(&files, self.info()).iter().any(|(name, _)| name != layout::HEAD_SUMS))
    }
}

fn contains(text: &[u8], line: &[u8]) -> bool {
    text.windows(line.len().max(1)).any(|part| part == line)
}

fn read(store: &dyn Store, name: &ObjectName) -> Result<Option<Vec<u8>>, VaultError> {
    match store.read(name, MAX_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) if scrub::tells_of(store, name, &error) => Ok(None),
        Err(error) => Err(at(store, error)),
    }
}

/// From a source; one that fails has nothing to give.
fn read_of(source: &Vault, name: &ObjectName) -> Option<Vec<u8>> {
    read(&*source.store, name).unwrap_or_else(|error| {
        tracing::warn!(%error, "a source of repairs was passed over");
        None
    })
}
