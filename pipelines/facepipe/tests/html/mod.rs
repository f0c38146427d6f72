//! Parses a page as far as the tests need: elements with their texts, and simple selectors. Tags,
//! texts and scripts are distinguished as in browsers.

pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    /// The text of everything inside.
    pub text: String,
    parent: Option<usize>,
}

impl Element {
    pub fn attr(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

const VOID: &[&str] = &["meta", "img", "source", "br", "input", "link", "base"];

pub fn parse(text: &str) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let raw = open.last().map(|i| elements[*i].name.clone());
        let raw = raw.filter(|name| name == "script" || name == "style");
        // A script or style ends only at its own end tag.
        let end = match &raw {
            Some(name) => rest.find(&format!("</{name}")),
            None => rest.find('<'),
        };
        let (before, after) = rest.split_at(end.unwrap_or(rest.len()));
        let plain = match raw {
            Some(_) => before.to_owned(),
            None => decode(before),
        };
        for i in &open {
            elements[*i].text += &plain;
        }
        rest = after;
        if let Some(end) = after.strip_prefix("</") {
            let (name, after) = end.split_once('>').expect("an end tag ends");
            let name = name.trim().to_ascii_lowercase();
            let last = open.pop().map(|i| elements[i].name.clone());
            assert_eq!(last.as_ref(), Some(&name), "elements are nested");
            rest = after;
        } else if let Some(doctype) = after.strip_prefix("<!") {
            rest = doctype.split_once('>').expect("it ends").1;
        } else if let Some(tag) = after.strip_prefix('<') {
            let (element, after) = start_tag(tag, open.last().copied());
            if !VOID.contains(&element.name.as_str()) {
                open.push(elements.len());
            }
            elements.push(element);
            rest = after;
        }
    }
    assert!(open.is_empty(), "all elements end");
    elements
}

/// Parses an element from the text after `<`. Returns it and the text after its `>`.
fn start_tag(text: &str, parent: Option<usize>) -> (Element, &str) {
    let end = |c: char| c.is_whitespace() || matches!(c, '>' | '=' | '/');
    let (name, mut rest) = text.split_at(text.find(end).expect("a tag ends"));
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if let Some(after) = rest.strip_prefix('>') {
            let name = name.to_ascii_lowercase();
            let element = Element {
                name,
                attributes,
                text: String::new(),
                parent,
            };
            return (element, after);
        }
        let (key, after) = rest.split_at(rest.find(end).expect("a tag ends"));
        rest = after;
        let mut value = "";
        if let Some(quoted) = after.strip_prefix("=\"") {
            (value, rest) = quoted.split_once('"').expect("a value ends");
        } else {
            assert!(
                !after.starts_with('='),
                "values are quoted: {key}{after:.20}"
            );
        }
        attributes.push((key.to_ascii_lowercase(), decode(value)));
    }
}

/// Replaces entities such as `&#60;` and `&lt;`.
fn decode(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split('&');
    out += parts.next().unwrap_or_default();
    for part in parts {
        let (entity, after) = part.split_once(';').expect("an entity ends");
        let number = entity.strip_prefix('#').and_then(|n| n.parse().ok());
        let known = [("lt", '<'), ("gt", '>'), ("amp", '&'), ("quot", '"')];
        let named = || known.iter().find(|(n, _)| *n == entity).map(|(_, c)| *c);
        out.push(
            number
                .and_then(char::from_u32)
                .or_else(named)
                .expect(entity),
        );
        out += after;
    }
    out
}

/// The elements that match a selector of names, `#id`, `.class`, `[attribute]`,
/// `[attribute=value]`, and descendants.
pub fn select<'a>(elements: &'a [Element], selector: &str) -> Vec<&'a Element> {
    let parts: Vec<&str> = selector.split_whitespace().collect();
    let (last, above) = parts.split_last().expect("a selector");
    let inside = |element: &Element| {
        let mut above = above.iter().rev().peekable();
        let mut at = element.parent;
        while let (Some(part), Some(i)) = (above.peek(), at) {
            if matches(&elements[i], part) {
                above.next();
            }
            at = elements[i].parent;
        }
        above.peek().is_none()
    };
    let found = elements.iter().filter(|e| matches(e, last) && inside(e));
    found.collect()
}

fn matches(element: &Element, part: &str) -> bool {
    let mark = |c: char| matches!(c, '#' | '.' | '[');
    let (name, mut rest) = part.split_at(part.find(mark).unwrap_or(part.len()));
    let mut holds = name.is_empty() || element.name == name;
    while let Some(kind) = rest.chars().next() {
        let tail = &rest[1..];
        let (value, after) = match kind {
            '[' => tail.split_once(']').expect("a selector"),
            _ => tail.split_at(tail.find(mark).unwrap_or(tail.len())),
        };
        holds &= match (kind, value.split_once('=')) {
            ('#', _) => element.attr("id") == Some(value),
            ('.', _) => element
                .attr("class")
                .is_some_and(|c| c.split(' ').any(|c| c == value)),
            (_, Some((key, value))) => element.attr(key) == Some(value),
            (_, None) => element.attr(value).is_some(),
        };
        rest = after;
    }
    holds
}
