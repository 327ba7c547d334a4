//! Writing configurations: whole, durably, and never over an existing one.

use super::InitError;
use crate::config::Config;
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};
use toml_edit::{Array, DocumentMut, Item, Table, value};

/// Writes a new configuration of mode 0600; its folder is made (0700) when missing.
///
/// # Errors
/// [`InitError::Proposal`] when `text` is no configuration; [`InitError::Write`], also when the file exists.
pub fn write_new(path: &Path, text: &str) -> Result<(), InitError> {
    let absolute = std::path::absolute(path).map_err(|source| write_error(path, source))?;
    Config::parse(text, &absolute, 0o600).map_err(InitError::Proposal)?;
    let folder = folder_of(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| write_error(folder, source))?;
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::File::open(folder)?.sync_all()).map_err(|source| write_error(path, source))
}

/// Adds `text` at the end of an existing configuration.
///
/// # Errors
/// [`InitError::Proposal`] when the result would be no configuration; [`InitError::Write`].
pub fn append(path: &Path, text: &str) -> Result<(), InitError> {
    let old = fs::read_to_string(path).map_err(|source| write_error(path, source))?;
    let gap = if old.ends_with('\n') || old.is_empty() { "\n" } else { "\n\n" };
    replace(path, &format!("{old}{gap}{text}"))
}

/// Sets `escrow` in `[keys]` of an existing configuration; everything else keeps its place and comments.
///
/// # Errors
/// [`InitError::Edit`], [`InitError::Proposal`], [`InitError::Write`].
pub fn set_escrow(path: &Path, recipients: &[String]) -> Result<(), InitError> {
    let old = fs::read_to_string(path).map_err(|source| write_error(path, source))?;
    let mut document: DocumentMut = old.parse().map_err(|e: toml_edit::TomlError| edit_error(path, e.message()))?;
    let keys = document.entry("keys").or_insert_with(|| Item::Table(Table::new()));
    let Some(keys) = keys.as_table_like_mut() else { return Err(edit_error(path, "`keys` is not a table")) };
    keys.insert("escrow", value(recipients.iter().collect::<Array>()));
    replace(path, &document.to_string())
}

/// Replaces the file in one step, with its owner and mode.
fn replace(path: &Path, text: &str) -> Result<(), InitError> {
    let absolute = std::path::absolute(path).map_err(|source| write_error(path, source))?;
    // A link stays a link: what it leads to is replaced.
    let real = fs::canonicalize(path).map_err(|source| write_error(path, source))?;
    let meta = fs::metadata(&real).map_err(|source| write_error(path, source))?;
    Config::parse(text, &absolute, meta.mode() & 0o7777).map_err(InitError::Proposal)?;
    write_beside(&real, &meta, text).map_err(|source| write_error(path, source))
}

fn write_beside(path: &Path, meta: &fs::Metadata, text: &str) -> io::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    chown(file.path(), Some(meta.uid()), Some(meta.gid()))?;
    file.as_file().set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_error(path: &Path, source: io::Error) -> InitError {
    InitError::Write { path: PathBuf::from(path), source }
}

fn edit_error(path: &Path, why: &str) -> InitError {
    InitError::Edit { path: path.to_owned(), why: why.to_owned() }
}
