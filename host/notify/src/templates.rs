//! In which words: templates of subjects, texts and HTML, built in for each language, and those of the operator.
//!
//! A message `failure` has three templates: `failure.subject`, `failure.txt` and `failure.html`; values in the latter are
//! escaped. `layout.html` is around every HTML. The operator's folder may hold any of them. A value that is missing is an error,
//! never an empty place: then the built-in words are used, and the error is told. Templates see values only, neither
//! files nor the network.

use crate::language::Language;
use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;
use std::{
    io,
    path::{Path, PathBuf},
};

/// The longest template of the operator's own, in bytes.
const LONGEST: u64 = 256 * 1024;
/// What an operator's template is named after the message.
const ENDINGS: [&str; 3] = ["subject", "txt", "html"];

macro_rules! built_in {
    ($language:literal) => {
        &[
            // One shape for all languages, whose words come from `words`.
            ("layout.html", include_str!("../templates/layout.html")),
            ("failure.html", include_str!("../templates/failure.html")),
            ("recovery.html", include_str!("../templates/recovery.html")),
            ("words", include_str!(concat!("../templates/", $language, "/words"))),
            ("failure.subject", include_str!(concat!("../templates/", $language, "/failure.subject"))),
            ("failure.txt", include_str!(concat!("../templates/", $language, "/failure.txt"))),
            ("recovery.subject", include_str!(concat!("../templates/", $language, "/recovery.subject"))),
            ("recovery.txt", include_str!(concat!("../templates/", $language, "/recovery.txt"))),
            ("test.subject", include_str!(concat!("../templates/", $language, "/test.subject"))),
            ("test.txt", include_str!(concat!("../templates/", $language, "/test.txt"))),
            ("test.html", include_str!(concat!("../templates/", $language, "/test.html"))),
        ]
    };
}

/// Every template of a language; each language has the same.
const ENGLISH: &[(&str, &str)] = built_in!("en");
const DUTCH: &[(&str, &str)] = built_in!("nl");

/// Why a template could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The operator's folder or a file in it cannot be read.
    #[error("the templates in {} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none, or wants a value that there is not.
    #[error("the template `{name}` cannot be used: {why}")]
    Wrong {
        /// Its file name.
        name: String,
        /// What is wrong with it, and in which line.
        why: String,
    },
}

/// What became of a template.
#[derive(Debug)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// For readers of text.
    pub text: String,
    /// For everybody else.
    pub html: String,
    /// Why the built-in words were used instead of the operator's.
    pub complaint: Option<TemplateError>,
}

/// The templates of a language.
pub struct Templates {
    built_in: Environment<'static>,
    own: Option<Result<Environment<'static>, TemplateError>>,
}

impl Templates {
    /// The built-in templates of `language`, and before them those in `folder`.
    #[must_use]
    pub fn new(language: Language, folder: Option<&Path>) -> Self {
        let texts = match language {
            Language::English => ENGLISH,
            Language::Dutch => DUTCH,
        };
        Self { built_in: environment(texts), own: folder.map(|folder| own(texts, folder)) }
    }

    /// Subject, text and HTML of the message `name`.
    ///
    /// # Errors
    /// [`TemplateError`] when not even the built-in words fit the values.
    pub fn render(&self, name: &str, values: &impl Serialize) -> Result<Rendered, TemplateError> {
        let complaint = match &self.own {
            None => None,
            Some(Err(error)) => Some(TemplateError::Wrong { name: name.to_owned(), why: error_line(error) }),
            Some(Ok(own)) => match render(own, name, values) {
                Ok(rendered) => return Ok(rendered),
                Err(error) => Some(error),
            },
        };
        Ok(Rendered { complaint, ..render(&self.built_in, name, values)? })
    }
}

fn render(environment: &Environment<'_>, name: &str, values: &impl Serialize) -> Result<Rendered, TemplateError> {
    let [subject, text, html] = ENDINGS.map(|ending| {
        let name = format!("{name}.{ending}");
        let rendered = environment.get_template(&name).and_then(|template| template.render(Serde(values)));
        rendered.map_err(|error| wrong(&name, &error))
    });
    let subject = subject?.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Rendered { subject, text: text?, html: html?, complaint: None })
}

fn environment(texts: &[(&'static str, &'static str)]) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // It cannot fail: the marks stay as they are.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    for (name, text) in texts {
        // A built-in template that is none is found by the test below; here it would be missing, and said to be.
        let _ = environment.add_template(name, text);
    }
    environment
}

fn own(texts: &[(&'static str, &'static str)], folder: &Path) -> Result<Environment<'static>, TemplateError> {
    let mut all = environment(texts);
    let failed = |path: &Path, source| TemplateError::Read { path: path.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(|e| failed(folder, e))? {
        let path = entry.map_err(|e| failed(folder, e))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        if !texts.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let long = path.metadata().map_err(|e| failed(&path, e))?.len() > LONGEST;
        if long {
            return Err(failed(&path, io::Error::other("it is longer than 256 KiB")));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| failed(&path, e))?;
        all.add_template_owned(name.clone(), text).map_err(|error| wrong(&name, &error))?;
    }
    Ok(all)
}

fn wrong(name: &str, error: &minijinja::Error) -> TemplateError {
    let line = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    let name = error.name().unwrap_or(name).to_owned();
    TemplateError::Wrong { name, why: format!("{}{detail}{line}", error.kind()) }
}

fn error_line(error: &TemplateError) -> String {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
