//! Which files: vaults, settings, source; and the history as a Git item, with what a bundle loses.

use crate::settings::PackageSettings;
use havun_backup_sdk::prelude::*;

/// Encrypted files, by custom.
const VAULTS: [&str; 6] = ["**/*.vault", "**/*.vault.*", "vault/**", "vaults/**", "storage/vault/**", "storage/vaults/**"];
/// What opens them, by custom.
pub const PASSWORDS: [&str; 6] =
    ["**/.vault_pass*", "**/.vault-pass*", "**/vault_pass*", "**/vault-pass*", "**/vault.key", "**/.vault_key*"];
/// Settings and lock files.
const CONFIG: [&str; 13] = [
    ".env",
    ".env.*",
    "auth.json",
    "composer.json",
    "composer.lock",
    "config",
    "package.json",
    "package-lock.json",
    "phpunit.xml",
    "phpunit.xml.dist",
    "phpstan.neon",
    "phpstan.neon.dist",
    "testbench.yaml",
];

/// How the history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// `.git` is a folder: a bundle.
    Here,
    /// `.git` is a file or a link: the history lies elsewhere.
    Elsewhere,
    /// There is none.
    None,
}

impl History {
    /// Looks at `.git`.
    pub fn of(root: &dyn Tree) -> Self {
        match root.stat(".git").ok().flatten() {
            Some(stat) if stat.kind == "directory" => Self::Here,
            Some(_) => Self::Elsewhere,
            None => Self::None,
        }
    }
}

/// Globs of the vault files.
pub fn vault_globs(settings: &PackageSettings) -> Vec<&str> {
    VAULTS.into_iter().chain(settings.vaults.iter().map(String::as_str)).collect()
}

/// The items, what is small and precious first.
pub fn items(root: &dyn Tree, settings: &PackageSettings) -> Result<Vec<Item>> {
    let excludes = excludes(root, settings);
    let mut items = Vec::new();
    if History::of(root) == History::Here {
        items.push(Item::git("history").because("every branch, tag and stash, and what a bundle loses"));
        // Neither is in a bundle.
        for (name, path, reason) in [("lfs", ".git/lfs", "large files of Git LFS"), ("submodules", ".git/modules", "history of submodules")]
        {
            if root.is_dir(path) {
                items.push(Item::tree(name).at(path).because(reason));
            }
        }
    }
    if has_vaults(root, settings)? {
        let vaults = Item::tree("vaults").include(&vault_globs(settings)).exclude(&excludes);
        items.push(vaults.because("encrypted vaults, byte for byte; their passwords are kept elsewhere"));
    }
    items.push(Item::tree("config").include(&CONFIG).exclude(&excludes).because("settings and lock files"));
    items.push(Item::tree("source").exclude(&excludes).because("the working tree, uncommitted and ignored files as well"));
    Ok(items)
}

fn has_vaults(root: &dyn Tree, settings: &PackageSettings) -> Result<bool> {
    Ok(!root.find(&vault_globs(settings), &["vendor", "node_modules", ".git"], 1)?.is_empty())
}

fn excludes(root: &dyn Tree, settings: &PackageSettings) -> Vec<String> {
    let made_anew = ["node_modules/**", ".phpunit.cache/**", ".phpunit.result.cache", "coverage/**", "build/coverage/**"];
    let mut excludes: Vec<String> = made_anew.iter().map(|glob| (*glob).to_owned()).collect();
    if History::of(root) == History::Here {
        excludes.push(".git".to_owned());
    }
    if !settings.include_vendor {
        excludes.push("vendor/**".to_owned());
    }
    if !settings.include_vault_passwords {
        excludes.extend(PASSWORDS.iter().map(|glob| (*glob).to_owned()));
    }
    excludes.extend(settings.exclude.iter().cloned());
    excludes
}

/// What the operator should know before relying on this backup.
pub fn warnings(root: &dyn Tree, settings: &PackageSettings) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    match History::of(root) {
        History::Here => {}
        History::Elsewhere => {
            warnings.push(".git is no folder (a worktree or submodule): its history lies elsewhere and is not backed up".to_owned());
        }
        History::None => warnings.push("there is no .git: only the files are backed up, no history".to_owned()),
    }
    let passwords = root.find(&PASSWORDS, &["vendor", "node_modules", ".git"], 10)?;
    let names: Vec<&str> = passwords.iter().map(|stat| stat.path.as_str()).collect();
    match (names.is_empty(), settings.include_vault_passwords) {
        (true, _) => {}
        (false, true) => warnings.push(format!("{}: passwords of vaults are in the same backup as the vaults", names.join(", "))),
        (false, false) => {
            warnings.push(format!("{}: left out, so that the backup alone opens no vault; keep a copy elsewhere", names.join(", ")))
        }
    }
    let lfs = root.text(".gitattributes").is_some_and(|text| text.contains("filter=lfs"));
    if lfs && !root.is_dir(".git/lfs") {
        warnings.push(
            ".gitattributes names Git LFS, but .git/lfs is missing: run `git lfs fetch --all`, or old versions of large files are not kept"
                .to_owned(),
        );
    }
    Ok(warnings)
}
