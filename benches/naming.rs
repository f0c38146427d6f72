//! Measures how faces get names, and fits the confidence of names:
//!
//!     cargo bench -p face-benches --bench naming -- DATA
//!
//! `DATA` holds photos of people in `people/NAME/` and one photo each of others in `strangers/`. Prints
//! how many of the people's photos get the right name and how many strangers get one, for the rates that
//! are stated, and fits `face_gallery::confidence` on half of the people and strangers. The other half
//! gives the expected calibration error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use face_core::model::Model;
use face_gallery::confidence::{Signs, right};
use face_gallery::evidence::{Embedded, Mean};
use face_gallery::vote::{Rule, signs, who};
use face_gallery::{Gallery, ModelId, Row};
use face_tests::Picture;
use face_tests::feed::Feed;

/// Enrolled photos per person.
const PHOTOS: [usize; 3] = [1, 3, 5];
const RATES: [f64; 3] = [0.0001, 0.001, 0.01];
/// Draws of the enrolled photos.
const DRAWS: usize = 10;

/// A photo's face.
struct Face {
    /// `None` for strangers.
    person: Option<String>,
    plain: Embedded,
    mirrored: Embedded,
    /// From the photo at a quarter of its size.
    small: Option<Embedded>,
}

/// The same numbers on every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Embeds the largest face of pictures. Keeps a pipeline per size of pictures.
#[derive(Default)]
struct Embedder(BTreeMap<(u32, u32, bool), (Feed, u64)>);

impl Embedder {
    fn embed(&mut self, picture: &Picture, mirror: bool) -> Option<Embedded> {
        let key = (picture.width, picture.height, mirror);
        let (feed, index) = self.0.entry(key).or_insert_with(|| {
            let elements = format!(
                "facedetector ! facerecognizer attach-embedding=true interval=0 mirror={mirror}"
            );
            let feed = Feed::new(&elements, &picture.caps()).expect("the pipeline starts");
            (feed, 0)
        });
        *index += 1;
        let faces = feed
            .show(picture, *index)
            .expect("the picture passes")
            .faces;
        let area = |face: &face_meta::Face| face.rect.w * face.rect.h;
        let largest = faces
            .into_iter()
            .max_by(|a, b| area(a).total_cmp(&area(b)))?;
        largest.embedding.map(Embedded::from)
    }
}

fn faces(data: &Path) -> Vec<Face> {
    let people = sorted(&data.join("people")).into_iter().flat_map(|folder| {
        let name = folder.file_name().map(|n| n.to_string_lossy().into_owned());
        sorted(&folder)
            .into_iter()
            .map(move |path| (name.clone(), path))
    });
    let strangers = sorted(&data.join("strangers"))
        .into_iter()
        .map(|path| (None, path));
    let mut embedder = Embedder::default();
    let mut found = Vec::new();
    for (person, path) in people.chain(strangers) {
        let picture = Picture::open(&path.to_string_lossy());
        let small = picture.resized(picture.width / 4, picture.height / 4);
        // Small faces are found in a picture of the full size.
        let mut framed = Picture::black(picture.width, picture.height);
        framed.paste(&small, picture.width / 4, picture.height / 4);
        if let (Some(plain), Some(mirrored)) = (
            embedder.embed(&picture, false),
            embedder.embed(&picture, true),
        ) {
            found.push(Face {
                person,
                plain,
                mirrored,
                small: embedder.embed(&framed, false),
            });
        }
    }
    found
}

/// A gallery of `people` with up to `photos` photos each, and the other faces of these people.
fn draw<'a>(
    faces: &[&'a Face],
    people: &[String],
    photos: usize,
    random: &mut Random,
) -> (Gallery, Vec<&'a Face>) {
    let (model, dimensions) = ModelId::of("sface").expect("the model is installed");
    let mut gallery = Gallery::new(model, dimensions);
    let mut others = Vec::new();
    for person in people {
        let mut theirs = of(faces, person);
        random.shuffle(&mut theirs);
        let rest = theirs.split_off(photos.min(theirs.len()));
        for (number, face) in theirs.into_iter().enumerate() {
            let row = Row {
                person: person.clone(),
                source: number.to_string(),
            };
            assert!(gallery.push(row, &face.mirrored.embedding), "it fits");
        }
        others.extend(rest);
    }
    (gallery, others)
}

/// The faces of a person.
fn of<'a>(faces: &[&'a Face], person: &str) -> Vec<&'a Face> {
    let theirs = faces.iter().copied();
    theirs
        .filter(|face| face.person.as_deref() == Some(person))
        .collect()
}

