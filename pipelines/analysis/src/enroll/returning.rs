//! Adds strangers whom a running `facepipe live` tells apart to a gallery, and tells it their names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use face_gallery::{Gallery, ModelId, edit};
use face_live::config::{Config, default_state_folder};
use face_live::control::{self, Answer, Request};
use face_live::strangers::{Known, Listed, Visit};
use face_parts::lock::FileLock;
use face_parts::output;

use super::strangers::Naming;
use super::{EnrolledPerson, Enrolment, GrownGallery};
use crate::gallery;

/// The limit of strangers listed in an error.
const MOST_LISTED: usize = 10;

/// Strangers with their names, on the way to a gallery.
pub struct NamedStrangers {
    /// To be written first.
    pub gallery: GrownGallery,
    pub names: StrangerNames,
}

/// What to tell the running program.
pub struct StrangerNames {
    state: PathBuf,
    namings: Vec<Naming>,
}

/// A stranger with a name, and the past that has it now.
pub struct NamedStranger {
    pub stranger: String,
    pub person: String,
    pub visits: Vec<Visit>,
}

/// The state folder of the program that uses a configuration.
fn state_folder(config: Option<&Path>) -> Result<PathBuf> {
    match config {
        Some(path) => Config::read(path)?.state_folder(),
        None => default_state_folder(),
    }
}

/// The strangers whom a running `facepipe live` tells apart, the latest first.
pub fn live_strangers(config: Option<&Path>) -> Result<Vec<Listed>> {
    match control::ask(&state_folder(config)?, &Request::Strangers)? {
        Answer::Strangers { strangers } => Ok(strangers),
        other => bail!(unexpected(other)),
    }
}

/// Adds the best embeddings of strangers to a gallery, which is created if it does not exist. `output`
/// is the gallery; without it, that of the camera that saw the first one last.
pub fn add_live_strangers(
    namings: &[Naming],
    config: Option<&Path>,
    output: Option<&Path>,
) -> Result<NamedStrangers> {
    let state = state_folder(config)?;
    let mut found: Vec<(&Naming, Known)> = Vec::new();
    let mut path = output.map(Path::to_owned);
    for naming in namings {
        let stranger = naming.stranger();
        if let Some((other, _)) = found.iter().find(|(n, _)| n.stranger() == stranger) {
            ensure!(
                other.person() == naming.person(),
                "{stranger} cannot be {:?} and {:?}",
                other.person(),
                naming.person()
            );
            continue;
        }
        let (known, gallery) = embeddings_of(&state, naming.stranger())?;
        if output.is_none() {
            let gallery = gallery.with_context(|| {
                format!(
                    "the camera `{}`, which saw {} last, has no gallery; name one to write with -o",
                    known.camera,
                    naming.stranger()
                )
            })?;
            let first = path.get_or_insert_with(|| gallery.clone());
            ensure!(
                *first == gallery,
                "the strangers belong to different galleries, {} and {}; name one with -o",
                first.display(),
                gallery.display()
            );
        }
        found.push((naming, known));
    }
    let path = path.context("name at least one stranger, such as stranger-12=Anna")?;
    output::check_folder(&path)?;
    let (_, first) = &found[0];
    let model = ModelId {
        name: first.model.clone(),
        sha256: first.model_sha256.clone(),
    };
    let dimensions = first.rows.first().map_or(0, Vec::len);
    let lock = FileLock::take(&path)?;
    let mut gallery = match gallery::is_there(&path)? {
        true => Gallery::read(&path)?,
        false => Gallery::new(model, dimensions),
    };
    let mut people = Vec::new();
    for (naming, known) in &found {
        ensure!(
            gallery.model.sha256 == known.model_sha256,
            "{} was made by the model {}, {} is embedded by {}: they cannot be compared",
            path.display(),
            gallery::model(&gallery.model),
            naming.stranger(),
            known.model
        );
        people.push(add(&mut gallery, naming, known));
    }
    let sum = |count: fn(&EnrolledPerson) -> usize| people.iter().map(count).sum();
    let enrolment = Enrolment {
        gallery: None,
        model: gallery.model.name.clone(),
        images: sum(|p| p.images),
        used: sum(|p| p.used),
        rows: sum(|p| p.rows),
        people,
        left_out: Vec::new(),
        remarks: Vec::new(),
    };
    Ok(NamedStrangers {
        gallery: GrownGallery {
            path,
            gallery,
            enrolment,
            locks: vec![lock],
        },
        names: StrangerNames {
            state,
            namings: found.iter().map(|(naming, _)| (*naming).clone()).collect(),
        },
    })
}

/// Adds the rows that are not there yet.
fn add(gallery: &mut Gallery, naming: &Naming, known: &Known) -> EnrolledPerson {
    let person = naming.person();
    let mut taken = edit::sources(gallery, person);
    let mut rows = 0;
    for (row, source) in known.rows.iter().zip(&known.sources) {
        if edit::find(gallery, person, row).is_none() {
            let source = edit::free_source(&mut taken, source);
            rows += edit::add_image(gallery, person, &source, &[row]).unwrap_or(0);
        }
    }
    EnrolledPerson {
        person: person.to_owned(),
        images: known.rows.len(),
        used: rows,
        left_out: known.rows.len() - rows,
        rows,
    }
}

impl StrangerNames {
    /// Tells the running program the names. It reports them for the strangers' past.
    pub fn tell(&self) -> Result<Vec<NamedStranger>> {
        let tell = |naming: &Naming| {
            let request = Request::NameStranger {
                person: naming.stranger().to_owned(),
                name: naming.person().to_owned(),
            };
            match control::ask(&self.state, &request)? {
                Answer::StrangerNamed { visits } => Ok(NamedStranger {
                    stranger: naming.stranger().to_owned(),
                    person: naming.person().to_owned(),
                    visits,
                }),
                Answer::NoStranger => bail!("`facepipe live` has just forgotten them"),
                other => bail!(unexpected(other)),
            }
        };
        let told = self.namings.iter().map(|naming| {
            tell(naming).with_context(|| {
                format!(
                    "the gallery is written, but events cannot say that {} is {}",
                    naming.stranger(),
                    naming.person()
                )
            })
        });
        told.collect()
    }
}

/// The embeddings of a stranger, and the gallery of the camera that saw them last.
fn embeddings_of(state: &Path, person: &str) -> Result<(Known, Option<PathBuf>)> {
    let request = Request::Stranger {
        person: person.to_owned(),
    };
    match control::ask(state, &request)? {
        Answer::Stranger { known, gallery } => Ok((known, gallery)),
        Answer::NoStranger => {
            let all = match control::ask(state, &Request::Strangers)? {
                Answer::Strangers { strangers } => strangers,
                other => bail!(unexpected(other)),
            };
            bail!("`facepipe live` knows no {person}; {}", known(&all))
        }
        other => bail!(unexpected(other)),
    }
}

/// Lists the latest strangers.
fn known(all: &[Listed]) -> String {
    let latest = all.iter().take(MOST_LISTED);
    let latest: Vec<&str> = latest.map(|listed| listed.person.as_str()).collect();
    match latest.as_slice() {
        [] => "it tells no strangers apart yet".into(),
        latest => format!("the latest are {}", latest.join(", ")),
    }
}

fn unexpected(answer: Answer) -> String {
    match answer {
        Answer::Refused { reason } => {
            format!("`facepipe live` does not understand the request: {reason}")
        }
        _ => "`facepipe live` gave an unexpected answer".into(),
    }
}
