//! Adds a face that a running `facepipe live` sees to its gallery.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use face_gallery::{Gallery, ModelId, edit};
use face_live::config::{Config, default_state_folder};
use face_live::control::{self, Answer, Request};
use face_live::recent::{Embeddings, Listed};
use face_meta::names;
use face_parts::lock::FileLock;
use face_parts::output;

use super::{EnrolledPerson, Enrolment, GrownGallery};
use crate::gallery;

/// The limit of tracks listed in an error.
const MOST_LISTED: usize = 10;

/// Whom to enroll, and from where.
pub struct Sighting<'a> {
    pub camera: &'a str,
    pub track: u64,
    pub person: &'a str,
    pub config: Option<&'a Path>,
    /// `None` means the camera's gallery.
    pub output: Option<&'a Path>,
    pub model: &'a str,
}

/// Adds the embeddings of a track to a gallery, which is created if it does not exist.
pub fn add_sighting(sighting: &Sighting) -> Result<GrownGallery> {
    let person = names::checked(sighting.person.trim());
    let person = &*person.map_err(|error| anyhow!("--person: {error}"))?;
    let (camera, track) = (sighting.camera, sighting.track);
    let (found, gallery) = embeddings_of(camera, track, sighting.config)?;
    let path = sighting.output.map(Path::to_owned).or(gallery);
    let path = path.with_context(|| {
        format!("the camera `{camera}` has no gallery; name one to write with -o")
    })?;
    output::check_folder(&path)?;
    let (model, dimensions) = ModelId::of(sighting.model)?;
    ensure!(
        model.name == found.model,
        "the track was embedded by the model `{}`, not `{}`; name it with --model",
        found.model,
        model.name
    );
    let lock = FileLock::take(&path)?;
    let mut gallery = match gallery::is_there(&path)? {
        true => Gallery::read(&path)?,
        false => Gallery::new(model.clone(), dimensions),
    };
    ensure!(
        gallery.model.sha256 == model.sha256,
        "{} was made by the model {}, the track is embedded by {}: they cannot be compared",
        path.display(),
        gallery::model(&gallery.model),
        gallery::model(&model)
    );
    let mut taken = edit::sources(&gallery, person);
    let mut rows = 0;
    for row in &found.rows {
        if edit::find(&gallery, person, row).is_none() {
            let source = edit::free_source(&mut taken, &format!("{camera} track {track}"));
            rows += edit::add_image(&mut gallery, person, &source, &[row]).unwrap_or(0);
        }
    }
    ensure!(
        rows > 0,
        "{} already contains track {track} of `{camera}` as {person:?}; nothing was written",
        path.display()
    );
    let counts = EnrolledPerson {
        person: person.into(),
        images: found.rows.len(),
        used: rows,
        left_out: found.rows.len() - rows,
        rows,
    };
    let enrolment = Enrolment {
        gallery: None,
        model: model.name,
        images: counts.images,
        used: counts.used,
        rows,
        people: vec![counts],
        left_out: Vec::new(),
        remarks: Vec::new(),
    };
    Ok(GrownGallery {
        path,
        gallery,
        enrolment,
        locks: vec![lock],
    })
}

/// Asks the running `facepipe live` for the embeddings of a track, and for the camera's gallery.
pub(super) fn embeddings_of(
    camera: &str,
    track: u64,
    config: Option<&Path>,
) -> Result<(Embeddings, Option<PathBuf>)> {
    let state = match config {
        Some(path) => Config::read(path)?.state_folder()?,
        None => default_state_folder()?,
    };
    let request = Request::Embeddings {
        camera: camera.into(),
        track,
    };
    match control::ask(&state, &request)? {
        Answer::Embeddings {
            embeddings,
            gallery,
        } => Ok((embeddings, gallery)),
        Answer::NoCamera { cameras } => bail!(
            "there is no camera `{camera}`; the available ones are: {}",
            cameras.join(", ")
        ),
        Answer::NoTrack { tracks } => bail!(
            "the camera `{camera}` has not seen track {track} recently; {}",
            known(&tracks)
        ),
        Answer::Refused { reason } => {
            bail!("`facepipe live` does not understand the request: {reason}")
        }
        _ => bail!("`facepipe live` gave an unexpected answer"),
    }
}

/// Lists the available tracks.
fn known(tracks: &[Listed]) -> String {
    let listed: Vec<String> = tracks
        .iter()
        .take(MOST_LISTED)
        .map(|t| {
            let name = t.name.as_deref().unwrap_or("no name");
            format!("{} ({name}, {:.0} s ago)", t.track, t.seconds_ago)
        })
        .collect();
    match listed.as_slice() {
        [] => "it has seen none that can be enrolled".into(),
        listed => format!("the latest are {}", listed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_are_listed_with_name_and_age() {
        assert!(known(&[]).contains("none"));
        let tracks: Vec<_> = (0..20)
            .map(|track| Listed {
                track,
                name: (track == 0).then(|| "Ann".into()),
                embeddings: 1,
                seconds_ago: track as f64,
            })
            .collect();
        let text = known(&tracks);
        assert!(
            text.contains("0 (Ann, 0 s ago), 1 (no name, 1 s ago)"),
            "{text}"
        );
        assert!(!text.contains("10 ("), "{text}");
    }
}
