//! Files that were encrypted, changed or deleted in great number. These rules need a few runs of history only: malware does
//! not wait until a project is two weeks old.

use super::{
    Anomaly, KindCounts, Observation, Rule, grouped,
    observation::files_of,
    percent,
    series::{MARGIN, exceeded_by_few},
    sized,
};

/// So many files at least, and …
const FEW: u64 = 10;
/// … this share of a kind at least make a mass of it.
const SHARE_OF_KIND: f64 = 0.2;
/// Likewise of all files.
const SHARE_OF_ALL: f64 = 0.1;
/// Of the files that changed, so many must look like random bytes …
const OPAQUE: f64 = 0.7;
/// … where less than this did before.
const NORMALLY_CLEAR: f64 = 0.4;
/// Bytes of one run that look random, as a share of everything.
const OPAQUE_BYTES: f64 = 0.25;
const FEW_BYTES: u64 = 1 << 20;

const LOOKS_LIKE: &str = "this is what encryption by malware looks like";

pub(super) fn judge(history: &[Observation], now: &Observation) -> Vec<Anomaly> {
    let judge = Judge { history, now, total: now.tree.total() };
    let encrypted = judge.in_place().or_else(|| judge.replaced()).or_else(|| judge.spread()).or_else(|| judge.bytes());
    [encrypted, judge.changed(), judge.deleted()].into_iter().flatten().collect()
}

struct Judge<'a> {
    history: &'a [Observation],
    now: &'a Observation,
    total: KindCounts,
}

