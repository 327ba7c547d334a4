//! What the operator may set.

use havun_backup_sdk::prelude::*;

settings! {
    /// Settings of the `laravel-package` strategy.
    pub struct PackageSettings {
        /// Globs, relative to the root, to leave out beyond the strategy's own; `a/**` keeps the folder `a` itself.
        exclude: Vec<String>,
        /// Globs of vault files beyond `*.vault` and the folders `vault` and `vaults`; they are kept byte for byte.
        vaults: Vec<String>,
        /// Keep files with passwords of vaults as well. Whoever reads such a backup can open the vaults.
        include_vault_passwords: bool,
        /// Keep `vendor` as well, which `composer install` brings back.
        include_vendor: bool,
        /// Names of listed databases to back up; all of `[projects.NAME.databases]` when absent.
        databases: Option<Vec<String>>,
    }
}
