//! How old, man or woman.

use std::path::PathBuf;

use anyhow::Result;
use image::RgbImage;

use crate::data::{Aged, Data, POSED};
use crate::line::{Found, Lines, middle, parallel, read};
use crate::measures::{Calibration, Share, mean};
use crate::portraits::{CONDITIONS, Portrait, of_photos};
use crate::scene::{bordered, compose};
use crate::table::{Table, number, percent};

/// The elements compared: what the tables call them, and the models they need besides the default's.
const LINES: [(&str, &str, &[&str]); 3] = [
    ("default", "faceagegender", &[]),
    ("`faceres`", "faceagegender model=faceres", &["faceres"]),
    (
        "`faceres`, and `dlib-gender` too",
        "faceagegender model=faceres,dlib-gender",
        &["faceres"],
    ),
];

/// The most faces that are shown in other ways.
const SHOWN: usize = 250;

/// Yaw, in degrees, up to which a face counts as frontal, as half turned, and as in profile.
const TURNS: [(&str, f64, f64); 3] = [
    ("frontal (yaw below 20°)", 0.0, 20.0),
    ("half turned (20° to 45°)", 20.0, 45.0),
    ("in profile (beyond 45°)", 45.0, 181.0),
];

/// A face, its years if somebody says them, and its gender.
type Known = (Portrait, Option<(f64, f64)>, String);

#[derive(Default)]
struct Outcomes {
    found: Share,
    /// Answered, of the found.
    aged: Share,
    years: Vec<f64>,
    answered: Share,
    right: Share,
    calibration: Calibration,
}

impl Outcomes {
    fn add(&mut self, age: Option<(f64, f64)>, gender: &str, face: Option<&Found>) {
        self.found.add(face.is_some());
        let Some(face) = face else { return };
        if let Some((from, to)) = age {
            let age = face.number("age");
            self.aged.add(age.is_some());
            // An age inside the labelled range is right.
            self.years
                .extend(age.map(|age| (from - age).max(age - to).max(0.0)));
        }
        let answer = face.text("gender");
        self.answered.add(answer.is_some());
        if let Some(answer) = answer {
            self.right.add(answer == gender);
            let confidence = face.number("gender_confidence").unwrap_or(1.0);
            self.calibration.add(confidence, answer == gender);
        }
    }

    fn row(&self, what: String) -> [String; 7] {
        [
            what,
            percent(self.found.value(), 0),
            number(mean(&self.years), 1),
            percent(1.0 - self.aged.value(), 0),
            percent(self.right.value(), 1),
            percent(1.0 - self.answered.value(), 0),
            number(self.calibration.error(), 3),
        ]
    }
}

fn table() -> Table {
    Table::new([
        "faces",
        "found %",
        "years off",
        "ages unanswered %",
        "genders right %",
        "genders unanswered %",
        "ECE of `gender_confidence`",
    ])
}

/// The lines that can run here.
fn lines() -> impl Iterator<Item = (&'static str, Lines)> {
    LINES.iter().filter_map(|(name, element, models)| {
        let installed = |model: &&str| face_core::model::Model::find(model).is_ok();
        if !models.iter().all(installed) {
            return None;
        }
        match Lines::start(&format!("facedetector ! {element}")) {
            Ok(lines) => Some((*name, lines)),
            Err(error) => {
                eprintln!("accuracy: {element} is left out: {error:#}");
                None
            }
        }
    })
}

