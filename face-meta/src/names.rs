//! Which names people may have, when two are the same, and lists of them.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The name of a face that matches nobody in the gallery, unless `unknown-label` sets another.
pub const UNKNOWN: &str = "Unknown";

/// The longest name, in bytes. `facepipe enroll` names people after folders, and a folder's name is
/// no longer.
pub const LONGEST: usize = 255;

/// The one form of a name that is kept, shown and compared: in Unicode's composed form (NFC),
/// without blanks around it. macOS writes file names decomposed: there, `José` has an `e` and an
/// accent. Both look the same, so both are the same person.
pub fn normal(name: &str) -> Cow<'_, str> {
    // Line breaks stay, for `check` to find.
    composed(name.trim_matches(|c: char| c.is_whitespace() && !breaks_lines(c)))
}

/// Checks a new name ([`check`]), and returns it in its [`normal`] form.
pub fn checked(name: &str) -> Result<String, String> {
    check(name)?;
    let name = normal(name).into_owned();
    // A few scripts get longer.
    check(&name)?;
    Ok(name)
}

/// A text in Unicode's composed form (NFC).
pub fn composed(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

/// A text in Unicode's decomposed form (NFD), as macOS writes file names.
pub fn decomposed(text: &str) -> String {
    text.nfd().collect()
}

/// Whether two names are the same person's, however they are written.
pub fn same(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

/// Reads a list of names in their [`normal`] form, separated by commas. A name that contains a
/// comma stands in double or single quotes; in double quotes, `\"` and `\\` stand for `"` and `\`. An
/// apostrophe without a partner is part of its name: `'t Hooft`. Empty elements are left out.
///
/// ```
/// let names = face_meta::names::list(r#""Doe, Jane", Bob"#);
/// assert_eq!(names, Ok(vec!["Doe, Jane".into(), "Bob".into()]));
/// ```
pub fn list(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, behind) = match rest.chars().next() {
            Some('"') => double_quoted(rest)?,
            Some('\'') => single_quoted(rest).unwrap_or_else(|| bare(rest)),
            _ => bare(rest),
        };
        let name = normal(name.trim()).into_owned();
        if !name.is_empty() {
            names.push(name);
        }
        rest = behind.trim_start();
    }
    Ok(names)
}

/// A name, and what follows the comma behind it.
type Element<'a> = (Cow<'a, str>, &'a str);

fn bare(text: &str) -> Element<'_> {
    let (name, behind) = text.split_once(',').unwrap_or((text, ""));
    (name.into(), behind)
}

/// What follows the comma that ends an element, if nothing comes before it.
fn behind_comma(text: &str) -> Option<&str> {
    let rest = text.trim_start();
    rest.strip_prefix(',').or(rest.is_empty().then_some(""))
}

/// `None` if the apostrophe at the beginning does not enclose the whole element.
fn single_quoted(text: &str) -> Option<Element<'_>> {
    let inner = text.strip_prefix('\'')?;
    let mut ends = inner.match_indices('\'');
    ends.find_map(|(end, quote)| {
        let behind = behind_comma(&inner[end + quote.len()..])?;
        Some((inner[..end].into(), behind))
    })
}

fn double_quoted(text: &str) -> Result<Element<'_>, String> {
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let behind = behind_comma(&text[at + 1..]).ok_or_else(|| {
                    format!("a comma is missing in the list behind {}", quoted(&name))
                })?;
                return Ok((name.into(), behind));
            }
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    Err(format!(
        "a quote is not closed in the list: {}",
        quoted(text)
    ))
}

/// A name as [`list`] reads it.
pub fn list_element(name: &str) -> Cow<'_, str> {
    let begins = name.starts_with(['"', '\'']);
    match begins || name.contains(',') {
        false => name.into(),
        true => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")).into(),
    }
}

/// Checks the name of a person. Returns the reason if people could confuse it with another name or
/// with "unknown", or if it would break the lines on which it is printed.
pub fn check(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err("a person's name is empty".into());
    }
    let refuse = |reason: &str| {
        Err(format!(
            "{} cannot be a person's name: {reason}",
            quoted(name)
        ))
    };
    if name.len() > LONGEST {
        return refuse(&format!("it has {} bytes, more than {LONGEST}", name.len()));
    }
    if name.trim().eq_ignore_ascii_case(UNKNOWN) {
        return refuse("it stands for faces that match nobody in the gallery");
    }
    if name.chars().any(breaks_lines) {
        return refuse("it contains a line break or another control character");
    }
    if name.chars().any(turns_text) {
        return refuse("it contains a character that changes the direction of the text");
    }
    if name.chars().any(is_invisible) {
        return refuse("it contains an invisible character");
    }
    Ok(())
}

