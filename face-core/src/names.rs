//! What people may be called.

/// What a face is called that is nobody of the gallery, unless `unknown-label` says otherwise.
pub const UNKNOWN: &str = "Unknown";

/// The longest name in bytes, as of a folder, which `facepipe enroll` names people after.
pub const LONGEST: usize = 255;

/// Fails, with the reason, for what cannot be the name of a person: nobody could tell it from another one
/// or from nobody's, or it would break the lines that it is printed on.
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
        return refuse("faces of nobody in the gallery are called so");
    }
    if name.chars().any(breaks_lines) {
        return refuse("it has a line break or another control character");
    }
    if name.chars().any(turns_text) {
        return refuse("it has a character that turns the text around it");
    }
    if name.chars().any(is_invisible) {
        return refuse("it has an invisible character");
    }
    Ok(())
}

/// A name between quotes, with what cannot be printed escaped, and its beginning only if it is long.
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

/// Whether a text can be printed within a line and disturbs nothing around it.
pub fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| breaks_lines(c) || turns_text(c))
}

fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Bidirectional embeddings, overrides and isolates: what follows is shown in another order.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without width that no script needs. (Joiners and direction marks are needed.)
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
    fn names_that_cannot_be() {
        for (name, reason) in [
            ("", "empty"),
            (" \t", "empty"),
            ("Unknown", "nobody"),
            ("unknown ", "nobody"),
            (
                "Ann\nBob",
                "\"Ann\\nBob\" cannot be a person's name: it has a line break",
            ),
            ("Ann\u{7f}", "control"),
            ("\u{1b}[31mAnn", "control"),
            ("Ann\u{85}", "control"),
            ("Ann\u{2028}Bob", "line break"),
            ("Ann \u{202e}nhoJ", "\"Ann \\u{202e}nhoJ\""),
            ("\u{2066}Ann", "turns the text"),
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
