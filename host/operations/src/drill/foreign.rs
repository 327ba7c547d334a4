//! Scratch databases on servers that the configuration names, in place of servers of our own. Never a production server.

use crate::{
    config::ProjectConfig,
    context::Context,
    databases::{self, DatabaseError, Engine, Overrides, ResolvedConnection},
    error::one_line,
    run::overrides,
};
use havun_model::{Connection, ProjectName};
use std::path::Path;

/// What the engines add to the name of a database that they load a dump into first.
const LOADING: &str = "_havun_restore_1";

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
    let engine = opened(connection)?;
    // An engine that was killed while it loaded leaves what it proves a dump in, too.
    for name in [database.to_owned(), format!("{database}{LOADING}")] {
        engine.drop_scratch(&name).map_err(|e| one_line(&e))?;
    }
    Ok(())
}

pub(super) fn opened(connection: ResolvedConnection) -> Result<Box<dyn Engine>, String> {
    databases::engine(connection).map_err(|e: DatabaseError| one_line(&e))
}

/// Why a drill does not go to a scratch server.
pub(super) enum Refused {
    /// It is a production server.
    Production(String),
    /// Whether it is one cannot be told.
    Unknown(String),
}

/// Refuses a scratch server that is the project's own, as its live tree, or the restored one, says where that is, and one
/// that the configuration names as another project's. What cannot be told is refused as well.
///
/// # Errors
/// [`Refused`].
pub(super) fn refuse_production(
    cx: &Context,
    project: &ProjectConfig,
    recorded: Option<&Connection>,
    restored: &Path,
    scratch: &ResolvedConnection,
    engine: &dyn Engine,
) -> Result<(), Refused> {
    let name = scratch.engine();
    let unknown = |why: &str| {
        Refused::Unknown(format!(
            "whether [drill.databases.{name}] is a production server cannot be told ({why}), so that nothing was loaded into it; let this host \
             reach both servers, or remove [drill.databases.{name}], so that a drill starts a server of its own"
        ))
    };
    let recorded = recorded.ok_or_else(|| unknown("the snapshot does not say which connection it was made from"))?;
    let identity = engine.server_identity();
    let own = overrides(project, &recorded.name).map_err(|e| unknown(&one_line(&e)))?;
    let mut compared = false;
    let mut why = "no connection of the project could be resolved".to_owned();
    for root in [project.root.as_path(), restored] {
        match ResolvedConnection::resolve(recorded, &own, root) {
            Ok(production) => {
                compared = true;
                compare(&project.name, &recorded.name, production, scratch, identity.as_deref())
                    .map_err(|same| same.unwrap_or_else(|| unknown("one of the servers does not say which it is")))?;
            }
            Err(error) => why = one_line(&error),
        }
    }
    if !compared {
        return Err(unknown(&why));
    }
    others(cx, scratch, identity.as_deref())
}

/// Those of all projects that the configuration itself names. One that cannot be asked is compared by its address.
fn others(cx: &Context, scratch: &ResolvedConnection, identity: Option<&str>) -> Result<(), Refused> {
    for project in cx.config.projects.values() {
        for name in project.databases.keys() {
            let planned = Connection { name: name.clone(), engine: scratch.engine().to_owned(), parameters: Vec::new() };
            let Ok(parameters) = overrides(project, name) else { continue };
            let Ok(production) = ResolvedConnection::resolve(&planned, &parameters, &project.root) else { continue };
            if let Err(Some(same)) = compare(&project.name, name, production, scratch, identity) {
                return Err(same);
            }
        }
    }
    Ok(())
}

/// # Errors
/// That it is the same; none when that cannot be told.
fn compare(
    project: &ProjectName,
    connection: &str,
    production: ResolvedConnection,
    scratch: &ResolvedConnection,
    identity: Option<&str>,
) -> Result<(), Option<Refused>> {
    let same = || {
        Refused::Production(format!(
            "[drill.databases.{}] is the server of connection `{connection}` of project {project}: a drill never goes to a production server",
            scratch.engine(),
        ))
    };
    if production.is_same_server(scratch) {
        return Err(Some(same()));
    }
    // A socket and a port, or two names, may lead to one server: it is asked.
    let theirs = opened(production).ok().and_then(|engine| engine.server_identity());
    match (identity, theirs) {
        (Some(ours), Some(theirs)) if ours == theirs => Err(Some(same())),
        (Some(_), Some(_)) => Ok(()),
        _ => Err(None),
    }
}
