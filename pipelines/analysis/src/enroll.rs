//! Turns photos of people into embeddings in a gallery.

mod augment;
mod camera;
mod convert;
pub mod folders;
mod grown;
mod images;
mod look;
mod poor;
mod returning;
mod strangers;
mod turn;
mod unnamed;
mod variations;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use face_gallery::{Gallery, edit};
use face_parts::interrupt;
use face_parts::ui::{self, Progress};
use serde::Serialize;

pub use face_live::strangers::Listed;

pub use camera::{Sighting, add_sighting};
pub use convert::Conversion;
pub use folders::{collect_photos, visible_entries};
pub use grown::GrownGallery;
pub use images::read_image;
pub use look::{Embedded, Embedder, Options, Reason};
pub use returning::{
    NamedStranger, NamedStrangers, StrangerNames, add_live_strangers, live_strangers,
};
pub use strangers::{Naming, add_strangers};
pub use unnamed::{UnnamedTrack, add_unnamed};

/// A person and their photos, in order.
pub struct Person {
    pub name: String,
    pub photos: Vec<Photo>,
}

/// A photo and its name in the gallery.
pub struct Photo {
    pub path: PathBuf,
    pub source: String,
}

/// The outcome for one person's photos.
#[derive(Default, Serialize)]
pub struct EnrolledPerson {
    pub person: String,
    pub images: usize,
    /// Images whose face is in the gallery.
    pub used: usize,
    pub left_out: usize,
    /// The gallery rows made from them.
    pub rows: usize,
}

/// A photo that is not in the gallery.
#[derive(Serialize)]
pub struct LeftOut {
    pub person: String,
    pub source: String,
    pub reason: String,
}

/// What is worth knowing about a photo that is in the gallery.
#[derive(Serialize)]
pub struct Remark {
    pub person: String,
    pub source: String,
    /// By how many degrees clockwise the photo was turned, which its file does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turned: Option<u32>,
    pub remark: String,
}

/// The table at the end.
#[derive(Serialize)]
pub struct Enrolment {
    /// `None` if nothing was written.
    pub gallery: Option<String>,
    pub model: String,
    pub images: usize,
    pub used: usize,
    pub rows: usize,
    pub people: Vec<EnrolledPerson>,
    pub left_out: Vec<LeftOut>,
    pub remarks: Vec<Remark>,
}

/// How to treat photos that the gallery already contains, and photos whose name is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    /// Adds every photo, without looking at names.
    Add,
    /// Leaves out photos that the gallery contains. A different photo with a taken name gets a new
    /// name.
    LeaveOut,
}

/// The result of a photo.
type PhotoRows = Result<Embedded, Reason>;

/// A person, with the name and the result of each photo.
pub struct Looked {
    pub person: String,
    pub photos: Vec<(String, PhotoRows)>,
}

/// Processes all photos. `None` if Ctrl-C came in between.
pub fn look(
    task: &'static str,
    people: Vec<Person>,
    embedder: &mut Embedder,
) -> Result<Option<Vec<Looked>>> {
    let paths = people.iter().flat_map(|p| &p.photos);
    let paths: Vec<PathBuf> = paths.map(|photo| photo.path.clone()).collect();
    let total = paths.len() as u64;
    let mut progress = Progress::new(task, Some(total));
    let begin = Instant::now();
    let images = images::read_ahead(paths);
    let mut done = 0;
    let mut all = Vec::with_capacity(people.len());
    for person in people {
        let mut photos = Vec::with_capacity(person.photos.len());
        for photo in person.photos {
            let left = ui::steps_left(done, total, begin.elapsed());
            progress.update(done, &format!("{left}, {}", photo.source));
            if interrupt::requested() {
                return Ok(None);
            }
            let image = images
                .recv()
                .context("the thread that reads photos ended early")?;
            let looked = embedder
                .embeddings(image)
                .with_context(|| format!("{}", photo.path.display()))?;
            photos.push((photo.source, looked));
            done += 1;
        }
        all.push(Looked {
            person: person.name,
            photos,
        });
    }
    Ok(Some(all))
}

/// Adds the results to a gallery.
pub fn add(all: Vec<Looked>, gallery: &mut Gallery, twice: Twice) -> Enrolment {
    let mut report = Enrolment {
        gallery: None,
        model: gallery.model.name.clone(),
        images: all.iter().map(|looked| looked.photos.len()).sum(),
        used: 0,
        rows: 0,
        people: Vec::new(),
        left_out: Vec::new(),
        remarks: Vec::new(),
    };
    for Looked { person, photos } in all {
        let mut counts = EnrolledPerson {
            images: photos.len(),
            ..Default::default()
        };
        let mut taken = match twice {
            Twice::Add => None,
            Twice::LeaveOut => Some(edit::sources(gallery, &person)),
        };
        for (wanted, looked) in photos {
            let source = match &mut taken {
                None => wanted.clone(),
                Some(taken) => edit::free_source(taken, &wanted),
            };
            let added = looked.and_then(|embedded| {
                let known = match twice {
                    Twice::Add => None,
                    Twice::LeaveOut => {
                        let first = &embedded.rows[0];
                        let same = edit::has_picture(gallery, &person, &wanted, first);
                        edit::find(gallery, &person, first).or(same.then_some(wanted))
                    }
                };
                match known {
                    Some(source) => Err(Reason::Known(source)),
                    None => edit::add_image(gallery, &person, &source, &embedded.rows)
                        .map(|rows| (rows, embedded))
                        .ok_or(Reason::NoEmbedding),
                }
            });
            match added {
                Ok((rows, embedded)) => {
                    counts.used += 1;
                    counts.rows += rows;
                    report.remarks.extend(remarks(&person, &source, &embedded));
                }
                Err(reason) => report.left_out.push(LeftOut {
                    person: person.clone(),
                    source,
                    reason: reason.to_string(),
                }),
            }
        }
        counts.left_out = counts.images - counts.used;
        counts.person = person;
        report.used += counts.used;
        report.rows += counts.rows;
        report.people.push(counts);
    }
    report
}

impl Enrolment {
    /// Adds images that were not even looked at.
    pub fn leave_out(&mut self, images: Vec<LeftOut>) {
        for image in images {
            self.images += 1;
            let mut people = self.people.iter_mut();
            if let Some(person) = people.find(|person| person.person == image.person) {
                person.images += 1;
                person.left_out += 1;
            }
            self.left_out.push(image);
        }
    }
}

/// What to say about a photo.
fn remarks(person: &str, source: &str, embedded: &Embedded) -> Vec<Remark> {
    let remark = |turned, remark| Remark {
        person: person.to_owned(),
        source: source.to_owned(),
        turned,
        remark,
    };
    let turned = Some(embedded.turned).filter(|degrees| *degrees > 0);
    let turned = turned.map(|degrees| {
        let text = format!("turned by {degrees}°, which the file does not say");
        remark(Some(degrees), text)
    });
    let notes = embedded.notes.iter().map(|note| remark(None, note.clone()));
    let poor = (!embedded.poor.is_empty()).then(|| {
        let text = format!("a poor photo: {}", embedded.poor.join(", "));
        remark(None, text)
    });
    turned.into_iter().chain(notes).chain(poor).collect()
}
