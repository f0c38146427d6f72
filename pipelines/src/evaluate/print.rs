//! The measures, as JSON and as a table.

use std::path::Path;

use serde::Serialize;

use super::score::{Score, Tally};
use crate::ui;

/// Everything `--json` prints. What cannot be said, as there is nothing to divide by or the result
/// has no such thing, is null.
#[derive(Serialize)]
pub struct Report<'a> {
    result: &'a Path,
    truth: &'a Path,
    iou: f64,
    /// Labelled frames that are in the result; all counts are of these, and of the missing ones.
    frames: u64,
    frames_left_out: u64,
    frames_missing: u64,
    #[serde(flatten)]
    total: Measures,
    people: Vec<Person<'a>>,
}

#[derive(Serialize)]
struct Person<'a> {
    name: &'a str,
    #[serde(flatten)]
    measures: Measures,
}

#[derive(Serialize)]
struct Measures {
    detection: Detection,
    recognition: Option<Recognition>,
    tracking: Option<Tracking>,
    age: Option<Age>,
    gender: Option<Gender>,
}

#[derive(Serialize)]
struct Detection {
    labelled: u64,
    found: u64,
    recall: Option<f64>,
    /// The rest cannot be said of one person, as a face where nobody is labelled is nobody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    faces: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f1: Option<f64>,
}

#[derive(Serialize)]
struct Recognition {
    /// Of a person: faces with that name; in total: all faces.
    faces: u64,
    right: u64,
    precision: Option<f64>,
    labelled: u64,
    named: u64,
    recall: Option<f64>,
}

#[derive(Serialize)]
struct Tracking {
    idf1: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mota: Option<f64>,
    switches: u64,
}

#[derive(Serialize)]
struct Age {
    faces: u64,
    mean_absolute_error: f64,
}

#[derive(Serialize)]
struct Gender {
    faces: u64,
    accuracy: f64,
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Measures {
    /// Of a person, or of all people together if `faces`, the number of all, is given.
    fn new(tally: &Tally, score: &Score, faces: Option<u64>) -> Self {
        let has_names = score.faces_named > 0;
        let has_tracks = score.faces > 0 && score.faces_tracked == score.faces;
        Self {
            detection: Detection {
                labelled: tally.boxes,
                found: tally.found,
                recall: ratio(tally.found, tally.boxes),
                faces,
                precision: faces.and_then(|faces| ratio(tally.found, faces)),
                f1: faces.and_then(|faces| ratio(2 * tally.found, tally.boxes + faces)),
            },
            recognition: has_names.then(|| Recognition {
                faces: faces.unwrap_or(tally.named),
                right: tally.named_right,
                precision: ratio(tally.named_right, faces.unwrap_or(tally.named)),
                labelled: tally.boxes,
                named: tally.boxes_named,
                recall: ratio(tally.boxes_named, tally.boxes),
            }),
            tracking: has_tracks.then(|| Tracking {
                idf1: ratio(
                    2 * tally.id_frames,
                    tally.boxes + faces.unwrap_or(tally.id_faces),
                ),
                mota: faces.filter(|_| tally.boxes > 0).map(|faces| {
                    let missed = tally.boxes - tally.found;
                    let errors = missed + (faces - tally.found) + tally.switches;
                    1.0 - errors as f64 / tally.boxes as f64
                }),
                switches: tally.switches,
            }),
            age: ratio(1, tally.ages).map(|_| Age {
                faces: tally.ages,
                mean_absolute_error: tally.age_error / tally.ages as f64,
            }),
            gender: ratio(tally.genders_right, tally.genders).map(|accuracy| Gender {
                faces: tally.genders,
                accuracy,
            }),
        }
    }
}

impl<'a> Report<'a> {
    pub fn new(result: &'a Path, truth: &'a Path, iou: f64, score: &'a Score) -> Self {
        let mut people: Vec<(&String, &Tally)> = score.people.iter().zip(&score.tallies).collect();
        people.sort_by(|a, b| {
            let by_boxes = b.1.boxes.cmp(&a.1.boxes);
            by_boxes.then(b.1.named.cmp(&a.1.named)).then(a.0.cmp(b.0))
        });
        Self {
            result,
            truth,
            iou,
            frames: score.frames,
            frames_left_out: score.frames_left_out,
            frames_missing: score.frames_missing,
            total: Measures::new(&score.total(), score, Some(score.faces)),
            people: people
                .into_iter()
                .map(|(name, tally)| Person {
                    name,
                    measures: Measures::new(tally, score, None),
                })
                .collect(),
        }
    }

    /// A row a person and one of all; columns that would be empty are left out.
    pub fn table(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
        for person in &self.people {
            rows.push(row(ui_name(person.name), &person.measures));
        }
        rows.push(row("all".into(), &self.total));
        let filled: Vec<bool> = (0..HEAD.len())
            .map(|i| rows[1..].iter().any(|r| r[i] != NOTHING))
            .collect();
        for row in &mut rows {
            let mut kept = filled.iter();
            row.retain(|_| kept.next().is_some_and(|k| *k));
        }
        ui::table(&rows)
    }
}

const HEAD: [&str; 12] = [
    "person",
    "boxes",
    "recall",
    "precision",
    "F1",
    "name precision",
    "name recall",
    "IDF1",
    "MOTA",
    "switches",
    "age error",
    "gender",
];
const NOTHING: &str = "-";

/// Names come out of files: nothing in them steers the terminal.
fn ui_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(60)
        .collect()
}

fn row(name: String, m: &Measures) -> Vec<String> {
    let share = |value: Option<f64>| value.map_or(NOTHING.into(), |v| format!("{v:.3}"));
    let recognition = m.recognition.as_ref();
    let tracking = m.tracking.as_ref();
    vec![
        name,
        m.detection.labelled.to_string(),
        share(m.detection.recall),
        share(m.detection.precision),
        share(m.detection.f1),
        share(recognition.and_then(|r| r.precision)),
        share(recognition.and_then(|r| r.recall)),
        share(tracking.and_then(|t| t.idf1)),
        share(tracking.and_then(|t| t.mota)),
        tracking.map_or(NOTHING.into(), |t| t.switches.to_string()),
        m.age
            .as_ref()
            .map_or(NOTHING.into(), |a| format!("{:.1}", a.mean_absolute_error)),
        share(m.gender.as_ref().map(|g| g.accuracy)),
    ]
}
