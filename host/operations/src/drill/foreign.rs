//! Scratch databases on servers that the configuration names, in place of servers of our own. Never a production server.

use crate::{
    config::ProjectConfig,
    context::Context,
    databases::{self, DatabaseError, Engine, Overrides, ResolvedConnection},
    error::one_line,
    project,
    run::{self, overrides},
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

/// Drops what a drill made on `server`, as its engine described it then.
///
/// # Errors
/// One line; also where the configuration names another server by now.
pub(super) fn drop_database(cx: &Context, engine: &str, database: &str, server: &str) -> Result<(), String> {
    let missing = || format!("[drill.databases.{engine}] is not in the configuration any more");
    let connection = connection(cx, engine, database).ok_or_else(missing)??;
    let opened = opened(connection)?;
    let now = opened.describe();
    if !server.is_empty() && server != now {
        return Err(format!("it is the {server}, and [drill.databases.{engine}] leads to the {now} by now: drop it there by hand"));
    }
    drop_all(&*opened, database)
}

/// Drops a drill's database, and what an engine that was killed while it loaded leaves beside it. That goes first: it may belong
/// to roles that go with the other.
///
/// # Errors
/// One line.
pub(super) fn drop_all(engine: &dyn Engine, database: &str) -> Result<(), String> {
    let names = [format!("{database}{LOADING}"), database.to_owned()];
    names.iter().try_for_each(|name| engine.drop_scratch(name).map_err(|e| one_line(&e)))
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

/// What is in production: connections of every project of the configuration, with the project's name.
pub(super) type Productions = Vec<(ProjectName, Connection)>;

/// As the configuration names them, as each strategy would back them up now, and as the newest snapshot on this machine was
/// made from them.
pub(super) fn productions(cx: &Context) -> Productions {
    let mut all = Productions::new();
    for project in cx.config.projects.values() {
        let mut found = run::connections(cx, project);
        found.extend(newest(cx, project).into_iter().filter(|connection| !found.contains(connection)).collect::<Vec<_>>());
        // Where the strategy knows a connection, the configuration may say only what it does not.
        let named = project.databases.keys().filter(|name| !found.iter().any(|known| known.name == **name));
        let bare = named.map(|name| Connection { name: name.clone(), engine: String::new(), parameters: Vec::new() });
        found.extend(bare.collect::<Vec<_>>());
        all.extend(found.into_iter().map(|connection| (project.name.clone(), connection)));
    }
    all
}

/// Those of the newest snapshot, where it can be read without leaving this machine.
fn newest(cx: &Context, project: &ProjectConfig) -> Vec<Connection> {
    let local = project::primary(cx, project).filter(|name| cx.config.stores.get(name).is_none_or(|store| !store.kind.is_remote()));
    let snapshots = local.and_then(|name| {
        let store = project::open_store(cx, &project.name, &name).ok()?;
        project::open_vault(cx, &project.name, &store).ok()?.snapshots().ok()
    });
    let newest = snapshots.and_then(|list| list.snapshots.into_iter().max_by_key(|stored| stored.snapshot.started_at));
    let items = newest.map(|stored| stored.snapshot.items).unwrap_or_default();
    items.into_values().filter_map(|item| item.database?.connection).collect()
}

/// Refuses a scratch server that is the project's own, as its live tree, or the restored one, says where that is, and one
/// that is any other project's. What cannot be told is refused as well.
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
    productions: &Productions,
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
    others(cx, scratch, identity.as_deref(), productions, &unknown)
}

/// Those of all projects. One that does not say which server it is may be this one under another address.
fn others(
    cx: &Context,
    scratch: &ResolvedConnection,
    identity: Option<&str>,
    productions: &Productions,
    unknown: &dyn Fn(&str) -> Refused,
) -> Result<(), Refused> {
    for (name, planned) in productions {
        let Some(project) = cx.config.projects.get(name) else { continue };
        let Ok(parameters) = overrides(project, &planned.name) else { continue };
        let engine = if planned.engine.is_empty() { scratch.engine() } else { &planned.engine };
        let planned = Connection { engine: engine.to_owned(), ..planned.clone() };
        let Ok(production) = ResolvedConnection::resolve(&planned, &parameters, &project.root) else { continue };
        if !is_kin(production.engine(), scratch.engine()) {
            continue;
        }
        compare(name, &planned.name, production, scratch, identity).map_err(|same| {
            same.unwrap_or_else(|| unknown(&format!("connection `{}` of project {name} does not say which server it is", planned.name)))
        })?;
    }
    Ok(())
}

/// Whether a server of one may be a server of the other.
fn is_kin(production: &str, scratch: &str) -> bool {
    let family = |engine: &str| if engine == "mysql" { "mariadb".to_owned() } else { engine.to_owned() };
    family(production) == family(scratch)
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
