//! Secrets: where they stand, and reading them at the moment of use.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The longest secret that is read from a file, in bytes.
const LONGEST: u64 = 64 * 1024;

/// Where a secret stands. Never prints a plain one.
#[derive(Clone)]
pub enum Secret {
    /// In the configuration itself.
    Plain(Zeroizing<String>),
    /// The content of a file, without its last line break.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Masked, for `config`: `"×××"`, `{ file = "…" }`.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("\"×××\""),
            Self::File(path) => write!(f, "{{ file = {:?} }}", path.display().to_string()),
            Self::Env(name) => write!(f, "{{ env = {name:?} }}"),
            Self::Credential(name) => write!(f, "{{ credential = {name:?} }}"),
        }
    }
}

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file.
    #[error("cannot read the secret in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("the secret in {} can be read by others (mode {mode:04o}); run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is too long to be a secret, or not text.
    #[error("{} is no secret: {why}", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The variable is not set, or is not text.
    #[error("the environment variable `{name}` is not set")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The program was not started with systemd credentials.
    #[error("there is no credential `{name}`: `$CREDENTIALS_DIRECTORY` is not set (add `LoadCredential={name}:…` to the unit)")]
    NoCredentials {
        /// The credential.
        name: String,
    },
}

impl Secret {
    /// Whether it stands in the configuration itself.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// The secret, in memory that is cleared when dropped.
    ///
    /// # Errors
    /// [`SecretError`] names the file, variable or credential.
    pub fn resolve(&self) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::File(path) => read(path, 0o007),
            Self::Env(name) => std::env::var(name).map(Zeroizing::new).map_err(|_| SecretError::Unset { name: name.clone() }),
            Self::Credential(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
                let folder = folder.ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
                read(&Path::new(&folder).join(name), 0o007)
            }
        }
    }
}

/// The text of a small file that nobody in `refused` may touch.
fn read(path: &Path, refused: u32) -> Result<Zeroizing<String>, SecretError> {
    let wrap = |source| SecretError::File { path: path.to_owned(), source };
    let not_text = |why| SecretError::NotText { path: path.to_owned(), why };
    let meta = std::fs::metadata(path).map_err(wrap)?;
    if !meta.is_file() {
        return Err(not_text("not a regular file"));
    }
    if meta.mode() & refused != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    if meta.len() > LONGEST {
        return Err(not_text("longer than 64 KiB"));
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(wrap)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| not_text("not UTF-8 text"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_file_loses_one_line_break_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "pass word \n\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(*Secret::File(path).resolve().unwrap(), "pass word \n");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        let error = Secret::File(path).resolve().unwrap_err();
        assert!(matches!(error, SecretError::Exposed { mode: 0o604, .. }), "{error}");
    }

    #[test]
    fn nothing_prints_a_plain_secret() {
        let secret = Secret::Plain(Zeroizing::new("hunter2".to_owned()));
        assert!(!format!("{secret:?} {secret}").contains("hunter2"));
    }
}
