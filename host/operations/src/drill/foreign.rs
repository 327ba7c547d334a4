//! Scratch databases on servers that the configuration names, in place of servers of our own. Never a production server.

use crate::{
    config::ProjectConfig,
    context::Context,
    databases::{self, DatabaseError, Engine, Overrides, ResolvedConnection},
    error::one_line,
    run::overrides,
};
use havun_model::Connection;
use std::path::Path;

/// A login for `database` on the server of `[drill.databases.ENGINE]`, if there is one.
///
/// # Errors
/// One line: a secret or a parameter that cannot be used.
pub(super) fn connection(cx: &Context, engine: &str, database: &str) -> Option<Result<ResolvedConnection, String>> {
    let config = cx.config.drill.databases.get(engine)?;
    let planned = Connection { name: format!("drill.databases.{engine}"), engine: engine.to_owned(), parameters: Vec::new() };
    let parameters = config.parameters().map_err(|e| one_line(&e));
    Some(parameters.and_then(|mut parameters: Overrides| {
        parameters.insert("database", database.to_owned().into());
        ResolvedConnection::resolve(&planned, &parameters, Path::new("/")).map_err(|e| one_line(&e))
    }))
}

/// Drops what a drill made there.
///
/// # Errors
/// One line.
pub(super) fn drop_database(cx: &Context, engine: &str, database: &str) -> Result<(), String> {
    let missing = || format!("[drill.databases.{engine}] is not in the configuration any more");
    let connection = connection(cx, engine, database).ok_or_else(missing)??;
    opened(connection)?.drop_scratch(database).map_err(|e| one_line(&e))
}

pub(super) fn opened(connection: ResolvedConnection) -> Result<Box<dyn Engine>, String> {
    databases::engine(connection).map_err(|e: DatabaseError| one_line(&e))
}

/// Refuses a scratch server that is the project's own, as its live tree, or the restored one, says where that is.
///
/// # Errors
/// One line that names it.
pub(super) fn refuse_production(
    project: &ProjectConfig,
    recorded: &Connection,
    restored: &Path,
    scratch: &ResolvedConnection,
    engine: &dyn Engine,
) -> Result<(), String> {
    let overrides = overrides(project, &recorded.name).map_err(|e| one_line(&e))?;
    for root in [project.root.as_path(), restored] {
        let Ok(production) = ResolvedConnection::resolve(recorded, &overrides, root) else { continue };
        let same_address = production.is_same_server(scratch);
        let identity = || opened(production).ok()?.server_identity();
        // A socket and a port may lead to one server: it is asked.
        if same_address || engine.server_identity().is_some_and(|scratch| identity() == Some(scratch)) {
            return Err(format!(
                "[drill.databases.{}] is the server of connection `{}` of this project: a drill never goes to a production server",
                scratch.engine(),
                recorded.name
            ));
        }
    }
    Ok(())
}
