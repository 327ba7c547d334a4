//! MariaDB and MySQL, through their own clients.
//!
//! Read `client` (the programs and the login), `inventory` and `grants` (what is there, and whether the user sees it
//! all), `dump` with `scan` and `lexer` (a dump is counted while it streams), `restore` (which way), `load`
//! with `rewrite` and `guard`, `swap`, `scratch`, `erase`.

mod client;
mod dump;
mod erase;
mod grants;
mod guard;
mod inventory;
mod lexer;
mod load;
mod mark;
mod restore;
mod rewrite;
mod scan;
mod scratch;
mod session;
mod swap;

use super::{
    DatabaseError, Dump, DumpOptions, DumpSource, Engine, ErasedRows, Preflight, Present, ResolvedConnection, RestoreOutcome,
    RestoreTarget, RowRule, Subjects,
};
use client::Clients;
use havun_model::{Cancel, DatabaseRecord, ScratchDatabase};
use inventory::Inventory;

pub(super) struct Mysql {
    connection: ResolvedConnection,
    database: String,
}

impl Mysql {
    pub(super) fn new(connection: ResolvedConnection) -> Result<Self, DatabaseError> {
        let database = connection.require("database")?.to_owned();
        connection.tls()?;
        connection.port()?;
        Ok(Self { connection, database })
    }

    /// For people: which database of which server.
    fn describe_database(&self, database: &str) -> String {
        let place = match (self.connection.get("socket"), self.connection.get("host")) {
            (Some(socket), _) => socket.to_owned(),
            (None, host) => {
                let port = self.connection.get("port").map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}{port}", host.unwrap_or("localhost"))
            }
        };
        let title = if self.connection.engine() == "mysql" { "MySQL" } else { "MariaDB" };
        format!("{title} database `{database}` at {place}")
    }

    /// The programs and what the server says, privileges checked.
    fn look(&self, database: &str, cancel: &Cancel) -> Result<(Clients, Inventory), DatabaseError> {
        let clients = Clients::find(&self.connection, cancel)?;
        let describe = self.describe_database(database);
        let inventory = Inventory::take(&clients, database, &describe, cancel)?;
        inventory.check_privileges(database)?;
        if inventory.exists { Ok((clients, inventory)) } else { Err(DatabaseError::NoDatabase { database: describe }) }
    }
}

impl Engine for Mysql {
    fn describe(&self) -> String {
        self.describe_database(&self.database)
    }

    fn preflight(&self, cancel: &Cancel) -> Result<Preflight, DatabaseError> {
        let (clients, inventory) = self.look(&self.database, cancel)?;
        dump::check_age(&clients, &inventory)?;
        Ok(Preflight {
            server_version: inventory.server.clone(),
            client_version: clients.dumper.text.clone(),
            tables: inventory.tables.keys().cloned().collect(),
            warnings: dump::warnings(&clients, &inventory),
        })
    }

    fn begin_dump<'a>(&'a self, options: &DumpOptions, cancel: &Cancel) -> Result<Box<dyn Dump + 'a>, DatabaseError> {
        Ok(Box::new(dump::MysqlDump::begin(self, &self.database, &options.exclude_rows, cancel)?))
    }

    fn look(&self, target: &RestoreTarget, cancel: &Cancel) -> Result<Present, DatabaseError> {
        restore::look(self, target, cancel)
    }

    fn restore(
        &self,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<RestoreOutcome, DatabaseError> {
        restore::restore(self, dump, record, target, cancel)
    }

    fn open_scratch(&self, database: Option<&str>) -> Result<Box<dyn ScratchDatabase>, DatabaseError> {
        let database = database.unwrap_or(&self.database);
        let clients = Clients::find(&self.connection, &Cancel::default())?;
        Ok(Box::new(scratch::MysqlScratch::new(clients, database, self.describe_database(database))))
    }

    fn erase(
        &self,
        database: Option<&str>,
        rules: &[RowRule],
        subjects: &Subjects,
        cancel: &Cancel,
    ) -> Result<Vec<ErasedRows>, DatabaseError> {
        erase::erase(self, database.unwrap_or(&self.database), rules, subjects, cancel)
    }

    fn server_identity(&self) -> Option<String> {
        let clients = Clients::find(&self.connection, &Cancel::default()).ok()?;
        let sql = "SELECT CONCAT_WS('|', @@hostname, @@port, @@socket, @@datadir);";
        let rows = clients.query(sql, &self.describe(), &Cancel::default()).ok()?;
        rows.into_iter().flatten().next()
    }

    fn drop_scratch(&self, database: &str) -> Result<(), DatabaseError> {
        let clients = Clients::find(&self.connection, &Cancel::default())?;
        let sql = format!("DROP DATABASE IF EXISTS {};", client::quoted(database));
        clients.query(&sql, &self.describe_database(database), &Cancel::default()).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
