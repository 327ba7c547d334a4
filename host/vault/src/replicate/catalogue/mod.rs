//! What a replica is known to hold: local files, made anew from a listing wherever one is missing or damaged.
//!
//! There is one *part* for each epoch and one, the *head*, for everything else (`<vault id>.<epoch>.objects` and
//! `<vault id>.objects`). The head also has a [`Mark`] for each epoch, and an epoch that is marked as done is not even read
//! by a copy: what a copy costs does not grow with the age of the vault. Parts are appended to and hardly ever written
//! anew.
//!
//! Read `part` (a file and its lines) first, then this: [`Catalogue`] is what is in memory, [`CatalogueFiles`] what is on the
//! disk.

mod part;
#[cfg(test)]
mod tests;

use crate::{layout, store::ObjectName};
use part::{Found, Head, Line, Part};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// A part is written anew when it has more than twice the lines that it needs, and so many more.
const SLACK_LINES: usize = 64;

/// How [`CatalogueFiles::salvage`] calls what the head knows.
const ABOVE: &str = "keys and records";

/// One object at the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub size: u64,
    /// A look after the call that put it has seen it, or the store promises that names survive a power cut.
    pub settled: bool,
}

/// What the head says of an epoch's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// Anything may be in it.
    Open,
    /// All that is in it is settled.
    Settled,
    /// The same, and the replica lacks nothing while the source's list of the epoch has this digest.
    Done(String),
}

/// The objects that a replica is known to hold, as far as they are loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    objects: BTreeMap<ObjectName, Known>,
    /// Every epoch of which there is a part.
    marks: BTreeMap<String, Mark>,
    loaded: BTreeSet<String>,
}

impl Catalogue {
    pub fn size(&self, name: &ObjectName) -> Option<u64> {
        self.objects.get(name).map(|known| known.size)
    }

    pub fn insert(&mut self, name: ObjectName, size: u64, settled: bool) {
        if let Some(epoch) = epoch_of(&name) {
            self.loaded.insert(epoch.to_owned());
        }
        self.objects.insert(name, Known { size, settled });
    }

    pub fn remove(&mut self, name: &ObjectName) {
        self.objects.remove(name);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ObjectName, Known)> {
        self.objects.iter().map(|(name, known)| (name, *known))
    }

    /// Objects that a later look has to see before they are believed. Epochs that are not loaded have none.
    pub fn unsettled(&self) -> Vec<(ObjectName, u64)> {
        self.iter().filter(|(_, known)| !known.settled).map(|(name, known)| (name.clone(), known.size)).collect()
    }

    /// Whether nothing is lacking of an epoch whose list at the source has this digest.
    pub fn is_done(&self, epoch: &str, digest: &str) -> bool {
        matches!(self.marks.get(epoch), Some(Mark::Done(known)) if known == digest)
    }

    /// Epochs that are loaded.
    pub fn loaded(&self) -> Vec<String> {
        self.loaded.iter().cloned().collect()
    }

    pub fn is_settled(&self, epoch: &str) -> bool {
        self.iter().all(|(name, known)| known.settled || epoch_of(name) != Some(epoch))
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::There(name, known) => self.insert(name, known.size, known.settled),
            Line::Gone(name) => self.remove(&name),
            Line::Epoch(epoch, mark) => drop(self.marks.insert(epoch, mark)),
        }
    }

    /// How many lines a part needs.
    fn count(&self, epoch: Option<&str>) -> usize {
        let marks = if epoch.is_none() { self.marks.len() } else { 0 };
        marks + self.objects.keys().filter(|name| epoch_of(name) == epoch).count()
    }

    /// The lines of one part, as few as can say it; `None` is the head.
    fn lines(&self, epoch: Option<&str>) -> Vec<Line> {
        let marks = self.marks.iter().filter(|_| epoch.is_none()).map(|(epoch, mark)| Line::Epoch(epoch.clone(), mark.clone()));
        let objects = self.iter().filter(|(name, _)| epoch_of(name) == epoch).map(|(name, known)| Line::There(name.clone(), known));
        marks.chain(objects).collect()
    }
}

