//! Which expression.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::data::{Data, POSED};
use crate::line::{Lines, middle, read};
use crate::measures::{Calibration, Share};
use crate::table::{Table, number, percent};

/// Adds the table of labelled pictures, those of the media among them.
pub fn labelled(data: Option<&Data>, out: &mut String) -> Result<()> {
    if gst::ElementFactory::find("faceexpression").is_none() {
        *out += "No element tells expressions.\n\n";
        return Ok(());
    }
    let mut lines = match Lines::start("facedetector ! faceexpression") {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("accuracy: expressions are left out: {error:#}");
            *out += "Not measured: the model of expressions is not installed.\n\n";
            return Ok(());
        }
    };
    let posed = POSED.map(|(file, _, expression)| (face_tests::media(file), expression.to_owned()));
    let brought = data.map_or(&[][..], |data| &data.expressions);
    let mut table = Table::new([
        "pictures",
        "right %",
        "unanswered %",
        "ECE of `expression_confidence`",
    ]);
    for (what, pictures) in [("posed, of the media", &posed[..]), ("brought", brought)] {
        if pictures.is_empty() {
            continue;
        }
        let paths: Vec<PathBuf> = pictures.iter().map(|(path, _)| path.clone()).collect();
        let images = read(&paths)?;
        let (mut answered, mut right) = (Share::default(), Share::default());
        let mut calibration = Calibration::default();
        let mut taken: BTreeMap<(&str, String), usize> = BTreeMap::new();
        for (i, faces) in lines.look(&images)?.iter().enumerate() {
            let face = middle(faces, &images[i]);
            let answer = face.and_then(|face| face.text("expression"));
            let wanted = pictures[i].1.as_str();
            answered.add(answer.is_some());
            if let (Some(answer), Some(face)) = (answer, face) {
                right.add(answer == wanted);
                let confidence = face.number("expression_confidence").unwrap_or(1.0);
                calibration.add(confidence, answer == wanted);
                if answer != wanted {
                    *taken.entry((wanted, answer.to_owned())).or_default() += 1;
                }
            }
        }
        table.row([
            format!("{} {what}", pictures.len()),
            percent(right.value(), 0),
            percent(1.0 - answered.value(), 0),
            number(calibration.error(), 2),
        ]);
        for ((wanted, answer), count) in taken {
            eprintln!("accuracy: {wanted} taken for {answer}: {count}");
        }
    }
    *out += &format!("`facedetector ! faceexpression`, one picture at a time.\n\n{table}\n");
    Ok(())
}
