//! `list`.

use crate::{
    app::App,
    error::CliError,
    ui::{failure_text, format, table::Table},
};
use clap::Args;
use havun_operations::list::{ListOptions, ProjectListing, SnapshotLine, list};
use jiff::tz::TimeZone;

/// List the snapshots of all or the named projects, in every store
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this project; can be repeated
    #[arg(long, short, value_name = "NAME")]
    pub project: Vec<String>,
    /// Only this store
    #[arg(long, short, value_name = "NAME")]
    pub store: Option<String>,
}

pub fn execute(app: &App, args: &ListArgs) -> Result<u8, CliError> {
    let cx = app.context()?;
    let report = list(&cx, &ListOptions { projects: args.project.clone(), store: args.store.clone() })?;
    app.screen.clear();
    for (place, project) in report.projects.iter().enumerate() {
        if place > 0 {
            app.ui.line("");
        }
        app.ui.lines(lines(project, &cx.zone()));
        troubles(app, project);
    }
    if report.projects.is_empty() {
        app.ui.line("No project to list; `havun-backup init PATH…` proposes some.");
    }
    app.ui.document(&report)?;
    Ok(report.exit_status())
}

fn lines(project: &ProjectListing, zone: &TimeZone) -> Vec<String> {
    let title = if project.title == project.project.as_str() { String::new() } else { format!(" ({})", project.title) };
    let mut lines = vec![format!("{}{title}", project.project)];
    let snapshots = merged(project);
    if snapshots.is_empty() {
        lines.push("  no snapshots yet; `havun-backup run` makes the first".to_owned());
        return lines;
    }
    let mut table = Table::new(&["snapshot", "taken", "state", ">entries", ">size", "stores", "archive until", "items"]);
    for (snapshot, stores) in snapshots {
        table.row([
            snapshot.id.short(),
            format::time(snapshot.taken_at, zone),
            snapshot.outcome.word().to_owned(),
            format::count(snapshot.entries),
            format::size(snapshot.bytes),
            stores.join(","),
            format::date(snapshot.retain_until, zone),
            snapshot.items.join(","),
        ]);
    }
    lines.extend(table.lines(2));
    lines
}

/// Each snapshot once, newest first, with the stores that hold it.
fn merged(project: &ProjectListing) -> Vec<(&SnapshotLine, Vec<&str>)> {
    let mut all: Vec<(&SnapshotLine, Vec<&str>)> = Vec::new();
    for store in &project.stores {
        for snapshot in &store.snapshots {
            match all.iter_mut().find(|(known, _)| known.id == snapshot.id) {
                Some((_, stores)) => stores.push(store.store.as_str()),
                None => all.push((snapshot, vec![store.store.as_str()])),
            }
        }
    }
    all.sort_by_key(|(snapshot, _)| std::cmp::Reverse((snapshot.taken_at, snapshot.id)));
    all
}

fn troubles(app: &App, project: &ProjectListing) {
    for store in &project.stores {
        for damage in &store.damaged {
            app.ui.trouble(format!("  damaged in {}: {}: {}", store.store, damage.object, damage.what));
        }
        if let Some(failure) = &store.failure {
            app.ui.trouble(failure_text(failure, &format!("  {}: ", project.project)));
        }
    }
}
