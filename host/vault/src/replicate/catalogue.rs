//! What a replica is known to hold: a local file, made anew from a listing wherever it is missing or damaged.
//!
//! The first line says which vault and which store it is about. Each further line is one object: `s` (settled) or `u`
//! (not yet), size, name, and the first 8 hex digits of the SHA-256 of what stands before them. A line is appended once
//! the store has said that the object is there; at the end of a copy the file is written anew and put in its place.

use crate::store::ObjectName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The only version so far.
const VERSION: u32 = 1;

/// One object at the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub size: u64,
    /// A look after the call that put it has seen it, or the store promises that names survive a power cut.
    pub settled: bool,
}

/// The objects that a replica is known to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    objects: BTreeMap<ObjectName, Known>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    catalogue: u32,
    vault: String,
    store: String,
}

impl Catalogue {
    pub fn size(&self, name: &ObjectName) -> Option<u64> {
        self.objects.get(name).map(|known| known.size)
    }

    pub fn insert(&mut self, name: ObjectName, size: u64, settled: bool) {
        self.objects.insert(name, Known { size, settled });
    }

    pub fn remove(&mut self, name: &ObjectName) {
        self.objects.remove(name);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ObjectName, Known)> {
        self.objects.iter().map(|(name, known)| (name, *known))
    }

    /// Objects that a later look has to see before they are believed.
    pub fn unsettled(&self) -> Vec<(ObjectName, u64)> {
        self.iter().filter(|(_, known)| !known.settled).map(|(name, known)| (name.clone(), known.size)).collect()
    }
}

/// The file of one replica's catalogue.
#[derive(Debug)]
pub(super) struct CatalogueFile {
    path: PathBuf,
    head: Head,
    journal: Option<File>,
}

impl CatalogueFile {
    /// The file for `vault` in `folder`; `store` is the replica's store, as it describes itself.
    pub fn new(folder: &Path, vault: &str, store: String) -> Self {
        let head = Head { catalogue: VERSION, vault: vault.to_owned(), store };
        Self { path: path(folder, vault), head, journal: None }
    }

    /// What it says; `None` where it is missing, damaged, of another version, or about another place.
    pub fn load(&self) -> Option<Catalogue> {
        let (head, catalogue) = read(&self.path)?;
        if head == self.head {
            return Some(catalogue);
        }
        tracing::warn!(path = %self.path.display(), "the replica catalogue is about another place; the replica is listed");
        None
    }

    /// Adds an object that the store has just said to be there and that is in `catalogue` by now. A process that dies
    /// loses none of these.
    pub fn append(&mut self, name: &ObjectName, catalogue: &Catalogue) -> io::Result<()> {
        match (&mut self.journal, catalogue.objects.get(name)) {
            (Some(file), Some(known)) => file.write_all(line(name, *known).as_bytes()),
            // The file may end in a torn line: it is written anew before the first is appended.
            (None, _) => self.save(catalogue),
            (Some(_), None) => Ok(()),
        }
    }

    /// Writes it anew and puts it in its place; from then on objects are appended to it.
    pub fn save(&mut self, catalogue: &Catalogue) -> io::Result<()> {
        self.journal = None;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut text = serde_json::to_string(&self.head).map_err(io::Error::other)? + "\n";
        text.extend(catalogue.iter().map(|(name, known)| line(name, known)));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|e| e.error)?;
        File::open(folder)?.sync_all()?;
        self.journal = Some(OpenOptions::new().append(true).open(&self.path)?);
        Ok(())
    }
}

fn path(folder: &Path, vault: &str) -> PathBuf {
    folder.join(format!("{vault}.objects"))
}

/// What the catalogue of `vault` in `folder` says, whichever store it is about.
pub(super) fn load(folder: &Path, vault: &str) -> Option<Catalogue> {
    let (head, catalogue) = read(&path(folder, vault))?;
    (head.vault == vault).then_some(catalogue)
}

fn read(path: &Path) -> Option<(Head, Catalogue)> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the replica catalogue cannot be read; the replica is listed");
            return None;
        }
    };
    let parsed = parse(&text);
    if parsed.is_none() {
        tracing::warn!(path = %path.display(), "the replica catalogue is damaged; the replica is listed");
    }
    parsed
}

fn parse(text: &str) -> Option<(Head, Catalogue)> {
    let (head, rest) = text.split_once('\n')?;
    let head: Head = serde_json::from_str(head).ok().filter(|head: &Head| head.catalogue == VERSION)?;
    let mut catalogue = Catalogue::default();
    for line in rest.split_inclusive('\n') {
        // A process that died while it appended leaves a last line without its end.
        let Some(line) = line.strip_suffix('\n') else { break };
        let (name, known) = parse_line(line)?;
        catalogue.objects.insert(name, known);
    }
    Some((head, catalogue))
}

fn line(name: &ObjectName, known: Known) -> String {
    let text = format!("{} {} {name}", if known.settled { 's' } else { 'u' }, known.size);
    format!("{text} {}\n", sum(&text))
}

fn parse_line(line: &str) -> Option<(ObjectName, Known)> {
    let (text, found) = line.rsplit_once(' ')?;
    let mut parts = text.split(' ');
    let settled = match parts.next()? {
        "s" => true,
        "u" => false,
        _ => return None,
    };
    let size = parts.next()?.parse().ok()?;
    let name = ObjectName::new(parts.next()?).ok()?;
    (sum(text) == found && parts.next().is_none()).then_some((name, Known { size, settled }))
}

fn sum(text: &str) -> String {
    let mut hex = hex::encode(Sha256::digest(text.as_bytes()));
    hex.truncate(8);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    fn sample() -> Catalogue {
        let mut catalogue = Catalogue::default();
        catalogue.insert(name("vault.json"), 400, true);
        catalogue.insert(name("epochs/2026/packs/ab/cd"), 70_000_000, false);
        catalogue
    }

    #[test]
    fn what_is_saved_and_appended_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = CatalogueFile::new(&folder.path().join("new"), "ab", "memory a\nb".to_owned());
        assert_eq!(file.load(), None);
        let mut catalogue = sample();
        file.save(&catalogue).unwrap();
        catalogue.insert(name("x"), 1, true);
        file.append(&name("x"), &catalogue).unwrap();
        catalogue.insert(name("vault.json"), 401, false);
        file.append(&name("vault.json"), &catalogue).unwrap();
        assert_eq!(file.load(), Some(catalogue));
    }

    #[test]
    fn a_torn_end_loses_one_line_and_any_other_damage_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = CatalogueFile::new(folder.path(), "ab", "memory".to_owned());
        file.save(&sample()).unwrap();
        let path = path(folder.path(), "ab");
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let loaded = file.load();
            assert!(loaded.is_none_or(|c| c.iter().all(|(name, known)| sample().objects.get(name) == Some(&known))), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let loaded = file.load();
            let all_known = loaded.is_none_or(|c| c.iter().all(|(name, known)| sample().objects.get(name) == Some(&known)));
            assert!(all_known, "bit of byte {at}");
        }
    }

    #[test]
    fn another_place_is_another_catalogue() {
        let folder = tempfile::tempdir().unwrap();
        CatalogueFile::new(folder.path(), "ab", "memory".to_owned()).save(&sample()).unwrap();
        assert_eq!(CatalogueFile::new(folder.path(), "ab", "elsewhere".to_owned()).load(), None);
        assert_eq!(load(folder.path(), "ab"), Some(sample()));
        assert_eq!(load(folder.path(), "cd"), None);
    }
}
