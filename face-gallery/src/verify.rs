//! Finds doubtful entries of a gallery: people who look alike, mislabelled rows, duplicates, people
//! with few images.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::Gallery;
use serde::Serialize;

use super::edit::{IDENTICAL, distance};

/// The limits for findings.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The cosine distance up to which a recogniser considers two faces one person.
    pub threshold: f64,
    /// The least number of images that a person should have.
    pub images: usize,
}

/// Everything that was found.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    pub alike: Vec<Alike>,
    pub mislabelled: Vec<Mislabelled>,
    pub duplicates: Vec<Duplicate>,
    pub few_images: Vec<FewImages>,
}

impl Findings {
    pub fn count(&self) -> usize {
        self.alike.len() + self.mislabelled.len() + self.duplicates.len() + self.few_images.len()
    }
}

/// Two people who may be confused.
#[derive(Debug, PartialEq, Serialize)]
pub struct Alike {
    pub people: [String; 2],
    /// The two nearest rows.
    pub sources: [String; 2],
    pub distance: f64,
    /// The distance as a share of the threshold. Below 1, a recogniser confuses the two.
    pub of_threshold: f64,
}

/// An image that is nearer to another person than to any other image of its own person.
#[derive(Debug, PartialEq, Serialize)]
pub struct Mislabelled {
    pub person: String,
    pub source: String,
    /// The distance to the nearest other image of the same person.
    pub own_distance: f64,
    pub nearest_person: String,
    pub nearest_source: String,
    pub distance: f64,
}

/// Two images that are the same picture.
#[derive(Debug, PartialEq, Serialize)]
pub struct Duplicate {
    pub people: [String; 2],
    pub sources: [String; 2],
}

/// A person with fewer images than recommended.
#[derive(Debug, PartialEq, Serialize)]
pub struct FewImages {
    pub person: String,
    pub images: usize,
    pub recommended: usize,
}

/// A row and the nearest rows of other images.
struct Near {
    row: usize,
    /// The nearest row of another image of the same person, and the nearest row of another person.
    own: Option<(usize, f64)>,
    foreign: Option<(usize, f64)>,
    /// Higher rows, of any person, whose images are the same picture.
    same: Vec<usize>,
}

/// Checks the gallery, on all cores. `show` is called now and then with the number of rows done,
/// and returns whether to go on. Returns `None` if it stopped.
pub fn verify(
    gallery: &Gallery,
    limits: Limits,
    mut show: impl FnMut(usize) -> bool,
) -> Option<Findings> {
    let mut rows_of = vec![Vec::new(); gallery.people().len()];
    for row in 0..gallery.len() {
        rows_of[gallery.person_of(row)].push(row);
    }
    let (next, cores) = (
        AtomicUsize::new(0),
        thread::available_parallelism().map_or(1, usize::from),
    );
    let work = || {
        let mut found = Vec::new();
        loop {
            let row = next.fetch_add(1, Ordering::Relaxed);
            if row >= gallery.len() {
                return found;
            }
            found.push(near(gallery, row, &rows_of[gallery.person_of(row)]));
        }
    };
    let mut found: Vec<Near> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            if !show(next.load(Ordering::Relaxed).min(gallery.len())) {
                next.store(gallery.len(), Ordering::Relaxed);
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let results = workers.into_iter().map(|worker| match worker.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        Some(results.flatten().collect())
    })?;
    found.sort_by_key(|near| near.row);
    Some(Findings {
        alike: alike(gallery, &found, limits.threshold),
        mislabelled: mislabelled(gallery, &found, limits.threshold),
        duplicates: duplicates(gallery, &found),
        few_images: few_images(gallery, limits.images),
    })
}

