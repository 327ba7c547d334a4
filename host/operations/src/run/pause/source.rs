//! A snapshot of the file system: which commands make it and undo it. Pure, but for asking what is mounted.

use super::command::OwnCommand;
use crate::config::SnapshotSource;
use havun_model::{Cancel, ProjectName};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Seconds for each command.
const TIMEOUT_SECS: u16 = 300;
/// The inode of every subvolume's root.
const SUBVOLUME: u64 = 256;
/// What our own Btrfs snapshots are named.
const OWN: &str = ".havun-backup-";

/// What is mounted where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Folder of the file system that is seen there: `/` as a rule.
    pub root: PathBuf,
    pub point: PathBuf,
    pub kind: String,
    /// `/dev/mapper/vg-lv`, `tank/www`.
    pub source: String,
}

/// Everything that is mounted.
pub(super) fn mounts() -> Result<Vec<Mount>, String> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("cannot read /proc/self/mountinfo: {error}"))?;
    Ok(parse_mounts(&text))
}

fn parse_mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (first, second) = line.split_once(" - ")?;
        let (mut first, mut second) = (first.split(' ').skip(3), second.split(' '));
        let (root, point) = (unescape(first.next()?), unescape(first.next()?));
        Some(Mount { root: root.into(), point: point.into(), kind: second.next()?.to_owned(), source: unescape(second.next()?) })
    };
    text.lines().filter_map(mount).collect()
}

/// `\040` is a space.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// One thing that is made, and taken away again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    pub make: Vec<String>,
    pub undo: Vec<String>,
    pub there: There,
}

/// How it is known whether there is something to undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum There {
    /// Something is mounted there.
    Mounted(PathBuf),
    /// Something lies there.
    Path(PathBuf),
    /// This command ends well.
    Command(Vec<String>),
    /// This command ends well, and says this. Where it says something else, what is there is somebody else's.
    Says(Vec<String>, String),
}

/// How a snapshot is made and where its files are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SnapshotPlan {
    pub steps: Vec<Step>,
    /// The project's root in the snapshot.
    pub root: PathBuf,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Which commands make a snapshot of `source`, mounted read-only at `seen`. `root` is the project's root without links, and
/// `mounts` what is mounted.
///
/// # Errors
/// Where the root does not lie in what is named, or only partly.
pub(super) fn plan_snapshot(
    source: &SnapshotSource,
    project: &ProjectName,
    root: &Path,
    mounts: &[Mount],
    seen: &Path,
) -> Result<SnapshotPlan, String> {
    let mount = mounts.iter().rev().filter(|mount| root.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count());
    let mount = mount.ok_or_else(|| format!("what {} lies in cannot be told", root.display()))?;
    if let Some(inner) = mounts.iter().find(|other| other.point != *root && other.point.starts_with(root)) {
        return Err(format!("{} is a file system of its own: a snapshot would not hold what is in it", inner.point.display()));
    }
    let name = format!("havun-backup-{project}");
    let shown = seen.display().to_string();
    let is = |kind: &str| match mount.kind == kind {
        true => Ok(()),
        false => Err(format!("{} lies in a file system of the kind {}, not {kind}", root.display(), mount.kind)),
    };
    let rest = || root.strip_prefix(&mount.point).map(|rest| mount.root.strip_prefix("/").unwrap_or(&mount.root).join(rest));
    let outside = |what: &str| format!("{} does not lie in {what}", root.display());
    let unmount = |make: Vec<String>| Step { make, undo: words(&["umount", &shown]), there: There::Mounted(seen.to_owned()) };
    let (steps, relative) = match source {
        SnapshotSource::Btrfs { subvolume } => {
            is("btrfs")?;
            let relative = root.strip_prefix(subvolume).map_err(|_| outside(&format!("the subvolume {}", subvolume.display())))?;
            let copy = subvolume.join(format!(".{name}"));
            let (from, to) = (subvolume.display().to_string(), copy.display().to_string());
            let make = Step {
                make: words(&["btrfs", "subvolume", "snapshot", "-r", &from, &to]),
                undo: words(&["btrfs", "subvolume", "delete", &to]),
                there: There::Path(copy),
            };
            (vec![make, unmount(words(&["mount", "--bind", "-o", "ro", &to, &shown]))], relative.to_owned())
        }
        SnapshotSource::Zfs { dataset } => {
            is("zfs")?;
            if mount.source != *dataset {
                return Err(format!("{} lies in the dataset {}, not in {dataset}", root.display(), mount.source));
            }
            let copy = format!("{dataset}@{name}");
            let make = Step {
                make: words(&["zfs", "snapshot", &copy]),
                undo: words(&["zfs", "destroy", &copy]),
                there: There::Command(words(&["zfs", "list", "-t", "snapshot", &copy])),
            };
            let relative = rest().map_err(|_| outside(dataset))?;
            (vec![make, unmount(words(&["mount", "-t", "zfs", "-o", "ro", &copy, &shown]))], relative)
        }
        SnapshotSource::Lvm { volume_group, logical_volume, size } => {
            let mapped = format!("/dev/mapper/{}-{}", volume_group.replace('-', "--"), logical_volume.replace('-', "--"));
            let linked = format!("/dev/{volume_group}/{logical_volume}");
            if mount.source != mapped && mount.source != linked {
                return Err(format!("{} lies on {}, not on {linked}", root.display(), mount.source));
            }
            let (of, copy) = (format!("{volume_group}/{logical_volume}"), format!("{volume_group}/{name}"));
            let room = if size.contains('%') { "--extents" } else { "--size" };
            let make = Step {
                make: words(&["lvcreate", "--yes", "--snapshot", "--name", &name, room, size, &of]),
                undo: words(&["lvremove", "--yes", &copy]),
                // A volume of this name may be anything: only a snapshot of the project's own volume is removed.
                there: There::Says(words(&["lvs", "--noheadings", "-o", "origin", &copy]), logical_volume.clone()),
            };
            // XFS refuses a second file system with the same id.
            let options = if mount.kind == "xfs" { "ro,nouuid" } else { "ro" };
            let relative = rest().map_err(|_| outside(&linked))?;
            (vec![make, unmount(words(&["mount", "-t", &mount.kind, "-o", options, &format!("/dev/{copy}"), &shown]))], relative)
        }
    };
    Ok(SnapshotPlan { steps, root: seen.join(relative) })
}

