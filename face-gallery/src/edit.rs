//! Edits galleries in memory.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::{Gallery, Row, normalised, variation_of, variation_source};
use anyhow::{Context, Error, Result, bail, ensure};
use face_meta::names::{self, near};

/// Up to this cosine distance, two embeddings are of the same picture. Rounding causes about 10⁻⁷.
pub const IDENTICAL: f64 = 1e-6;

/// Adds an image of a person: its embedding, and after it those of its variations, if any. Returns
/// how many rows were added, or `None` if the embedding has no direction or not the gallery's
/// length.
pub fn add_image<E: AsRef<[f32]>>(
    gallery: &mut Gallery,
    person: &str,
    source: &str,
    embeddings: &[E],
) -> Option<usize> {
    let (image, variations) = embeddings.split_first()?;
    let row = |source: String| Row {
        person: person.to_owned(),
        source,
    };
    if !gallery.push(row(source.to_owned()), image.as_ref()) {
        return None;
    }
    let mut rows = 1;
    for (number, variation) in (1..).zip(variations) {
        let source = variation_source(source, number);
        rows += usize::from(gallery.push(row(source), variation.as_ref()));
    }
    Some(rows)
}

/// The source of the row of `person` with this embedding.
pub fn find(gallery: &Gallery, person: &str, embedding: &[f32]) -> Option<String> {
    let person = names::normal(person);
    let unit = normalised(embedding)?;
    (0..gallery.len())
        .filter(|&row| name(gallery, row) == person)
        .find(|&row| distance(&gallery.embedding(row), &unit) <= IDENTICAL)
        .map(|row| gallery.source_of(row).to_owned())
}

/// Up to this cosine distance, embeddings from one source are of the same picture, embedded in another
/// way. With SFace, a face is 0.009 from the mean with its mirror image.
const SAME_PICTURE: f64 = 0.03;

/// Whether `person` has this picture from `source`, if perhaps embedded in another way.
pub fn has_picture(gallery: &Gallery, person: &str, source: &str, embedding: &[f32]) -> bool {
    let person = names::normal(person);
    let Some(unit) = normalised(embedding) else {
        return false;
    };
    (0..gallery.len())
        .filter(|&row| name(gallery, row) == person && gallery.source_of(row) == source)
        .any(|row| distance(&gallery.embedding(row), &unit) <= SAME_PICTURE)
}

/// The person, and the source of their row, that shows the same picture as this embedding, if perhaps
/// embedded in another way.
pub fn picture_of<'a>(gallery: &'a Gallery, embedding: &[f32]) -> Option<(&'a str, &'a str)> {
    let unit = normalised(embedding)?;
    let nearest = gallery.nearest(&unit, 1).into_iter().next()?;
    (nearest.distance <= SAME_PICTURE)
        .then(|| (name(gallery, nearest.row), gallery.source_of(nearest.row)))
}

/// The person of a row.
fn name(gallery: &Gallery, row: usize) -> &str {
    gallery.person_name(gallery.person_of(row))
}

/// Cosine distance of vectors of length 1. It is 2, the largest, if the result is not a number, as
/// for a damaged row.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    let distance = 1.0 - products.sum::<f64>();
    match distance.is_nan() {
        true => 2.0,
        false => distance.max(0.0),
    }
}

/// A source like `wanted` that is not taken: `1.jpg`, else `1 (2).jpg`, …
pub fn free_source(taken: &mut HashSet<String>, wanted: &str) -> String {
    let (stem, extension) = match wanted.rfind('.') {
        Some(dot) if !wanted[dot..].contains('/') => wanted.split_at(dot),
        _ => (wanted, ""),
    };
    let mut source = wanted.to_owned();
    let mut number = 1;
    while !taken.insert(source.clone()) {
        number += 1;
        source = format!("{stem} ({number}){extension}");
    }
    source
}

/// The sources of all rows of a person.
pub fn sources(gallery: &Gallery, person: &str) -> HashSet<String> {
    let person = names::normal(person);
    (0..gallery.len())
        .filter(|&row| name(gallery, row) == person)
        .map(|row| gallery.source_of(row).to_owned())
        .collect()
}

