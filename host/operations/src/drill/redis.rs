//! A dump of Redis: a server of our own is started on it, as Redis restores one, and what it has loaded is counted.

use super::{
    certificate::CertifiedDatabase,
    databases::{Loaded, Source, Unproven, whole},
    folder::DrillFolder,
    foreign,
};
use crate::{
    context::Context,
    databases::{self, DatabaseError, DumpSource},
    error::one_line,
    scratch_server::{OsUser, ScratchError, ScratchServer},
};
use havun_model::{DatabaseRecord, ItemRecord};
use std::io::Write;

/// Loads and compares one dump.
///
/// # Errors
/// [`Unproven`].
pub(super) fn load(
    cx: &Context,
    source: &Source<'_>,
    record: &ItemRecord,
    database: &DatabaseRecord,
    folder: &mut DrillFolder,
    line: &mut CertifiedDatabase,
) -> Result<Loaded, Unproven> {
    let prepared = source.prepared;
    let entry = prepared.dump_entry(record)?;
    let dump = |out: &mut (dyn Write + Send)| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut contents = prepared.vault().contents(prepared.snapshot())?;
        Ok(contents.write(&entry, out)?)
    };
    let dump: DumpSource<'_> = &dump;
    let user = OsUser::resolve(&cx.config.drill.user).map_err(unproven)?;
    let place = folder.new_server("redis");
    let server = ScratchServer::on_dump(&place, dump, database, &user, &cx.cancel).map_err(unproven)?;
    line.scratch_server = server.version().to_owned();
    let connection = || server.connection("redis", "all").map_err(unproven);
    let done = databases::compare_redis(connection()?, database, &cx.cancel).map_err(|error| match error {
        DatabaseError::Cancelled => Unproven::Cancelled,
        error => Unproven::Failed(one_line(&error)),
    })?;
    line.tables_found = done.tables_verified;
    line.rows_found = done.rows_verified;
    line.bytes = entry.size;
    line.notes.extend(done.warnings);
    whole(record, done.problems)?;
    let engine = foreign::opened(connection()?)?;
    Ok(Loaded { engine, database: None, is_foreign: false, server: Some(server) })
}

fn unproven(error: ScratchError) -> Unproven {
    match error {
        error if error.is_cancelled() => Unproven::Cancelled,
        error if error.is_of_this_host() => Unproven::Skipped(one_line(&error)),
        error => Unproven::Failed(one_line(&error)),
    }
}
