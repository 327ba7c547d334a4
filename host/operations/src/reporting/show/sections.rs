//! The parts of a report, each a few blocks; an empty one where there is nothing to say.

use super::Show;
use crate::reporting::{Cost, Incident, Mark, ProjectReport, StorageLine};
use havun_notify::{
    Language,
    document::{Block, Table, Tone},
};

/// Longer reasons are shortened in a mail; the report as JSON has them whole.
const REASON: usize = 400;
/// So many gaps of a project are named.
const GAPS: usize = 20;

impl Show<'_> {
    /// What the mail of each morning has: what matters first.
    pub(super) fn day(&self) -> Vec<Block> {
        let mut blocks = vec![self.marks(), Block::Paragraph(self.storage_line())];
        blocks.extend(self.open_incidents());
        blocks.extend(self.drills_due());
        blocks.extend(self.warnings());
        blocks.extend(self.resolved());
        blocks
    }

    /// A week, month or year.
    pub(super) fn longer(&self) -> Vec<Block> {
        let mut blocks = vec![self.totals(), self.marks(), Block::Paragraph(self.storage_line())];
        blocks.extend(self.runs());
        blocks.extend(self.gaps());
        blocks.extend(self.storage());
        blocks.extend(self.drills());
        blocks.extend(self.drills_due());
        blocks.extend(self.open_incidents());
        blocks.extend(self.resolved());
        blocks.extend(self.retention());
        blocks.extend(self.warnings());
        blocks
    }

    fn marks(&self) -> Block {
        let l = self.language;
        let mut table = Table::new(&["", l.pick("Project", "Project"), l.pick(">Size", ">Grootte"), l.pick(">Change", ">Verschil")]);
        for project in &self.report.projects {
            let (mark, tone) = match project.mark {
                Mark::Good => ("✓", Tone::Good),
                Mark::Bad => ("✗", Tone::Bad),
                Mark::Idle => ("–", Tone::Plain),
            };
            let dash = || "–".to_owned();
            let cells = [
                mark.to_owned(),
                project.title.clone(),
                project.size.map_or_else(dash, |size| l.size(size)),
                project.change.map_or_else(dash, |change| l.change(change)),
            ];
            table.row(tone, cells, self.notes(project));
        }
        Block::Table(table)
    }

    fn notes(&self, project: &ProjectReport) -> Vec<String> {
        let l = self.language;
        let mut notes = Vec::new();
        if project.mark == Mark::Bad {
            let what = project.last.as_ref().map_or_else(String::new, |last| format!("{}: ", self.status(&last.status)));
            let what = if project.reason.starts_with("no run began") { String::new() } else { what };
            notes.push(shortened(&format!("{what}{}", self.reason(project))));
        }
        if project.paused {
            notes.push(l.pick("paused", "gepauzeerd").to_owned());
        }
        let mut facts = Vec::new();
        if let Some(at) = project.newest_good {
            let age = u64::try_from(self.report.period.until.as_second().saturating_sub(at.as_second())).unwrap_or(0);
            let took = project.last.as_ref().filter(|last| last.started_at == at).and_then(|last| last.duration_ms);
            let took = took.map_or_else(String::new, |millis| format!(", {}", l.duration(millis)));
            facts.push(format!("{}{took}, {} {}", self.short_time(at), l.age(age), l.pick("old", "oud")));
        } else if !project.paused {
            facts.push(l.pick("never backed up whole", "nog nooit volledig geback-upt").to_owned());
        }
        facts.extend(project.storage.iter().filter(|line| line.tier == "archive").map(|line| self.archive(line)));
        let tried = project.runs.all();
        if tried > 1 && project.runs.ok < tried && project.mark == Mark::Good {
            facts.push(match l {
                Language::English => format!("{} of {tried} runs ok", project.runs.ok),
                Language::Dutch => format!("{} van {tried} runs goed", project.runs.ok),
            });
        }
        if !facts.is_empty() {
            notes.push(facts.join(" · "));
        }
        notes
    }

    /// Why a project is not as it should be; moments as a clock on the wall shows them.
    fn reason(&self, project: &ProjectReport) -> String {
        let moment = project.reason.strip_prefix("no run began at ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        match (moment, self.language) {
            (Some(at), Language::English) => format!("no run began at {} or since", self.time(at)),
            (Some(at), Language::Dutch) => format!("geen run begonnen om {} of daarna", self.time(at)),
            (None, _) => project.reason.clone(),
        }
    }

    fn archive(&self, line: &StorageLine) -> String {
        let l = self.language;
        let state = match line.state {
            "whole" => l.pick("up to date", "bij"),
            "behind" => l.pick("BEHIND", "LOOPT ACHTER"),
            "empty" => l.pick("empty", "leeg"),
            _ => l.pick("unknown", "onbekend"),
        };
        format!("{}: {state}", line.store)
    }

    pub(super) fn status(&self, status: &str) -> String {
        let dutch = match status {
            "ok" => "goed",
            "partial" => "onvolledig",
            "failed" => "mislukt",
            "cancelled" => "gestopt",
            "interrupted" => "afgebroken",
            "running" => "bezig",
            "passed" => "geslaagd",
            "incomplete" => "onvolledig",
            "missed" => "overgeslagen",
            other => other,
        };
        self.language.pick(status, dutch).to_owned()
    }

    fn storage_line(&self) -> String {
        let (l, totals) = (self.language, &self.report.totals);
        let (local, offsite) = (l.size(totals.local_bytes), l.size(totals.offsite_bytes));
        let line = match l {
            Language::English => format!("Storage: {local} local / {offsite} offsite"),
            Language::Dutch => format!("Opslag: {local} lokaal / {offsite} extern"),
        };
        if totals.unknown.is_empty() {
            return line;
        }
        format!("{line}\n{}: {}", l.pick("Not counted, because unknown", "Niet meegeteld, want onbekend"), totals.unknown.join(", "))
    }

    fn totals(&self) -> Block {
        let (l, totals, period) = (self.language, &self.report.totals, &self.report.period);
        let percent = totals.success_percent.map_or_else(|| "–".to_owned(), |percent| format!("{} %", l.decimal(percent, 1)));
        let facts = [
            (l.pick("Period", "Periode"), format!("{} – {}", self.time(period.from), self.time(period.until))),
            (l.pick("Runs", "Runs"), format!("{} / {}", l.count(totals.runs_ok), l.count(totals.runs))),
            (l.pick("Success rate", "Slagingspercentage"), percent),
            (l.pick("Due moments done", "Geplande momenten gehaald"), format!("{} / {}", l.count(totals.done), l.count(totals.due))),
            (l.pick("Incidents", "Incidenten"), l.count(self.report.incidents.len() as u64)),
        ];
        Block::Facts(facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn runs(&self) -> Vec<Block> {
        let l = self.language;
        let mut table = Table::new(&l.pick(["Project", ">Whole", ">Not whole"], ["Project", ">Volledig", ">Niet volledig"]));
        for project in &self.report.projects {
            let runs = &project.runs;
            let not_whole = runs.partial + runs.failed + runs.cancelled;
            let mut notes = Vec::new();
            if let (Some(usual), Some(longest)) = (project.usual_ms, project.longest_ms) {
                notes.push(format!("{} {}", l.pick("usually", "meestal"), l.duration(usual)));
                notes.push(format!("{} {}", l.pick("at most", "hoogstens"), l.duration(longest)));
            }
            if runs.all() > 0 {
                notes.push(format!("{} {}", l.size(project.bytes_added), l.pick("added", "toegevoegd")));
            }
            if not_whole > 0 {
                let counts = [("partial", runs.partial), ("failed", runs.failed), ("cancelled", runs.cancelled)];
                notes.extend(counts.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{} {count}", self.status(word))));
            }
            let tone = if not_whole > 0 { Tone::Warning } else { Tone::Plain };
            let notes = if notes.is_empty() { Vec::new() } else { vec![notes.join(" · ")] };
            table.row(tone, [project.title.clone(), l.count(runs.ok), l.count(not_whole)], notes);
        }
        if table.rows.is_empty() { Vec::new() } else { vec![self.heading("Runs", "Runs"), Block::Table(table)] }
    }

    fn gaps(&self) -> Vec<Block> {
        let mut lines = Vec::new();
        for project in self.report.projects.iter().filter(|project| !project.gaps.is_empty()) {
            for gap in project.gaps.iter().take(GAPS) {
                let why = match gap.outcome {
                    "missed" => self.language.pick("no run began", "geen run begonnen").to_owned(),
                    other => format!("{}: {}", self.status(other), shortened(&gap.why)),
                };
                lines.push(format!("{}, {}: {why}", project.title, self.time(gap.due_at)));
            }
            if let Some(more) = project.gaps.len().checked_sub(GAPS).filter(|more| *more > 0) {
                lines.push(format!("{}: {} {more}", project.title, self.language.pick("and so many more:", "en nog:")));
            }
        }
        if lines.is_empty() {
            return Vec::new();
        }
        vec![self.heading("Due and not done", "Gepland en niet gedaan"), Block::List(lines)]
    }

    fn storage(&self) -> Vec<Block> {
        let l = self.language;
        let mut table = Table::new(&l.pick(["Project", ">Stored", ">A month"], ["Project", ">Omvang", ">Per maand"]));
        for (project, line) in self.report.projects.iter().flat_map(|project| project.storage.iter().map(move |line| (project, line))) {
            let known = line.state != "unknown";
            let bytes = if known { l.size(line.bytes) } else { "?".to_owned() };
            let place = if known { format!("{} · {} snapshots", line.store, l.count(line.snapshots)) } else { line.store.clone() };
            let notes = [place, shortened(&line.why)].into_iter().filter(|note| !note.is_empty()).collect();
            let tone = if known { Tone::Plain } else { Tone::Warning };
            table.row(tone, [project.title.clone(), bytes, self.cost(line.cost.as_ref())], notes);
        }
        for store in &self.report.stores {
            let full = store.full_at.map(|at| format!("{} {}", l.pick("full on", "vol op"), self.date(at)));
            let grows = format!("{} {}", l.change(i64::try_from(store.growth_per_day).unwrap_or(i64::MAX)), l.pick("a day", "per dag"));
            let cells = [l.pick("Together", "Samen").to_owned(), l.size(store.bytes), self.cost(store.cost.as_ref())];
            table.row(Tone::Plain, cells, vec![[store.store.clone(), grows].into_iter().chain(full).collect::<Vec<_>>().join(" · ")]);
        }
        if table.rows.is_empty() { Vec::new() } else { vec![self.heading("Storage and cost", "Opslag en kosten"), Block::Table(table)] }
    }

    fn cost(&self, cost: Option<&Cost>) -> String {
        cost.map_or_else(|| "–".to_owned(), |cost| format!("{} {}", self.language.decimal(cost.amount, 2), cost.currency))
    }

    fn drills(&self) -> Vec<Block> {
        let l = self.language;
        let mut table = Table::new(&l.pick(["Project", "Last drill", "Result"], ["Project", "Laatste test", "Uitslag"]));
        for project in &self.report.projects {
            let last = project.drills.last_at.as_deref().and_then(|at| at.parse().ok());
            let tone = if project.drills.last_result == "passed" { Tone::Plain } else { Tone::Warning };
            let when = last.map_or_else(|| l.pick("never", "nooit").to_owned(), |at| self.date(at));
            let passed = project.drilled.saturating_sub(project.drills_failed);
            let in_it = match l {
                Language::English => format!("{passed} of {} passed in the period", project.drilled),
                Language::Dutch => format!("{passed} van {} geslaagd in de periode", project.drilled),
            };
            let notes = if project.drilled > 0 { vec![in_it] } else { Vec::new() };
            table.row(tone, [project.title.clone(), when, self.status(&project.drills.last_result)], notes);
        }
        if table.rows.is_empty() { Vec::new() } else { vec![self.heading("Test restores", "Testherstel"), Block::Table(table)] }
    }

    fn drills_due(&self) -> Vec<Block> {
        let l = self.language;
        let due = self.report.projects.iter().filter_map(|project| {
            let since = project.drills.overdue_since?;
            let last = project.drills.passed_at.map_or_else(|| l.pick("never", "nooit").to_owned(), |at| self.date(at));
            Some(match l {
                Language::English => format!("{}: due since {}, last passed {last}", project.title, self.date(since)),
                Language::Dutch => format!("{}: sinds {}, laatst geslaagd {last}", project.title, self.date(since)),
            })
        });
        let lines: Vec<String> = due.collect();
        if lines.is_empty() { Vec::new() } else { vec![self.heading("Drills due", "Testherstel is aan de beurt"), Block::List(lines)] }
    }

    fn open_incidents(&self) -> Vec<Block> {
        let open: Vec<&Incident> = self.report.incidents.iter().filter(|incident| incident.resolved_at.is_none()).collect();
        if open.is_empty() {
            return Vec::new();
        }
        vec![self.heading("Open", "Openstaand"), Block::Table(self.incidents(&open))]
    }

    fn resolved(&self) -> Vec<Block> {
        let done: Vec<&Incident> = self.report.incidents.iter().filter(|incident| incident.resolved_at.is_some()).collect();
        if done.is_empty() {
            return Vec::new();
        }
        vec![self.heading("Resolved", "Opgelost"), Block::Table(self.incidents(&done))]
    }

    fn incidents(&self, incidents: &[&Incident]) -> Table {
        let l = self.language;
        let mut table = Table::new(&l.pick(["What", "Since", ">For"], ["Wat", "Sinds", ">Duur"]));
        for incident in incidents {
            let place =
                if incident.store.is_empty() { incident.project.clone() } else { format!("{} · {}", incident.project, incident.store) };
            let what = if place.is_empty() { incident.kind.clone() } else { format!("{}: {place}", incident.kind) };
            let tone = if incident.resolved_at.is_some() { Tone::Plain } else { Tone::Bad };
            table.row(tone, [what, self.short_time(incident.raised_at), l.age(incident.open_secs)], vec![shortened(&incident.message)]);
        }
        table
    }

    fn retention(&self) -> Vec<Block> {
        let l = self.language;
        let mut table = Table::new(&l.pick(["Project", ">Hot", ">Archive"], ["Project", ">Snel", ">Archief"]));
        for project in &self.report.projects {
            let kept = &project.retention;
            let mut notes = vec![format!("{} {}", l.pick("a backup of today until", "een back-up van vandaag tot"), self.date(kept.until))];
            if !kept.explicit {
                notes.push(l.pick("by default: no term is written", "standaard: er is geen termijn ingesteld").to_owned());
            }
            if kept.auto_delete {
                notes.push(l.pick("deleted by itself after the term", "wordt na de termijn vanzelf verwijderd").to_owned());
            }
            let notes = std::iter::once(notes.join(" · ")).chain(kept.grounds.iter().chain(&kept.doubts).cloned()).collect();
            let tone = if kept.doubts.is_empty() { Tone::Plain } else { Tone::Warning };
            table.row(tone, [project.title.clone(), kept.hot.clone(), kept.archive.clone()], notes);
        }
        if table.rows.is_empty() { Vec::new() } else { vec![self.heading("Retention", "Bewaartermijnen"), Block::Table(table)] }
    }

    fn warnings(&self) -> Vec<Block> {
        let of_projects = self.report.projects.iter().flat_map(|project| {
            let own = project.warnings.iter().chain(&project.retention.doubts);
            own.map(move |warning| format!("{}: {}", project.title, shortened(warning)))
        });
        let lines: Vec<String> = self.report.warnings.iter().cloned().chain(of_projects).collect();
        if lines.is_empty() { Vec::new() } else { vec![self.heading("Warnings", "Waarschuwingen"), Block::List(lines)] }
    }
}

/// A reason in a mail is a sentence or two.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