/// The epoch that an object lies in; none for what stands above the epochs.
fn epoch_of(name: &ObjectName) -> Option<&str> {
    let (epoch, _) = name.as_str().strip_prefix("epochs/")?.split_once('/')?;
    layout::is_epoch(epoch).then_some(epoch)
}

/// The files of one replica's catalogue.
#[derive(Debug)]
pub(super) struct CatalogueFiles {
    folder: PathBuf,
    /// Whatever its store is, where none is said.
    head: Head,
    /// Open for appending; the head's under `None`.
    parts: BTreeMap<Option<String>, Part>,
    /// How many lines each part had when it was read or written.
    lines: BTreeMap<Option<String>, usize>,
}

impl CatalogueFiles {
    /// The files for `vault` in `folder`; `store` is the replica's store, as it describes itself, or none where any will do.
    pub fn new(folder: &Path, vault: &str, store: Option<String>) -> Self {
        Self { folder: folder.to_owned(), head: Head::new(vault, store), parts: BTreeMap::new(), lines: BTreeMap::new() }
    }

    /// What a copy has to know: the head, and the epochs that are neither settled nor done. `None` where any of it is
    /// missing, damaged, of another version, or about another place.
    pub fn load(&mut self) -> Option<Catalogue> {
        let mut catalogue = Catalogue::default();
        self.read(None)?.into_iter().for_each(|line| catalogue.take(line));
        let open: Vec<String> = catalogue.marks.iter().filter(|(_, mark)| **mark == Mark::Open).map(|(epoch, _)| epoch.clone()).collect();
        open.iter().all(|epoch| self.load_epoch(&mut catalogue, epoch)).then_some(catalogue)
    }

    /// Everything.
    pub fn load_all(&mut self) -> Option<Catalogue> {
        let mut catalogue = self.load()?;
        let epochs: Vec<String> = catalogue.marks.keys().cloned().collect();
        epochs.iter().all(|epoch| self.load_epoch(&mut catalogue, epoch)).then_some(catalogue)
    }

    /// Loads the part of an epoch where there should be one and it is not loaded. `false` where it cannot be used.
    pub fn load_epoch(&mut self, catalogue: &mut Catalogue, epoch: &str) -> bool {
        if !catalogue.marks.contains_key(epoch) || !catalogue.loaded.insert(epoch.to_owned()) {
            return true;
        }
        let lines = self.read(Some(epoch));
        let found = lines.is_some();
        lines.into_iter().flatten().for_each(|line| catalogue.take(line));
        found
    }

    fn read(&mut self, epoch: Option<&str>) -> Option<Vec<Line>> {
        let Found::Lines(lines) = part::read(&self.path(epoch), &self.head) else { return None };
        self.lines.insert(epoch.map(str::to_owned), lines.len());
        Some(lines)
    }

    /// Everything that can be read, whatever is damaged; none where nothing can. And what cannot: epochs, and [`ABOVE`]. Both
    /// are empty where there never was a catalogue of this place.
    pub fn salvage(&self) -> (Option<Catalogue>, Vec<String>) {
        let (mut catalogue, mut lost) = (Catalogue::default(), Vec::new());
        let head = part::read(&self.path(None), &self.head);
        let mut any = matches!(head, Found::Lines(_));
        let has_head = matches!(head, Found::Lines(_) | Found::Elsewhere);
        if let Found::Lines(lines) = head {
            lines.into_iter().for_each(|line| catalogue.take(line));
        }
        let marked = catalogue.marks.keys().cloned();
        for epoch in marked.chain(self.epochs_on_disk().unwrap_or_default()).collect::<BTreeSet<_>>() {
            match part::read(&self.path(Some(&epoch)), &self.head) {
                Found::Lines(lines) => {
                    any = true;
                    lines.into_iter().for_each(|line| catalogue.take(line));
                }
                Found::Elsewhere => {}
                Found::Missing | Found::Damaged => lost.push(epoch),
            }
        }
        if !has_head && (any || !lost.is_empty() || self.path(None).exists()) {
            lost.push(ABOVE.to_owned());
        }
        (any.then_some(catalogue), lost)
    }

