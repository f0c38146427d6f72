//! Who is in which input, from when to when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use face_meta::names;
use serde::Serialize;

use crate::analyze::people::name_of;
use crate::record::{Summary, TrackSummary};
use crate::report::load;

/// Which appearances to list.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these people, by name or stranger's number. Everybody if empty.
    pub people: Vec<String>,
    /// Only people with a name.
    pub named: bool,
    /// Absences up to this long, in nanoseconds, do not end an appearance.
    pub gap_ns: u64,
}

/// Some time for which a person is on screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Appearance {
    /// A name, or `stranger-N`.
    pub person: String,
    pub named: bool,
    /// The folder of results, and that of the input in it.
    pub results: PathBuf,
    pub folder: String,
    /// The path or URI of the input.
    pub input: String,
    /// The first and the last time, as a player shows it, in nanoseconds. `None` for a picture.
    pub first: Option<u64>,
    pub last: Option<u64>,
    pub tracks: Vec<u64>,
}

/// What is in some folders of results.
#[derive(Debug, Default, Serialize)]
pub struct Appearances {
    /// In the order of folders, times and people.
    pub appearances: Vec<Appearance>,
    /// Tracks that are too short or too poor to tell who it is.
    pub nobody: usize,
    /// What was left out, and why.
    pub problems: Vec<String>,
}

/// Lists the appearances in folders of results.
pub fn list(folders: &[PathBuf], selection: &Selection) -> Result<Appearances> {
    let mut found = Appearances::default();
    let mut known = BTreeSet::new();
    for folder in folders {
        // One that was named twice is listed once.
        if let Ok(place) = std::fs::canonicalize(folder)
            && !known.insert(place)
        {
            continue;
        }
        let loaded = load::load(folder)?;
        found.problems.extend(loaded.problems);
        for input in loaded.results.inputs {
            let (own, nobody) = of(&input.summary, selection.gap_ns);
            found.nobody += nobody;
            for mut appearance in own {
                let is_wanted = |wanted: &String| names::same(wanted, &appearance.person);
                if selection.named && !appearance.named
                    || !selection.people.is_empty() && !selection.people.iter().any(is_wanted)
                {
                    continue;
                }
                appearance.results = folder.clone();
                appearance.folder = input.name.clone();
                found.appearances.push(appearance);
            }
        }
    }
    Ok(found)
}

/// The appearances in one input, and the number of tracks of nobody.
fn of(summary: &Summary, gap: u64) -> (Vec<Appearance>, usize) {
    let mut nobody = 0;
    let mut people: BTreeMap<&str, (bool, Vec<&TrackSummary>)> = BTreeMap::new();
    for track in &summary.tracks {
        // Results of earlier versions have no persons.
        let Some(person) = track.person.as_deref().or_else(|| name_of(track)) else {
            nobody += 1;
            continue;
        };
        let (named, tracks) = people.entry(person).or_default();
        *named |= name_of(track).is_some();
        tracks.push(track);
    }
    let mut found = Vec::new();
    for (person, (named, tracks)) in people {
        let times = joined(&tracks, gap);
        let of = |first, last, tracks| Appearance {
            person: person.to_owned(),
            named,
            results: PathBuf::new(),
            folder: String::new(),
            input: summary.input.clone(),
            first,
            last,
            tracks,
        };
        if times.is_empty() {
            let ids = tracks.iter().map(|track| track.track.track).collect();
            found.push(of(None, None, ids));
        }
        for (first, last, ids) in times {
            found.push(of(Some(first), Some(last), ids));
        }
    }
    found.sort_by(|a, b| (a.first, a.last, &a.person).cmp(&(b.first, b.last, &b.person)));
    (found, nobody)
}

