//! Where was this face ever seen: searches the tracks of all analysed films.

mod index;
pub mod page;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use anyhow::{Context, Result};
use face_core::model::Model;
use face_gallery::evidence::{Embedded, Mean};
use face_gallery::vote::Rule;
use face_parts::interrupt;
use serde::Serialize;

use crate::enroll::{self, Embedder};
use crate::record::{self, Summary};

pub use index::{FILE, Shelf, bring_up_to_date};

/// The chance that a search returns somebody else, whom the model takes for the person, from an archive
/// in which the person is not. Higher than for names: whoever searches looks at what is found.
const STRANGER_RATE: f64 = 0.1;

/// A track that may show the person.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// The folder of results, and that of the input in it.
    pub results: PathBuf,
    pub folder: String,
    /// The path or URI of the film.
    pub input: String,
    pub track: u64,
    /// Cosine distance.
    pub distance: f64,
    /// Who the results say it is.
    pub person: Option<String>,
    /// When it is on screen for the first and the last time, as a player shows it, in nanoseconds.
    pub first: u64,
    pub last: u64,
    pub screen_time_ns: u64,
    pub thumbnail: Option<PathBuf>,
}

/// What a search found.
#[derive(Debug, Serialize)]
pub struct Search {
    /// Tracks that were compared.
    pub tracks: usize,
    pub films: usize,
    pub distance_threshold: f64,
    /// Nearest first.
    pub hits: Vec<Hit>,
    /// Whether there are more within the threshold.
    pub more: bool,
    /// Inputs that cannot be read.
    #[serde(skip)]
    pub problems: BTreeSet<String>,
}

/// Who is searched for.
pub struct Query {
    /// The photos that show a face.
    pub photos: Vec<PathBuf>,
    /// The mean of all embeddings, of length 1.
    pub embedding: Vec<f32>,
    /// Photos without one, with the reason.
    pub left_out: Vec<String>,
}

impl Query {
    /// The face on photos of one person. `None` if Ctrl-C came in between.
    ///
    /// # Errors
    /// If no photo shows a face, or the model does not run.
    pub fn of(photos: &[PathBuf], model: &str, options: &enroll::Options) -> Result<Option<Self>> {
        let mut embedder = Embedder::start(options, model)?;
        let mut used = Vec::new();
        let mut left_out = Vec::new();
        let mut mean = Mean::default();
        for photo in photos {
            if interrupt::requested() {
                return Ok(None);
            }
            let picture = face_picture::open(photo).map_err(|error| error.to_string());
            match embedder.embeddings(picture)? {
                Ok(embedded) => {
                    used.push(photo.clone());
                    for row in embedded.rows {
                        mean.add(&Embedded {
                            embedding: row.into(),
                            weight: 1.0,
                        });
                    }
                }
                Err(reason) => left_out.push(format!("left out {}: {reason}", photo.display())),
            }
        }
        let embedding = mean.unit().with_context(|| match left_out.first() {
            Some(reason) => format!("there is no face to search for: {reason}"),
            None => "there is no face to search for".to_owned(),
        })?;
        Ok(Some(Self {
            photos: used,
            embedding,
            left_out,
        }))
    }
}

/// Results of films, ready to be searched.
pub struct Archives {
    shelves: Vec<Shelf>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Archives {
    /// Opens the indexes of folders of results, and adds what was analysed since.
    ///
    /// # Errors
    /// If a folder has no results, or two were analysed with different models.
    pub fn open(folders: &[PathBuf]) -> Result<Self> {
        let mut archives = Self {
            shelves: Vec::new(),
            problems: Vec::new(),
        };
        for folder in &crate::name::distinct(folders)? {
            let shelf = index::open(folder, &mut archives.problems)?;
            if let Some(first) = archives.shelves.first() {
                anyhow::ensure!(
                    first.archive.model.sha256 == shelf.archive.model.sha256,
                    "{} was analysed with the model {}, {} with {}: search them one by one",
                    first.folder.display(),
                    crate::gallery::model(&first.archive.model),
                    folder.display(),
                    crate::gallery::model(&shelf.archive.model),
                );
            }
            archives.shelves.push(shelf);
        }
        Ok(archives)
    }

    /// The name of the recognition model.
    pub fn model(&self) -> &str {
        self.shelves
            .first()
            .map_or("", |shelf| &shelf.archive.model.name)
    }

    pub fn tracks(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.archive.len()).sum()
    }