/// Fails, listing people with similar names, if nobody has this name.
pub fn expect_person(gallery: &Gallery, name: &str) -> Result<()> {
    let people = gallery.people();
    ensure!(
        people.iter().any(|p| *p == names::normal(name)),
        "nobody in this gallery is called {name:?}{}",
        similar(people, name)
    );
    Ok(())
}

/// `; similar: …`, or how to list what there is.
fn similar(names: &[String], name: &str) -> String {
    let near = near(names, name);
    match near.is_empty() {
        true => "; `facepipe gallery list` shows what there is".to_owned(),
        false => format!("; similar: {}", near.join(", ")),
    }
}

fn empty_like(gallery: &Gallery) -> Gallery {
    let mut empty = Gallery::new(gallery.model.clone(), gallery.dimensions());
    empty.notes = gallery.notes.clone();
    empty.keep_strangers_of(gallery);
    empty
}

fn push(to: &mut Gallery, from: &Gallery, row: usize, person: &str) -> Result<()> {
    to.push_row(from, row, person).then_some(()).context(
        "a row cannot be copied: the file was changed or is damaged, or the sources of all rows are \
         longer than a gallery can hold",
    )
}

/// The gallery without these people, or without these images of them if any are named. An image's
/// variations go with it.
pub fn remove(gallery: &Gallery, people: &[String], images: &[String]) -> Result<Gallery> {
    for name in people {
        expect_person(gallery, name)?;
    }
    let people: HashSet<Cow<str>> = people.iter().map(|name| names::normal(name)).collect();
    // File names are compared like names.
    let images: HashSet<Cow<str>> = images.iter().map(|image| names::composed(image)).collect();
    let mut left = empty_like(gallery);
    let mut found = HashSet::new();
    for row in 0..gallery.len() {
        let person = name(gallery, row);
        let image = names::composed(gallery.source_of(gallery.image_of(row)));
        if !people.contains(person) {
            push(&mut left, gallery, row, person)?;
        } else if images.contains(&image) {
            found.insert(image);
        } else if !images.is_empty() {
            push(&mut left, gallery, row, person)?;
        }
    }
    let mut missing: Vec<&Cow<str>> = images.difference(&found).collect();
    missing.sort_unstable();
    if let Some(image) = missing.first() {
        let theirs: Vec<String> = (0..gallery.len())
            .filter(|&row| people.contains(name(gallery, row)) && gallery.image_of(row) == row)
            .map(|row| gallery.source_of(row).to_owned())
            .collect();
        let hint = match variation_of(image) {
            Some((of, _)) if theirs.iter().any(|source| names::composed(source) == of) => {
                format!("; this is a variation and goes with its image {of:?}")
            }
            _ => similar(&theirs, image),
        };
        bail!("there is no image {image:?}{hint}");
    }
    Ok(left)
}

/// The gallery with a person renamed. To take the name of an existing person, set `into_existing`.
pub fn rename(gallery: &Gallery, old: &str, new: &str, into_existing: bool) -> Result<Gallery> {
    expect_person(gallery, old)?;
    let new = &*names::checked(new).map_err(Error::msg)?;
    let old = &*names::normal(old);
    ensure!(old != new, "the name is {old:?} already");
    if into_existing {
        expect_person(gallery, new)?;
    } else if gallery.people().iter().any(|p| p == new) {
        bail!("somebody is called {new:?} already; --into-existing merges the two");
    }
    let mut renamed = empty_like(gallery);
    for row in 0..gallery.len() {
        let person = match name(gallery, row) {
            person if person == old => new,
            person => person,
        };
        push(&mut renamed, gallery, row, person)?;
    }
    Ok(renamed)
}

/// The result for one of the merged galleries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Rows that were copied.
    pub rows: usize,
    /// Rows of images that were already there.
    pub duplicates: usize,
}

