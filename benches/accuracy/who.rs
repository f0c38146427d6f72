//! Who: strangers who get a name, against right names.

mod shown;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use face_gallery::Gallery;
use face_gallery::vote::{self, Rule};
use image::RgbImage;

pub use shown::{labelled_shown, media_shown};

use crate::data::{Data, SEED};
use crate::line::{Found, Lines, middle, parallel, read};
use crate::measures::{Calibration, Random, Share, quantile};
use crate::table::{Table, number, percent};

/// Photos per person.
const PHOTOS: [usize; 3] = [1, 3, 5];

/// Galleries of these sizes, with three photos per person, besides the one of everybody.
const SIZES: [usize; 2] = [10, 40];

/// Strangers named, as a share of them.
const RATES: [f64; 6] = [0.0001, 0.001, 0.003, 0.01, 0.03, 0.1];

/// How often the defaults are tried, each time with other photos enrolled.
const FOLDS: usize = 2;

/// For the curves: random halves of the people, one enrolled, the other all strangers.
const SPLITS: usize = 8;

/// Photos of two people this near (cosine distance) show one person under two names: for SFace, this is
/// seven standard deviations beyond what strangers have. The curves leave them out.
const SAME_PERSON: f64 = 0.3;

/// Who is nearest, and how far.
type Answer = fn(&Gallery, &[f32]) -> Option<(String, f64)>;

/// The person whom the elements' rule finds nearest, and how far: in deviations beyond the default limit.
fn scored(gallery: &Gallery, embedding: &[f32]) -> Option<(String, f64)> {
    let rule = Rule {
        false_name_rate: vote::FALSE_NAME_RATE,
        distance_threshold: None,
        strangers: None,
        fallback: vote::DISTANCE_THRESHOLD,
    };
    let (person, signs) = vote::signs(gallery, embedding, &rule)?;
    Some((person.to_owned(), -signs.within))
}

/// The nearest row's person and distance.
fn nearest(gallery: &Gallery, embedding: &[f32]) -> Option<(String, f64)> {
    let found = gallery.nearest(embedding, 1);
    let nearest = found.first()?;
    let person = gallery.person_of(nearest.row);
    Some((gallery.person_name(person).to_owned(), nearest.distance))
}

/// The outcomes of a gallery at the defaults of the elements.
#[derive(Default)]
struct Outcomes {
    found: Share,
    right: Share,
    wrong: Share,
    strangers: Share,
    calibration: Calibration,
}

impl Outcomes {
    /// Counts a picture of `person`, or of a stranger.
    fn add(&mut self, person: Option<&str>, face: Option<&Found>, gallery: &Gallery) {
        self.found.add(face.is_some());
        let name = face.and_then(|face| face.text("name"));
        let name = name.filter(|name| gallery.people().iter().any(|p| p == name));
        match person {
            Some(person) => {
                self.right.add(name == Some(person));
                self.wrong.add(name.is_some_and(|name| name != person));
            }
            None => self.strangers.add(name.is_some()),
        }
        if let (Some(name), Some(face)) = (name, face) {
            let confidence = face.number("name_confidence").unwrap_or(1.0);
            self.calibration.add(confidence, Some(name) == person);
        }
    }

    fn cells(&self) -> [String; 4] {
        [
            percent(self.strangers.value(), 2),
            percent(self.right.value(), 2),
            percent(self.wrong.value(), 2),
            number(self.calibration.error(), 3),
        ]
    }
}

/// A gallery with the rows that `keep` wants, by person and source.
fn part(all: &Gallery, keep: impl Fn(&str, &str) -> bool) -> Gallery {
    let mut gallery = Gallery::new(all.model.clone(), all.dimensions());
    for row in 0..all.len() {
        let person = all.person_name(all.person_of(row));
        if keep(person, all.source_of(row)) {
            gallery.push_row(all, row, person);
        }
    }
    gallery
}

/// Runs `facepipe enroll` on a folder of people.
fn enroll(people: &Path, gallery: &Path) -> Result<Gallery> {
    let program = std::env::current_exe()?.with_file_name("facepipe");
    let status = Command::new(&program)
        .arg("enroll")
        .arg(people)
        .arg("-o")
        .arg(gallery)
        .args(["--largest", "--json"])
        .output()
        .with_context(|| format!("{} does not run; build it first", program.display()))?;
    // 3: written, but without some photos.
    ensure!(
        matches!(status.status.code(), Some(0 | 3)),
        "facepipe enroll failed: {}",
        String::from_utf8_lossy(&status.stderr)
    );
    Ok(Gallery::read(gallery)?)
}

fn line(gallery: &Path) -> Result<Lines> {
    Lines::start(&format!(
        "facedetector ! facerecognizer attach-embedding=true gallery=\"{}\"",
        gallery.display()
    ))
}