/// The people among faces that are in the order of their names.
fn people_of(faces: &[&Face]) -> Vec<String> {
    let mut people: Vec<String> = faces
        .iter()
        .filter_map(|face| face.person.clone())
        .collect();
    people.dedup();
    people
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.2}", 100.0 * part as f64 / whole.max(1) as f64)
}

/// Right names and named strangers at the stated rates.
fn rates(faces: &[&Face], rule: Rule) {
    let people = people_of(faces);
    let count = people.len();
    println!(
        "{count} people: % of their other photos named rightly / wrongly, % of strangers named"
    );
    let strangers: Vec<&&Face> = faces.iter().filter(|face| face.person.is_none()).collect();
    for photos in PHOTOS {
        for (what, mirror) in [("plain", false), ("mirrored", true)] {
            let mut cells = String::new();
            for rate in RATES {
                let mut random = Random(SEED);
                let rule = Rule {
                    false_name_rate: rate,
                    ..rule
                };
                let (mut right, mut wrong, mut known, mut named, mut unknown) = (0, 0, 0, 0, 0);
                for _ in 0..DRAWS {
                    let (gallery, others) = draw(faces, &people, photos, &mut random);
                    let name = |face: &Face| {
                        let probe = if mirror { &face.mirrored } else { &face.plain };
                        who(&gallery, &probe.embedding, &rule).person
                    };
                    for face in others {
                        let found = name(face);
                        known += 1;
                        right += usize::from(found.is_some() && found == face.person);
                        wrong += usize::from(found.is_some() && found != face.person);
                    }
                    unknown += strangers.len();
                    named += strangers.iter().filter(|face| name(face).is_some()).count();
                }
                cells += &format!(
                    " | {} %: {} / {}, {}",
                    100.0 * rate,
                    percent(right, known),
                    percent(wrong, known),
                    percent(named, unknown)
                );
            }
            println!("{photos} enrolled, {what:<8}{cells}");
        }
    }
}

/// What spoke for the best candidate of a face, and whether it was right.
struct Case {
    signs: Signs,
    is_right: bool,
}

impl Case {
    fn numbers(&self) -> [f64; 2] {
        let ahead = self.signs.ahead.unwrap_or(0.0).clamp(-4.0, 4.0);
        [self.signs.within, ahead]
    }
}

/// Faces of known people and of others, as many of each: whole, small, and tracks of two to five.
fn cases(faces: &[&Face], rule: &Rule, random: &mut Random) -> Vec<Case> {
    let people = people_of(faces);
    let strangers: Vec<&Face> = faces
        .iter()
        .copied()
        .filter(|f| f.person.is_none())
        .collect();
    let mut cases = Vec::new();
    for _ in 0..DRAWS {
        for size in [5, 20, people.len()] {
            for photos in PHOTOS {
                let mut known = people.clone();
                random.shuffle(&mut known);
                let unknown = known.split_off(size.min(known.len()));
                let (gallery, others) = draw(faces, &known, photos, random);
                for number in 0..200 {
                    let (face, pool) = match number % 4 {
                        0 | 1 => (others[random.below(others.len())], others.as_slice()),
                        2 if !unknown.is_empty() => {
                            let theirs = of(faces, &unknown[random.below(unknown.len())]);
                            (theirs[random.below(theirs.len())], faces)
                        }
                        _ => (strangers[random.below(strangers.len())], faces),
                    };
                    let own = match &face.person {
                        Some(person) => of(pool, person),
                        None => vec![face],
                    };
                    let Some(embedding) = seen(face, &own, random) else {
                        continue;
                    };
                    if let Some((person, signs)) = signs(&gallery, &embedding, rule) {
                        let is_right = face.person.as_deref() == Some(person);
                        cases.push(Case { signs, is_right });
                    }
                }
            }
        }
    }
    cases
}

/// How a face is seen: as it is, small, or in a track with others of the same person.
fn seen(face: &Face, own: &[&Face], random: &mut Random) -> Option<Vec<f32>> {
    match random.below(3) {
        0 => Some(face.plain.embedding.to_vec()),
        1 => Some(face.small.as_ref()?.embedding.to_vec()),
        _ => {
            let mut mean = Mean::default();
            for _ in 0..2 + random.below(4) {
                let one = own[random.below(own.len())];
                let small = one.small.as_ref().filter(|_| random.below(2) == 0);
                mean.add(small.unwrap_or(&one.plain));
            }
            mean.unit()
        }
    }
}

