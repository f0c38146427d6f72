//! `facepipe enroll --camera`: a face that a running `facepipe live` sees, into its gallery.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use face_core::names;
use gstfacerecog::gallery::Gallery;

use super::{PersonReport, Report, recognition_model};
use crate::gallery::{self, edit};
use crate::live::config::{Config, default_state_folder};
use crate::live::control::{self, Answer, Request};
use crate::live::recent::Listed;
use crate::lock::FileLock;
use crate::output::Output;
use crate::{Outcome, output, ui};

/// Tracks that an error lists.
const MOST_LISTED: usize = 10;

/// Who is to be enrolled from where.
pub struct Sighting<'a> {
    pub camera: &'a str,
    pub track: u64,
    pub person: &'a str,
    pub config: Option<&'a Path>,
    /// `None`: the gallery of the camera.
    pub output: Option<&'a Path>,
    pub model: &'a str,
    pub json: bool,
}

pub fn run(sighting: &Sighting) -> Result<Outcome> {
    let person = sighting.person.trim();
    names::check(person).map_err(|error| anyhow!("--person: {error}"))?;
    let state = match sighting.config {
        Some(path) => Config::read(path)?.state_folder()?,
        None => default_state_folder()?,
    };
    let (camera, track) = (sighting.camera, sighting.track);
    let request = Request::Embeddings {
        camera: camera.into(),
        track,
    };
    let (found, path): (_, PathBuf) = match control::ask(&state, &request)? {
        Answer::Embeddings {
            embeddings,
            gallery,
        } => {
            let path = sighting.output.map(Path::to_owned).or(gallery);
            let path = path.with_context(|| {
                format!("the camera `{camera}` has no gallery; name one to write by -o")
            })?;
            (embeddings, path)
        }
        Answer::NoCamera { cameras } => bail!(
            "there is no camera `{camera}`; there are: {}",
            cameras.join(", ")
        ),
        Answer::NoTrack { tracks } => bail!(
            "the camera `{camera}` has seen no track {track} of late; {}",
            known(&tracks)
        ),
        Answer::Refused { reason } => bail!("`facepipe live` does not understand: {reason}"),
        Answer::Forgotten(_) => bail!("`facepipe live` answers something else"),
    };
    output::check_folder(&path)?;
    let (model, dimensions) = recognition_model(sighting.model)?;
    ensure!(
        model.name == found.model,
        "the track was embedded by the model `{}`, not `{}`; name it by --model",
        found.model,
        model.name
    );
    let _lock = FileLock::take(&path)?;
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
        "{} holds track {track} of `{camera}` as {person:?} already; nothing was written",
        path.display()
    );
    let output = Output::private(&path)?;
    let place = ui::Place::beside(&output, sighting.json)?;
    let name = gallery::save(&gallery, output)?;
    let counts = PersonReport {
        person: person.into(),
        images: found.rows.len(),
        used: rows,
        left_out: found.rows.len() - rows,
        rows,
    };
    let report = Report {
        gallery: Some(name),
        model: model.name,
        images: counts.images,
        used: counts.used,
        rows,
        people: vec![counts],
        left_out: Vec::new(),
    };
    report.print(sighting.json, place)?;
    Ok(Outcome::Done)
}

/// Which tracks there are.
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
        [] => "it has seen none that could be enrolled".into(),
        listed => format!("the last ones are {}", listed.join(", ")),
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
