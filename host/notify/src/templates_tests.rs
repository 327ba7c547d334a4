use super::*;
use serde_json::{Value, json};
use std::fs;

fn alert() -> Value {
    json!({
        "host": "HavunCore", "subject": "s", "at": "2026-11-21 03:10", "event": "failure", "severity": "critical",
        "project": "havunadmin", "title": "HavunAdmin", "priority": "critical", "kind": "run", "place": "", "status": 1,
        "since": "2026-11-21 03:00", "until": "2026-11-21 04:00", "lasted": "1 h", "last_seen": "2026-11-21 03:10", "times": 3,
        "changes": 5, "errors": ["cannot dump <main> & more"], "tried": [], "attempts": 0, "next_try": "", "advice": ["start the server"],
        "command": "havun-backup logs --project havunadmin", "incident": "docs/incidents/run.md", "also": [],
        "steps": [{ "text": "Read the whole message.", "commands": ["havun-backup logs"] }],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut all = alert();
    all.as_object_mut().unwrap().insert(name.to_owned(), value);
    all
}

#[test]
fn every_built_in_template_of_both_languages_renders_every_kind_of_alert() {
    for (texts, language) in [(ENGLISH, Language::English), (DUTCH, Language::Dutch)] {
        for (name, text) in texts {
            Environment::new().add_template(name, text).unwrap_or_else(|error| panic!("{}/{name}: {error}", language.word()));
        }
        let templates = Templates::new(language, None);
        for event in ["failure", "reminder", "flapping"] {
            let rendered = templates.render("failure", &with("event", json!(event))).unwrap();
            assert!(rendered.text.contains("docs/incidents/run.md") && rendered.html.ends_with("</html>\n"), "{}", rendered.text);
        }
        let rendered = templates.render("recovery", &alert()).unwrap();
        assert!(rendered.text.contains("2026-11-21 04:00 (1 h)"), "{}", rendered.text);
    }
}

#[test]
fn the_subject_is_as_the_specification_has_it() {
    let rendered = Templates::new(Language::English, None).render("failure", &alert()).unwrap();
    assert_eq!(rendered.subject, "[HavunCore] BACKUP FAILED - HavunAdmin");
    let rendered = Templates::new(Language::Dutch, None).render("failure", &alert()).unwrap();
    assert_eq!(rendered.subject, "[HavunCore] BACK-UP MISLUKT - HavunAdmin");
}

#[test]
fn html_is_escaped_and_text_is_not() {
    let rendered = Templates::new(Language::English, None).render("failure", &alert()).unwrap();
    assert!(rendered.html.contains("cannot dump &lt;main&gt; &amp; more"), "{}", rendered.html);
    assert!(rendered.text.contains("cannot dump <main> & more"), "{}", rendered.text);
}

#[test]
fn a_template_with_a_missing_field_is_told_and_the_built_in_words_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("failure.txt"), "one\n{{ nothing_of_this_name }}\n").unwrap();
    let templates = Templates::new(Language::English, Some(folder.path()));
    let rendered = templates.render("failure", &alert()).unwrap();
    assert!(rendered.text.contains("WHAT TO DO NOW"), "{}", rendered.text);
    let complaint = rendered.complaint.unwrap().to_string();
    assert!(complaint.contains("failure.txt") && complaint.contains("undefined") && complaint.contains("line 2"), "{complaint}");
    assert!(templates.render("recovery", &alert()).unwrap().complaint.is_none(), "others are not hit");
}

#[test]
fn an_operators_template_stands_in_for_one_of_the_three_parts() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("failure.subject"), "{{ title }}\nis broken").unwrap();
    let rendered = Templates::new(Language::English, Some(folder.path())).render("failure", &alert()).unwrap();
    assert_eq!(rendered.subject, "HavunAdmin is broken", "a line break ends no header");
    assert!(rendered.complaint.is_none() && rendered.text.contains("WHAT TO DO NOW"));
}

#[test]
fn a_folder_that_is_away_and_a_template_that_is_none_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let rendered = Templates::new(Language::English, Some(&gone)).render("failure", &alert()).unwrap();
    assert!(rendered.complaint.unwrap().to_string().contains("gone cannot be read"));
    fs::write(folder.path().join("failure.html"), "{% if %}").unwrap();
    let rendered = Templates::new(Language::English, Some(folder.path())).render("failure", &alert()).unwrap();
    assert!(rendered.complaint.unwrap().to_string().contains("failure.html"));
}