impl Judge<'_> {
    fn steady(&self) -> impl Iterator<Item = &Observation> {
        self.history.iter().filter(|run| !run.flagged)
    }

    /// Whether files of a kind normally do not look like random bytes. Of a kind that is not known, nobody has said so.
    fn is_clear(&self, kind: &str) -> bool {
        let known = self.steady().filter_map(|run| run.tree.kinds.get(kind));
        let (judged, opaque) = known.fold((0u64, 0u64), |sum, kind| (sum.0.saturating_add(kind.judged), sum.1.saturating_add(kind.opaque)));
        judged < FEW || (opaque as f64) < NORMALLY_CLEAR * judged as f64
    }

    /// The share of new bytes that normally look random.
    fn usual_opaque(&self) -> f64 {
        let totals = self.steady().map(|run| run.tree.total());
        let add = |sum: (u64, u64), total: KindCounts| (sum.0.saturating_add(total.bytes_new), sum.1.saturating_add(total.bytes_opaque));
        let (new, opaque) = totals.fold((0, 0), add);
        opaque as f64 / new.max(1) as f64
    }

    /// Files of one kind keep their names and get other content.
    fn in_place(&self) -> Option<Anomaly> {
        let is_hit = |(name, kind): &(&String, &KindCounts)| {
            kind.changed >= FEW && kind.changed as f64 >= SHARE_OF_KIND * kind.before() as f64 && mostly_opaque(kind) && self.is_clear(name)
        };
        let hit: Vec<_> = self.now.tree.kinds.iter().filter(is_hit).collect();
        if hit.is_empty() {
            return None;
        }
        let part =
            |(name, kind): &(&String, &KindCounts)| format!("{} of {} {}", grouped(kind.changed), grouped(kind.before()), files_of(name));
        let parts = hit.iter().map(part).collect::<Vec<_>>().join(", ");
        Some(Anomaly::new(Rule::Encryption, format!("{parts} changed and no longer compress: {LOOKS_LIKE}")))
    }

    /// Files vanish, and others come that nobody can read.
    fn replaced(&self) -> Option<Anomaly> {
        let (now, total) = (self.now, &self.total);
        let gone = total.deleted;
        if !now.tree.compared || gone < FEW || (gone as f64) < SHARE_OF_ALL * total.before() as f64 {
            return None;
        }
        let unclear = |(name, kind): &(&String, &KindCounts)| kind.new > 0 && mostly_opaque(kind) && self.is_clear(name);
        let came: Vec<_> = now.tree.kinds.iter().filter(unclear).collect();
        let new: u64 = came.iter().fold(0, |sum, (_, kind)| sum.saturating_add(kind.new));
        if (new as f64) < 0.5 * gone as f64 {
            return None;
        }
        let kinds = came.iter().take(5).map(|(name, _)| files_of(name)).collect::<Vec<_>>().join(", ");
        let renamed = match now.tree.renamed {
            0 => String::new(),
            count => format!(" ({} of them are the old files under a new name)", grouped(count)),
        };
        let what = format!(
            "{} of {} files are gone, and {} new {kinds} came that do not compress{renamed}: {LOOKS_LIKE}",
            grouped(gone),
            grouped(total.before()),
            grouped(new)
        );
        Some(Anomaly::new(Rule::Encryption, what))
    }

    /// A few files of many kinds each.
    fn spread(&self) -> Option<Anomaly> {
        let clear = self.now.tree.kinds.iter().filter(|(name, kind)| kind.changed > 0 && mostly_opaque(kind) && self.is_clear(name));
        let changed: u64 = clear.fold(0, |sum, (_, kind)| sum.saturating_add(kind.changed));
        let before = self.total.before();
        (changed >= 2 * FEW && changed as f64 >= SHARE_OF_ALL * before as f64).then(|| {
            let what = format!("{} of {} files changed and no longer compress: {LOOKS_LIKE}", grouped(changed), grouped(before));
            Anomaly::new(Rule::Encryption, what)
        })
    }

    /// Few large files, or a run that cannot tell what changed.
    fn bytes(&self) -> Option<Anomaly> {
        let (now, total) = (self.now, &self.total);
        let share = total.bytes_opaque as f64 / total.bytes_new.max(1) as f64;
        let much = total.bytes_opaque >= FEW_BYTES && total.bytes_opaque as f64 >= OPAQUE_BYTES * now.bytes as f64;
        if !much || share < OPAQUE {
            return None;
        }
        let usual = self.usual_opaque();
        (usual < NORMALLY_CLEAR).then(|| {
            let what = format!(
                "{} of {} is new and does not compress, {} of what was read; in the runs before it was {}: {LOOKS_LIKE}",
                sized(total.bytes_opaque),
                sized(now.bytes),
                percent(share),
                percent(usual)
            );
            Anomaly::new(Rule::Encryption, what)
        })
    }

    fn changed(&self) -> Option<Anomaly> {
        let share = |run: &Observation| share_of(run, |total| total.changed);
        let now = share(self.now)?;
        if self.total.changed < 2 * FEW || now < 0.25 {
            return None;
        }
        let usual = self.usual(share);
        (now > 2.0 * MARGIN * usual).then(|| self.mass(Rule::MassChange, self.total.changed, "changed", now, usual))
    }

    fn deleted(&self) -> Option<Anomaly> {
        // A file that was moved is not gone.
        let lost = |run: &Observation| share_of(run, |total| total.deleted.saturating_sub(run.tree.renamed));
        let (gone, share) = (self.total.deleted.saturating_sub(self.now.tree.renamed), lost(self.now)?);
        let many = gone >= 2 * FEW || (gone >= FEW / 2 && share >= 0.3);
        if !many || share < SHARE_OF_ALL {
            return None;
        }
        let usual = self.usual(lost);
        (share > MARGIN * usual).then(|| self.mass(Rule::MassDeletion, gone, "are gone", share, usual))
    }

    fn mass(&self, rule: Rule, count: u64, verb: &str, share: f64, usual: f64) -> Anomaly {
        let (runs, before) = (self.history.len(), grouped(self.total.before()));
        let (share, usual) = (percent(share), percent(usual));
        let what = format!("{} of {before} files {verb} ({share}); in {runs} runs before, usually at most {usual}", grouped(count));
        Anomaly::new(rule, what)
    }

    fn usual(&self, share: impl Fn(&Observation) -> Option<f64>) -> f64 {
        exceeded_by_few(self.steady().filter_map(share).collect(), self.history.len())
    }
}

fn mostly_opaque(kind: &KindCounts) -> bool {
    kind.judged >= FEW / 2 && kind.opaque as f64 >= OPAQUE * kind.judged as f64 && kind.judged >= kind.changed.saturating_add(kind.new) / 2
}

/// A share of the files that were there before; none where nothing could be compared.
fn share_of(run: &Observation, count: impl Fn(&KindCounts) -> u64) -> Option<f64> {
    let total = run.tree.total();
    (run.tree.compared && total.before() > 0).then(|| count(&total) as f64 / total.before() as f64)
}
