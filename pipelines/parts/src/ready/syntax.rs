//! Writes values in GStreamer's launch syntax and in the shell's, so that they arrive unchanged.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use glib::prelude::*;
use gst::prelude::*;

use crate::stages;

/// Splits a line into words at spaces, except between double quotes.
pub fn words(line: &str) -> Vec<String> {
    let mut quoted = false;
    line.split(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    })
    .filter(|word| !word.is_empty())
    .map(str::to_owned)
    .collect()
}

/// The property that a word beginning with `head` sets, if any.
pub fn property(head: &str) -> Option<&str> {
    let (name, _) = head.split_once('=')?;
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c))
        .then_some(name)
}

/// Writes a whole value of `property`. An empty value unsets it; a `uri` may be the path of a file.
pub fn value(property: &str, text: &str) -> Result<String> {
    if text.is_empty() {
        return Ok("NULL".into());
    }
    if property == "uri" {
        return escape(&stages::uri(Path::new(text))?);
    }
    // GStreamer would read these as no text, drop the quotes, or drop the trailing space.
    let quoted = text.starts_with('"') && text.ends_with('"');
    if text == "NULL" || quoted || text.ends_with('\\') {
        return escape(&text.to_value().serialize()?);
    }
    escape(text)
}

/// Writes a part of a property's value.
pub fn escape(text: &str) -> Result<String> {
    ensure!(!text.contains('\n'), "GStreamer takes no multi-line values");
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_whitespace() || "\\\"'!;(){}".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(out)
}

/// Writes a value outside of a property, in caps for example.
pub fn plain(text: &str) -> Result<String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-+./:".contains(c);
    if text.is_empty() || !text.chars().all(harmless) {
        bail!("only letters, digits and _ - + . / : are allowed here");
    }
    Ok(text.to_owned())
}

/// Quotes a word of a description for the shell, such that `gst-launch-1.0` reads exactly this word.
pub fn shell_word(word: &str) -> String {
    quote(&argument(word))
}

/// `gst-launch-1.0` escapes the spaces in its arguments before it parses them, except after what it
/// takes for an opening double quote, even if that is escaped.
fn argument(word: &str) -> String {
    let (before, behind) = word.split_at(word.find('"').unwrap_or(word.len()));
    let mut out = String::new();
    let mut chars = before.chars().peekable();
    while let Some(c) = chars.next() {
        // A backslash escapes the next character, even another backslash.
        if c == '\\' {
            match chars.next() {
                Some(' ') => out.push(' '),
                Some(next) => out.extend([c, next]),
                None => out.push(c),
            }
        } else {
            out.push(c);
        }
    }
    out + behind
}

fn quote(argument: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-+./:=,%@".contains(c);
    if argument == "!" || argument.chars().all(harmless) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_arrives_at_the_property_as_it_is() {
        gst::init().expect("GStreamer starts");
        for text in [
            "clip.mp4",
            "my clip.mp4",
            " edge ",
            "a!b ! fakesink",
            "it's",
            "say \"hi there\" now",
            "\"",
            "\"all of it\"",
            "NULL",
            "back\\slash\\",
            "\\\" \\",
            "tab\there",
            "a;b(c){d}=e,f",
            "Ünïcode 李雷",
            "~/x*$HOME`",
        ] {
            let word = format!("location={}", value("location", text).expect("one line"));
            let element = gst::parse::launch(&format!("filesrc {word} name=s"));
            let element = element.unwrap_or_else(|e| panic!("{word}: {e}"));
            assert_eq!(
                element.property::<Option<String>>("location").as_deref(),
                Some(text),
                "{word}"
            );
        }
        assert_eq!(value("location", "").expect("unset"), "NULL");
        assert!(value("location", "two\nlines").is_err());
    }

    #[test]
    fn words_of_the_shell() {
        assert_eq!(shell_word("!"), "!");
        assert_eq!(shell_word(r"location=a\ b"), "'location=a b'");
        assert_eq!(shell_word(r"location=it\'s"), r"'location=it\'\''s'");
        assert_eq!(
            shell_word(r#"location=a\ \"b\ c"#),
            r#"'location=a \"b\ c'"#
        );
        assert_eq!(shell_word(r"location=a\\\ b"), r"'location=a\\ b'");
    }

    #[test]
    fn words_and_properties() {
        assert_eq!(
            words(r#"a  b="c d" ! e"#),
            ["a", r#"b="c d""#, "!", "e"].map(String::from)
        );
        assert_eq!(property("sink_0::xpos="), Some("sink_0::xpos"));
        assert_eq!(property("video/x-raw,width="), None);
        assert_eq!(property("queue"), None);
    }
}
