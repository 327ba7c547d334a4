//! PostgreSQL, through its own `pg_dump`, `pg_dumpall` and `psql`.
//!
//! Read `client` (the programs and the login), `inventory` (what is there, and whether the user sees it all), `lexer`
//! with `scan` (a dump is counted while it streams) and `dump`; then `restore` with `guard` (what a dump may say to
//! psql), `roles` and `settings`, `scratch` and `erase`.

mod client;
mod dump;
mod erase;
mod guard;
mod inventory;
mod lexer;
mod names;
mod restore;
mod roles;
mod scan;
mod scratch;
mod settings;
mod swap;

use super::{
    DatabaseError, Dump, DumpOptions, DumpSource, Engine, ErasedRows, Preflight, Present, ResolvedConnection, RestoreOutcome,
    RestoreTarget, RowRule, Subjects,
};
use client::Clients;
use havun_model::{Cancel, DatabaseRecord, ScratchDatabase};
use inventory::Inventory;

pub(super) struct Postgresql {
    connection: ResolvedConnection,
    database: String,
}

impl Postgresql {
    pub(super) fn new(connection: ResolvedConnection) -> Result<Self, DatabaseError> {
        let database = connection.require("database")?.to_owned();
        connection.tls()?;
        connection.port()?;
        Ok(Self { connection, database })
    }

    /// For people: which database of which server.
    fn describe_database(&self, database: &str) -> String {
        format!("PostgreSQL database `{database}` at {}", client::place(&self.connection))
    }

    /// The programs and what the server says, privileges checked.
    fn look(&self, database: &str, cancel: &Cancel) -> Result<(Clients, Inventory), DatabaseError> {
        let clients = Clients::find(&self.connection, database, &self.describe_database(database), cancel)?;
        let inventory = Inventory::take(&clients, database, cancel)?;
        inventory.check_privileges()?;
        Ok((clients, inventory))
    }
}

impl Engine for Postgresql {
    fn describe(&self) -> String {
        self.describe_database(&self.database)
    }

    fn preflight(&self, cancel: &Cancel) -> Result<Preflight, DatabaseError> {
        let (clients, inventory) = self.look(&self.database, cancel)?;
        Ok(Preflight {
            server_version: inventory.server.clone(),
            client_version: clients.dumper.text.clone(),
            tables: inventory.tables.keys().cloned().collect(),
            warnings: inventory.warnings(),
        })
    }

    fn begin_dump<'a>(&'a self, options: &DumpOptions, cancel: &Cancel) -> Result<Box<dyn Dump + 'a>, DatabaseError> {
        Ok(Box::new(dump::PostgresqlDump::begin(self, options, cancel)?))
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
        restore::restore(self, dump, record, target, None, cancel)
    }

    fn open_scratch(&self, database: Option<&str>) -> Result<Box<dyn ScratchDatabase>, DatabaseError> {
        let database = database.unwrap_or(&self.database);
        let cancel = Cancel::default();
        let clients = Clients::find(&self.connection, database, &self.describe_database(database), &cancel)?;
        Ok(Box::new(scratch::PostgresqlScratch::open(clients, database)?))
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
        let cancel = Cancel::default();
        let clients = Clients::find(&self.connection, &self.database, &self.describe(), &cancel).ok()?;
        let place = clients.maintenance(&cancel).ok()?;
        let rows = clients.query(&place, "SELECT system_identifier FROM pg_control_system();", &cancel).ok()?;
        rows.into_iter().flatten().next()
    }

    fn load_scratch(
        &self,
        name: &str,
        dump: DumpSource<'_>,
        record: &DatabaseRecord,
        target: &RestoreTarget,
        cancel: &Cancel,
    ) -> Result<RestoreOutcome, DatabaseError> {
        let target = RestoreTarget { database: Some(name.to_owned()), ..target.clone() };
        restore::restore(self, dump, record, &target, Some(name), cancel)
    }

    /// With the roles that were made for it.
    fn drop_scratch(&self, database: &str) -> Result<(), DatabaseError> {
        let cancel = Cancel::default();
        let clients = Clients::find(&self.connection, database, &self.describe_database(database), &cancel)?;
        let place = clients.maintenance(&cancel)?;
        clients.query(&place, &format!("DROP DATABASE IF EXISTS {};", names::quoted(database)), &cancel)?;
        roles::drop_marked(database, &clients, &place, &cancel)
    }
}

#[cfg(test)]
mod tests;
