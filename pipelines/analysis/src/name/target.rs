//! Which tracks must not get which name, as users say it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use face_meta::names;

use super::bars::Bar;
use super::{Film, Folder};
use crate::analyze::people;
use crate::cluster::Embeddings;
use crate::record::{self, Clusters, TrackSummary};

/// The limit of strangers and inputs listed in an error.
const MOST_LISTED: usize = 20;

/// `FILM/TRACK=NAME`, `FILM/stranger-3=NAME` or `stranger-3=NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The input's folder.
    film: Option<String>,
    who: Who,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Track(u64),
    Person(String),
}

impl Target {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not FILM/TRACK=NAME, such as party/3=Bob, or STRANGER=NAME, such as \
                 stranger-3=Bob"
            )
        };
        let (who, name) = text.split_once('=').ok_or_else(wrong)?;
        let name = names::checked(name)?;
        let (film, who) = match who.trim().rsplit_once('/') {
            Some((film, who)) => (Some(film.trim_end_matches('/').to_owned()), who.trim()),
            None => (None, who.trim()),
        };
        if who.is_empty() || film.as_deref() == Some("") {
            return Err(wrong());
        }
        let who = match who.parse() {
            Ok(track) if film.is_some() => Who::Track(track),
            Ok(_) => return Err(wrong()),
            Err(_) => Who::Person(who.to_owned()),
        };
        Ok(Self { film, who, name })
    }

    /// The tracks that this means in a folder of results: the indices of films, with ids. Empty if
    /// it is not about this folder.
    fn find(&self, folder: &Folder) -> Result<Vec<(usize, u64)>> {
        let Some(film) = &self.film else {
            return match &self.who {
                Who::Person(person) => self.everywhere(folder, person),
                Who::Track(_) => Ok(Vec::new()),
            };
        };
        // `results/party/3` also names the folder.
        let is_it =
            |other: &Film| other.name == *film || Path::new(film) == folder.path.join(&other.name);
        let Some(place) = folder.films.iter().position(is_it) else {
            return Ok(Vec::new());
        };
        let is_theirs = |track: &&TrackSummary| match &self.who {
            Who::Track(id) => track.track.track == *id,
            Who::Person(person) => track.person.as_deref() == Some(person),
        };
        let tracks: Vec<(usize, u64)> = folder.films[place]
            .summary
            .tracks
            .iter()
            .filter(is_theirs)
            .map(|track| (place, track.track.track))
            .collect();
        ensure!(
            !tracks.is_empty(),
            "{} has no {}",
            folder.films[place].folder.display(),
            match &self.who {
                Who::Track(id) => format!("track {id}"),
                Who::Person(person) => person.clone(),
            }
        );
        Ok(tracks)
    }

    /// The tracks of a person in all inputs.
    fn everywhere(&self, folder: &Folder, person: &str) -> Result<Vec<(usize, u64)>> {
        let list = folder.path.join("clusters.json");
        if list.is_file() {
            let clusters: Clusters = record::read(&list)?;
            if let Some(cluster) = clusters.clusters.iter().find(|c| c.id == person) {
                let mut tracks = Vec::new();
                for track in &cluster.tracks {
                    let place = folder.films.iter().position(|f| f.name == track.folder);
                    let place = place.with_context(|| stale(&folder.path, &track.folder))?;
                    let sha256 = Embeddings::read(&folder.films[place].folder)?.sha256;
                    ensure!(
                        clusters.inputs.get(&track.folder) == Some(&sha256),
                        stale(&folder.path, &track.folder)
                    );
                    tracks.push((place, track.track));
                }
                return Ok(tracks);
            }
        }
        let mut tracks = Vec::new();
        for (place, film) in folder.films.iter().enumerate() {
            let theirs = film.summary.tracks.iter();
            let theirs = theirs.filter(|track| track.person.as_deref() == Some(person));
            tracks.extend(theirs.map(|track| (place, track.track.track)));
        }
        let films: BTreeSet<usize> = tracks.iter().map(|(place, _)| *place).collect();
        ensure!(
            // A name is the same person everywhere; a number is not before the folder was grouped.
            films.len() <= 1 || people::stranger(person).is_none(),
            "{person} may be somebody else in each of {} inputs of {}; run `facepipe cluster {}` first, or \
             name the input, such as {}/{person}={}",
            films.len(),
            folder.path.display(),
            folder.path.display(),
            films
                .first()
                .map_or("", |&place| folder.films[place].name.as_str()),
            self.name
        );
        Ok(tracks)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(film) = &self.film {
            write!(f, "{film}/")?;
        }
        match &self.who {
            Who::Track(track) => write!(f, "{track}={}", self.name),
            Who::Person(person) => write!(f, "{person}={}", self.name),
        }
    }
}

fn stale(folder: &Path, film: &str) -> String {
    format!(
        "{film} was analysed again after `facepipe cluster`, so its tracks may have changed; run `facepipe \
         cluster {}` again and look at the new pictures",
        folder.display()
    )
}

