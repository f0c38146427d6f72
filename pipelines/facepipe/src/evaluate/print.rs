//! Formats the measures as a table.

use face_analysis::evaluate::measures::{Evaluation, Measures};
use face_parts::ui;

/// One row per person and one for all. Empty columns are left out.
pub fn table(evaluation: &Evaluation) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for person in &evaluation.people {
        rows.push(row(ui_name(person.name), &person.measures));
    }
    rows.push(row("all".into(), &evaluation.total));
    let filled: Vec<bool> = (0..HEAD.len())
        .map(|i| rows[1..].iter().any(|r| r[i] != NOTHING))
        .collect();
    for row in &mut rows {
        let mut kept = filled.iter();
        row.retain(|_| kept.next().is_some_and(|k| *k));
    }
    ui::table(&rows)
}

const HEAD: [&str; 17] = [
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
    "HOTA",
    "DetA",
    "AssA",
    "LocA",
    "age error",
    "gender",
    "expression",
];
const NOTHING: &str = "-";

/// Escapes a name: it comes from a file and must not control the terminal.
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
        share(tracking.and_then(|t| t.hota)),
        share(tracking.and_then(|t| t.det_a)),
        share(tracking.and_then(|t| t.ass_a)),
        share(tracking.and_then(|t| t.loc_a)),
        m.age
            .as_ref()
            .map_or(NOTHING.into(), |a| format!("{:.1}", a.mean_absolute_error)),
        share(m.gender.as_ref().map(|g| g.accuracy)),
        share(m.expression.as_ref().map(|e| e.accuracy)),
    ]
}
