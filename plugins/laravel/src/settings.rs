//! What the operator may set.

use havun_backup_sdk::prelude::*;

settings! {
    /// Settings of the `laravel` strategy.
    pub struct LaravelSettings {
        /// Globs, relative to the root, to leave out beyond the strategy's own; `a/**` keeps the folder `a` itself.
        exclude: Vec<String>,
        /// Keep `vendor` as well, which `composer install` brings back from `composer.lock`.
        include_vendor: bool,
        /// Keep `public/build` as well, which `npm run build` brings back.
        include_build: bool,
        /// Leave out `storage/logs`.
        exclude_logs: bool,
        /// Leave out `.git`.
        exclude_git: bool,
        /// More tables whose rows, not whose schema, are left out; `*` matches any run of characters.
        tables_without_rows: Vec<String>,
        /// Tables that keep their rows although the strategy would leave them out.
        tables_with_rows: Vec<String>,
        /// Databases to back up: `main` (the application's own), names of `config/database.php`, or names listed under `[projects.NAME.databases]`; `main` and all listed ones when absent.
        connections: Option<Vec<String>>,
        /// Columns (`table.column`) whose values the application encrypts, beyond those that its models say: a drill opens some of them with `APP_KEY`.
        encrypted_columns: Vec<String>,
        /// The dotenv file that the application reads.
        env_file: String = ".env".to_owned(),
        /// What is erased again from a restored backup, of everybody in the erasure register: `{ table = "users", column = "email" }` deletes rows, with `clear = ["name"]` or `replace = { name = "erased" }` it empties columns of them; `{ files = "avatars/{subject}.png" }` removes files.
        erasure: Vec<EraseSetting>,
    }
}
