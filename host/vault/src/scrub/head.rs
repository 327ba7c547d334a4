//! The small files that no name vouches for: `README.txt`, `vault.json`, their sums, and the keys with theirs.

use crate::{
    layout,
    open::{VaultInfo, readme, sum_line},
};
use std::collections::BTreeMap;

/// The small files by name.
pub(crate) type Small = BTreeMap<String, Vec<u8>>;

/// An object and what is wrong with it.
pub(crate) type Finding = (String, String);

const MISSING: &str = "it is missing";

/// `vault.json` as it was first written.
pub(crate) fn info_json(info: &VaultInfo) -> Vec<u8> {
    serde_json::to_vec_pretty(info).unwrap_or_default()
}

/// The three files at the top against each other and against what the vault is known to be.
pub(crate) fn check_top(files: &Small, info: &VaultInfo) -> Vec<Finding> {
    let sums = files.get(layout::HEAD_SUMS).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let known = [(layout::README, readme(info).into_bytes()), (layout::VAULT_JSON, info_json(info))];
    let mut findings = Vec::new();
    // Each file's own line, and the one that it had if it is damaged and was written by this version.
    let mut lines: Vec<[String; 2]> = Vec::new();
    for (name, made) in known {
        let found = files.get(name);
        let line = found.map(|bytes| sum_line(bytes, name)).unwrap_or_default();
        let summed = !line.is_empty() && sums.as_ref().is_some_and(|sums| sums.contains(&line));
        match found {
            None => findings.push((name.to_owned(), MISSING.to_owned())),
            Some(bytes) if summed || *bytes == made => {}
            Some(_) => findings.push((name.to_owned(), "its SHA-256 is not the one in vault.sha256".to_owned())),
        }
        lines.push([line, sum_line(&made, name)]);
    }
    let agrees = |sums: &String| match lines.as_slice() {
        [first, second] => first.iter().any(|a| second.iter().any(|b| *sums == format!("{a}{b}"))),
        _ => false,
    };
    match &sums {
        None => findings.push((layout::HEAD_SUMS.to_owned(), MISSING.to_owned())),
        Some(sums) if agrees(sums) => {}
        Some(_) => findings.push((layout::HEAD_SUMS.to_owned(), "it is not the sums of README.txt and vault.json".to_owned())),
    }
    findings
}

/// Each key against the sum beside it. Where the two do not agree, what was pinned before says which one changed.
pub(crate) fn check_keys(files: &Small, pinned: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ids = files.keys().filter_map(|name| key_id(name)).collect::<std::collections::BTreeSet<_>>();
    for id in ids {
        let names = [layout::key(id), layout::key_sum(id)].map(|name| name.as_str().to_owned());
        let [age, sum] = &names;
        match (files.get(age), files.get(sum)) {
            (Some(key), Some(line)) if *line == sum_line(key, &format!("{id}.age")).into_bytes() => {}
            (Some(_), Some(_)) => findings.extend(blame(&names, files, pinned)),
            (None, _) => findings.push((age.clone(), MISSING.to_owned())),
            (_, None) => findings.push((sum.clone(), MISSING.to_owned())),
        }
    }
    findings
}

fn blame(names: &[String; 2], files: &Small, pinned: &BTreeMap<String, String>) -> Vec<Finding> {
    let changed = |name: &String| {
        let now = files.get(name).map(|bytes| super::sha_hex(bytes));
        pinned.get(name).zip(now).map(|(then, now)| *then != now)
    };
    let what = "it and the file beside it do not agree (one of the two is damaged)".to_owned();
    let changes: Vec<&String> = names.iter().filter(|name| changed(name) == Some(true)).collect();
    let blamed = if changes.is_empty() { names.iter().collect() } else { changes };
    blamed.into_iter().map(|name| (name.clone(), what.clone())).collect()
}

/// The id in `keys/<id>.age` and `keys/<id>.sha256`.
pub(crate) fn key_id(name: &str) -> Option<&str> {
    let file = name.strip_prefix("keys/")?;
    let id = file.strip_suffix(".age").or_else(|| file.strip_suffix(".sha256"))?;
    (!id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')).then_some(id)
}

/// Whether an object is one of these files.
pub(crate) fn is_small(name: &str) -> bool {
    [layout::README, layout::VAULT_JSON, layout::HEAD_SUMS].contains(&name) || key_id(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::{Chunking, Encryption};

    fn info() -> VaultInfo {
        VaultInfo {
            format: 1,
            vault_id: "ab".repeat(16),
            project: havun_model::ProjectName::new("p").unwrap(),
            created: "2026-11-23T00:00:00Z".parse().unwrap(),
            encryption: Encryption::None,
            chunking: Chunking::default(),
            epoch: "year".to_owned(),
        }
    }

    fn whole(readme_text: &str) -> Small {
        let json = info_json(&info());
        let sums = sum_line(readme_text.as_bytes(), layout::README) + &sum_line(&json, layout::VAULT_JSON);
        [(layout::README, readme_text.as_bytes().to_vec()), (layout::VAULT_JSON, json), (layout::HEAD_SUMS, sums.into_bytes())]
            .map(|(n, b)| (n.to_owned(), b))
            .into()
    }

    #[test]
    fn the_file_that_changed_is_blamed_and_no_other() {
        assert_eq!(check_top(&whole(&readme(&info())), &info()), []);
        assert_eq!(check_top(&whole("of an earlier version"), &info()), []);
        for name in [layout::README, layout::VAULT_JSON, layout::HEAD_SUMS] {
            let mut files = whole(&readme(&info()));
            files.get_mut(name).unwrap()[3] ^= 1;
            let blamed: Vec<String> = check_top(&files, &info()).into_iter().map(|f| f.0).collect();
            assert_eq!(blamed, [name]);
            files.remove(name);
            assert_eq!(check_top(&files, &info()), [(name.to_owned(), MISSING.to_owned())]);
        }
    }

    #[test]
    fn of_a_key_and_its_sum_the_one_that_changed_since_is_blamed() {
        let key = b"wrapped".to_vec();
        let files: Small =
            [("keys/ab.age".to_owned(), key.clone()), ("keys/ab.sha256".to_owned(), sum_line(&key, "ab.age").into_bytes())].into();
        let pinned = files.iter().map(|(n, b)| (n.clone(), super::super::sha_hex(b))).collect();
        assert_eq!(check_keys(&files, &BTreeMap::new()), []);
        for name in ["keys/ab.age", "keys/ab.sha256"] {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[0] ^= 1;
            assert_eq!(check_keys(&damaged, &BTreeMap::new()).len(), 2);
            assert_eq!(check_keys(&damaged, &pinned).iter().map(|f| f.0.as_str()).collect::<Vec<_>>(), [name]);
        }
    }
}
