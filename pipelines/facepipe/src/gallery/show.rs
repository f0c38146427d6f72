//! Formats the output of the commands as text or JSON.

use std::path::{Path, PathBuf};

use anyhow::Result;
use face_gallery::Gallery;
use serde::Serialize;

use face_gallery::edit::Merged;
use face_gallery::verify::{Findings, Limits};
use face_parts::ui;

fn print<T: Serialize>(value: &T, json: bool, text: impl Fn(&T) -> String) -> Result<()> {
    ui::print(&readable(value, json, text)?)
}

fn readable<T: Serialize>(value: &T, json: bool, text: impl Fn(&T) -> String) -> Result<String> {
    Ok(match json {
        true => serde_json::to_string_pretty(value)? + "\n",
        false => text(value),
    })
}

fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn images(gallery: &Gallery) -> usize {
    let people = 0..gallery.people().len();
    people.map(|person| gallery.images_of(person)).sum()
}

/// `gallery info`.
#[derive(Serialize)]
pub struct Info<'a> {
    file: String,
    model: &'a str,
    model_sha256: &'a str,
    dimensions: usize,
    people: usize,
    images: usize,
    rows: usize,
    /// Faces that are not to be named.
    strangers: usize,
    bytes: u64,
}

impl<'a> Info<'a> {
    pub fn new(file: &Path, bytes: u64, gallery: &'a Gallery) -> Self {
        Self {
            file: file.display().to_string(),
            model: &gallery.model.name,
            model_sha256: &gallery.model.sha256,
            dimensions: gallery.dimensions(),
            people: gallery.people().len(),
            images: images(gallery),
            rows: gallery.len(),
            strangers: gallery.strangers().len(),
            bytes,
        }
    }

    pub fn print(&self, json: bool) -> Result<()> {
        print(self, json, |info| {
            format!(
                "file        {}\nmodel       {}\nsha256      {}\ndimensions  {}\npeople      {}\n\
                 images      {}\nrows        {}\nstrangers   {}\nsize        {}\n",
                info.file,
                info.model,
                info.model_sha256,
                info.dimensions,
                info.people,
                info.images,
                info.rows,
                info.strangers,
                bytes(info.bytes)
            )
        })
    }
}

/// `12.3 MiB`.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// `gallery list`.
#[derive(Serialize)]
pub struct List {
    people: Vec<Listed>,
    /// The sources of the faces that are not to be named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    strangers: Vec<String>,
}

#[derive(Serialize)]
struct Listed {
    person: String,
    rows: usize,
    images: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    source: String,
    rows: usize,
    #[serde(skip)]
    first: usize,
}

impl List {
    pub fn new(gallery: &Gallery) -> Self {
        let listed = |(person, name): (usize, &String)| Listed {
            person: name.clone(),
            rows: gallery.rows_of(person),
            images: Vec::new(),
        };
        let mut people: Vec<Listed> = gallery.people().iter().enumerate().map(listed).collect();
        for row in 0..gallery.len() {
            let images = &mut people[gallery.person_of(row)].images;
            let first = gallery.image_of(row);
            // The rows of an image are mostly adjacent.
            match images.iter_mut().rev().find(|image| image.first <= first) {
                Some(image) if image.first == first => image.rows += 1,
                _ => images.push(Image {
                    source: gallery.source_of(row).to_owned(),
                    rows: 1,
                    first,
                }),
            }
        }
        people.sort_by(|a, b| a.person.cmp(&b.person));
        let strangers = gallery.strangers().to_vec();
        Self { people, strangers }
    }

    pub fn print(&self, json: bool) -> Result<()> {
        print(self, json, |list| {
            let mut text = String::new();
            for person in &list.people {
                let images = ui::count(person.images.len() as u64, "image");
                let rows = ui::count(person.rows as u64, "row");
                text += &format!("{}: {images}, {rows}\n", ui::printable(&person.person));
                for image in &person.images {
                    text += &match image.rows {
                        1 => format!("  {}\n", ui::printable(&image.source)),
                        n => format!("  {} and {}\n", ui::printable(&image.source), {
                            ui::count(n as u64 - 1, "variation")
                        }),
                    };
                }
            }
            if !list.strangers.is_empty() {
                let faces = ui::count(list.strangers.len() as u64, "face");
                text += &format!("\nnot to be named: {faces}\n");
                for source in &list.strangers {
                    text += &format!("  {}\n", ui::printable(source));
                }
            }
            text
        })
    }
}

