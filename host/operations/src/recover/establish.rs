//! Writing what a recovery needs on this host: its own key, the configuration, the hot store.

use super::{
    Place, RecoverError, StoreAddress,
    half::HalfMade,
    propose::Recovered,
    survey::{FoundVault, Survey},
};
use crate::{
    context::Context,
    error::{OperationError, one_line},
    init,
};
use havun_model::StoreName;
use havun_vault::{
    keys::{Identity, Recipient, write_private_file},
    store::LocalRoot,
};
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// What was written, or would be.
#[derive(Debug, Clone)]
pub struct Established {
    /// The configuration.
    pub config_text: String,
    /// The new key of this host.
    pub service_key: PathBuf,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Makes a key for this host, wraps every vault's keys for it too, and writes the configuration (mode 0600) and the hot
/// store. With `dry_run` only says what it would write.
///
/// # Errors
/// [`RecoverError::Init`], also when the configuration or the key exists: nothing is replaced but what a recovery from the
/// same archive, killed half-way, made itself.
pub fn establish(cx: &Context, place: &Place, address: &StoreAddress, survey: &Survey, dry_run: bool) -> Result<Established, RecoverError> {
    let half = HalfMade::find(place, address);
    refuse_existing(&place.config, half.as_ref().is_some_and(|half| half.wrote(&place.config)))?;
    refuse_existing(&place.service_key, half.is_some())?;
    let service = match half.as_ref().and_then(|_| made_before(&place.service_key)) {
        Some(service) => service,
        None => Identity::generate(),
    };
    if !dry_run {
        half.unwrap_or_else(|| HalfMade::new(place, address)).save(place)?;
    }
    let given: Vec<Recipient> = cx.identities()?.iter().map(Identity::recipient).collect();
    let mut notes = Vec::new();
    let works = dry_run || {
        if made_before(&place.service_key).is_none() {
            remove(&place.service_key)?;
            write_key(&place.service_key, &service, &cx.config.host.name)?;
        }
        let everyone: Vec<Recipient> = std::iter::once(service.recipient()).chain(given.iter().cloned()).collect();
        wrap_all(cx, &survey.vaults, &everyone, &mut notes)
    };
    notes.push(
        "`escrow` in [keys] is the recipient of the key that you gave: if that is not the escrow key but the lost host's, put the \
         escrow key's recipient (age1…) there before the next run"
            .to_owned(),
    );
    let mut escrow: Vec<String> = given.iter().map(ToString::to_string).collect();
    if !works {
        escrow.push(service.recipient().to_string());
        notes.push(format!(
            "not every vault could get a key for this host: `identity` in [keys] is {}, the key that you gave. Keep it there until it is, and see \
             docs/operations/disaster-recovery.md",
            place.identity.display()
        ));
    }
    let (text, more) = Recovered {
        place,
        archive: &survey.store,
        address,
        vaults: &survey.vaults,
        escrow,
        identity: if works { &place.service_key } else { &place.identity },
        host: cx.config.host.name.clone(),
    }
    .text();
    notes.extend(more);
    if !dry_run {
        HalfMade::new(place, address).about_to_write(&text).save(place)?;
        remove(&place.config)?;
        init::write_new(&place.config, &text)?;
        make_hot_store(&place.hot, survey, &mut notes);
    }
    Ok(Established { config_text: text, service_key: place.service_key.clone(), notes })
}

/// What an earlier recovery made before it was killed is its own, and gone on with.
fn refuse_existing(path: &Path, is_ours: bool) -> Result<(), RecoverError> {
    if is_ours || fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    Err(init::InitError::Write { path: path.to_owned(), source: io::Error::from(io::ErrorKind::AlreadyExists) }.into())
}

/// The key of this host, where an earlier recovery wrote it whole.
fn made_before(path: &Path) -> Option<Identity> {
    Identity::read_file(path).ok()?.into_iter().next()
}

/// Takes away what an earlier recovery did not finish writing.
fn remove(path: &Path) -> Result<(), RecoverError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(OperationError::Io { doing: "cannot remove", path: path.to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

fn write_key(path: &Path, key: &Identity, host: &str) -> Result<(), RecoverError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| OperationError::Io { doing: "cannot make", path: folder.to_owned(), source })?;
    let text = key.file_text(&format!("service key of havun-backup on {host}: opens every vault of this host"));
    write_private_file(path, text.as_bytes()).map_err(|e| init::InitError::Key(e).into())
}

/// Whether every encrypted vault opens with the new key from now on.
fn wrap_all(cx: &Context, vaults: &[FoundVault], recipients: &[Recipient], notes: &mut Vec<String>) -> bool {
    let mut all = true;
    for found in vaults.iter().filter(|found| found.vault.is_encrypted()) {
        if let Err(error) = found.vault.wrap_keys_for(recipients, &cx.holder("recover")) {
            notes.push(format!("{}: no key for this host was added: {}", found.project, one_line(&error)));
            all = false;
        }
    }
    all
}

/// A host without its hot store still restores: whatever is wrong with it is for the operator to mend.
fn make_hot_store(path: &Path, survey: &Survey, notes: &mut Vec<String>) {
    let name = if survey.store.as_str() == "local" { "local-hot" } else { "local" };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|e| e.to_string()).and_then(|()| {
        let name = StoreName::new(name).map_err(|e| e.to_string())?;
        LocalRoot::create(path, &name).map(drop).map_err(|e| one_line(&e))
    });
    if let Err(why) = made {
        notes.push(format!("the hot store {} could not be made: {why}", path.display()));
    }
}
