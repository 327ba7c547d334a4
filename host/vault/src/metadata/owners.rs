//! Names of users and groups, read once from `/etc/passwd` and `/etc/group`.

use std::{collections::HashMap, path::Path, sync::OnceLock};

/// Users and groups by number and by name.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    users: Names,
    groups: Names,
}

#[derive(Debug, Clone, Default)]
struct Names {
    by_id: HashMap<u32, String>,
    by_name: HashMap<String, u32>,
}

impl Owners {
    /// Those of this host, read at the first call.
    pub fn of_host() -> &'static Self {
        static HOST: OnceLock<Owners> = OnceLock::new();
        HOST.get_or_init(|| Self::read(Path::new("/etc/passwd"), Path::new("/etc/group")))
    }

    /// Those of two files in the format of passwd(5) and group(5); a file that cannot be read names nobody.
    pub fn read(passwd: &Path, group: &Path) -> Self {
        let names = |path: &Path| Names::parse(&std::fs::read(path).unwrap_or_default());
        Self { users: names(passwd), groups: names(group) }
    }

    /// The user's name, or an empty text.
    pub fn user(&self, uid: u32) -> &str {
        self.users.by_id.get(&uid).map_or("", String::as_str)
    }

    /// The group's name, or an empty text.
    pub fn group(&self, gid: u32) -> &str {
        self.groups.by_id.get(&gid).map_or("", String::as_str)
    }

    /// The number of a user of this name.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.users.by_name.get(name).copied()
    }

    /// The number of a group of this name.
    pub fn gid(&self, name: &str) -> Option<u32> {
        self.groups.by_name.get(name).copied()
    }
}

impl Names {
    /// `name:password:number:…` lines; as in the C library the first line for a name or number counts.
    fn parse(text: &[u8]) -> Self {
        let mut names = Self::default();
        for line in text.split(|b| *b == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let mut fields = line.split(':');
            let (name, id) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(|id| id.parse().ok()));
            let (Some(id), false) = (id, name.is_empty() || name.starts_with(['#', '+', '-'])) else { continue };
            names.by_id.entry(id).or_insert_with(|| name.to_owned());
            names.by_name.entry(name.to_owned()).or_insert(id);
        }
        names
    }
}
