//! A report as a document: the same for the screen, for a mail and for a page.

mod evidence;
mod sections;

use super::{Report, Span, Totals};
use havun_notify::{
    Language,
    document::{Block, Document, Tone},
};
use jiff::{Timestamp, tz::TimeZone};

/// What stands where, in words of a language and moments of a time zone.
pub(super) struct Show<'a> {
    pub report: &'a Report,
    pub language: Language,
    pub zone: &'a TimeZone,
}

/// The report as a document.
pub fn document(report: &Report, language: Language, zone: &TimeZone) -> Document {
    let show = Show { report, language, zone };
    let mut blocks = match report.period.span {
        Span::Daily => show.day(),
        _ => show.longer(),
    };
    if let Some(found) = &report.evidence {
        blocks.extend(show.evidence(found));
    }
    Document { language, title: show.title(), headline: show.headline(), tone: show.tone(), blocks, footer: show.footer() }
}

impl Show<'_> {
    /// The subject of the mail.
    pub fn title(&self) -> String {
        let (host, label) = (&self.report.host, &self.report.period.label);
        let what = match (self.report.period.span, self.language) {
            (Span::Daily, Language::English) => "Daily Backup Report",
            (Span::Weekly, Language::English) => "Weekly Backup Report",
            (Span::Monthly, Language::English) => "Monthly Backup Report",
            (Span::Audit, Language::English) => "Backup Audit Report",
            (Span::Daily, Language::Dutch) => "Dagelijks back-uprapport",
            (Span::Weekly, Language::Dutch) => "Wekelijks back-uprapport",
            (Span::Monthly, Language::Dutch) => "Maandelijks back-uprapport",
            (Span::Audit, Language::Dutch) => "Back-upauditrapport",
        };
        format!("[{host}] {what} - {label}")
    }

    /// Never a false green: a project that was never backed up, and a moment of the period that was missed, are said here.
    fn headline(&self) -> String {
        let Totals { projects, succeeded, failed, due, done, .. } = self.report.totals;
        let is_day = self.report.period.span == Span::Daily;
        let l = self.language;
        if projects == 0 {
            l.pick("NO BACKUPS ARE CONFIGURED", "ER ZIJN GEEN BACK-UPS INGESTELD").to_owned()
        } else if failed > 0 {
            l.pick(format!("{failed} OF {projects} BACKUPS FAILED"), format!("{failed} VAN {projects} BACK-UPS MISLUKT"))
        } else if succeeded == 0 {
            l.pick("NO BACKUP WAS MADE YET", "ER IS NOG GEEN BACK-UP GEMAAKT").to_owned()
        } else if !is_day && done < due {
            l.pick(format!("{done} OF {due} BACKUPS WERE MADE"), format!("{done} VAN {due} BACK-UPS GEMAAKT"))
        } else if succeeded < projects {
            l.pick(format!("{succeeded} OF {projects} BACKUPS SUCCESSFUL"), format!("{succeeded} VAN {projects} BACK-UPS GESLAAGD"))
        } else {
            l.pick("ALL BACKUPS SUCCESSFUL", "ALLE BACK-UPS GESLAAGD").to_owned()
        }
    }

    fn tone(&self) -> Tone {
        let Totals { projects, succeeded, failed, due, done, .. } = self.report.totals;
        let missed = self.report.period.span != Span::Daily && done < due;
        match failed {
            1.. => Tone::Bad,
            0 if succeeded < projects || projects == 0 || missed || !self.report.is_good() => Tone::Warning,
            0 => Tone::Good,
        }
    }

    fn footer(&self) -> String {
        let (program, host, at) = (&self.report.program, &self.report.host, self.time(self.report.made_at));
        match self.language {
            Language::English => format!("{program} on {host}, {at}\nWhat to do about something that is open: havun-backup doctor"),
            Language::Dutch => format!("{program} op {host}, {at}\nWat te doen bij iets wat openstaat: havun-backup doctor"),
        }
    }

    pub(super) fn time(&self, at: Timestamp) -> String {
        at.to_zoned_datetime(self.zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
    }

    pub(super) fn date(&self, at: Timestamp) -> String {
        at.to_zoned_datetime(self.zone.clone()).strftime("%Y-%m-%d").to_string()
    }

    /// The day left out where it is that of the report.
    pub(super) fn short_time(&self, at: Timestamp) -> String {
        let (local, made) = (at.to_zoned_datetime(self.zone.clone()), self.report.period.until.to_zoned_datetime(self.zone.clone()));
        if local.date() == made.date() { local.strftime("%H:%M").to_string() } else { self.time(at) }
    }

    pub(super) fn heading(&self, english: &str, dutch: &str) -> Block {
        Block::Heading(self.language.pick(english, dutch).to_owned())
    }
}
