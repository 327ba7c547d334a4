//! A document as a page of HTML, by one template that escapes whatever it is given.

use super::Document;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};

/// Styles are inline as well as in the head: some mail programs drop one or the other.
const PAGE: &str = include_str!("page.html");

pub(super) fn html(document: &Document) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("lines", |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>());
    // A date is not broken at its hyphens; what is too long for a line anyway is.
    environment.add_filter("words", |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    environment.add_template("page", PAGE)?;
    let page = environment.get_template("page")?.render(Serde(document))?;
    // The template's own lines leave empty ones.
    let page: String = page.lines().filter(|line| !line.trim().is_empty()).flat_map(|line| [line, "\n"]).collect();
    // The engine escapes slashes too, which stand in no attribute here; nobody would read the page's source with them.
    Ok(page.replace("&#x2f;", "/").replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"))
}