    fn epochs_on_disk(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            let rest = name.strip_prefix(&format!("{}.", self.head.vault)).and_then(|rest| rest.strip_suffix(".objects"));
            found.extend(rest.map(str::to_owned));
        }
        Ok(found)
    }

    /// Adds an object that the store has just said to be there and that is in `catalogue` by now. A process that dies
    /// loses none of these.
    pub fn append(&mut self, name: &ObjectName, catalogue: &mut Catalogue) -> io::Result<()> {
        let epoch = epoch_of(name).map(str::to_owned);
        if let Some(epoch) = &epoch {
            self.mark(epoch, Mark::Open, catalogue)?;
        }
        let known = catalogue.objects.get(name).copied();
        self.write(epoch, &known.map_or_else(|| Line::Gone(name.clone()), |known| Line::There(name.clone(), known)))
    }

    /// Marks an epoch. That it is open is written before anything is added to its part.
    pub fn mark(&mut self, epoch: &str, mark: Mark, catalogue: &mut Catalogue) -> io::Result<()> {
        if catalogue.marks.get(epoch) == Some(&mark) {
            return Ok(());
        }
        catalogue.marks.insert(epoch.to_owned(), mark.clone());
        self.write(None, &Line::Epoch(epoch.to_owned(), mark))
    }

    fn write(&mut self, epoch: Option<String>, line: &Line) -> io::Result<()> {
        let (path, lines) = (self.path(epoch.as_deref()), self.lines.entry(epoch.clone()).or_default());
        *lines += 1;
        let part = match self.parts.entry(epoch) {
            Entry::Occupied(part) => part.into_mut(),
            Entry::Vacant(place) => place.insert(Part::open(&path, &self.head)?),
        };
        part.append(line)
    }

    /// Makes what was appended survive a power cut, and writes parts anew that have become much longer than they need be.
    pub fn finish(&mut self, catalogue: &Catalogue) -> io::Result<()> {
        for (epoch, part) in std::mem::take(&mut self.parts) {
            let (there, needed) = (self.lines.get(&epoch).copied().unwrap_or(0), catalogue.count(epoch.as_deref()));
            if there > 2 * needed + SLACK_LINES { self.replace(epoch.as_deref(), catalogue)? } else { part.sync()? }
        }
        Ok(())
    }

    /// Writes everything anew: what a listing has found. The head goes first and comes last, and without it there is no
    /// catalogue; until then each part says what it said, so that one that ends in the middle forgets nothing.
    pub fn save(&mut self, catalogue: &mut Catalogue) -> io::Result<()> {
        let epochs = catalogue.objects.keys().filter_map(epoch_of);
        catalogue.marks = epochs.map(|epoch| (epoch.to_owned(), Mark::Open)).collect();
        self.parts.clear();
        self.lines.clear();
        fs::create_dir_all(&self.folder)?;
        remove(&self.path(None))?;
        File::open(&self.folder)?.sync_all()?;
        for epoch in catalogue.marks.keys() {
            self.replace(Some(epoch), catalogue)?;
        }
        for epoch in self.epochs_on_disk()?.iter().filter(|epoch| !catalogue.marks.contains_key(*epoch)) {
            remove(&self.path(Some(epoch)))?;
        }
        self.replace(None, catalogue)?;
        File::open(&self.folder)?.sync_all()
    }

    fn replace(&mut self, epoch: Option<&str>, catalogue: &Catalogue) -> io::Result<()> {
        let lines = catalogue.lines(epoch);
        self.lines.insert(epoch.map(str::to_owned), lines.len());
        part::replace(&self.path(epoch), &self.head, &lines)
    }

    fn path(&self, epoch: Option<&str>) -> PathBuf {
        let epoch = epoch.map_or_else(String::new, |epoch| format!(".{epoch}"));
        self.folder.join(format!("{}{epoch}.objects", self.head.vault))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
