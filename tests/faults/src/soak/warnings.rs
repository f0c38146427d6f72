//! The warnings in a log, and the faults that explain them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::plan::{Fault, Kind};

/// How long after its end a fault explains warnings: the time until the camera counts as dead, the
/// pauses between attempts to reconnect, and the minute after which the log sums up repeated messages.
const AFTERMATH: Duration = Duration::from_secs(90);

/// Faults of the stream.
const STREAM: &[Kind] = &[
    Kind::ServerKilled,
    Kind::Stall,
    Kind::Resolution,
    Kind::Garbage,
    Kind::TimeJump,
    Kind::Loss,
    Kind::Disconnect,
    Kind::Reload,
    Kind::End,
];

/// Warnings that may come at any time, with their causes: x264enc, when key frames are requested in
/// quick succession; the server of annotated streams, when it asks a viewer for its password (it
/// does so at first) and when the viewer leaves; a decoder, for pictures that refer to those before
/// the first one.
const ALWAYS: &[(&str, Kind)] = &[
    ("forced frame type", Kind::KeyFrame),
    ("not authorized to see factory path", Kind::Viewer),
    (": no media", Kind::Viewer),
    ("was not prepared", Kind::Viewer),
    ("without knowing configured latency", Kind::Viewer),
    ("Could not find ref with POC", Kind::Joined),
];

/// GStreamer's tracer prints this before the log starts.
const TRACER: &str = "GST_TRACER";

/// What a message contains, and its possible causes.
const EXPLANATIONS: &[(&str, &[Kind])] = &[
    ("configuration", &[Kind::BrokenConfig, Kind::Reload]),
    ("gallery", &[Kind::GalleryJunk, Kind::GalleryChanged]),
    ("webhook", &[Kind::HookRefuses]),
];

/// All warnings with the same text.
#[derive(Debug, Default)]
pub struct Warning {
    pub count: usize,
    pub explained: BTreeSet<Kind>,
    /// An example without an explanation.
    pub unexplained: Option<String>,
}

/// Groups the warnings and errors of a JSON log by text. `start` is the beginning of the plan, in
/// seconds since 1970. `cameras` have the plan's names.
pub fn explain(
    log: &str,
    start: f64,
    faults: &[Fault],
    camera: impl Fn(&str) -> Option<usize>,
) -> BTreeMap<String, Warning> {
    let mut warnings: BTreeMap<String, Warning> = BTreeMap::new();
    for line in log.lines() {
        if line.contains(TRACER) {
            continue;
        }
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            let warning = warnings.entry(normal(line)).or_default();
            warning.count += 1;
            warning.unexplained.get_or_insert_with(|| line.into());
            continue;
        };
        if !matches!(entry["level"].as_str(), Some("warn" | "error")) {
            continue;
        }
        let message = entry["message"].as_str().unwrap_or_default();
        let target = entry["target"].as_str().unwrap_or_default();
        let warning = warnings
            .entry(normal(&format!("{target}: {message}")))
            .or_default();
        warning.count += 1;
        let kinds = EXPLANATIONS
            .iter()
            .find(|(part, _)| message.to_lowercase().contains(part))
            .map_or(STREAM, |(_, kinds)| kinds);
        let about = entry["camera"].as_str().and_then(&camera);
        let when = entry["time"].as_str().and_then(seconds);
        if let Some((_, kind)) = ALWAYS.iter().find(|(part, _)| message.contains(part)) {
            warning.explained.insert(*kind);
            continue;
        }
        let fits = |fault: &&Fault| {
            kinds.contains(&fault.kind)
                && (fault.cameras.is_empty() || about.is_none_or(|c| fault.cameras.contains(&c)))
                && when.is_some_and(|when| {
                    let since = when - start;
                    // The log has a resolution of milliseconds.
                    since >= fault.begin.as_secs_f64() - 0.1
                        && since <= (fault.end + AFTERMATH).as_secs_f64()
                })
        };
        match faults.iter().rev().find(fits) {
            Some(fault) => {
                warning.explained.insert(fault.kind);
            }
            None => {
                warning.unexplained.get_or_insert_with(|| line.into());
            }
        }
    }
    warnings
}

/// The seconds since 1970 of a time such as `2026-01-31T23:59:59.123Z`.
fn seconds(time: &str) -> Option<f64> {
    time.parse::<jiff::Timestamp>()
        .ok()
        .map(|time| time.as_millisecond() as f64 / 1000.0)
}

/// A message without the parts that vary.
fn normal(message: &str) -> String {
    let mut text = String::new();
    for word in message.split_whitespace() {
        let word = match word {
            path if path.contains('/') && !path.contains("::") => "PATH",
            address if address.starts_with("0x") => "ADDRESS",
            word => word,
        };
        if !text.is_empty() {
            text.push(' ');
        }
        let mut digits = false;
        for character in word.chars() {
            if !character.is_ascii_digit() {
                text.push(character);
            } else if !digits {
                text.push('#');
            }
            digits = character.is_ascii_digit();
        }
    }
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_explained_by_faults_of_their_camera_in_their_time() {
        let log = r#"{"time":"1970-01-01T00:00:12.000Z","level":"warn","camera":"a","message":"no frame arrived in 5 s"}
{"time":"1970-01-01T00:00:13.000Z","level":"warn","camera":"b","message":"no frame arrived in 10 s"}
{"time":"1970-01-01T00:00:13.000Z","level":"info","camera":"b","message":"connected"}
{"time":"1970-01-01T00:00:14.000Z","level":"error","message":"gallery /x/y is junk"}
thread panicked"#;
        let fault = Fault {
            kind: Kind::Stall,
            cameras: vec![0],
            begin: Duration::from_secs(1),
            end: Duration::from_secs(3),
        };
        let found = explain(log, 10.0, &[fault], |name| {
            ["a", "b"].iter().position(|n| *n == name)
        });
        assert_eq!(found.len(), 3);
        let stalled = &found[": no frame arrived in # s"];
        assert_eq!(stalled.count, 2);
        assert!(stalled.explained.contains(&Kind::Stall));
        let unexplained = stalled.unexplained.as_deref().expect("b's");
        assert!(unexplained.contains("\"b\""));
        assert!(found[": gallery PATH is junk"].unexplained.is_some());
        assert!(found["thread panicked"].unexplained.is_some());
    }
}
