//! The project of the demonstration: a Node.js application as one finds them on a server.

use super::compare::Photograph;
use rusqlite::Connection;
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// Where its database is.
pub const DATABASE: &str = "data/bookshop.sqlite";

/// The application, with its database open in WAL mode.
pub struct Bookshop {
    root: PathBuf,
    database: Connection,
}

const PACKAGE: &str = r#"{
  "name": "bookshop",
  "version": "1.4.0",
  "private": true,
  "main": "server.js",
  "scripts": { "start": "node server.js" },
  "dependencies": { "better-sqlite3": "^11.0.0", "express": "^4.19.0" }
}
"#;

const LOCK: &str = r#"{
  "name": "bookshop",
  "version": "1.4.0",
  "lockfileVersion": 3,
  "packages": { "": { "name": "bookshop", "version": "1.4.0" } }
}
"#;

const SERVER: &str = "\
const express = require('express');
const Database = require('better-sqlite3');
const db = new Database(process.env.DATABASE_PATH);
db.pragma('journal_mode = WAL');
express().get('/', (_, res) => res.json(db.prepare('select count(*) n from orders').get())).listen(process.env.PORT);
";

const ENVIRONMENT: &str = "PORT=3000\nDATABASE_PATH=data/bookshop.sqlite\nSESSION_SECRET=\"not a # comment\"\n";

const SCHEMA: &str = "\
PRAGMA journal_mode = WAL;
CREATE TABLE orders (id INTEGER PRIMARY KEY, title TEXT NOT NULL, cents INTEGER NOT NULL, cover BLOB);
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE INDEX by_title ON orders (title);
CREATE VIEW dear AS SELECT title FROM orders WHERE cents > 5000;
CREATE TRIGGER no_refund BEFORE DELETE ON orders BEGIN SELECT RAISE(ABORT, 'orders are kept'); END;
";

impl Bookshop {
    /// Makes it at `root`.
    pub fn open(root: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        for folder in ["data", "uploads/covers", "public", "node_modules/express"] {
            fs::create_dir_all(root.join(folder))?;
        }
        write(root, "package.json", PACKAGE)?;
        write(root, "package-lock.json", LOCK)?;
        write(root, "server.js", SERVER)?;
        write(root, ".env", ENVIRONMENT)?;
        fs::set_permissions(root.join(".env"), fs::Permissions::from_mode(0o600))?;
        write(root, "data/settings.json", "{\n  \"currency\": \"EUR\",\n  \"greeting\": \"Hallo 📚\"\n}\n")?;
        write(root, "data/carts.json", "[]\n")?;
        write(root, "public/index.html", "<!doctype html><title>Bookshop</title>\n")?;
        write(root, "node_modules/express/index.js", "module.exports = () => {};\n")?;
        for number in 0..40_u32 {
            fs::write(root.join(format!("uploads/covers/{number:03}.jpg")), noise(number, 60_000 + 977 * number as usize))?;
        }
        fs::write(root.join("uploads/catalogue.pdf"), noise(99, 3 << 20))?;
        symlink("../uploads/covers", root.join("public/covers"))?;
        let database = Connection::open(root.join(DATABASE))?;
        database.execute_batch(SCHEMA)?;
        let shop = Self { root: root.to_owned(), database };
        shop.sell(0..2000)?;
        Ok(shop)
    }

    /// A day's work.
    pub fn trade(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.sell(2000..2100)?;
        self.database.execute("UPDATE orders SET cents = cents + 1 WHERE id % 50 = 0", [])?;
        write(&self.root, "data/carts.json", "[{ \"customer\": 7, \"items\": [1984] }]\n")?;
        fs::remove_file(self.root.join("uploads/covers/007.jpg"))?;
        fs::write(self.root.join("uploads/covers/100.jpg"), noise(100, 80_000))?;
        let mut catalogue = fs::OpenOptions::new().append(true).open(self.root.join("uploads/catalogue.pdf"))?;
        Ok(catalogue.write_all(&noise(101, 4096))?)
    }

    /// A copy to compare with: what was there now.
    pub fn photograph(&self, to: &Path) -> Result<Photograph, Box<dyn std::error::Error>> {
        let copied = Command::new("cp").arg("-a").arg(&self.root).arg(to).status()?;
        if !copied.success() {
            return Err(io::Error::other("the project could not be copied").into());
        }
        Ok(Photograph { folder: to.to_owned(), tables: super::compare::tables(&self.database)? })
    }

    fn sell(&self, orders: std::ops::Range<u32>) -> rusqlite::Result<()> {
        self.database.execute_batch("BEGIN")?;
        for number in orders {
            let cover = noise(number, 120);
            let title = format!("Book №{number} of 'L’été'");
            self.database
                .execute("INSERT INTO orders (title, cents, cover) VALUES (?1, ?2, ?3)", (title, 500 + number * 7 % 9000, cover))?;
            self.database.execute("INSERT INTO customers (name) VALUES (?1)", [format!("customer {number}")])?;
        }
        self.database.execute_batch("COMMIT")
    }
}

fn write(root: &Path, path: &str, text: &str) -> io::Result<()> {
    fs::write(root.join(path), text)
}

/// Bytes that do not compress, the same at every call.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}
