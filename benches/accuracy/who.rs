//! Who: strangers who get a name, against right names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use face_gallery::Gallery;
use face_gallery::vote::{self, Rule};
use image::RgbImage;

use crate::data::{Data, SEED};
use crate::line::{Found, Lines, middle, parallel, read};
use crate::measures::{Calibration, Random, Share, quantile};
use crate::portraits::{CONDITIONS, Portrait};
use crate::scene::compose;
use crate::table::{Table, number, percent};

/// Photos per person.
const PHOTOS: [usize; 3] = [1, 3, 5];

/// Galleries of these sizes, with three photos per person, besides the one of everybody.
const SIZES: [usize; 2] = [10, 40];

/// Strangers named, as a share of them.
const RATES: [f64; 6] = [0.0001, 0.001, 0.003, 0.01, 0.03, 0.1];

/// For the curves: random halves of the people, one enrolled, the other all strangers.
const SPLITS: usize = 8;

/// The rule that the elements use, at a given threshold, on one embedding.
fn named(gallery: &Gallery, embedding: &[f32], threshold: f64) -> Option<String> {
    let neighbors = 5;
    vote::who(
        gallery,
        embedding,
        Rule {
            neighbors,
            threshold,
        },
    )
    .person
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
    let enrolled = |photos: usize| {
        let sources: Vec<String> = order
            .values()
            .flat_map(|all| all.iter().take(photos).map(|p| source(&data.folder, p)))
            .collect();
        move |_: &str, source: &str| sources.iter().any(|s| s == source)
    };
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
        let (members, is_enrolled) = (&people[..size], enrolled(photos));
        let gallery = part(&all, |person, source| {
            members.iter().any(|m| m == person) && is_enrolled(person, source)
        });
        let path = folder.path().join(format!("{size}-{photos}.safetensors"));
        gallery.write(&path)?;
        let mut lines = line(&path)?;
        let mut outcomes = Outcomes::default();
        let queries: Vec<&mut Asked> = asked
            .iter_mut()
            .filter(|asked| {
                let person = asked.person.as_deref().unwrap_or_default();
                // Those who are enrolled with five photos in one gallery are asked in none, so that
                // all galleries are asked for the same photos.
                !order.get(person).is_some_and(|all| {
                    let first = all.iter().take(PHOTOS[2]);
                    first
                        .into_iter()
                        .any(|p| source(&data.folder, p) == asked.source)
                })
            })
            .collect();
        for batch in batches(queries) {
            let pictures: Vec<RgbImage> = batch.iter().map(|a| a.picture.clone()).collect();
            for (asked, faces) in batch.into_iter().zip(lines.look(&pictures)?) {
                let face = middle(&faces, &asked.picture);
                let known = asked
                    .person
                    .as_deref()
                    .filter(|p| members.iter().any(|m| m == p));
                outcomes.add(known, face, &gallery);
                asked.embedding = face.and_then(|face| face.embedding.clone());
            }
        }
        let strangers = outcomes.strangers.of;
        let [named, right, wrong, error] = outcomes.cells();
        table.row([
            format!(
                "{size} people, {photos} photo{} each ({} photos asked, {strangers} of strangers)",
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
         who is not in that gallery. Galleries are made by `facepipe enroll --largest`.\n\n{table}\n"
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
    let thresholds: Vec<f64> = (30..=80).map(|t| f64::from(t) / 100.0).collect();
    let mut trials = (0, 0);
    for photos in PHOTOS {
        let splits: Vec<u64> = (0..SPLITS as u64).collect();
        let results = parallel(&splits, |split| {
            let mut people: Vec<&String> = order.keys().collect();
            Random(SEED + split).shuffle(&mut people);
            people.truncate(people.len() / 2);
            let mine = |person: &str| people.iter().any(|p| *p == person);
            let first: Vec<String> = people
                .iter()
                .flat_map(|p| order[*p].iter().take(photos))
                .map(|photo| source(&data.folder, photo))
                .collect();
            let gallery = part(all, |person, source| {
                mine(person) && first.iter().any(|s| s == source)
            });
            // For nearest row and rule: whether the name is right, by distance or threshold.
            let mut near: [Vec<(f64, bool)>; 2] = Default::default();
            let mut rule: [Vec<Vec<Option<bool>>>; 2] = Default::default();
            for asked in asked {
                let person = asked.person.as_deref().filter(|p| mine(p));
                let Some(embedding) = &asked.embedding else {
                    continue;
                };
                let known = usize::from(person.is_some());
                let (name, distance) = nearest(&gallery, embedding).unwrap_or_default();
                near[known].push((distance, Some(&*name) == person));
                let names = thresholds.iter().map(|t| named(&gallery, embedding, *t));
                let right = names.map(|name| name.map(|name| Some(&*name) == person));
                rule[known].push(right.collect());
            }
            (near, rule)
        });
        let mut near: [Vec<(f64, bool)>; 2] = Default::default();
        let mut rule: [Vec<Vec<Option<bool>>>; 2] = Default::default();
        for (n, r) in results {
            for known in 0..2 {
                near[known].extend(&n[known]);
                rule[known].extend(r[known].iter().cloned());
            }
        }
        trials = (near[0].len(), near[1].len());
        let strangers: Vec<f64> = near[0].iter().map(|(distance, _)| *distance).collect();
        let nearest = RATES.map(|rate| {
            let limit = quantile(&strangers, rate);
            let right = near[1]
                .iter()
                .filter(|(d, right)| *right && *d < limit)
                .count();
            percent(right as f64 / near[1].len() as f64, 2)
        });
        let at = |column: usize, of: &[Vec<Option<bool>>], hit: fn(&Option<bool>) -> bool| {
            let hits = of.iter().filter(|answers| hit(&answers[column])).count();
            hits as f64 / of.len() as f64
        };
        let ours = RATES.map(|rate| {
            let within = |column: &usize| at(*column, &rule[0], Option::is_some) <= rate;
            let column = (0..thresholds.len()).rev().find(within);
            let right = column.map(|column| at(column, &rule[1], |answer| *answer == Some(true)));
            percent(right.unwrap_or(0.0), 2)
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
    *out += &format!(
        "Right names in %, at the threshold at which this share of strangers gets a name: {SPLITS} random \
         halves of the people are enrolled, and the photos of the other half are strangers, too ({} \
         questions by strangers, {} by people in the gallery; they are not independent of each other, so \
         the first columns are rough). One embedding at a time, by the functions of `face-gallery` that \
         `facerecognizer` calls.\n\n{table}\n",
        trials.0, trials.1
    );
}

/// Known faces shown at sizes, blurs, lights and angles: one gallery of all `known`, made from their
/// `portraits`, and strangers.
pub fn shown(
    enrolled: &Path,
    known: &[Portrait],
    strangers: &[Portrait],
    totals: &mut Totals,
) -> Result<()> {
    let gallery = Gallery::read(enrolled)?;
    let mut lines = line(enrolled)?;
    for (i, (_, shown)) in CONDITIONS.iter().enumerate() {
        let portraits: Vec<&Portrait> = known.iter().chain(strangers).collect();
        let pictures = parallel(&portraits, |p| compose(&p.picture, &p.rect, *shown).0);
        for (j, faces) in lines.look(&pictures)?.iter().enumerate() {
            let person = known.get(j).map(|portrait| portrait.person.as_str());
            let face = middle(faces, &pictures[j]);
            totals.0[i].add(person, face, &gallery);
        }
    }
    Ok(())
}

/// The outcomes of each condition.
pub struct Totals(Vec<Outcomes>);

impl Default for Totals {
    fn default() -> Self {
        Self(CONDITIONS.iter().map(|_| Outcomes::default()).collect())
    }
}

impl Totals {
    pub fn table(&self) -> Table {
        let mut table = Table::new([
            "shown",
            "found %",
            "strangers named %",
            "right names %",
            "wrong names %",
            "ECE of `name_confidence`",
        ]);
        for ((name, _), outcomes) in CONDITIONS.iter().zip(&self.0) {
            let [named, right, wrong, error] = outcomes.cells();
            let found = percent(outcomes.found.value(), 0);
            table.row([(*name).to_owned(), found, named, right, wrong, error]);
        }
        table
    }
}

/// The composites of a folder of labelled pictures: one photo of each person that is not enrolled,
/// and some strangers.
pub fn labelled_shown(data: &Data, out: &mut String) -> Result<()> {
    const STRANGERS: usize = 100;
    let folder = tempfile::tempdir()?;
    let people = folder.path().join("people");
    let mut asked = Vec::new();
    for (person, photos) in order(data) {
        if photos.len() < 4 {
            continue;
        }
        let own = people.join(&person);
        std::fs::create_dir_all(&own)?;
        for photo in &photos[..3] {
            let name = photo.file_name().unwrap_or_default();
            std::os::unix::fs::symlink(photo.canonicalize()?, own.join(name))?;
        }
        asked.push((person, photos[3].clone()));
    }
    let enrolled = folder.path().join("gallery.safetensors");
    enroll(&people, &enrolled)?;
    let (known, lost) = crate::portraits::of_photos(&asked, |_| false)?;
    let strangers: Vec<(String, PathBuf)> = data
        .strangers
        .iter()
        .take(STRANGERS)
        .map(|path| (String::new(), path.clone()))
        .collect();
    let (strangers, lost_strangers) = crate::portraits::of_photos(&strangers, |_| false)?;
    let plain = |all: Vec<(usize, Portrait)>| all.into_iter().map(|(_, p)| p).collect::<Vec<_>>();
    let (known, strangers) = (plain(known), plain(strangers));
    let mut totals = Totals::default();
    shown(&enrolled, &known, &strangers, &mut totals)?;
    *out += &format!(
        "One more photo of each of {} people, and {} strangers, shown in other ways; three photos each are \
         enrolled as they are ({} photos without a face of 60 pixels are left out). \"Found\" counts both.\n\n{}\n",
        known.len(),
        strangers.len(),
        lost + lost_strangers,
        totals.table()
    );
    Ok(())
}

/// The composites of the media: half of the people are enrolled by the picture itself, the others are
/// strangers, and the other way round.
pub fn media_shown(portraits: &[Portrait], out: &mut String) -> Result<()> {
    let mut totals = Totals::default();
    for turn in 0..2 {
        let folder = tempfile::tempdir()?;
        let halves = portraits.iter().enumerate();
        let (known, strangers): (Vec<_>, Vec<_>) = halves.partition(|(i, _)| i % 2 == turn);
        let plain = |half: Vec<(usize, &Portrait)>| {
            half.into_iter()
                .map(|(_, p)| p.clone())
                .collect::<Vec<Portrait>>()
        };
        let (known, strangers) = (plain(known), plain(strangers));
        let people = folder.path().join("people");
        for portrait in &known {
            let own = people.join(&portrait.person);
            std::fs::create_dir_all(&own)?;
            let shown = crate::scene::Shown {
                height: 160.0,
                ..crate::scene::Shown::PLAIN
            };
            compose(&portrait.picture, &portrait.rect, shown)
                .0
                .save(own.join("1.png"))?;
        }
        let enrolled = folder.path().join("gallery.safetensors");
        enroll(&people, &enrolled)?;
        shown(&enrolled, &known, &strangers, &mut totals)?;
    }
    *out += &format!(
        "{} faces of the media. Half of them are enrolled by this very picture at a height of 160 pixels, \
         the others are strangers; then the other way round.\n\n{}\n",
        portraits.len(),
        totals.table()
    );
    Ok(())
}
