//! Checks whether a file contains a person's name: as a whole name, not as a part of another person's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use face_meta::names;
use serde_json::{Deserializer, Value};

use super::find::{has_extension, is_gallery, start};

/// Longer texts are not read at once. In them a name counts whatever surrounds it.
const MOST: u64 = 256 << 20;

/// The keys whose values are whole names in everything that the program writes.
const KEYS: [&str; 4] = ["name", "names", "person", "people"];

/// A person's name, and the longer names of others that contain it.
pub struct Names {
    person: String,
    others: Vec<String>,
}

impl Names {
    /// `known` are the names of others.
    pub fn new(person: &str, known: &BTreeSet<String>) -> Self {
        let person = names::normal(person).into_owned();
        let known = known.iter().map(|name| names::normal(name));
        let longer = known.filter(|other| *other != person && other.contains(&person));
        let others = longer.map(|name| name.into_owned()).collect();
        Self { person, others }
    }

    /// Whether a file contains the name. Files that are not text contain none, except in
    /// safetensors headers.
    pub fn are_in(&self, path: &Path) -> bool {
        let needles = needles(&self.person);
        if !needles.iter().any(|needle| has(path, needle)) {
            return false;
        }
        let header = header(path);
        if let Some(found) = self.are_in_json(path, header) {
            return found;
        }
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut text));
        match read {
            Ok(length) if (length as u64) < MOST => self.are_in_text(&text),
            _ => true,
        }
    }

    /// `None` if the file is not JSON, one document or several.
    fn are_in_json(&self, path: &Path, header: Option<u64>) -> Option<bool> {
        let mut file = File::open(path).ok()?;
        if header.is_some() {
            file.read_exact(&mut [0; 8]).ok()?;
        }
        let file = BufReader::new(file.take(header.map_or(u64::MAX, |end| end - 8)));
        for value in Deserializer::from_reader(file).into_iter::<Value>() {
            if self.are_in_value(&value.ok()?, false) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// `named`: whether the value is a name, or a list of names.
    fn are_in_value(&self, value: &Value, named: bool) -> bool {
        match value {
            Value::String(text) => {
                let is_document = text.starts_with(['{', '[']);
                match serde_json::from_str(text) {
                    Ok(inner) if is_document => self.are_in_value(&inner, named),
                    _ if named => names::same(text, &self.person),
                    _ => self.are_in_text(text.as_bytes()),
                }
            }
            Value::Array(values) => values.iter().any(|value| self.are_in_value(value, named)),
            Value::Object(entries) => entries.iter().any(|(key, value)| {
                names::same(key, &self.person)
                    || self.are_in_value(value, KEYS.contains(&key.as_str()))
            }),
            _ => false,
        }
    }

    /// Whether a text contains the name as a word or words, outside longer names.
    pub fn are_in_text(&self, text: &[u8]) -> bool {
        needles(&self.person).iter().any(|needle| {
            let starts = text.windows(needle.len().max(1)).enumerate();
            let mut found =
                starts.filter(|(at, window)| window == needle && is_word(text, *at, needle.len()));
            found.any(|(at, _)| !self.is_part(text, at, needle))
        })
    }

    /// Whether the match at `at` is a part of somebody else's name.
    fn is_part(&self, text: &[u8], at: usize, needle: &[u8]) -> bool {
        let others = self.others.iter().flat_map(|other| needles(other));
        others.into_iter().any(|other| {
            let places = other.windows(needle.len()).enumerate();
            let mut places = places.filter(|(_, part)| *part == needle);
            places.any(|(offset, _)| {
                at.checked_sub(offset).is_some_and(|begin| {
                    text[begin..].starts_with(&other) && is_word(text, begin, other.len())
                })
            })
        })
    }
}

/// Whether neither neighbour is a letter or digit.
fn is_word(text: &[u8], at: usize, length: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| text.get(at));
    !is_letter(before) && !is_letter(text.get(at + length))
}

fn is_letter(byte: Option<&u8>) -> bool {
    byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80)
}

/// Where the header of a safetensors file ends.
fn header(path: &Path) -> Option<u64> {
    if !has_extension(path, &["safetensors"]) && !is_gallery(path) {
        return None;
    }
    let first = start(path, 8);
    let length = first.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*length).saturating_add(8))
}

/// How a name may be written in a text: as it is, in JSON, in HTML, and each in both Unicode forms.
fn needles(person: &str) -> Vec<Vec<u8>> {
    let (composed, decomposed) = (names::composed(person), names::decomposed(person));
    let mut needles = needles_of(&composed);
    if decomposed != composed {
        needles.extend(needles_of(&decomposed));
    }
    needles
}