/// A photo that is asked for its name.
struct Asked {
    /// `None` for a stranger.
    person: Option<String>,
    /// As the gallery names it.
    source: String,
    picture: RgbImage,
    embedding: Option<Vec<f32>>,
}

/// The photos of each person, in a random order that is always the same: the first are enrolled.
fn order(data: &Data) -> BTreeMap<String, Vec<PathBuf>> {
    let mut random = Random(SEED);
    let shuffled = data.people.iter().map(|(person, photos)| {
        let mut photos = photos.clone();
        random.shuffle(&mut photos);
        (person.clone(), photos)
    });
    shuffled.collect()
}

fn source(folder: &Path, photo: &Path) -> String {
    let photo = photo.strip_prefix(folder.join("people")).unwrap_or(photo);
    photo.display().to_string()
}

/// The tables of a folder of labelled pictures.
pub fn labelled(data: &Data, out: &mut String) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let all = enroll(
        &data.folder.join("people"),
        &folder.path().join("all.safetensors"),
    )?;
    let order = order(data);
    let mut asked = Vec::new();
    for (person, photos) in &order {
        for (photo, picture) in photos.iter().zip(read(photos)?) {
            asked.push(Asked {
                person: Some(person.clone()),
                source: source(&data.folder, photo),
                picture,
                embedding: None,
            });
        }
    }
    for picture in read(&data.strangers)? {
        asked.push(Asked {
            person: None,
            source: String::new(),
            picture,
            embedding: None,
        });
    }

    let mut table = Table::new([
        "gallery",
        "strangers named %",
        "right names %",
        "wrong names %",
        "ECE of `name_confidence`",
    ]);
    let mut random = Random(SEED);
    let mut people: Vec<String> = order.keys().cloned().collect();
    random.shuffle(&mut people);
    let everybody = people.len();
    let mut galleries: Vec<(usize, usize)> = PHOTOS.map(|photos| (everybody, photos)).to_vec();
    let sizes = SIZES.into_iter().filter(|size| *size < everybody);
    galleries.extend(sizes.map(|size| (size, 3)));
    for (size, photos) in galleries {
        let members = &people[..size];
        let mut outcomes = Outcomes::default();
        for fold in 0..FOLDS {
            // The first are enrolled. Those who are enrolled in the largest gallery are asked in none, so
            // that all galleries of a fold are asked for the same photos.
            let first = |count: usize| {
                let most = PHOTOS[PHOTOS.len() - 1];
                let of_person = move |photos: &Vec<PathBuf>| -> Vec<String> {
                    let turned = photos.iter().cycle().skip(fold * most);
                    let taken = turned.take(count.min(photos.len()));
                    taken.map(|photo| source(&data.folder, photo)).collect()
                };
                order
                    .values()
                    .flat_map(of_person)
                    .collect::<HashSet<String>>()
            };
            let (enrolled, not_asked) = (first(photos), first(PHOTOS[PHOTOS.len() - 1]));
            let gallery = part(&all, |person, source| {
                members.iter().any(|m| m == person) && enrolled.contains(source)
            });
            let path = folder
                .path()
                .join(format!("{fold}-{size}-{photos}.safetensors"));
            gallery.write(&path)?;
            let mut lines = line(&path)?;
            let queries = asked.iter_mut().filter(|a| !not_asked.contains(&a.source));
            for batch in batches(queries.collect()) {
                let pictures: Vec<RgbImage> = batch.iter().map(|a| a.picture.clone()).collect();
                for (asked, faces) in batch.into_iter().zip(lines.look(&pictures)?) {
                    let face = middle(&faces, &asked.picture);
                    let known = asked.person.as_deref();
                    let known = known.filter(|p| members.iter().any(|m| m == p));
                    outcomes.add(known, face, &gallery);
                    asked.embedding = face.and_then(|face| face.embedding.clone());
                }
            }
        }
        let strangers = outcomes.strangers.of;
        let [named, right, wrong, error] = outcomes.cells();
        table.row([
            format!(
                "{size} people, {photos} photo{} each ({} photos of them asked, {strangers} of strangers)",
                if photos == 1 { "" } else { "s" },
                outcomes.right.of
            ),
            named,
            right,
            wrong,
            error,
        ]);
    }
    *out += &format!(
        "At the defaults of `facedetector ! facerecognizer`, one photo at a time. A stranger is a person \
         who is not in that gallery. Galleries are made by `facepipe enroll --largest`, {FOLDS} of each with other \
         photos.\n\n{table}\n"
    );
    curves(&all, &asked, &order, data, out);
    Ok(())
}

fn batches(items: Vec<&mut Asked>) -> Vec<Vec<&mut Asked>> {
    let mut batches = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        if i % 64 == 0 {
            batches.push(Vec::new());
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(item);
        }
    }
    batches
}

