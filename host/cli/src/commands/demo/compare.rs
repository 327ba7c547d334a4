//! What was there against what came back.

use super::project::DATABASE;
use rusqlite::{Connection, OpenFlags, types::Value};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

type Tables = BTreeMap<String, Vec<Vec<String>>>;

/// What was there at one moment.
pub struct Photograph {
    /// A copy of the project.
    pub folder: PathBuf,
    /// Every table's rows, and the schema.
    pub tables: Tables,
}

/// What a comparison found.
pub struct Compared {
    pub entries: usize,
    pub rows: usize,
    pub differences: Vec<String>,
}

/// Compares a restored project with what was there. What a strategy leaves out on purpose (`node_modules`), the files
/// of the database itself, which is compared row by row, and its dumps beside it (`databases`) are not looked at.
pub fn against(then: &Photograph, restored: &Path) -> Result<Compared, Box<dyn std::error::Error>> {
    let (before, after) = (entries(&then.folder)?, entries(restored)?);
    let mut differences = Vec::new();
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        differences.push(format!("{} did not come back", path.display()));
    }
    for (path, found) in &after {
        match before.get(path) {
            None => differences.push(format!("{} came from nowhere", path.display())),
            Some(was) if was != found => differences.push(format!("{} is not what it was", path.display())),
            Some(_) => {}
        }
    }
    let database = Connection::open_with_flags(restored.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let tables = tables(&database)?;
    if tables != then.tables {
        differences.push("the database holds other rows".to_owned());
    }
    let rows = tables.iter().filter(|(name, _)| !name.starts_with("(")).map(|(_, rows)| rows.len()).sum();
    Ok(Compared { entries: after.len(), rows, differences })
}

/// Every table of a database, and the schema itself as one more.
pub fn tables(database: &Connection) -> rusqlite::Result<Tables> {
    let schema = rows(database, "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name")?;
    let names = rows(database, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
    let mut tables = Tables::from([("(schema)".to_owned(), schema)]);
    for name in names.into_iter().flatten() {
        let name = name.trim_start_matches("Text(\"").trim_end_matches("\")").to_owned();
        tables.insert(name.clone(), rows(database, &format!("SELECT * FROM \"{name}\" ORDER BY 1"))?);
    }
    Ok(tables)
}

fn rows(database: &Connection, query: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut statement = database.prepare(query)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|n| Ok(format!("{:?}", row.get::<_, Value>(n)?))).collect())?;
    rows.collect()
}

/// What a file, folder or link is, as far as a restore has to bring it back.
#[derive(PartialEq, Eq)]
struct Found {
    mode: u32,
    owner: (u32, u32),
    /// Not of folders: SQLite made and removed files in them since.
    modified: Option<(i64, i64)>,
    content: Vec<u8>,
}

fn entries(root: &Path) -> std::io::Result<BTreeMap<PathBuf, Found>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let path = folder.join(entry?.file_name());
            let text = path.to_string_lossy();
            if text.starts_with("node_modules") || text.starts_with("databases") || text.starts_with(DATABASE) {
                continue;
            }
            let full = root.join(&path);
            let meta = fs::symlink_metadata(&full)?;
            let content = match () {
                () if meta.is_symlink() => fs::read_link(&full)?.into_os_string().into_encoded_bytes(),
                () if meta.is_file() => fs::read(&full)?,
                () => Vec::new(),
            };
            if meta.is_dir() {
                folders.push(path.clone());
            }
            let modified = (!meta.is_dir()).then(|| (meta.mtime(), meta.mtime_nsec()));
            found.insert(path, Found { mode: meta.mode(), owner: (meta.uid(), meta.gid()), modified, content });
        }
    }
    Ok(found)
}