/// The same in one Unicode form.
fn needles_of(person: &str) -> Vec<Vec<u8>> {
    let json = serde_json::Value::from(person).to_string();
    // Without its quotes.
    let json = &json[1..json.len() - 1];
    let ascii: String = json
        .chars()
        .flat_map(|c| match c.is_ascii() {
            true => vec![c.to_string()],
            false => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .map(|u| format!("\\u{u:04x}"))
                .collect(),
        })
        .collect();
    let html = person
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let mut needles = vec![
        person.to_owned(),
        json.to_owned(),
        // A document in a string of another one.
        json.replace('\\', "\\\\").replace('"', "\\\""),
        ascii,
        html.replace('"', "&quot;"),
        html.replace('"', "&#34;").replace('\'', "&#39;"),
    ];
    needles.sort_unstable();
    needles.dedup();
    needles.into_iter().map(String::into_bytes).collect()
}

/// Whether a file contains `needle` as a word: a quick check that misses nothing.
fn has(path: &Path, needle: &[u8]) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let header = header(path);
    if header.is_none() && start(path, 4096).contains(&0) {
        return false;
    }
    let mut reader = BufReader::with_capacity(1 << 20, file.take(header.unwrap_or(u64::MAX)));
    // The latest data, preceded by what may be the beginning of the word and the byte before that.
    let mut text: Vec<u8> = b" ".to_vec();
    loop {
        let new = match reader.fill_buf() {
            Ok(new) => new,
            Err(_) => return false,
        };
        let (length, ended) = (new.len(), new.is_empty());
        text.extend_from_slice(new);
        reader.consume(length);
        let found = text[1..].windows(needle.len()).zip(1..).any(|(window, i)| {
            let end = i + needle.len();
            window == needle && (ended || end < text.len()) && is_word(&text, i, needle.len())
        });
        if found || ended {
            return found;
        }
        let keep = text.len().saturating_sub(needle.len() + 1);
        text.drain(..keep);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_is_found_as_a_word_however_it_is_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text");
        let found = |text: &[u8], person: &str| {
            fs::write(&path, text).expect("writable");
            needles(person).iter().any(|needle| has(&path, needle))
        };
        for text in ["Ann", "by Ann.", "\"name\":\"Ann\"", "x/Ann/1.jpg\n"] {
            assert!(found(text.as_bytes(), "Ann"), "{text}");
        }
        for text in ["", "An", "Anna", "Joann Ann3", "ann", "\0Ann"] {
            assert!(!found(text.as_bytes(), "Ann"), "{text}");
        }
        let name = "Zoë \"Z\" & Co";
        for text in [
            r#"{"name":"Zoë \"Z\" & Co"}"#,
            r#"{"name":"Zo\u00eb \"Z\" & Co"}"#,
            "<b>Zoë &quot;Z&quot; &amp; Co</b>",
            "<b>Zoë &#34;Z&#34; &amp; Co</b>",
        ] {
            assert!(found(text.as_bytes(), name), "{text}");
        }
        for text in [
            "by Zoe\u{308}.",
            r#""Zoe\u0308""#,
            "by Zo\u{eb}.",
            r#""Zo\u00eb""#,
        ] {
            for name in ["Zoe\u{308}", "Zo\u{eb}"] {
                assert!(found(text.as_bytes(), name), "{text} {name}");
            }
        }
        assert!(!found("Zoe\u{308}".as_bytes(), "Zoe"));
        // Across the border of two reads.
        for before in (1 << 20) - 6..(1 << 20) + 3 {
            for (word, is_whole) in [("Ann b", true), ("JoAnn b", false)] {
                let text = [vec![b' '; before], word.into()].concat();
                fs::write(&path, text).expect("writable");
                assert_eq!(has(&path, b"Ann"), is_whole, "{before} {word}");
            }
        }
    }

    #[test]
    fn a_part_of_a_longer_name_is_somebody_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text");
        let known = ["Ann", "Ann B", "Mary Ann", "Zoë \"Ann\" X"].map(String::from);
        let names = Names::new("Ann", &known.into());
        let found = |text: &str| {
            fs::write(&path, text).expect("writable");
            names.are_in(&path)
        };
        for text in [
            "Ann B",
            "by Mary Ann.",
            "people/Ann B/1.jpg",
            r#"{"name":"Ann B"}"#,
            "{\"frame\":1,\"faces\":[{\"name\":\"Ann B\"}]}\n{\"name\":\"Mary Ann\"}\n",
            // Not known, but a whole name.
            r#"{"people":["Ann C"]}"#,
            r#"{"metadata":{"people":"[\"Ann C\"]","rows":"[[0,\"Ann B/1.jpg\"]]"}}"#,
            "<td>Zoë &quot;Ann&quot; X</td>",
            "no JSON but Zoë \"Ann\" X",
        ] {
            assert!(!found(text), "{text}");
        }
        for text in [
            "Ann",
            "Ann B and Ann",
            "Ann Bee",
            "people/Ann/1.jpg",
            r#"{"name":"Ann"}"#,
            r#"{"Ann":1}"#,
            r#"{"note":"of Ann, not Ann B"}"#,
            r#"{"metadata":{"people":"[\"Ann B\",\"Ann\"]"}}"#,
            "{\"name\":\"Ann B\"}\n{\"name\":\"\\u0041nn\"}\nAnn",
        ] {
            assert!(found(text), "{text}");
        }
    }
}