/// A subvolume inside of the root would be an empty folder in the snapshot.
///
/// # Errors
/// Where there is one, or where it cannot be told.
pub(super) fn check_nested(source: &SnapshotSource, root: &Path) -> Result<(), String> {
    let SnapshotSource::Btrfs { subvolume } = source else { return Ok(()) };
    let mut command = crate::process::bare_command("btrfs");
    command.args(["subvolume", "list", "-o"]).arg(subvolume);
    let (ended, text) = crate::process::capture(&mut command, &Cancel::default(), 16 << 20).map_err(|e| crate::error::one_line(&e))?;
    if !ended.status.success() {
        return Err(format!("the subvolumes in {} cannot be listed: {}", subvolume.display(), ended.complaint));
    }
    for path in String::from_utf8_lossy(&text).lines().filter_map(|line| line.split_once(" path ").map(|(_, path)| path)) {
        // Paths begin at the top of the file system, which need not be mounted.
        let parts: Vec<&str> = path.split('/').collect();
        if parts.last().is_some_and(|name| name.starts_with(OWN)) {
            continue;
        }
        let places = (0..parts.len()).map(|from| subvolume.join(parts.get(from..).unwrap_or_default().join("/")));
        let mut inner = places.filter(|place| fs::metadata(place).is_ok_and(|m| m.is_dir() && m.ino() == SUBVOLUME));
        if let Some(inner) = inner.find(|place| place.starts_with(root) && place != root) {
            return Err(format!("{} is a subvolume of its own: a snapshot would not hold what is in it", inner.display()));
        }
    }
    Ok(())
}

impl Step {
    /// # Errors
    /// What the command said.
    pub fn make(&self, cancel: &Cancel) -> Result<(), String> {
        command(&self.make).run(cancel)
    }

    /// Undoes it, where there is something to undo.
    ///
    /// # Errors
    /// Where it is still there.
    pub fn undo(&self) -> Result<(), String> {
        // Whatever stops the run must not stop this.
        let cancel = Cancel::default();
        let mut tries = 0;
        while self.is_there()? {
            let undone = command(&self.undo).run(&cancel);
            tries += 1;
            if tries >= 3 {
                return undone.and_then(|()| Err(format!("`{}` ended well, but changed nothing", self.undo.join(" "))));
            }
        }
        Ok(())
    }

    fn is_there(&self) -> Result<bool, String> {
        Ok(match &self.there {
            There::Mounted(point) => mounts()?.iter().any(|mount| mount.point == *point),
            There::Path(path) => fs::symlink_metadata(path).is_ok(),
            There::Command(argv) => command(argv).run(&Cancel::default()).is_ok(),
            There::Says(argv, wanted) => return says(argv, wanted),
        })
    }
}

/// # Errors
/// Where it says something else.
fn says(argv: &[String], wanted: &str) -> Result<bool, String> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(false) };
    let mut run = crate::process::bare_command(program);
    run.args(arguments);
    let (ended, text) = crate::process::capture(&mut run, &Cancel::default(), 64 * 1024).map_err(|e| crate::error::one_line(&e))?;
    if !ended.status.success() {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&text);
    let said = text.trim().trim_start_matches('[').trim_end_matches(']');
    match said == wanted {
        true => Ok(true),
        false => Err(format!(
            "{} is there and is no snapshot of {wanted}, so that it is left alone: rename it, or remove it if nobody needs it",
            arguments.last().map(String::as_str).unwrap_or_default()
        )),
    }
}

