//! What is sent of a report.

use super::{Period, Report, Span, document, gather};
use crate::{
    context::Context,
    error::OperationError,
    notify::{Outbox, TickReport},
};
use havun_notify::{
    Event, Field, Message, Severity,
    document::{Block, Document},
};
use jiff::civil::Date;

/// The message of a report: subject, text and HTML in the language of the configuration.
pub fn message(cx: &Context, report: &Report) -> Message {
    let document = document(report, cx.config.notify.language, &cx.zone());
    let html = document.html().unwrap_or_else(|error| {
        // The text says the same; that the page fails is a mistake of this program.
        tracing::error!(%error, "the page of a report could not be made");
        String::new()
    });
    Message {
        key: format!("{}/{}/{}", report.period.span.word(), report.period.label, report.host),
        event: if report.period.span == Span::Daily { Event::Digest } else { Event::Report },
        severity: if report.is_good() { Severity::Info } else { Severity::Warning },
        host: report.host.clone(),
        project: String::new(),
        title: String::new(),
        priority: String::new(),
        at: report.made_at,
        subject: document.title.clone(),
        text: body(&document),
        html,
        fields: fields(&document),
    }
    .made_visible()
}

/// The message of a day: the one mail that an operator reads each morning.
///
/// # Errors
/// As [`gather`]; [`OperationError::NotYet`] for a day that has not begun.
pub fn digest(cx: &Context, day: Date) -> Result<Message, OperationError> {
    let period = period(cx, Span::Daily, Some(day))?;
    Ok(message(cx, &gather(cx, &period, &[])?))
}

/// Sends a report by every channel that wants reports. Asked for by a person, so it goes out again though it went out before.
///
/// # Errors
/// [`OperationError::UnknownChannel`] where there is none; [`OperationError::Audit`]. What could not be delivered yet waits, and is in the
/// result.
pub fn send(cx: &Context, report: &Report) -> Result<TickReport, OperationError> {
    if cx.config.notify.channels.is_empty() {
        return Err(OperationError::UnknownChannel { name: "*".to_owned(), nearest: Vec::new() });
    }
    let mut message = message(cx, report);
    message.key = format!("{}/{}", message.key, cx.now());
    let outbox = Outbox::new(cx);
    outbox.put(message, cx.now())?;
    outbox.tick(cx.now())
}

/// The period of this kind that holds `day`, or the latest where no day is named.
///
/// # Errors
/// [`OperationError::NotYet`] for a day that has not begun.
pub fn period(cx: &Context, span: Span, day: Option<Date>) -> Result<Period, OperationError> {
    let now = cx.now().to_zoned_datetime(cx.zone());
    let found = day.map_or_else(|| Period::latest(span, &now), |day| Period::of(span, day, &now));
    found.ok_or_else(|| OperationError::NotYet { day: day.map_or_else(String::new, |day| day.to_string()) })
}

/// The mail's text begins with what matters: its subject says already what its title would.
fn body(document: &Document) -> String {
    Document { title: String::new(), ..document.clone() }.text()
}

/// For channels that show facts apart from the text: the marks.
fn fields(document: &Document) -> Vec<Field> {
    let rows = document.blocks.iter().find_map(|block| if let Block::Table(table) = block { Some(&table.rows) } else { None });
    let field = |cells: &[String]| {
        let [mark, name, size, ..] = cells else { return None };
        Some(Field { name: name.clone(), value: format!("{mark} {size}") })
    };
    rows.into_iter().flatten().filter_map(|row| field(&row.cells)).collect()
}
