//! Users of this machine, by name: for what runs as somebody else.

use std::{fs, path::PathBuf};

/// Somebody in `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
}

/// Why a user is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    /// Nobody has this name.
    #[error("there is no user `{0}` in /etc/passwd")]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read /etc/passwd")]
    Unreadable(#[source] std::io::Error),
}

impl User {
    /// # Errors
    /// [`UserError`].
    pub(crate) fn named(name: &str) -> Result<Self, UserError> {
        let passwd = fs::read_to_string("/etc/passwd").map_err(UserError::Unreadable)?;
        Self::find(&passwd, name).ok_or_else(|| UserError::Unknown(name.to_owned()))
    }

    fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| match line.split(':').collect::<Vec<_>>().as_slice() {
            [found, _, uid, gid, _, home, _] if *found == name => {
                Some(Self { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: PathBuf::from(home) })
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:34:www-data:/var/www:/usr/sbin/nologin\nodd:x\n";
        let user = User::find(passwd, "www-data").unwrap();
        assert_eq!((user.uid, user.gid, user.home), (33, 34, PathBuf::from("/var/www")));
        assert_eq!((User::find(passwd, "www"), User::find(passwd, "odd")), (None, None));
    }
}