/// The weights of a logistic regression without a constant, by Newton's method.
fn fit(cases: &[Case]) -> [f64; 2] {
    let mut weights = [0.0; 2];
    for _ in 0..50 {
        let (mut slope, mut bend) = ([0.0; 2], [1e-3, 0.0, 1e-3]);
        for case in cases {
            let [x, y] = case.numbers();
            let p = 1.0 / (1.0 + (-(weights[0] * x + weights[1] * y)).exp());
            let error = f64::from(u8::from(case.is_right)) - p;
            slope = [slope[0] + error * x, slope[1] + error * y];
            let v = p * (1.0 - p);
            bend = [
                bend[0] + v * x * x,
                bend[1] + v * x * y,
                bend[2] + v * y * y,
            ];
        }
        let determinant = bend[0] * bend[2] - bend[1] * bend[1];
        weights[0] += (bend[2] * slope[0] - bend[1] * slope[1]) / determinant;
        weights[1] += (bend[0] * slope[1] - bend[1] * slope[0]) / determinant;
    }
    weights
}

/// The expected calibration error in ten bins of (probability, whether it came true).
fn calibration_error(answers: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); 10];
    for &(p, came_true) in answers {
        let bin = &mut bins[((p * 10.0) as usize).min(9)];
        bin.0 += p;
        bin.1 += f64::from(u8::from(came_true));
    }
    let gaps = bins.iter().map(|(said, true_)| (said - true_).abs());
    gaps.sum::<f64>() / answers.len().max(1) as f64
}

fn confidence(halves: [&[&Face]; 2], rule: &Rule) {
    let [fitted, kept] = halves.map(|half| cases(half, rule, &mut Random(SEED)));
    let [within, ahead] = fit(&fitted);
    println!(
        "\nconfidence: {within:.2} within + {ahead:.2} ahead fits {} faces",
        fitted.len()
    );
    let answer = |case: &Case| {
        let p = right(case.signs);
        // As `who` answers.
        match case.signs.within >= 0.0 {
            true => (p, case.is_right),
            false => (1.0 - p, !case.is_right),
        }
    };
    let all: Vec<(f64, bool)> = kept.iter().map(answer).collect();
    let names: Vec<(f64, bool)> = kept
        .iter()
        .filter(|c| c.signs.within >= 0.0)
        .map(answer)
        .collect();
    let loose: Vec<(f64, bool)> = kept
        .iter()
        .filter(|case| case.signs.within >= -1.1)
        .map(|case| (right(case.signs), case.is_right))
        .collect();
    for (what, answers) in [
        ("all answers", all),
        ("names", names),
        ("names of a limit 1.1 deviations looser", loose),
    ] {
        let right = answers.iter().filter(|(_, came_true)| *came_true).count();
        println!(
            "the other half: expected calibration error of {what} {:.4} ({} of {}, {} % right)",
            calibration_error(&answers),
            answers.len(),
            kept.len(),
            percent(right, answers.len())
        );
    }
}

/// Whatever: the draws are the same on every run.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

fn main() {
    let Some(data) = std::env::args().skip(1).find(|arg| !arg.starts_with('-')) else {
        eprintln!("name a folder: cargo bench -p face-benches --bench naming -- DATA");
        return;
    };
    let faces = faces(Path::new(&data));
    let all: Vec<&Face> = faces.iter().collect();
    let model = Model::find("sface").expect("the model is installed");
    let rule = Rule::of(&model.descriptor);
    let strangers = all.iter().filter(|face| face.person.is_none()).count();
    println!(
        "{} faces of {} people, and of {strangers} strangers",
        all.len() - strangers,
        people_of(&all).len()
    );
    rates(&all, rule);
    let people = people_of(&all);
    let is_first = |number: usize, face: &Face| match &face.person {
        Some(person) => people
            .iter()
            .position(|p| p == person)
            .is_some_and(|p| p % 2 == 0),
        None => number.is_multiple_of(2),
    };
    let numbered: Vec<(usize, &Face)> = all.iter().copied().enumerate().collect();
    let (first, second): (Vec<_>, Vec<_>) =
        numbered.into_iter().partition(|(n, f)| is_first(*n, f));
    let [first, second] =
        [first, second].map(|half| half.into_iter().map(|(_, f)| f).collect::<Vec<_>>());
    confidence([&first, &second], &rule);
    confidence([&second, &first], &rule);
}
