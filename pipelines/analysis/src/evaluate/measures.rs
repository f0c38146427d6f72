//! Computes the measures from a score.

use std::path::Path;

use serde::Serialize;

use super::Comparison;
use super::score::{Score, Tally};

/// The content of `--json`. Measures without a value are null, because the divisor is 0 or the
/// result lacks the data.
#[derive(Serialize)]
pub struct Evaluation<'a> {
    pub result: &'a Path,
    pub truth: &'a Path,
    pub iou: f64,
    /// Labelled frames in the result. All counts refer to these and to the missing ones.
    pub frames: u64,
    pub frames_left_out: u64,
    pub frames_missing: u64,
    #[serde(flatten)]
    pub total: Measures,
    pub people: Vec<PersonMeasures<'a>>,
}

#[derive(Serialize)]
pub struct PersonMeasures<'a> {
    pub name: &'a str,
    #[serde(flatten)]
    pub measures: Measures,
}

#[derive(Serialize)]
pub struct Measures {
    pub detection: DetectionMeasures,
    pub recognition: Option<NameMeasures>,
    pub tracking: Option<TrackMeasures>,
    pub age: Option<AgeMeasures>,
    pub gender: Option<GenderMeasures>,
    pub expression: Option<ExpressionMeasures>,
}

#[derive(Serialize)]
pub struct DetectionMeasures {
    pub labelled: u64,
    pub found: u64,
    pub recall: Option<f64>,
    /// The rest is undefined for a single person, as a face where nobody is labelled belongs to
    /// nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faces: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
}

#[derive(Serialize)]
pub struct NameMeasures {
    /// For a person: faces with that name; in total: all faces.
    pub faces: u64,
    pub right: u64,
    pub precision: Option<f64>,
    pub labelled: u64,
    pub named: u64,
    pub recall: Option<f64>,
}

#[derive(Serialize)]
pub struct TrackMeasures {
    pub idf1: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mota: Option<f64>,
    pub switches: u64,
    /// DetA and LocA, and thus HOTA, are those of all people together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hota: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub det_a: Option<f64>,
    pub ass_a: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loc_a: Option<f64>,
}

#[derive(Serialize)]
pub struct AgeMeasures {
    pub faces: u64,
    pub mean_absolute_error: f64,
}

#[derive(Serialize)]
pub struct GenderMeasures {
    pub faces: u64,
    pub accuracy: f64,
}

#[derive(Serialize)]
pub struct ExpressionMeasures {
    pub faces: u64,
    pub accuracy: f64,
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Measures {
    /// For a person, an index into `score.people`, or for all people together.
    fn new(tally: &Tally, score: &Score, person: Option<usize>) -> Self {
        let faces = person.is_none().then_some(score.faces);
        let hota = score.hota.filter(|_| person.is_none());
        let has_names = score.faces_named > 0;
        let has_tracks = score.faces > 0 && score.faces_tracked == score.faces;
        Self {
            detection: DetectionMeasures {
                labelled: tally.boxes,
                found: tally.found,
                recall: ratio(tally.found, tally.boxes),
                faces,
                precision: faces.and_then(|faces| ratio(tally.found, faces)),
                f1: faces.and_then(|faces| ratio(2 * tally.found, tally.boxes + faces)),
            },
            recognition: has_names.then(|| NameMeasures {
                faces: faces.unwrap_or(tally.named),
                right: tally.named_right,
                precision: ratio(tally.named_right, faces.unwrap_or(tally.named)),
                labelled: tally.boxes,
                named: tally.boxes_named,
                recall: ratio(tally.boxes_named, tally.boxes),
            }),
            tracking: has_tracks.then(|| TrackMeasures {
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
                hota: hota.map(|h| h.hota),
                det_a: hota.map(|h| h.det_a),
                ass_a: match person {
                    Some(person) => score.association.get(&person).copied(),
                    None => hota.map(|h| h.ass_a),
                },
                loc_a: hota.map(|h| h.loc_a),
            }),
            age: ratio(1, tally.ages).map(|_| AgeMeasures {
                faces: tally.ages,
                mean_absolute_error: tally.age_error / tally.ages as f64,
            }),
            gender: ratio(tally.genders_right, tally.genders).map(|accuracy| GenderMeasures {
                faces: tally.genders,
                accuracy,
            }),
            expression: ratio(tally.expressions_right, tally.expressions).map(|accuracy| {
                ExpressionMeasures {
                    faces: tally.expressions,
                    accuracy,
                }
            }),
        }
    }
}

impl<'a> Evaluation<'a> {
    pub fn new(comparison: &Comparison<'a>, score: &'a Score) -> Self {
        let mut people: Vec<(usize, &String)> = score.people.iter().enumerate().collect();
        people.sort_by(|a, b| {
            let [x, y] = [a, b].map(|(person, _)| &score.tallies[*person]);
            let by_boxes = y.boxes.cmp(&x.boxes);
            by_boxes.then(y.named.cmp(&x.named)).then(a.1.cmp(b.1))
        });
        Self {
            result: comparison.result,
            truth: comparison.truth,
            iou: comparison.iou,
            frames: score.frames,
            frames_left_out: score.frames_left_out,
            frames_missing: score.frames_missing,
            total: Measures::new(&score.total(), score, None),
            people: people
                .into_iter()
                .map(|(person, name)| PersonMeasures {
                    name,
                    measures: Measures::new(&score.tallies[person], score, Some(person)),
                })
                .collect(),
        }
    }
}
