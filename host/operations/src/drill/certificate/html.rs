//! A certificate as one page of HTML that needs nothing from anywhere, and prints on paper.

use super::{Certificate, DrillResult, accepted_lines, comparisons, database_lines, facts};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;color:#1b1f24;max-width:60rem;margin:2rem auto;padding:0 1.2rem}\
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.05rem;margin:1.8rem 0 .5rem;border-bottom:1px solid #d0d7de;padding-bottom:.2rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.28rem .6rem .28rem 0;border-bottom:1px solid #eaeef2;overflow-wrap:anywhere}\
th{font-weight:600;width:13rem}thead th{width:auto;color:#57606a;font-weight:500}\
.result{display:inline-block;padding:.25rem .8rem;border-radius:.3rem;color:#fff;font-weight:600;letter-spacing:.03em}\
.passed{background:#1a7f37}.incomplete{background:#9a6700}.failed{background:#b42318}\
.verdict{white-space:nowrap;overflow-wrap:normal}.bad{color:#b42318;font-weight:600}.unsure{color:#9a6700;font-weight:600}\
code,pre{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}pre{background:#f6f8fa;padding:.6rem;border-radius:.3rem}\
@page{size:A4;margin:12mm 15mm 14mm;@bottom-right{content:\"page \" counter(page) \" of \" counter(pages);font:8pt system-ui,sans-serif;color:#57606a}}\
@media print{body{font-size:8.8pt;line-height:1.35;margin:0;padding:0;max-width:none}h1{font-size:15pt}\
h2{font-size:10.5pt;margin:3.6mm 0 1mm;break-after:avoid}th{width:46mm}th,td{padding:.6mm 3mm .8mm 0}tr,li,pre,.signature{break-inside:avoid}\
code,pre{font-size:7.8pt}pre{border:.3mm solid #d0d7de;padding:1.2mm 2mm;margin:1mm 0}p{margin:1mm 0}ul{margin:1mm 0;padding-left:5mm}.result,pre{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/// As HTML. `sha256` and `signature` are of the JSON form.
pub fn html(c: &Certificate, sha256: &str, signature: &str) -> String {
    let title = escape(&c.title);
    let class = match c.result {
        DrillResult::Passed => "passed",
        DrillResult::Incomplete => "incomplete",
        DrillResult::Failed => "failed",
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Test restore of {title}: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Certificate of a test restore: {title}</h1>\n<p><span class=\"result {class}\">{}</span></p>\n",
        c.result.word(),
        c.result.word().to_uppercase()
    );
    list(&mut page, "Why it did not pass", &c.reasons);
    page.push_str("<h2>What was tested</h2>\n<table>\n");
    for (name, value) in facts(c) {
        page.push_str(&format!("<tr><th scope=\"row\">{name}</th><td>{}</td></tr>\n", escape(&value)));
    }
    page.push_str(
        "</table>\n<h2>Expected and found</h2>\n<table>\n<thead><tr><th></th><th>expected</th><th>found</th><th></th></tr></thead>\n",
    );
    for [what, expected, found, verdict] in comparisons(c).map_cells() {
        page.push_str(&format!("<tr><th scope=\"row\">{what}</th><td>{expected}</td><td>{found}</td>{}</tr>\n", cell(&verdict)));
    }
    page.push_str("</table>\n");
    list(&mut page, "Databases", &database_lines(c));
    let mut failed: Vec<String> = c.files.failed.iter().map(|f| format!("{}: {}", f.path, f.why)).collect();
    let more = c.files.failed_count.saturating_sub(c.files.failed.len() as u64);
    failed.extend((more > 0).then(|| format!("and {more} more")));
    list(&mut page, "Files that are not as they should be", &failed);
    checks(&mut page, c);
    list(
        &mut page,
        "Steps in the restored tree",
        &c.steps.iter().map(|s| format!("{}: {} ({})", s.title, s.outcome, s.detail)).collect::<Vec<_>>(),
    );
    list(&mut page, "Erasures to apply again", &c.erasures);
    list(&mut page, "Not proven, and accepted to be so", &accepted_lines(c));
    list(&mut page, "Notes", &c.notes);
    page.push_str(&format!(
        "<section class=\"signature\">\n<h2>Signature</h2>\n<p>This page is made from the certificate’s JSON form, whose SHA-256 is <code>{sha256}</code>. The JSON form is \
         signed (Ed25519, as a C2SP signed note) with the key</p>\n<pre>{}</pre>\n<p>by</p>\n<pre>{}</pre>\n\
         <p><code>havun-backup test --verify FILE --key KEY</code> checks the note, and this page against it.</p>\n</section>\n</body>\n</html>\n",
        escape(&c.signer),
        escape(signature.trim_end())
    ));
    page
}

/// Rows with escaped cells.
trait Cells {
    fn map_cells(self) -> Vec<[String; 4]>;
}

impl Cells for Vec<[String; 4]> {
    fn map_cells(self) -> Vec<[String; 4]> {
        self.into_iter().map(|row| row.map(|cell| escape(&cell))).collect()
    }
}

/// A verdict stands out when it is not good.
fn cell(verdict: &str) -> String {
    match verdict {
        "FAILED" | "fail" => format!("<td class=\"verdict bad\">{verdict}</td>"),
        "not proven" | "not done" | "warn" | "skipped" => format!("<td class=\"verdict unsure\">{verdict}</td>"),
        _ => format!("<td class=\"verdict\">{verdict}</td>"),
    }
}

fn checks(page: &mut String, c: &Certificate) {
    if c.checks.is_empty() {
        return;
    }
    page.push_str("<h2>Checks</h2>\n<table>\n");
    for check in &c.checks {
        let verdict = cell(&escape(&check.outcome));
        page.push_str(&format!("<tr><th scope=\"row\">{}</th>{verdict}<td>{}</td></tr>\n", escape(&check.name), escape(&check.detail)));
    }
    page.push_str("</table>\n");
}

fn list(page: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    page.push_str(&format!("<h2>{title}</h2>\n<ul>\n"));
    lines.iter().for_each(|line| page.push_str(&format!("<li>{}</li>\n", escape(line))));
    page.push_str("</ul>\n");
}

/// Names of files and tables are anybody's: they must not become markup.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' => safe.push(' '),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