/// Merges all galleries into one. People with the same name become one person. An image that its
/// person already has, with the same numbers, is dropped with its variations. All galleries must
/// have the same model.
pub fn merge(galleries: &[Gallery]) -> Result<(Gallery, Vec<Merged>)> {
    let first = galleries.first().context("nothing to merge")?;
    let mut all = empty_like(first);
    // Images in `all`, by a hash of person and numbers.
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    let state = RandomState::new();
    let mut counts = Vec::new();
    for gallery in galleries {
        for (key, value) in &gallery.notes {
            let note = all.notes.entry(key.clone());
            note.or_insert_with(|| value.clone());
        }
        all.add_strangers_of(gallery);
        let mut merged = Merged::default();
        let mut dropped = HashSet::new();
        for row in 0..gallery.len() {
            let (person, numbers) = (name(gallery, row), gallery.embedding(row));
            let image = gallery.image_of(row);
            if image == row {
                let bits: Vec<u32> = numbers.iter().map(|v| v.to_bits()).collect();
                let images = known.entry(state.hash_one((person, bits))).or_default();
                let is_same =
                    |&other: &usize| all.embedding(other) == numbers && name(&all, other) == person;
                if images.iter().any(is_same) {
                    dropped.insert(row);
                } else {
                    images.push(all.len());
                }
            }
            if dropped.contains(&image) {
                merged.duplicates += 1;
            } else {
                push(&mut all, gallery, row, person)?;
                merged.rows += 1;
            }
        }
        counts.push(merged);
    }
    Ok((all, counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelId;

    fn gallery(rows: &[(&str, &str, f32)]) -> Gallery {
        let model = ModelId {
            name: "m".into(),
            sha256: "00".into(),
        };
        let mut gallery = Gallery::new(model, 2);
        for &(person, source, degrees) in rows {
            let (y, x) = degrees.to_radians().sin_cos();
            let added = add_image(&mut gallery, person, source, &[[x, y]]);
            assert_eq!(added, Some(1));
        }
        gallery
    }

    fn party() -> Gallery {
        gallery(&[
            ("Ann", "Ann/1.jpg", 0.0),
            ("Ann", "Ann/1.jpg#1", 1.0),
            ("Bob", "Bob/1.jpg", 50.0),
            ("Ann", "Ann/2.jpg", 9.0),
            ("Anna", "Anna/1.jpg", 80.0),
        ])
    }

    fn sources_of(gallery: &Gallery) -> Vec<(String, String)> {
        let rows = gallery.rows().into_iter();
        rows.map(|row| (row.person, row.source)).collect()
    }

    fn error<T>(result: Result<T>) -> String {
        result.err().expect("refused").to_string()
    }

    #[test]
    fn an_image_is_added_with_its_variations() {
        let mut gallery = party();
        let rows = [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]];
        assert_eq!(add_image(&mut gallery, "Eve", "x", &rows), Some(2));
        let last = &sources_of(&gallery)[5..];
        let eve = |source: &str| ("Eve".to_owned(), source.to_owned());
        assert_eq!(last, [eve("x"), eve("x#2")]);
        assert_eq!(gallery.images_of(3), 1);
        assert_eq!(
            add_image(&mut gallery, "Eve", "y", &[[0.0, 0.0], [1.0, 1.0]]),
            None
        );
        assert_eq!(add_image::<[f32; 2]>(&mut gallery, "Eve", "y", &[]), None);
        assert_eq!(gallery.len(), 7);
        assert_eq!(find(&gallery, "Eve", &[0.0, 9.0]).as_deref(), Some("x"));
        assert_eq!(find(&gallery, "Ann", &[0.0, 9.0]), None);
        assert_eq!(find(&gallery, "Eve", &[0.0, 0.0]), None);
        assert_eq!(distance(&[f32::NAN, 0.0], &[1.0, 0.0]), 2.0);
    }

    #[test]
    fn sources_that_are_taken_are_numbered() {
        let mut taken = sources(&party(), "Ann");
        assert_eq!(free_source(&mut taken, "Ann/1.jpg"), "Ann/1 (2).jpg");
        assert_eq!(free_source(&mut taken, "Ann/1.jpg"), "Ann/1 (3).jpg");
        assert_eq!(free_source(&mut taken, "a.b/c"), "a.b/c");
        assert_eq!(free_source(&mut taken, "a.b/c"), "a.b/c (2)");
    }

    #[test]
    fn an_unknown_name_lists_similar_ones() {
        let text = error(expect_person(&party(), "ann"));
        assert!(text.ends_with(r#"similar: "Ann", "Anna""#), "{text}");
        let text = error(expect_person(&party(), "Bobb"));
        assert!(text.ends_with(r#"similar: "Bob""#), "{text}");
        let text = error(expect_person(&party(), "Zacharias"));
        assert!(text.contains("gallery list"), "{text}");
        assert!(error(expect_person(&party(), "")).contains("gallery list"));
    }

    #[test]
    fn people_and_images_are_removed() {
        let all = |names: &[&str]| -> Vec<String> { names.iter().map(|n| n.to_string()).collect() };
        let left = remove(&party(), &all(&["Ann", "Anna"]), &[]).expect("known");
        assert_eq!(left.people(), ["Bob"]);
        let left = remove(&party(), &all(&["Ann"]), &all(&["Ann/1.jpg"])).expect("known");
        assert_eq!(left.people(), ["Bob", "Ann", "Anna"]);
        assert_eq!((left.len(), left.images_of(1)), (3, 1));
        let text = error(remove(&party(), &all(&["Ann"]), &all(&["Ann/1.jpg#1"])));
        assert!(text.contains("goes with its image \"Ann/1.jpg\""), "{text}");
        let text = error(remove(
            &party(),
            &all(&["Ann"]),
            &all(&["Bob/1.jpg", "1.jpg"]),
        ));
        assert!(
            text.contains("no image \"1.jpg\"; similar: \"Ann/1.jpg\""),
            "{text}"
        );
        assert!(error(remove(&party(), &all(&["Eve"]), &[])).contains("Eve"));
        let nobody = remove(&party(), &all(&["Ann", "Anna", "Bob"]), &[]).expect("known");
        assert!(nobody.is_empty());
    }

    #[test]
    fn renaming_joins_two_people_only_if_asked() {
        let renamed = rename(&party(), "Bob", "Robert", false).expect("free");
        assert_eq!(renamed.people(), ["Ann", "Robert", "Anna"]);
        assert!(error(rename(&party(), "Anna", "Ann", false)).contains("--into-existing"));
        let joined = rename(&party(), "Anna", "Ann", true).expect("joined");
        assert_eq!(
            (
                joined.people().len(),
                joined.rows_of(0),
                joined.images_of(0)
            ),
            (2, 4, 3)
        );
        for (old, new, join) in [
            ("Eve", "x", false),
            ("Ann", "x", true),
            ("Ann", "Ann", true),
        ] {
            assert!(rename(&party(), old, new, join).is_err());
        }
        assert!(rename(&party(), "Ann", " ", false).is_err());
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        let (composed, decomposed) = ("Jos\u{e9}", "Jose\u{301}");
        let all = gallery(&[
            (decomposed, "Jose\u{301}/1.jpg", 0.0),
            (composed, "2.jpg", 9.0),
            ("Ann", "1.jpg", 50.0),
        ]);
        assert_eq!((all.people().len(), all.rows_of(0)), (2, 2), "one person");
        assert_eq!(all.people()[0], composed);
        for name in [composed, decomposed] {
            assert!(expect_person(&all, name).is_ok());
            assert_eq!(sources(&all, name).len(), 2);
            assert!(find(&all, name, &[1.0, 0.0]).is_some());
            assert_eq!(
                remove(&all, &[name.into()], &[]).expect("known").people(),
                ["Ann"]
            );
            let image = format!("{name}/1.jpg");
            let left = remove(&all, &[name.into()], &[image]).expect("known");
            assert_eq!(left.len(), 2);
            let renamed = rename(&all, name, "Pepe", false).expect("known");
            assert_eq!(renamed.people(), ["Pepe", "Ann"]);
            assert!(error(rename(&all, "Ann", name, false)).contains("already"));
        }
        assert!(error(rename(&all, composed, decomposed, false)).contains("already"));
    }

    #[test]
    fn merging_drops_what_is_there_twice() {
        let other = gallery(&[
            ("Ann", "holiday.jpg", 0.0),
            ("Ann", "holiday.jpg#1", 2.0),
            ("Bob", "Ann/1.jpg", 0.0),
            ("Eve", "Eve/1.jpg", 30.0),
        ]);
        let (all, counts) = merge(&[party(), other]).expect("one model");
        let merged = |rows, duplicates| Merged { rows, duplicates };
        assert_eq!(counts, [merged(5, 0), merged(2, 2)]);
        assert_eq!(all.people(), ["Ann", "Bob", "Anna", "Eve"]);
        assert_eq!(
            all.embedding(5),
            party().embedding(0),
            "Bob's row is a different one"
        );
        assert!(merge(&[]).is_err());
    }
}