/// Bars the names of `not` and allows those of `allow`. Returns the number of changed bars.
pub fn change(folders: &mut [Folder], not: &[Target], allow: &[Target]) -> Result<usize> {
    let mut changed = 0;
    for (targets, is_bar) in [(not, true), (allow, false)] {
        for target in targets {
            let mut found = Vec::new();
            for (place, folder) in folders.iter().enumerate() {
                let tracks = target.find(folder)?;
                if !tracks.is_empty() {
                    found.push((place, tracks));
                }
            }
            let (place, tracks) = match found.len() {
                0 => bail!("`{target}` is in none of the results; {}", known(folders)),
                1 => found.remove(0),
                _ => bail!("`{target}` is in several of the folders; name only one of them"),
            };
            let folder = &mut folders[place];
            let count = match is_bar {
                true => bar(folder, &tracks, &target.name)?,
                false => allow_again(folder, &tracks, target)?,
            };
            folder.bars_changed |= count > 0;
            changed += count;
        }
    }
    Ok(changed)
}

/// Some of what there is.
fn known(folders: &[Folder]) -> String {
    let films = folders.iter().flat_map(|folder| &folder.films);
    let names: Vec<&str> = films.map(|film| film.name.as_str()).collect();
    match names.len() {
        0..=MOST_LISTED => format!("there are {}", names.join(", ")),
        all => format!(
            "there are {} and {} more",
            names[..MOST_LISTED].join(", "),
            all - MOST_LISTED
        ),
    }
}

fn bar(folder: &mut Folder, tracks: &[(usize, u64)], name: &str) -> Result<usize> {
    let mut new = Vec::new();
    for (film, of_film) in by_film(tracks) {
        let film = &folder.films[film];
        let embeddings = Embeddings::read(&film.folder)?;
        for id in of_film {
            let track = film.summary.tracks.iter().find(|t| t.track.track == id);
            let track = track.with_context(|| format!("{} has no track {id}", film.name))?;
            let embedding = embeddings.mean(id).with_context(|| {
                format!(
                    "track {id} of {} has no embedding, so it gets no name anyway",
                    film.name
                )
            })?;
            let known = folder
                .bars
                .of(&film.summary.input)
                .any(|bar| names::same(&bar.name, name) && bar.is_of(track, &embedding));
            if !known {
                new.push(Bar {
                    name: name.to_owned(),
                    folder: film.name.clone(),
                    track: id,
                    input: film.summary.input.clone(),
                    appearances: track.appearances.clone(),
                    model: embeddings.model.sha256.clone(),
                    embedding,
                });
            }
        }
    }
    let count = new.len();
    folder.bars.bars.extend(new);
    Ok(count)
}

fn allow_again(folder: &mut Folder, tracks: &[(usize, u64)], target: &Target) -> Result<usize> {
    let before = folder.bars.bars.len();
    for (place, of_film) in by_film(tracks) {
        let film = &folder.films[place];
        let embeddings = Embeddings::read(&film.folder)?;
        let theirs: Vec<(&TrackSummary, Vec<f32>)> = film
            .summary
            .tracks
            .iter()
            .filter(|track| of_film.contains(&track.track.track))
            .filter_map(|track| Some((track, embeddings.mean(track.track.track)?)))
            .collect();
        let input = film.summary.input.clone();
        folder.bars.bars.retain(|bar| {
            let is_it = bar.input == input
                && names::same(&bar.name, &target.name)
                && theirs.iter().any(|(track, mean)| bar.is_of(track, mean));
            !is_it
        });
    }
    let count = before - folder.bars.bars.len();
    ensure!(
        count > 0,
        "`{target}` is not barred; `facepipe name {} --barred` lists what is",
        folder.path.display()
    );
    Ok(count)
}

/// The tracks of each film.
fn by_film(tracks: &[(usize, u64)]) -> Vec<(usize, BTreeSet<u64>)> {
    let films: BTreeSet<usize> = tracks.iter().map(|(film, _)| *film).collect();
    let of = |film: usize| {
        tracks
            .iter()
            .filter(move |(f, _)| *f == film)
            .map(|(_, id)| *id)
    };
    films
        .into_iter()
        .map(|film| (film, of(film).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_track_or_a_person_and_a_name() {
        let target = |text: &str| Target::parse(text).expect("a target");
        let track = target("party/3=Ben = B.");
        assert_eq!(track.film.as_deref(), Some("party"));
        assert_eq!((&track.who, &*track.name), (&Who::Track(3), "Ben = B."));
        let cluster = target("stranger-3=Bob");
        assert_eq!(
            (cluster.film, cluster.who),
            (None, Who::Person("stranger-3".into()))
        );
        let one = target("out/party/stranger-3=Bob");
        assert_eq!(one.film.as_deref(), Some("out/party"));
        assert_eq!(one.to_string(), "out/party/stranger-3=Bob");
        for wrong in [
            "3=Bob",
            "party/3",
            "/3=Bob",
            "party/=Bob",
            "=Bob",
            "party/3=",
            "party/3=Unknown",
            "",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
