//! What the operator may set.

use havun_backup_sdk::prelude::*;

settings! {
    /// Settings of the `nodejs` strategy.
    pub struct NodeSettings {
        /// Globs, relative to the root, to leave out beyond the strategy's own; `a/**` keeps the folder `a` itself.
        exclude: Vec<String>,
        /// Keep `dist`, `.next` and other build results as well.
        include_build: bool,
        /// Leave out `.git`.
        exclude_git: bool,
        /// Globs of JSON files that the application writes: each is read whole and must parse. Found by the strategy when absent.
        json_databases: Option<Vec<String>>,
        /// Folders with files of users, beyond the usual names.
        uploads: Vec<String>,
        /// Databases to back up: `main` (the one of the dotenv file or Prisma) and names listed under `[projects.NAME.databases]`; all of them when absent. SQLite files beneath the root are always taken.
        databases: Option<Vec<String>>,
        /// The dotenv file that wins; `.env.production.local`, `.env.local`, `.env.production` and `.env`, in this order, when absent.
        env_file: Option<String>,
        /// What is erased again from a restored backup, of everybody in the erasure register: `{ table = "users", column = "email" }` deletes rows, with `clear = ["name"]` or `replace = { name = "erased" }` it empties columns of them; `{ files = "avatars/{subject}.png" }` removes files.
        erasure: Vec<EraseSetting>,
    }
}