fn command(argv: &[String]) -> OwnCommand {
    OwnCommand { argv: argv.to_vec(), user: None, folder: PathBuf::from("/"), timeout_secs: TIMEOUT_SECS }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        30 25 0:40 / /srv/www rw - zfs tank/www rw\n\
        31 25 253:1 /data /srv/shop\\040one rw - xfs /dev/mapper/vg--a-shop rw\n\
        32 25 0:41 / /mnt/b rw - btrfs /dev/vdb rw\n\
        33 25 0:42 / /srv/www/mail/spool rw - tmpfs none rw\n";

    fn plan(source: SnapshotSource, root: &str) -> Result<SnapshotPlan, String> {
        let project = ProjectName::new("shop").unwrap();
        plan_snapshot(&source, &project, Path::new(root), &parse_mounts(MOUNTS), Path::new("/state/snapshots/shop"))
    }

    fn made(plan: &SnapshotPlan) -> Vec<String> {
        plan.steps.iter().map(|step| step.make.join(" ")).collect()
    }

    fn zfs(dataset: &str) -> SnapshotSource {
        SnapshotSource::Zfs { dataset: dataset.to_owned() }
    }

    fn lvm(volume: &str, size: &str) -> SnapshotSource {
        SnapshotSource::Lvm { volume_group: "vg-a".to_owned(), logical_volume: volume.to_owned(), size: size.to_owned() }
    }

    #[test]
    fn zfs_commands() {
        let plan = plan(zfs("tank/www"), "/srv/www/shop").unwrap();
        assert_eq!(
            made(&plan),
            ["zfs snapshot tank/www@havun-backup-shop", "mount -t zfs -o ro tank/www@havun-backup-shop /state/snapshots/shop"]
        );
        assert_eq!(plan.steps[0].undo.join(" "), "zfs destroy tank/www@havun-backup-shop");
        assert_eq!(plan.root, Path::new("/state/snapshots/shop/shop"));
    }

    #[test]
    fn lvm_commands() {
        let made_plan = plan(lvm("shop", "5G"), "/srv/shop one/app").unwrap();
        assert_eq!(
            made(&made_plan),
            [
                "lvcreate --yes --snapshot --name havun-backup-shop --size 5G vg-a/shop",
                "mount -t xfs -o ro,nouuid /dev/vg-a/havun-backup-shop /state/snapshots/shop"
            ]
        );
        assert_eq!(made_plan.root, Path::new("/state/snapshots/shop/data/app"), "beneath the folder that is mounted");
        assert!(made(&plan(lvm("shop", "10%ORIGIN"), "/srv/shop one").unwrap())[0].contains("--extents 10%ORIGIN"));
    }

    #[test]
    fn a_volume_that_only_has_the_name_of_a_snapshot_is_left_alone() {
        let there = |text: &str| says(&words(&["printf", "%s", text]), "shop");
        assert_eq!(there("  shop\n"), Ok(true));
        assert!(there("").unwrap_err().contains("no snapshot of shop"));
        assert!(there(" mail\n").unwrap_err().contains("left alone"));
        assert_eq!(says(&words(&["false"]), "shop"), Ok(false), "there is none");
    }

    #[test]
    fn btrfs_commands() {
        let source = SnapshotSource::Btrfs { subvolume: "/mnt/b/www".into() };
        let made_plan = plan(source.clone(), "/mnt/b/www/shop").unwrap();
        assert_eq!(
            made(&made_plan),
            [
                "btrfs subvolume snapshot -r /mnt/b/www /mnt/b/www/.havun-backup-shop",
                "mount --bind -o ro /mnt/b/www/.havun-backup-shop /state/snapshots/shop"
            ]
        );
        assert!(plan(source, "/mnt/b/other").unwrap_err().contains("does not lie in the subvolume"));
    }

    #[test]
    fn what_the_root_does_not_lie_in_is_refused() {
        assert!(plan(zfs("tank/other"), "/srv/www/shop").unwrap_err().contains("lies in the dataset tank/www"));
        assert!(plan(zfs("tank/www"), "/home/shop").unwrap_err().contains("kind ext4"));
        assert!(plan(lvm("other", "5G"), "/srv/shop one").unwrap_err().contains("not on /dev/vg-a/other"));
        assert!(plan(zfs("tank/www"), "/srv/www/mail").unwrap_err().contains("/srv/www/mail/spool is a file system of its own"));
    }
}
