//! What an auditor asks for, as tables.

use super::{Show, sections::shortened};
use crate::reporting::{Change, DrillRecord, Evidence, ProjectEvidence, Record, RunLine};
use havun_notify::document::{Block, Table, Tone};

impl Show<'_> {
    pub(super) fn evidence(&self, evidence: &Evidence) -> Vec<Block> {
        let mut blocks = vec![
            self.heading("Who holds the keys", "Wie de sleutels heeft"),
            Block::List(evidence.key_custody.clone()),
            self.heading("Copies (3-2-1)", "Kopieën (3-2-1)"),
            Block::List(evidence.notes.clone()),
        ];
        for project in &evidence.projects {
            blocks.extend(self.project(project));
        }
        blocks
    }

    fn project(&self, project: &ProjectEvidence) -> Vec<Block> {
        let l = self.language;
        let whole = self.report.projects.iter().find(|known| known.project == project.project);
        let title = whole.map_or(project.project.as_str(), |known| known.title.as_str());
        let (due, done) = whole.map_or((0, 0), |known| (known.due, known.done));
        let oldest = whole.and_then(|known| known.storage.iter().filter_map(|line| line.oldest).min());
        let held = whole.map_or(0, |known| known.storage.iter().map(|line| line.snapshots).max().unwrap_or(0));
        let mut blocks = vec![Block::Heading(format!("{}: {title}", l.pick("Evidence", "Bewijs")))];
        blocks.push(Block::Facts(vec![
            (l.pick("Due and done", "Gepland en gedaan").to_owned(), format!("{} / {}", l.count(done), l.count(due))),
            (l.pick("Snapshots kept", "Bewaarde snapshots").to_owned(), l.count(held)),
            (l.pick("Oldest", "Oudste").to_owned(), oldest.map_or_else(|| "–".to_owned(), |at| self.date(at))),
        ]));
        blocks.extend(self.part(("Test restores", "Testherstel"), self.drill_table(&project.drills)));
        blocks.extend(self.part(("Restores", "Herstel"), self.records(&project.restores)));
        blocks.extend(self.part(("Deleted, repaired, accepted", "Verwijderd, hersteld, aanvaard"), self.records(&project.deletions)));
        blocks.extend(self.part(("Holds", "Bewaarplichten (holds)"), self.records(&project.holds)));
        blocks.extend(self.part(("Erasures", "Gewiste personen"), self.records(&project.erasures)));
        blocks.extend(self.part(("Read back", "Teruggelezen"), self.records(&project.checks)));
        blocks.extend(self.part(("Changes", "Wijzigingen"), self.change_table(&project.changes)));
        blocks.extend(self.part(("Every run", "Elke run"), self.run_table(&project.runs)));
        blocks
    }

    /// A table with its heading; what there was none of is said too.
    fn part(&self, (english, dutch): (&str, &str), table: Table) -> Vec<Block> {
        let title = self.heading(english, dutch);
        if table.rows.is_empty() {
            return vec![title, Block::Paragraph(self.language.pick("None.", "Geen.").to_owned())];
        }
        vec![title, Block::Table(table)]
    }

    fn drill_table(&self, drills: &[DrillRecord]) -> Table {
        let l = self.language;
        let mut table = Table::new(&l.pick(["When", "Result", ">Took"], ["Wanneer", "Uitslag", ">Duur"]));
        for drill in drills {
            let tone = if drill.result == "passed" { Tone::Good } else { Tone::Bad };
            let took = drill.duration_ms.map_or_else(|| "–".to_owned(), |millis| l.duration(millis));
            let mut notes = vec![format!("snapshot {} · {} {}", short(&drill.snapshot), l.pick("by", "door"), drill.user)];
            if !drill.certificate.is_empty() {
                let sum = if drill.sha256.is_empty() { l.pick("not on this host", "niet op deze host") } else { drill.sha256.as_str() };
                notes.push(format!("{} {}", l.pick("certificate", "certificaat"), drill.certificate));
                notes.push(format!("SHA-256 {sum}"));
            }
            notes.extend(Some(shortened(&drill.reasons)).filter(|text| !text.is_empty()));
            table.row(tone, [self.time(drill.at), self.status(&drill.result), took], notes);
        }
        table
    }

    fn records(&self, records: &[Record]) -> Table {
        let l = self.language;
        let mut table = Table::new(&l.pick(["When", "What", "Status"], ["Wanneer", "Wat", "Status"]));
        for record in records {
            let tone = if record.status == "ok" { Tone::Plain } else { Tone::Warning };
            let by = format!("{} {} ({}, {})", l.pick("by", "door"), record.user, record.started_by, record.host);
            let about = format!("{} · {} · {}", record.about, l.count(record.count), l.size(record.bytes));
            let notes = [about, by, shortened(&record.reason)].into_iter().filter(|text| !text.is_empty()).collect();
            table.row(tone, [self.time(record.at), record.action.clone(), self.status(&record.status)], notes);
        }
        table
    }

    fn change_table(&self, changes: &[Change]) -> Table {
        let mut table = Table::new(&self.language.pick(["When", "What"], ["Wanneer", "Wat"]));
        for change in changes {
            table.row(
                Tone::Plain,
                [self.time(change.at), change.what.clone()],
                vec![format!("{} → {}", short(&change.from), short(&change.to))],
            );
        }
        table
    }

    fn run_table(&self, runs: &[RunLine]) -> Table {
        let l = self.language;
        let mut table = Table::new(&l.pick(["Began", "Status", ">Size"], ["Begonnen", "Status", ">Grootte"]));
        for run in runs {
            let tone = if run.status == "ok" { Tone::Plain } else { Tone::Bad };
            let facts = [
                run.duration_ms.map(|millis| l.duration(millis)),
                run.snapshot.as_deref().map(|id| format!("snapshot {}", short(id))),
                Some(format!("{} {} ({})", l.pick("by", "door"), run.user, run.started_by)),
            ];
            let facts = facts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
            let notes = [facts, shortened(&run.message)].into_iter().filter(|text| !text.is_empty()).collect();
            table.row(tone, [self.time(run.started_at), self.status(&run.status), l.size(run.bytes)], notes);
        }
        table
    }
}

/// Sixteen digits of a hash name it for people; the report as JSON has all. Other texts are short already.
fn short(text: &str) -> String {
    let is_hash = text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hash { text.chars().take(16).collect() } else { text.to_owned() }
}