/// `gallery merge`.
#[derive(Serialize)]
pub struct Merge {
    gallery: String,
    people: usize,
    rows: usize,
    duplicates: usize,
    inputs: Vec<Input>,
}

#[derive(Serialize)]
struct Input {
    file: String,
    people: usize,
    rows: usize,
    duplicates: usize,
}

impl Merge {
    pub fn new(
        files: &[PathBuf],
        galleries: &[Gallery],
        counts: &[Merged],
        gallery: String,
        all: &Gallery,
    ) -> Self {
        let inputs = files.iter().zip(galleries).zip(counts);
        Self {
            gallery,
            people: all.people().len(),
            rows: all.len(),
            duplicates: counts.iter().map(|count| count.duplicates).sum(),
            inputs: inputs
                .map(|((file, gallery), count)| Input {
                    file: file.display().to_string(),
                    people: gallery.people().len(),
                    rows: count.rows,
                    duplicates: count.duplicates,
                })
                .collect(),
        }
    }

    pub fn print(&self, json: bool, place: ui::Place) -> Result<()> {
        place.print(&readable(self, json, |merge| {
            let line = |name: &str, people: usize, rows: usize, duplicates: usize| {
                let numbers = [people, rows, duplicates].map(|n| n.to_string());
                [&[name.to_owned()], &numbers[..]].concat()
            };
            let mut lines = vec![strings(["gallery", "people", "rows taken", "duplicates"])];
            let inputs = merge.inputs.iter();
            lines.extend(inputs.map(|i| line(&i.file, i.people, i.rows, i.duplicates)));
            lines.push(line(
                &merge.gallery,
                merge.people,
                merge.rows,
                merge.duplicates,
            ));
            ui::table(&lines)
        })?)
    }
}

/// `gallery verify`.
pub fn verified(findings: &Findings, limits: Limits, gallery: &Gallery, json: bool) -> Result<()> {
    print(findings, json, |findings| {
        let mut text = String::new();
        section(
            &mut text,
            "people who look alike, and the cosine distance of their nearest rows",
            findings.alike.iter().map(|alike| {
                let [a, b] = &alike.people;
                let [c, d] = &alike.sources;
                format!(
                    "{a} and {b}: {:.3}, {:.0} % of the threshold {} ({c}, {d})",
                    alike.distance,
                    100.0 * alike.of_threshold,
                    limits.threshold
                )
            }),
        );
        section(
            &mut text,
            "images that are probably mislabelled",
            findings.mislabelled.iter().map(|image| {
                format!(
                    "{} of {}: {:.3} to {} ({}), {:.3} to the nearest of its own person",
                    image.source,
                    image.person,
                    image.distance,
                    image.nearest_person,
                    image.nearest_source,
                    image.own_distance,
                )
            }),
        );
        section(
            &mut text,
            "images that occur twice",
            findings.duplicates.iter().map(|duplicate| {
                let [a, b] = &duplicate.people;
                let [c, d] = &duplicate.sources;
                format!("{c} of {a}, {d} of {b}")
            }),
        );
        section(
            &mut text,
            &format!(
                "people with too few images, {} or more are recommended",
                limits.images
            ),
            findings
                .few_images
                .iter()
                .map(|few| format!("{}: {}", few.person, ui::count(few.images as u64, "image"))),
        );
        let what = match findings.count() as u64 {
            0 => "no problems".to_owned(),
            count => ui::count(count, "finding"),
        };
        let people = ui::count(gallery.people().len() as u64, "person");
        let images = ui::count(images(gallery) as u64, "image");
        text + &format!("{what} in {people}, {images}\n")
    })
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (i, line) in lines.enumerate() {
        if i == 0 {
            *text += &format!("{title}:\n");
        }
        *text += &format!("  {line}\n");
    }
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_their_units() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(34 << 20), "34.0 MiB");
    }

    #[test]
    fn sections_without_lines_are_left_out() {
        let mut text = String::new();
        section(&mut text, "a", std::iter::empty());
        section(&mut text, "b", ["x".to_owned()].into_iter());
        section(&mut text, "c", std::iter::empty());
        section(&mut text, "d", ["y".to_owned()].into_iter());
        assert_eq!(text, "b:\n  x\n\nd:\n  y\n\n");
    }
}
