//! Adds faces that are not to be named: of photos, and of tracks that were taken for somebody.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use face_gallery::evidence::{Embedded, Mean};
use face_gallery::{Gallery, ModelId, edit};

use super::camera::embeddings_of;
use super::{EnrolledPerson, Enrolment, LeftOut, Looked, Reason};
use crate::cluster::Embeddings;
use crate::gallery as galleries;

/// How reports call them.
pub(super) const STRANGERS: &str = "strangers";

/// A track whose person is not to be named.
pub struct UnnamedTrack {
    /// Where it was seen, as its row's source says.
    source: String,
    model: ModelId,
    /// The mean of its embeddings: one row per track, however long it is.
    embedding: Vec<f32>,
}

impl UnnamedTrack {
    /// A track in the results of an input.
    pub fn of_result(folder: &Path, track: u64) -> Result<Self> {
        let input = Embeddings::read(folder)?;
        let name = folder.display();
        let rows = input.rows.get(&track).with_context(|| {
            let known: Vec<String> = input.rows.keys().take(20).map(u64::to_string).collect();
            match known.is_empty() {
                true => format!("{name} has no track with an embedding"),
                false => format!(
                    "{name} has no track {track} with an embedding; it has {}{}",
                    known.join(", "),
                    if input.rows.len() > known.len() {
                        ", …"
                    } else {
                        ""
                    }
                ),
            }
        })?;
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        Self::new(
            &format!("{folder} track {track}"),
            input.model.clone(),
            rows,
        )
    }

    /// A track that a camera of a running `facepipe live` saw in the last minutes. `model` is the one
    /// that the camera should use.
    pub fn of_camera(
        camera: &str,
        track: u64,
        config: Option<&Path>,
        model: &ModelId,
    ) -> Result<Self> {
        let (found, _) = embeddings_of(camera, track, config)?;
        ensure!(
            model.name == found.model,
            "the track was embedded by the model `{}`, the gallery by `{}`: they cannot be compared",
            found.model,
            model.name
        );
        Self::new(
            &format!("{camera} track {track}"),
            model.clone(),
            &found.rows,
        )
    }

    fn new(source: &str, model: ModelId, rows: &[Vec<f32>]) -> Result<Self> {
        let rows: Vec<Embedded> = rows
            .iter()
            .map(|row| Embedded {
                embedding: row.as_slice().into(),
                weight: 1.0,
            })
            .collect();
        let embedding = Mean::of(&rows).unit();
        Ok(Self {
            source: source.to_owned(),
            model,
            embedding: embedding.with_context(|| format!("{source} has no embedding"))?,
        })
    }

    /// Adds it to a gallery. Fails if it is there already.
    pub fn add_to(self, gallery: &mut Gallery) -> Result<Enrolment> {
        let Self {
            source,
            model,
            embedding,
        } = self;
        ensure!(
            gallery.model.sha256 == model.sha256,
            "the gallery was made by the model {}, the track is embedded by {}: they cannot be compared",
            galleries::model(&gallery.model),
            galleries::model(&model)
        );
        let mut report = empty(gallery);
        match add(gallery, &source, &embedding) {
            Ok(()) => report.used = 1,
            Err(reason) => report.left_out.push(left_out(source, &reason)),
        }
        Ok(finish(report, 1))
    }
}

/// Adds the faces of photos. Variations are left out: a face that is not to be named needs no help to
/// be found.
pub fn add_unnamed(all: Vec<Looked>, gallery: &mut Gallery) -> Enrolment {
    let mut report = empty(gallery);
    let mut images = 0;
    for (source, looked) in all.into_iter().flat_map(|looked| looked.photos) {
        images += 1;
        let added = looked.and_then(|embedded| {
            let first = &embedded.rows[0];
            match edit::picture_of(gallery, first) {
                Some((person, theirs)) => Err(Reason::Named(person.into(), theirs.into())),
                None => add(gallery, &source, first),
            }
        });
        match added {
            Ok(()) => report.used += 1,
            Err(reason) => report.left_out.push(left_out(source, &reason)),
        }
    }
    finish(report, images)
}

fn add(gallery: &mut Gallery, source: &str, embedding: &[f32]) -> Result<(), Reason> {
    if gallery.has_stranger(embedding) {
        return Err(Reason::Known("one that is not named".into()));
    }
    // Each can be removed by its source.
    let mut taken = gallery.strangers().iter().cloned().collect();
    match gallery.push_stranger(&edit::free_source(&mut taken, source), embedding) {
        true => Ok(()),
        false => Err(Reason::NoEmbedding),
    }
}

fn left_out(source: String, reason: &Reason) -> LeftOut {
    LeftOut {
        person: STRANGERS.into(),
        source,
        reason: reason.to_string(),
    }
}

fn empty(gallery: &Gallery) -> Enrolment {
    Enrolment {
        gallery: None,
        model: gallery.model.name.clone(),
        images: 0,
        used: 0,
        rows: 0,
        people: Vec::new(),
        left_out: Vec::new(),
        remarks: Vec::new(),
    }
}

fn finish(mut report: Enrolment, images: usize) -> Enrolment {
    report.images = images;
    report.rows = report.used;
    report.people.push(EnrolledPerson {
        person: STRANGERS.into(),
        images,
        used: report.used,
        left_out: images - report.used,
        rows: report.used,
    });
    report
}