/// When at least one of the tracks is on screen, and which. Gaps up to `gap` are bridged.
fn joined(tracks: &[&TrackSummary], gap: u64) -> Vec<(u64, u64, Vec<u64>)> {
    let spans = tracks.iter().flat_map(|track| {
        let id = track.track.track;
        track
            .appearances
            .iter()
            .map(move |&[first, last]| (first, last, id))
    });
    let mut spans: Vec<(u64, u64, u64)> = spans.collect();
    spans.sort_unstable();
    let mut out: Vec<(u64, u64, Vec<u64>)> = Vec::new();
    for (first, last, id) in spans {
        match out.last_mut() {
            Some((_, end, ids)) if first <= end.saturating_add(gap) => {
                *end = last.max(*end);
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            _ => out.push((first, last, vec![id])),
        }
    }
    for (_, _, ids) in &mut out {
        ids.sort_unstable();
    }
    out
}

/// Writes a table for spreadsheets: times in seconds. A text that a spreadsheet would take for a formula
/// begins with an apostrophe.
///
/// # Errors
/// If it cannot be written.
pub fn csv(appearances: &[Appearance], to: impl Write) -> Result<()> {
    let mut out = csv::Writer::from_writer(to);
    let unwritable = "the table cannot be written";
    let head = [
        "person", "named", "results", "film", "input", "first", "last", "seconds", "tracks",
    ];
    out.write_record(head).context(unwritable)?;
    for appearance in appearances {
        let seconds = |time: Option<u64>| time.map_or(String::new(), seconds);
        let [first, last] = [appearance.first, appearance.last];
        let length = first
            .zip(last)
            .map(|(first, last)| last.saturating_sub(first));
        let ids: Vec<String> = appearance.tracks.iter().map(u64::to_string).collect();
        let named = if appearance.named { "yes" } else { "no" };
        out.write_record([
            plain(&appearance.person),
            named.into(),
            plain(&shown(&appearance.results)),
            plain(&appearance.folder),
            plain(&appearance.input),
            seconds(first),
            seconds(last),
            seconds(length),
            ids.join(" "),
        ])
        .context(unwritable)?;
    }
    out.flush().context(unwritable)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Nanoseconds as seconds with three decimals.
fn seconds(time: u64) -> String {
    let milliseconds = (u128::from(time) + 500_000) / 1_000_000;
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// A text that is no formula.
fn plain(text: &str) -> String {
    let is_formula = text.trim_start().starts_with([
        '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ]) || text.starts_with(['\t', '\r', '\n']);
    match is_formula {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Track, UNKNOWN};

    fn track(id: u64, name: &str, person: Option<&str>, appearances: &[[u64; 2]]) -> TrackSummary {
        TrackSummary {
            track: Track {
                track: id,
                name: Some(name.into()),
                ..Track::default()
            },
            person: person.map(Into::into),
            appearances: appearances.to_vec(),
            ..TrackSummary::default()
        }
    }

    fn film() -> Summary {
        Summary {
            input: "/film.mp4".into(),
            tracks: vec![
                track(1, "Ann", Some("Ann"), &[[0, 100], [300, 400]]),
                // Ann again, known by another track; two tracks overlap.
                track(2, UNKNOWN, Some("Ann"), &[[90, 150]]),
                track(3, UNKNOWN, Some("stranger-1"), &[[50, 60]]),
                track(4, UNKNOWN, None, &[[0, 9]]),
                // Of an earlier version.
                track(5, "Bob", None, &[]),
            ],
            ..Summary::default()
        }
    }

    /// Person, first and last time, tracks.
    type Appearing = (String, Option<u64>, Option<u64>, Vec<u64>);

    fn lines(gap: u64) -> Vec<Appearing> {
        let (found, nobody) = of(&film(), gap);
        assert_eq!(nobody, 1);
        let line = |a: Appearance| (a.person, a.first, a.last, a.tracks);
        found.into_iter().map(line).collect()
    }

    #[test]
    fn the_tracks_of_a_person_are_joined() {
        let line = |person: &str, first, last, tracks: &[u64]| {
            (person.to_owned(), Some(first), Some(last), tracks.to_vec())
        };
        let bob = ("Bob".to_owned(), None, None, vec![5]);
        let stranger = line("stranger-1", 50, 60, &[3]);
        let apart = [
            bob.clone(),
            line("Ann", 0, 150, &[1, 2]),
            stranger.clone(),
            line("Ann", 300, 400, &[1]),
        ];
        assert_eq!(lines(149), apart);
        assert_eq!(lines(150), [bob, line("Ann", 0, 400, &[1, 2]), stranger]);
    }

    #[test]
    fn a_spreadsheet_takes_no_text_for_a_formula() {
        let (mut found, _) = of(&film(), 0);
        for (appearance, person) in found.iter_mut().zip(["=1+1", "@x, \"y\"", "-1", "Ann\nB"]) {
            appearance.person = person.into();
        }
        found[1].first = Some(1_234_567_890);
        found[1].last = Some(3_000_000_000);
        let mut text = Vec::new();
        csv(&found, &mut text).expect("writable");
        let text = String::from_utf8(text).expect("UTF-8");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<csv::StringRecord> = reader.records().map(|r| r.expect("valid")).collect();
        let people: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
        assert_eq!(people, ["'=1+1", "'@x, \"y\"", "'-1", "Ann\nB"]);
        assert_eq!(
            (&rows[1][5], &rows[1][6], &rows[1][7]),
            ("1.235", "3.000", "1.765")
        );
        assert_eq!((&rows[0][5], &rows[0][8]), ("", "5"));
    }
}
