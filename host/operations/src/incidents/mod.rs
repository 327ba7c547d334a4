//! What to do when something is wrong: one page for each kind of alert and for each cause that asks for something else.
//!
//! The pages are those of `docs/incidents`, and a part of the program: at 03:00 there may be no network to read them by.
//! Each is there in English and in Dutch, with the same commands. Which page belongs to an alert is found by its kind, its exit status and its message ([`page_for`]).

mod causes;

pub(crate) use causes::is_kind;
pub use causes::page_for;

pub use havun_notify::Language;
use havun_notify::document::Step;

/// What can be looked at. Each page names the checks that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// The audit database: opened, tables up to date, no alert unread.
    Audit,
    /// Keys, secrets, the state folder; who may read them.
    Keys,
    /// Stores: reached, logged in, the right one, host key.
    Stores,
    /// Free space of stores and of the state folder.
    Space,
    /// The machine's clock against what is stored.
    Clock,
    /// Root folders, strategies, databases with their rights.
    Projects,
    /// Who holds a vault.
    Leases,
    /// What killed processes have left.
    LeftBehind,
    /// Replicas that lag behind, and what vanished from them.
    Replicas,
    /// Damage that stands.
    Damage,
    /// Ages of backups, last runs, last drills.
    Runs,
    /// How messages go out.
    Notify,
}

/// A page of `docs/incidents`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Its file's name without the ending; what `doctor --kind` takes.
    pub slug: &'static str,
    /// What belongs to it.
    pub topics: &'static [Topic],
    text: &'static str,
    dutch: &'static str,
}

macro_rules! page {
    ($slug:literal: $($topic:ident)+) => {
        Page { slug: $slug, topics: &[$(Topic::$topic),+], text: include_str!(concat!("../../../../docs/incidents/", $slug, ".md")), dutch: include_str!(concat!("../../../../docs/incidents/nl/", $slug, ".md")) }
    };
}

/// The page that looks at everything.
const HEALTH: Page = page!("health": Audit Keys Stores Space Clock Projects Leases LeftBehind Replicas Damage Runs Notify);

/// Every page, by slug.
pub static PAGES: &[Page] = &[
    page!("anomaly": Runs Projects),
    page!("archive-away": Stores Replicas Space),
    page!("audit-database": Audit Space),
    page!("clock": Clock),
    page!("configuration": Keys Stores Projects),
    page!("daemon": Runs Audit),
    page!("damage": Damage Stores),
    page!("database": Projects),
    page!("database-login": Projects),
    page!("deleted": Replicas Stores Damage),
    page!("disk-full": Space Stores),
    page!("drill": Runs Damage LeftBehind Projects),
    HEALTH,
    page!("host-key": Stores),
    page!("key-permissions": Keys),
    page!("left-behind": LeftBehind),
    page!("locked": Leases),
    page!("notify": Notify),
    page!("run": Projects Stores Space Keys Leases LeftBehind),
    page!("source": Projects LeftBehind),
    page!("strategy": Projects),
    page!("wrong-key": Keys Stores),
];

/// What stands in a page for a value of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// The project; empty where it is about several or none, then its placeholder stays.
    pub project: &'a str,
    /// The store; may be empty.
    pub store: &'a str,
    /// The state folder; may be empty.
    pub state_dir: &'a str,
}

/// The page of this slug.
pub fn page(slug: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.slug == slug)
}

impl Page {
    /// The same in a language; without it, it is English.
    #[must_use]
    pub fn localised(self, language: Language) -> Self {
        Self { text: language.pick(self.text, self.dutch), ..self }
    }

    /// Its heading.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }

    /// All of it, with the values of the machine in place of the words for them.
    pub fn text(&self, place: Place<'_>) -> String {
        let mut text = self.text.to_owned();
        if !place.project.is_empty() {
            for (from, to) in [("--project NAME", "--project "), ("[projects.NAME", "[projects."), ("certificates/NAME", "certificates/")] {
                text = text.replace(from, &format!("{to}{}", place.project));
            }
        }
        if !place.store.is_empty() {
            text = text
                .replace("--store STORE", &format!("--store {}", place.store))
                .replace("[stores.NAME", &format!("[stores.{}", place.store));
        }
        if !place.state_dir.is_empty() {
            text = text.replace("/var/lib/havun-backup", place.state_dir);
        }
        text
    }

    /// What it means.
    pub fn meaning(&self, place: Place<'_>) -> String {
        section(&self.text(place), 1)
    }

    /// What is safe meanwhile.
    pub fn safe(&self, place: Place<'_>) -> String {
        section(&self.text(place), 2)
    }

    /// What to do now, step by step.
    pub fn steps(&self, place: Place<'_>) -> Vec<Step> {
        steps(&section(&self.text(place), 3))
    }

    /// How to know that it is over.
    pub fn over(&self, place: Place<'_>) -> String {
        section(&self.text(place), 4)
    }
}

/// What stands beneath the heading of the second level in this place, from 1: each page has the same four.
fn section(text: &str, place: usize) -> String {
    let part = text.split("\n## ").nth(place).unwrap_or_default();
    part.split_once('\n').map_or("", |(_, rest)| rest).trim().to_owned()
}

/// A numbered list with fenced commands, as steps; lines of one paragraph are joined.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        let bare = line.trim();
        if bare.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let number = line.split_once(". ").filter(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
        match (fenced, number, steps.last_mut()) {
            (false, Some((_, rest)), _) => steps.push(Step { text: plain(rest), commands: String::new() }),
            (true, _, Some(step)) => {
                if !step.commands.is_empty() {
                    step.commands.push('\n');
                }
                step.commands.push_str(bare);
            }
            (false, None, Some(step)) if !bare.is_empty() => {
                step.text.push(' ');
                step.text.push_str(&plain(bare));
            }
            _ => {}
        }
    }
    steps
}

/// Without the marks of Markdown.
pub fn plain(text: &str) -> String {
    text.replace("**", "").replace('`', "")
}

#[cfg(test)]
mod tests;
