//! Gives pictures to the element that decodes them, in pipelines that are written for videos.

use std::path::PathBuf;

use crate::picture::{self, DECODER};

/// A word with what it becomes, by line and place.
type Change = ((usize, usize), Vec<String>);

/// Changes the words of a pipeline whose input is a picture: `filesrc ! decodebin` and `uridecodebin` become
/// `filesrc ! facepicturedecoder`. Elements with properties of their own are left as they are.
pub fn decode(lines: &mut [Vec<String>]) {
    let places: Vec<(usize, usize)> = lines
        .iter()
        .enumerate()
        .flat_map(|(line, words)| (0..words.len()).map(move |word| (line, word)))
        .collect();
    let words: Vec<&str> = places
        .iter()
        .map(|(line, word)| lines[*line][*word].as_str())
        .collect();
    let mut changes: Vec<Change> = Vec::new();
    for i in 0..words.len() {
        let is_end = |at: usize| words.get(at).is_none_or(|word| *word == "!");
        match words[i..] {
            ["filesrc", location, "!", "decodebin", ..] if is_end(i + 4) => {
                let path = value(location, "location=").map(PathBuf::from);
                if path.is_some_and(|path| picture::is_picture(&path)) {
                    changes.push((places[i + 3], decoder()));
                }
            }
            ["uridecodebin", uri, ..] if is_end(i + 2) => {
                let file = value(uri, "uri=").and_then(|uri| picture::file_of(&uri));
                let location = file.and_then(|file| {
                    let text = file.to_str()?.to_owned();
                    super::syntax::value("location", &text).ok()
                });
                if let Some(location) = location {
                    changes.push((places[i], vec!["filesrc".into()]));
                    let rest = [format!("location={location}"), "!".into()];
                    changes.push((places[i + 1], [&rest[..], &decoder()].concat()));
                }
            }
            _ => {}
        }
    }
    // From the end, so that places in front stay what they are.
    for ((line, word), new) in changes.into_iter().rev() {
        lines[line].splice(word..=word, new);
    }
}

fn decoder() -> Vec<String> {
    [DECODER, "animation=true"].map(String::from).to_vec()
}

/// The value of a property, without the escapes of GStreamer's syntax.
fn value(word: &str, property: &str) -> Option<String> {
    let escaped = word.strip_prefix(property)?;
    let mut text = String::new();
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        text.extend(match c {
            '\\' => chars.next(),
            c => Some(c),
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_decoder_of_a_picture_is_changed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let gif = folder.path().join("a b.gif");
        std::fs::write(&gif, b"GIF89a").expect("writable");
        let film = folder.path().join("c.mp4");
        std::fs::write(&film, b"\0\0\0\x18ftypisom").expect("writable");
        let change = |line: &str| {
            let mut lines: Vec<Vec<String>> =
                line.lines().map(super::super::syntax::words).collect();
            decode(&mut lines);
            lines.concat().join(" ")
        };
        let escape = |path: &std::path::Path| {
            super::super::syntax::value("location", path.to_str().expect("UTF-8")).expect("plain")
        };
        let (gif_escaped, film_escaped) = (escape(&gif), escape(&film));
        // Words are split before values come in.
        let with = |path: &str, rest: &str| {
            let mut lines = vec![vec!["filesrc".to_owned(), format!("location={path}")]];
            lines.push(super::super::syntax::words(rest));
            decode(&mut lines);
            lines.concat().join(" ")
        };
        assert_eq!(
            with(&gif_escaped, "! decodebin ! queue"),
            format!("filesrc location={gif_escaped} ! facepicturedecoder animation=true ! queue")
        );
        for (path, rest) in [
            (film_escaped.as_str(), "! decodebin ! queue"),
            ("gone.gif", "! decodebin ! queue"),
            (gif_escaped.as_str(), "! decodebin name=d d. ! queue"),
            (gif_escaped.as_str(), "! pngdec"),
        ] {
            let same = format!("filesrc location={path} {rest}");
            assert_eq!(with(path, rest), same);
        }
        let uri = glib::filename_to_uri(&gif, None).expect("absolute");
        assert_eq!(
            change(&format!("uridecodebin uri={uri} ! queue\n! fakesink")),
            format!(
                "filesrc location={gif_escaped} ! facepicturedecoder animation=true ! queue ! fakesink"
            )
        );
        let camera = "uridecodebin uri=rtsp://camera/1 ! queue";
        assert_eq!(change(camera), camera);
    }
}