    pub fn films(&self) -> usize {
        let films = |shelf: &Shelf| shelf.archive.batches().len();
        self.shelves.iter().map(films).sum()
    }

    /// The distance within which a track shows the person, so that somebody else is found in one of ten
    /// searches for a person who is nowhere.
    ///
    /// # Errors
    /// If the model is unknown.
    pub fn threshold(&self) -> Result<f64> {
        let name = self.model();
        let model = Model::find(name).with_context(|| {
            format!("the threshold of the model `{name}` is unknown; give --distance-threshold")
        })?;
        let mut rule = Rule::of(&model.descriptor);
        rule.false_name_rate = STRANGER_RATE;
        Ok(rule.limit(self.tracks()).min(rule.fallback))
    }

    /// The tracks nearest to an embedding, at most `limit`. Those of inputs whose summary cannot be read
    /// are left out.
    pub fn search(&self, query: &[f32], limit: usize, threshold: f64) -> Search {
        let mut found: Vec<(usize, face_gallery::archive::Found)> = Vec::new();
        for (i, shelf) in self.shelves.iter().enumerate() {
            let nearest = shelf
                .archive
                .nearest(query, limit.saturating_add(1), threshold);
            found.extend(nearest.into_iter().map(|found| (i, found)));
        }
        found.sort_by(|(_, a), (_, b)| a.distance.total_cmp(&b.distance));
        let more = found.len() > limit;
        found.truncate(limit);
        let mut summaries: HashMap<(usize, usize), Summary> = HashMap::new();
        let mut hits = Vec::new();
        let mut problems = BTreeSet::new();
        for (shelf, found) in found {
            let summary = match summaries.entry((shelf, found.batch)) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(free) => {
                    let path = self.shelves[shelf].film(found.batch).join("summary.json");
                    match record::read(&path) {
                        Ok(summary) => free.insert(summary),
                        Err(error) => {
                            let cause = face_parts::ui::causes(&error);
                            problems.insert(format!("left out {}: {cause}", path.display()));
                            continue;
                        }
                    }
                }
            };
            let shelf = &self.shelves[shelf];
            hits.extend(hit(shelf, &found, summary));
        }
        Search {
            tracks: self.tracks(),
            films: self.films(),
            distance_threshold: threshold,
            hits,
            more,
            problems,
        }
    }
}

/// `None` if the summary has no such track: then it was written a moment ago.
fn hit(shelf: &Shelf, found: &face_gallery::archive::Found, summary: &Summary) -> Option<Hit> {
    let film = shelf.film(found.batch);
    let track = summary.tracks.iter().find(|t| t.track.track == found.id)?;
    let name = track
        .track
        .name
        .clone()
        .filter(|name| name != record::UNKNOWN);
    Some(Hit {
        results: shelf.folder.clone(),
        folder: shelf.archive.batches()[found.batch].label.clone(),
        input: summary.input.clone(),
        track: found.id,
        distance: (found.distance * 1e4).round() / 1e4,
        person: track.person.clone().or(name),
        first: track
            .appearances
            .iter()
            .map(|[first, _]| *first)
            .min()
            .unwrap_or(0),
        last: track
            .appearances
            .iter()
            .map(|[_, last]| *last)
            .max()
            .unwrap_or(0),
        screen_time_ns: track.screen_time_ns,
        thumbnail: track.thumbnail.as_ref().map(|name| film.join(name)),
    })
}