/// Compares one row with all others. `own` holds the rows of the same person.
fn near(gallery: &Gallery, row: usize, own: &[usize]) -> Near {
    let embedding = gallery.embedding(row);
    let (person, image) = (gallery.person_of(row), gallery.image_of(row));
    // This many rows include one of another person in any case.
    let nearest = gallery.nearest(&embedding, own.len() + 1);
    let foreign = nearest.iter().find(|n| n.person != person);
    let others = own
        .iter()
        .filter(|&&other| gallery.image_of(other) != image)
        .map(|&other| (other, distance(&gallery.embedding(other), &embedding)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let is_image = |row: usize| gallery.image_of(row) == row;
    let same = nearest
        .iter()
        .take_while(|n| n.distance <= IDENTICAL)
        .map(|n| n.row)
        .filter(|&other| other > row && is_image(row) && is_image(other))
        .collect();
    Near {
        row,
        own: others,
        foreign: foreign.map(|n| (n.row, n.distance)),
        same,
    }
}

fn person(gallery: &Gallery, row: usize) -> String {
    gallery.person_name(gallery.person_of(row)).to_owned()
}

fn source(gallery: &Gallery, row: usize) -> String {
    gallery.source_of(row).to_owned()
}

/// Pairs of people who are each other's nearest, the nearest pair first.
fn alike(gallery: &Gallery, found: &[Near], threshold: f64) -> Vec<Alike> {
    let mut pairs: BTreeMap<(usize, usize), (f64, usize, usize)> = BTreeMap::new();
    for near in found {
        let Some((other, distance)) = near.foreign.filter(|(_, d)| *d <= threshold) else {
            continue;
        };
        let (mut a, mut b) = (near.row, other);
        if gallery.person_of(a) > gallery.person_of(b) {
            (a, b) = (b, a);
        }
        let pair = (gallery.person_of(a), gallery.person_of(b));
        let best = pairs.entry(pair).or_insert((distance, a, b));
        if distance < best.0 {
            *best = (distance, a, b);
        }
    }
    let mut pairs: Vec<_> = pairs.into_values().collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let alike = |(distance, a, b)| Alike {
        people: [a, b].map(|row| person(gallery, row)),
        sources: [a, b].map(|row| source(gallery, row)),
        distance,
        of_threshold: distance / threshold,
    };
    pairs.into_iter().map(alike).collect()
}

/// Images that would be recognised as another person and are further from their own. A single
/// misplaced image is also the nearest one to the images of the person it shows; those are not
/// reported.
fn mislabelled(gallery: &Gallery, found: &[Near], threshold: f64) -> Vec<Mislabelled> {
    let mut suspects: Vec<(usize, f64, usize, f64)> = found
        .iter()
        // A bad variation of a good image says nothing about whose image it is.
        .filter(|near| gallery.image_of(near.row) == near.row)
        .filter_map(|near| {
            let (_, own_distance) = near.own?;
            let (other, distance) = near.foreign?;
            let is_nearer = distance < own_distance && distance <= threshold;
            is_nearer.then_some((near.row, own_distance, other, distance))
        })
        .collect();
    let margin = |(_, own, _, distance): &(usize, f64, usize, f64)| own - distance;
    suspects.sort_by(|a, b| margin(b).total_cmp(&margin(a)));
    let mut wrong = HashSet::new();
    suspects.retain(|(row, _, other, _)| {
        !wrong.contains(&gallery.image_of(*other)) && wrong.insert(*row)
    });
    suspects
        .into_iter()
        .map(|(row, own_distance, other, distance)| Mislabelled {
            person: person(gallery, row),
            source: source(gallery, row),
            own_distance,
            nearest_person: person(gallery, other),
            nearest_source: source(gallery, other),
            distance,
        })
        .collect()
}

/// Each repeated picture, with its first occurrence.
fn duplicates(gallery: &Gallery, found: &[Near]) -> Vec<Duplicate> {
    let mut seen = HashSet::new();
    let mut duplicates = Vec::new();
    for near in found {
        for &other in &near.same {
            if seen.insert(other) {
                duplicates.push(Duplicate {
                    people: [near.row, other].map(|row| person(gallery, row)),
                    sources: [near.row, other].map(|row| source(gallery, row)),
                });
            }
        }
    }
    duplicates
}

fn few_images(gallery: &Gallery, recommended: usize) -> Vec<FewImages> {
    (0..gallery.people().len())
        .map(|index| (gallery.person_name(index), gallery.images_of(index)))
        .filter(|(_, images)| *images < recommended)
        .map(|(person, images)| FewImages {
            person: person.to_owned(),
            images,
            recommended,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelId;
    use crate::edit::add_image;

    /// Images and their variations at these angles in degrees.
    fn gallery(images: &[(&str, &str, &[f32])]) -> Gallery {
        let model = ModelId {
            name: "m".into(),
            sha256: String::new(),
        };
        let mut gallery = Gallery::new(model, 2);
        for (person, source, degrees) in images {
            let rows: Vec<[f32; 2]> = degrees
                .iter()
                .map(|d| [d.to_radians().cos(), d.to_radians().sin()])
                .collect();
            assert_eq!(
                add_image(&mut gallery, person, source, &rows),
                Some(rows.len())
            );
        }
        gallery
    }

    /// With the threshold at `degrees` and two images as enough.
    fn look(images: &[(&str, &str, &[f32])], degrees: f64) -> Findings {
        let limits = Limits {
            threshold: 1.0 - degrees.to_radians().cos(),
            images: 2,
        };
        verify(&gallery(images), limits, |_| true).expect("not stopped")
    }

    #[test]
    fn people_far_apart_are_fine() {
        let found = look(
            &[
                ("ann", "1", &[0.0, 3.0]),
                ("ann", "2", &[5.0]),
                ("bob", "1", &[90.0]),
                ("bob", "2", &[95.0]),
            ],
            40.0,
        );
        assert_eq!(found, Findings::default());
        assert_eq!(look(&[], 40.0).count(), 0);
    }

    #[test]
    fn people_alike_are_named_once_with_their_nearest_rows() {
        let found = look(
            &[
                ("ann", "1", &[0.0]),
                ("ann", "2", &[5.0, 10.0]),
                ("bob", "1", &[45.0]),
                ("bob", "2", &[50.0]),
                ("eve", "1", &[200.0]),
                ("eve", "2", &[205.0]),
            ],
            40.0,
        );
        assert_eq!(found.count(), 1);
        let alike = &found.alike[0];
        assert_eq!(alike.people, ["ann", "bob"]);
        assert_eq!(alike.sources, ["2#1", "1"]);
        let expected = 1.0 - 35f64.to_radians().cos();
        assert!((alike.distance - expected).abs() < 1e-6);
        let share = expected / (1.0 - 40f64.to_radians().cos());
        assert!((alike.of_threshold - share).abs() < 1e-6);
    }

    #[test]
    fn an_image_among_others_is_mislabelled() {
        let found = look(
            &[
                ("ann", "1", &[0.0]),
                ("ann", "2", &[5.0]),
                ("ann", "bob's", &[88.0, 87.0]),
                ("bob", "1", &[90.0]),
                ("bob", "2", &[95.0]),
            ],
            20.0,
        );
        assert_eq!(found.mislabelled.len(), 1);
        let image = &found.mislabelled[0];
        assert_eq!((&*image.person, &*image.source), ("ann", "bob's"));
        assert_eq!(
            (&*image.nearest_person, &*image.nearest_source),
            ("bob", "1")
        );
        assert!(image.distance < 0.001 && image.own_distance > 0.8);
        // A person with one image has no other image to be nearer to.
        let alone = look(&[("ann", "1", &[0.0, 1.0]), ("bob", "1", &[5.0])], 20.0);
        assert_eq!((alone.mislabelled.len(), alone.alike.len()), (0, 1));
    }

    #[test]
    fn variations_are_no_duplicates_and_no_images() {
        let found = look(
            &[
                ("ann", "1", &[0.0, 0.0, 0.0, 60.0]),
                ("ann", "2", &[9.0, 9.0]),
                ("bob", "1", &[70.0, 71.0]),
            ],
            5.0,
        );
        assert_eq!(found.duplicates, []);
        assert_eq!(found.mislabelled, []);
        let few = |person: &str| FewImages {
            person: person.into(),
            images: 1,
            recommended: 2,
        };
        assert_eq!(found.few_images, [few("bob")]);
    }

    #[test]
    fn a_picture_that_is_there_again_is_named_with_the_first() {
        let found = look(
            &[
                ("ann", "1", &[0.0, 4.0]),
                ("ann", "copy", &[0.0, 4.0]),
                ("ann", "copy (2)", &[0.0]),
                ("bob", "1", &[0.0]),
                ("bob", "2", &[90.0]),
            ],
            5.0,
        );
        let duplicate = |person: &str, source: &str| Duplicate {
            people: ["ann".into(), person.into()],
            sources: ["1".into(), source.into()],
        };
        assert_eq!(
            found.duplicates,
            [
                duplicate("ann", "copy"),
                duplicate("ann", "copy (2)"),
                duplicate("bob", "1")
            ]
        );
    }

    #[test]
    fn it_stops_when_told_to() {
        let limits = Limits {
            threshold: 0.5,
            images: 1,
        };
        let many: Vec<String> = (0..2000).map(|i| i.to_string()).collect();
        let images: Vec<(&str, &str, &[f32])> = many
            .iter()
            .map(|name| (&**name, "1", &[1.0f32][..]))
            .collect();
        assert!(verify(&gallery(&images), limits, |_| false).is_none());
    }
}