/// The tables of a folder of labelled pictures.
pub fn labelled(data: &Data, out: &mut String) -> Result<()> {
    let mut by_line = Vec::new();
    for (name, mut lines) in lines() {
        let mut sets = [Outcomes::default(), Outcomes::default()];
        let mut turns: Vec<Outcomes> = TURNS.iter().map(|_| Outcomes::default()).collect();
        for batch in data.aged.chunks(64) {
            let pictures = pictures(batch)?;
            for (i, faces) in lines.look(&pictures)?.iter().enumerate() {
                let (aged, face) = (&batch[i], middle(faces, &pictures[i]));
                let set = &mut sets[usize::from(aged.tight)];
                set.add(Some(aged.age), &aged.gender, face);
                let yaw = face.and_then(|face| face.json["pose"][0].as_f64());
                let turn = TURNS.iter().position(|(_, from, to)| {
                    yaw.is_some_and(|yaw| (*from..*to).contains(&yaw.abs()))
                });
                if let Some(turn) = turn {
                    turns[turn].add(Some(aged.age), &aged.gender, face);
                }
            }
        }
        by_line.push((name, sets, turns));
    }
    let mut natural = table();
    for (name, [photographs, crops], turns) in &by_line {
        for (what, outcomes) in [("photographs", photographs), ("tight crops", crops)] {
            if outcomes.found.of > 0 {
                natural.row(outcomes.row(format!("{name}: {} {what}", outcomes.found.of)));
            }
        }
        for ((what, ..), outcomes) in TURNS.iter().zip(turns) {
            if outcomes.found.of > 0 {
                natural.row(outcomes.row(format!("{name}: {} {what}", outcomes.found.of)));
            }
        }
    }
    *out += &format!(
        "`facedetector ! faceagegender`, the face in the middle, one picture at a time. Years off are 0 \
         inside the labelled range; crops get a grey border of half their size.\n\n{natural}\n"
    );

    let some: Vec<&Aged> = every(&data.aged, SHOWN);
    let photos: Vec<(String, PathBuf)> = some
        .iter()
        .map(|aged| (String::new(), aged.path.clone()))
        .collect();
    let (portraits, lost) = of_photos(&photos, |i| some[i].tight)?;
    let known: Vec<Known> = portraits
        .into_iter()
        .map(|(i, portrait)| (portrait, Some(some[i].age), some[i].gender.clone()))
        .collect();
    *out += &format!(
        "{} of these faces, shown in other ways ({lost} without a face of 60 pixels are left out).\n\n{}\n",
        known.len(),
        shown(&known)?
    );
    Ok(())
}

/// `most` items, evenly spaced.
fn every<T>(items: &[T], most: usize) -> Vec<&T> {
    items
        .iter()
        .step_by(items.len().div_ceil(most).max(1))
        .collect()
}

fn pictures(batch: &[Aged]) -> Result<Vec<RgbImage>> {
    let paths: Vec<PathBuf> = batch.iter().map(|aged| aged.path.clone()).collect();
    let pictures = read(&paths)?.into_iter().zip(batch);
    let bordered = |(picture, aged): (RgbImage, &Aged)| match aged.tight {
        true => bordered(&picture),
        false => picture,
    };
    Ok(pictures.map(bordered).collect())
}

fn shown(known: &[Known]) -> Result<Table> {
    let mut lines: Vec<_> = lines().collect();
    let mut table = table();
    for (what, shown) in CONDITIONS {
        let pictures = parallel(known, |(p, ..)| compose(&p.picture, &p.rect, shown).0);
        for (name, lines) in &mut lines {
            let mut outcomes = Outcomes::default();
            for (i, faces) in lines.look(&pictures)?.iter().enumerate() {
                let (_, age, gender) = &known[i];
                outcomes.add(*age, gender, middle(faces, &pictures[i]));
            }
            table.row(outcomes.row(format!("{what}, {name}")));
        }
    }
    Ok(table)
}

/// The posed pictures of the media, whose genders are known.
pub fn media(portraits: &[Portrait], out: &mut String) -> Result<()> {
    let known: Vec<_> = portraits
        .iter()
        .filter_map(|portrait| {
            let posed = POSED
                .iter()
                .find(|(file, ..)| portrait.person.starts_with(file))?;
            Some((portrait.clone(), None, posed.1.to_owned()))
        })
        .collect();
    *out += &format!(
        "{} posed pictures of the media; nobody says how old these people are.\n\n{}\n",
        known.len(),
        shown(&known)?
    );
    Ok(())
}