/// A name in quotes. Unprintable characters are escaped, and a long name is cut.
pub fn quoted(name: &str) -> String {
    const SHOWN: usize = 40;
    let mut text: String = name.chars().take(SHOWN).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    let escape = |c: char| match turns_text(c) || is_invisible(c) {
        true => c.escape_unicode().to_string(),
        false => c.escape_debug().to_string(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// The names most similar to `name`, in quotes, the best first; at most five.
pub fn near<S: AsRef<str>>(names: impl IntoIterator<Item = S>, name: &str) -> Vec<String> {
    let lower = name.to_lowercase();
    let likeness = |other: &str| {
        let other = other.to_lowercase();
        match !lower.is_empty() && (other.contains(&lower) || lower.contains(&other)) {
            true => 1.0,
            false => strsim::jaro_winkler(&lower, &other),
        }
    };
    let names = names
        .into_iter()
        .map(|other| (likeness(other.as_ref()), other));
    let mut near: Vec<(f64, S)> = names.filter(|(likeness, _)| *likeness > 0.75).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.as_ref().cmp(b.1.as_ref())));
    near.iter()
        .take(5)
        .map(|(_, name)| quoted(name.as_ref()))
        .collect()
}

/// Whether a text can be printed within a line without affecting the text around it.
pub fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| breaks_lines(c) || turns_text(c))
}

fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Bidirectional embeddings, overrides and isolates: they change the order in which the text after
/// them is shown.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without width that no script needs. (Scripts do need joiners and direction marks.)
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people() {
        for name in [
            "Ann",
            "Zoë O'Neill-Müller, Jr.",
            "李雷",
            "می\u{200c}خواهم",
            "אבג \u{200f}(דה)",
            "Mr. Unknown",
            &"é".repeat(127),
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn two_forms_of_a_name_are_the_same() {
        let (composed, decomposed) = ("Jos\u{e9} Pe\u{f1}a", "Jose\u{301} Pen\u{303}a");
        assert_eq!(normal(decomposed), composed);
        assert_eq!(super::decomposed(composed), decomposed);
        assert!(same(composed, decomposed) && same(" Ann", "Ann\u{3000}"));
        assert_eq!(checked(decomposed).as_deref(), Ok(composed));
        assert!(checked("Ann\n").is_err());
        // Hangul, and marks in another order.
        assert!(same("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"));
        assert!(same("a\u{323}\u{302}", "a\u{302}\u{323}"));
        // Letters that only look alike, and those that a compatibility form would replace.
        for (a, b) in [("Ann", "ann"), ("Jose", composed), ("\u{fb01}n", "fin")] {
            assert!(!same(a, b), "{a} {b}");
        }
        for plain in ["Ann", "李雷", composed] {
            assert!(matches!(normal(plain), Cow::Borrowed(_)), "{plain}");
        }
    }

    #[test]
    fn lists_of_names() {
        for (text, names) in [
            ("", &[][..]),
            (" , ,", &[]),
            (" penny , howard,", &["penny", "howard"]),
            (r#""Doe, Jane", Bob"#, &["Doe, Jane", "Bob"]),
            (r#"Bob,"Doe, Jane""#, &["Bob", "Doe, Jane"]),
            ("'Doe, Jane' ,Bob", &["Doe, Jane", "Bob"]),
            ("'O'Neill, Tim',Bob", &["O'Neill, Tim", "Bob"]),
            ("'t Hooft, O'Neill", &["'t Hooft", "O'Neill"]),
            (r#"Zoë "Z", Bob"#, &[r#"Zoë "Z""#, "Bob"]),
            (r#""\"Z\" \\ Zoë""#, &[r#""Z" \ Zoë"#]),
            (r#""", Bob"#, &["Bob"]),
            ("Jose\u{301}", &["Jos\u{e9}"]),
        ] {
            let expected: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            assert_eq!(list(text), Ok(expected), "{text}");
        }
        for (text, reason) in [
            (r#""Doe, Jane"#, "not closed"),
            (r#""Doe"#, "not closed"),
            (r#""Doe\"#, "not closed"),
            (r#""Doe" Jane"#, "comma is missing"),
        ] {
            let error = list(text).expect_err(text);
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_names_can_be_listed(names in proptest::collection::vec("[\"',\\\\ a\u{e9}]*", 0..5)) {
            let names: Vec<String> = names.iter().map(|n| normal(n).into_owned()).collect();
            let names: Vec<String> = names.into_iter().filter(|n| !n.is_empty()).collect();
            let text: Vec<_> = names.iter().map(|n| list_element(n)).collect();
            proptest::prop_assert_eq!(list(&text.join(", ")), Ok(names));
        }

        #[test]
        fn any_text_is_a_list_or_refused(text in "[\"',\\\\ ab]*") {
            for name in list(&text).unwrap_or_default() {
                proptest::prop_assert_eq!(normal(&name), name.as_str());
            }
        }
    }

    #[test]
    fn names_that_cannot_be() {
        for (name, reason) in [
            ("", "empty"),
            (" \t", "empty"),
            ("Unknown", "nobody"),
            ("unknown ", "nobody"),
            (
                "Ann\nBob",
                "\"Ann\\nBob\" cannot be a person's name: it contains a line break",
            ),
            ("Ann\u{7f}", "control"),
            ("\u{1b}[31mAnn", "control"),
            ("Ann\u{85}", "control"),
            ("Ann\u{2028}Bob", "line break"),
            ("Ann \u{202e}nhoJ", "\"Ann \\u{202e}nhoJ\""),
            ("\u{2066}Ann", "direction of the text"),
            ("An\u{200b}n", "invisible"),
            (&"x".repeat(100_000), "100000 bytes"),
        ] {
            let error = check(name).expect_err(name);
            assert!(error.contains(reason), "{error}");
            assert!(
                error.len() < 200 && !error.contains(char::is_control),
                "{error}"
            );
        }
    }
}
