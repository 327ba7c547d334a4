//! The text format of Prometheus (0.0.4), from a report: for `/metrics`, a textfile of node_exporter, and
//! `health --prometheus`.

use super::{HealthReport, LastRun, ProjectHealth, StoreHealth};
use jiff::Timestamp;
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// One metric with its samples.
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

/// The report as text. Every metric is a gauge; names end in their unit.
pub fn prometheus(report: &HealthReport) -> String {
    let mut text = String::new();
    for family in families(report).into_iter().filter(|family| !family.samples.is_empty()) {
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} gauge", family.name, family.help, family.name);
        for (labels, value) in family.samples {
            let _ = writeln!(text, "{}{labels} {value}", family.name);
        }
    }
    text
}

/// Writes the text where node_exporter reads it: whole or not at all, for everybody to read.
///
/// # Errors
/// When the folder is not there or cannot be written to.
pub fn write_textfile(path: &Path, report: &HealthReport) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".havun-").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(prometheus(report).as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn families(report: &HealthReport) -> Vec<Family> {
    let mut families = vec![
        family("havun_backup_health_timestamp_seconds", "When health was looked at.", [(String::new(), seconds(report.at))]),
        family("havun_backup_healthy", "1 when nothing needs attention.", [(String::new(), flag(report.healthy))]),
        family("havun_backup_host_problems", "Problems of the host itself.", [(String::new(), report.host.problems.len() as f64)]),
        family(
            "havun_backup_alerts_open",
            "Open alerts by kind.",
            report.host.open_alerts.iter().map(|(kind, count)| (labels(&[("kind", kind)]), *count as f64)),
        ),
    ];
    families.extend(projects(report));
    families.extend(runs(report));
    families.extend(stores(report));
    families
}

fn projects(report: &HealthReport) -> Vec<Family> {
    let of = |name, help, value: &dyn Fn(&ProjectHealth) -> Option<f64>| {
        let sample = |project: &ProjectHealth| Some((labels(&[("project", project.project.as_str())]), value(project)?));
        family(name, help, report.projects.iter().filter_map(sample))
    };
    let age = |at: Option<Timestamp>| at.map(|at| report.at.duration_since(at).as_secs_f64().max(0.0));
    vec![
        of("havun_backup_problems", "Problems of a project.", &|p| Some(p.problems.len() as f64)),
        of("havun_backup_last_success_timestamp_seconds", "When the newest run that was whole began.", &|p| p.last_success.map(seconds)),
        of("havun_backup_last_success_age_seconds", "Age of the newest run that was whole.", &|p| age(p.last_success)),
        of("havun_backup_growth_bytes_per_day", "What runs stored per day lately.", &|p| Some(p.growth_per_day as f64)),
        of("havun_backup_drill_age_seconds", "Age of the newest drill that passed.", &|p| age(p.drill_passed_at)),
        of("havun_backup_paused", "1 when a project is paused.", &|p| Some(flag(p.paused))),
    ]
}

fn runs(report: &HealthReport) -> Vec<Family> {
    let of = |name, help, value: &dyn Fn(&LastRun) -> Option<f64>| {
        let sample = |p: &ProjectHealth| Some((labels(&[("project", p.project.as_str())]), value(p.last_run.as_ref()?)?));
        family(name, help, report.projects.iter().filter_map(sample))
    };
    let mut families = vec![
        of("havun_backup_last_run_timestamp_seconds", "When the last run began.", &|run| Some(seconds(run.started_at))),
        of("havun_backup_last_run_ok", "1 when the last run was whole.", &|run| Some(flag(run.status == "ok"))),
        of("havun_backup_last_run_duration_seconds", "How long the last run took.", &|run| run.duration_ms.map(in_seconds)),
        of("havun_backup_last_run_bytes", "Logical bytes of its snapshot.", &|run| Some(run.bytes as f64)),
        of("havun_backup_last_run_files", "Entries of its snapshot.", &|run| Some(run.files as f64)),
        of("havun_backup_last_run_added_bytes", "Bytes that it added to the store.", &|run| Some(run.bytes_added as f64)),
        of("havun_backup_last_run_read_bytes_per_second", "Bytes that it read per second.", &|run| run.bytes_per_second.map(|n| n as f64)),
        of("havun_backup_last_run_deduplicated_ratio", "Share of the bytes read that the store had.", &|run| run.deduplicated),
        of("havun_backup_last_run_compression_ratio", "Times that new bytes are smaller in the store.", &|run| run.compression),
    ];
    let staged = |name, help, key: &'static str, stages: &dyn Fn(&LastRun) -> Vec<(String, u64)>| {
        let samples = report.projects.iter().filter_map(|p| Some((p, p.last_run.as_ref()?))).flat_map(|(p, run)| {
            let sample = |(stage, ms): (String, u64)| (labels(&[("project", p.project.as_str()), (key, &stage)]), in_seconds(ms));
            stages(run).into_iter().map(sample).collect::<Vec<_>>()
        });
        family(name, help, samples)
    };
    let steps = |run: &LastRun| run.steps_ms.clone().into_iter().collect();
    let busy = |run: &LastRun| run.busy_ms.clone().into_iter().collect();
    families.push(staged("havun_backup_last_run_step_seconds", "Time of each step of the last run.", "step", &steps));
    families.push(staged("havun_backup_last_run_busy_seconds", "Time that threads of each stage were busy.", "stage", &busy));
    families
}

fn stores(report: &HealthReport) -> Vec<Family> {
    let of = |name, help, value: &dyn Fn(&StoreHealth) -> Option<f64>| {
        let samples = report.projects.iter().flat_map(|p| p.stores.iter().map(move |store| (p, store))).filter_map(|(p, store)| {
            let names = [("project", p.project.as_str()), ("store", store.store.as_str()), ("tier", store.tier.as_str())];
            Some((labels(&names), value(store)?))
        });
        family(name, help, samples)
    };
    let age = |at: Timestamp| report.at.duration_since(at).as_secs_f64().max(0.0);
    vec![
        of("havun_backup_store_reachable", "1 when a store could be asked.", &|s| Some(flag(s.reachable))),
        of("havun_backup_store_newest_good_timestamp_seconds", "When its newest good snapshot was taken.", &|s| s.newest_good.map(seconds)),
        of("havun_backup_store_newest_good_age_seconds", "Age of its newest good snapshot.", &|s| s.newest_good.map(age)),
        of("havun_backup_store_free_bytes", "Free bytes, where it can say.", &|s| s.free_bytes.map(|n| n as f64)),
        of("havun_backup_store_pending_objects", "Objects that a replica lacks.", &|s| s.lag.as_ref().map(|lag| lag.objects as f64)),
        of("havun_backup_store_pending_bytes", "Their bytes.", &|s| s.lag.as_ref().map(|lag| lag.bytes as f64)),
        of("havun_backup_store_missing_objects", "Objects that vanished from a replica.", &|s| {
            s.audit.as_ref().map(|audit| audit.missing.len() as f64)
        }),
    ]
}

fn family(name: &'static str, help: &'static str, samples: impl IntoIterator<Item = (String, f64)>) -> Family {
    Family { name, help, samples: samples.into_iter().collect() }
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn in_seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(labels(&[("store", "a\"b\\c\nd")]), "{store=\"a\\\"b\\\\c\\nd\"}");
    }
}