/// The photos that lie too near to one of another person.
fn twofold(asked: &[Asked]) -> HashSet<usize> {
    let alike = |a: &Asked, b: &Asked| match (&a.embedding, &b.embedding) {
        (Some(x), Some(y)) => face_gallery::edit::distance(x, y) < SAME_PERSON,
        _ => false,
    };
    let others = |i: usize| {
        let own = &asked[i];
        // Each stranger is another person.
        let other = |j: usize| j != i && (own.person.is_none() || asked[j].person != own.person);
        (0..asked.len()).any(|j| other(j) && alike(own, &asked[j]))
    };
    let indices: Vec<usize> = (0..asked.len()).collect();
    let found = parallel(&indices, |&i| others(i));
    indices.into_iter().filter(|&i| found[i]).collect()
}

/// Right names over strangers named, for half of the people at a time.
fn curves(
    all: &Gallery,
    asked: &[Asked],
    order: &BTreeMap<String, Vec<PathBuf>>,
    data: &Data,
    out: &mut String,
) {
    let mut table = Table::new([
        "strangers named",
        "0.01 %",
        "0.1 %",
        "0.3 %",
        "1 %",
        "3 %",
        "10 %",
    ]);
    let mut trials = (0, 0);
    let twofold = twofold(asked);
    for photos in PHOTOS {
        let splits: Vec<u64> = (0..SPLITS as u64).collect();
        let results = parallel(&splits, |split| {
            let mut people: Vec<&String> = order.keys().collect();
            Random(SEED + split).shuffle(&mut people);
            people.truncate(people.len() / 2);
            let mine = |person: &str| people.iter().any(|p| *p == person);
            let first = |count: usize| {
                let photos = people
                    .iter()
                    .flat_map(move |p| order[*p].iter().take(count));
                let sources = photos.map(|photo| source(&data.folder, photo));
                sources.collect::<HashSet<String>>()
            };
            let (enrolled, not_asked) = (first(photos), first(PHOTOS[PHOTOS.len() - 1]));
            let gallery = part(all, |person, source| {
                mine(person) && enrolled.contains(source)
            });
            // For the rule and the nearest row, for strangers and people who are known: how far the answer
            // is, and whether it is right.
            let mut answers: [[Vec<(f64, bool)>; 2]; 2] = Default::default();
            for (i, asked) in asked.iter().enumerate() {
                let person = asked.person.as_deref().filter(|p| mine(p));
                let Some(embedding) = &asked.embedding else {
                    continue;
                };
                if twofold.contains(&i) || not_asked.contains(&asked.source) && person.is_some() {
                    continue;
                }
                let known = usize::from(person.is_some());
                let rules: [Answer; 2] = [scored, nearest];
                for (rule, answer) in rules.into_iter().enumerate() {
                    let (name, distance) = answer(&gallery, embedding).unwrap_or_default();
                    answers[rule][known].push((distance, Some(&*name) == person));
                }
            }
            answers
        });
        let mut answers: [[Vec<(f64, bool)>; 2]; 2] = Default::default();
        for result in results {
            for (all, part) in answers
                .iter_mut()
                .flatten()
                .zip(result.into_iter().flatten())
            {
                all.extend(part);
            }
        }
        trials = (answers[0][0].len(), answers[0][1].len());
        let [ours, nearest] = answers.map(|[strangers, known]| {
            let strangers: Vec<f64> = strangers
                .into_iter()
                .map(|(distance, _)| distance)
                .collect();
            RATES.map(|rate| {
                let limit = quantile(&strangers, rate);
                let right = known.iter().filter(|(d, right)| *right && *d < limit);
                percent(right.count() as f64 / known.len() as f64, 2)
            })
        });
        let plural = if photos == 1 { "" } else { "s" };
        for (name, cells) in [("`facerecognizer`'s rule", ours), ("nearest row", nearest)] {
            let mut row = vec![format!("{name}, {photos} photo{plural}")];
            row.extend(cells);
            if let Ok(row) = <[String; 7]>::try_from(row) {
                table.row(row);
            }
        }
    }
    let lost = twofold.len();
    *out += &format!(
        "Right names in %, at the threshold at which this share of strangers gets a name: {SPLITS} random \
         halves of the people are enrolled, and the photos of the other half are strangers, too ({} \
         questions by strangers, {} by people in the gallery; they are not independent of each other, so \
         the first columns are rough). {lost} photos are left out that lie within {SAME_PERSON} of a photo of \
         another person: one person under two names. One embedding at a time, by the functions of `face-gallery` that \
         `facerecognizer` calls.\n\n{table}\n",
        trials.0, trials.1
    );
}
