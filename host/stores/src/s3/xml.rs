//! As much XML as S3 answers with: elements, text and the five named entities. No document type, nothing external, so
//! nothing that could grow or reach out.

/// Deeper than any answer of S3.
const DEEPEST: usize = 16;

/// An element; text of its own and its children.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Without a namespace's prefix.
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// The children of that name.
    pub fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Text of the first child of that name.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.trim())
    }

    /// Whether that child says `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.text_of(name) == Some("true")
    }
}

/// The outermost element; `None` where the text is not well-formed.
pub(super) fn parse(text: &str) -> Option<Element> {
    let mut open = vec![Element::default()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        open.last_mut()?.text.push_str(&unescape(before)?);
        if let Some(comment) = after.strip_prefix("!--") {
            rest = comment.split_once("-->")?.1;
            continue;
        }
        let (tag, next) = after.split_once('>')?;
        rest = next;
        take_tag(tag, &mut open)?;
    }
    let mut outside = open.pop()?;
    if open.is_empty() && outside.children.len() == 1 { outside.children.pop() } else { None }
}

fn take_tag(tag: &str, open: &mut Vec<Element>) -> Option<()> {
    if tag.starts_with(['?', '!']) {
        return Some(());
    }
    if let Some(name) = tag.strip_prefix('/') {
        let done = open.pop()?;
        if done.name != local(name) {
            return None;
        }
        open.last_mut()?.children.push(done);
        return Some(());
    }
    let element = Element { name: local(tag.trim_end_matches('/')).to_owned(), ..Element::default() };
    if tag.ends_with('/') {
        open.last_mut()?.children.push(element);
    } else if open.len() < DEEPEST {
        open.push(element);
    } else {
        return None;
    }
    Some(())
}

/// `s3:Key attribute="…"` → `Key`.
fn local(tag: &str) -> &str {
    let name = tag.split_whitespace().next().unwrap_or_default();
    name.rsplit_once(':').map_or(name, |(_, name)| name)
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (entity, next) = after.split_once(';')?;
        rest = next;
        out.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            number => numbered(number)?,
        });
    }
    out.push_str(rest);
    Some(out)
}

fn numbered(entity: &str) -> Option<char> {
    let number = entity.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

/// Text that can stand inside an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_namespaces_entities_and_empty_elements() {
        let text = "<?xml version=\"1.0\"?>\n<!-- x --><r xmlns=\"http://s3\"><s:Key>a&amp;b&#x2f;&quot;</s:Key><Key>2</Key><Empty/><T>true</T></r>";
        let root = parse(text).unwrap();
        assert_eq!(root.name, "r");
        assert_eq!(root.text_of("Key"), Some("a&b/\""));
        assert_eq!((root.all("Key").count(), root.text_of("Empty")), (2, Some("")));
        assert!(root.is_true("T") && !root.is_true("Key"));
    }

    #[test]
    fn what_is_no_xml_is_refused_and_never_panics() {
        let deep = "<a>".repeat(40);
        for text in ["", "x", "<a>", "</a>", "<a></b>", "<a>&x;</a>", "<a>&#x110000;</a>", "<", "<a><", "<a/><b/>", "<!--", &deep] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
