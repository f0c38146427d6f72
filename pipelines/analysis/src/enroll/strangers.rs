//! Adds strangers who were given names to a gallery.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use face_gallery::{Gallery, edit};
use face_meta::names;
use face_parts::lock::FileLock;
use face_parts::output;

use super::{EnrolledPerson, Enrolment, GrownGallery, LeftOut, Reason};
use crate::analyze::people;
use crate::cluster::Embeddings;
use crate::gallery;
use crate::name::bars::Bars;
use crate::record::{self, ClusterTrack, Clusters, Summary};

/// The limit of strangers listed in an error.
const MOST_LISTED: usize = 20;

/// `stranger-1=Anna`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    stranger: String,
    person: String,
}

impl Naming {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (stranger, person) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` names nobody: expected STRANGER=NAME, such as stranger-1=Anna")
        })?;
        if stranger.trim().is_empty() || person.trim().is_empty() {
            return Err(format!("in `{text}` the stranger or the name is empty"));
        }
        let person = names::checked(person)?;
        if people::stranger(&person).is_some() {
            return Err(format!(
                "{person:?} cannot be a person's name, because it stands for a stranger"
            ));
        }
        Ok(Self {
            stranger: stranger.trim().to_owned(),
            person,
        })
    }

    /// Such as `stranger-1`.
    pub fn stranger(&self) -> &str {
        &self.stranger
    }

    pub fn person(&self) -> &str {
        &self.person
    }
}

/// Adds the tracks of named strangers in the results in `folder` to the gallery at `path`, which is
/// created if it does not exist.
pub fn add_strangers(folder: &Path, namings: &[Naming], path: &Path) -> Result<GrownGallery> {
    output::check_folder(path)?;
    let list = folder.join("clusters.json");
    // So that nobody whom `facepipe forget` removes meanwhile is enrolled again. It takes the locks
    // in the same order.
    let results = match folder.is_dir() {
        true => Some(FileLock::of_folder_to_read(folder)?),
        false => None,
    };
    let clusters = read_clusters(&list)?;
    let people = people(&clusters, namings).with_context(|| list.display().to_string())?;
    let inputs = read_inputs(folder, &people, &clusters)?;
    expect_allowed(folder, &people, &inputs)?;
    let (name, first) = inputs
        .first_key_value()
        .context("the strangers have no tracks")?;
    for (other, input) in &inputs {
        let same = input.model.sha256 == first.model.sha256 && input.dimensions == first.dimensions;
        ensure!(
            same,
            "{name} was analysed with the model {}, {other} with {}: their embeddings cannot be \
             compared; use a separate gallery for the strangers of each model",
            gallery::model(&first.model),
            gallery::model(&input.model)
        );
    }
    let lock = FileLock::take(path)?;
    let mut gallery = match gallery::is_there(path)? {
        true => Gallery::read(path)?,
        false => Gallery::new(first.model.clone(), first.dimensions),
    };
    ensure!(
        gallery.model.sha256 == first.model.sha256,
        "{} was made by the model {}, the tracks in {} by {}: their embeddings cannot be compared; name \
         another gallery to write with -o",
        path.display(),
        gallery::model(&gallery.model),
        folder.display(),
        gallery::model(&first.model)
    );

    let mut enrolment = Enrolment {
        gallery: None,
        model: gallery.model.name.clone(),
        images: 0,
        used: 0,
        rows: 0,
        people: Vec::new(),
        left_out: Vec::new(),
        remarks: Vec::new(),
    };
    for (person, tracks) in people {
        let mut counts = EnrolledPerson {
            images: tracks.len(),
            ..Default::default()
        };
        for track in &tracks {
            let rows = inputs[&track.folder].rows.get(&track.track);
            match add_track(
                &mut gallery,
                &person,
                track,
                rows.map_or(&[], Vec::as_slice),
            ) {
                Ok(rows) => {
                    counts.used += 1;
                    counts.rows += rows;
                }
                Err(reason) => enrolment.left_out.push(LeftOut {
                    person: person.clone(),
                    source: source(track),
                    reason: reason.to_string(),
                }),
            }
        }
        counts.left_out = counts.images - counts.used;
        counts.person = person;
        enrolment.images += counts.images;
        enrolment.used += counts.used;
        enrolment.rows += counts.rows;
        enrolment.people.push(counts);
    }
    Ok(GrownGallery {
        path: path.to_owned(),
        gallery,
        enrolment,
        locks: results.into_iter().chain([lock]).collect(),
    })
}

fn read_clusters(list: &Path) -> Result<Clusters> {
    let name = list.display();
    ensure!(
        list.is_file(),
        "there is no {name}; `facepipe cluster` makes it"
    );
    let clusters: Clusters = record::read(list)?;
    ensure!(
        clusters.version == 1,
        "{name} has version {}; this program supports only version 1",
        clusters.version
    );
    Ok(clusters)
}

/// The tracks of each person, in the order of the names on the command line. Two strangers with the
/// same name are one person.
fn people(clusters: &Clusters, namings: &[Naming]) -> Result<Vec<(String, Vec<ClusterTrack>)>> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut people: Vec<(String, Vec<ClusterTrack>)> = Vec::new();
    for Naming { stranger, person } in namings {
        let mut all = clusters.clusters.iter();
        let Some(cluster) = all.find(|cluster| cluster.id == *stranger) else {
            bail!("there is no {stranger:?}; {}", known(clusters));
        };
        if let Some(other) = names.insert(stranger, person) {
            ensure!(
                other == person,
                "{stranger} cannot be {other:?} and {person:?}"
            );
            continue;
        }
        let tracks = cluster.tracks.iter().cloned();
        match people.iter_mut().find(|(name, _)| name == person) {
            Some((_, known)) => known.extend(tracks),
            None => people.push((person.clone(), tracks.collect())),
        }
    }
    Ok(people)
}

/// Lists the available strangers.
fn known(clusters: &Clusters) -> String {
    let ids: Vec<&str> = clusters.clusters.iter().map(|c| c.id.as_str()).collect();
    match ids.as_slice() {
        [] => "there are no strangers".into(),
        ids if ids.len() > MOST_LISTED => format!(
            "there are {}, … ({} in all)",
            ids[..MOST_LISTED].join(", "),
            ids.len()
        ),
        ids => format!("there are {}", ids.join(", ")),
    }
}

/// The embeddings of the inputs in which the people were seen, by folder.
fn read_inputs(
    folder: &Path,
    people: &[(String, Vec<ClusterTrack>)],
    clusters: &Clusters,
) -> Result<BTreeMap<String, Embeddings>> {
    let mut inputs = BTreeMap::new();
    for track in people.iter().flat_map(|(_, tracks)| tracks) {
        let name = &track.folder;
        if inputs.contains_key(name) {
            continue;
        }
        let input = Embeddings::read(&folder.join(name))?;
        ensure!(
            clusters.inputs.get(name) == Some(&input.sha256),
            "{name} was analysed again after `facepipe cluster`, so its tracks may have changed; run \
             `facepipe cluster {}` again and look at the new pictures",
            folder.display()
        );
        inputs.insert(name.clone(), input);
    }
    Ok(inputs)
}

/// Fails if a track must not get the name that it would get.
fn expect_allowed(
    folder: &Path,
    people: &[(String, Vec<ClusterTrack>)],
    inputs: &BTreeMap<String, Embeddings>,
) -> Result<()> {
    let bars = Bars::read(folder)?;
    if bars.bars.is_empty() {
        return Ok(());
    }
    for (name, input) in inputs {
        let summary: Summary = record::read(&folder.join(name).join("summary.json"))?;
        let model = &input.model.sha256;
        let barred = bars.barred(&summary.input, model, &summary.tracks, |id| input.mean(id));
        for (person, tracks) in people {
            let of_input = tracks.iter().filter(|track| track.folder == *name);
            let mut barred = of_input.filter(|track| {
                let names = barred.get(&track.track);
                names.is_some_and(|all| all.iter().any(|name| names::same(name, person)))
            });
            if let Some(track) = barred.next() {
                bail!(
                    "track {id} of {name} must not be called {person}: somebody has said so with `facepipe \
                     name --not`; if that was wrong, `facepipe name {folder} --allow {name}/{id}={person}` \
                     takes it back; nothing was written",
                    id = track.track,
                    folder = folder.display()
                );
            }
        }
    }
    Ok(())
}

/// Adds a track's embeddings. Returns their number.
fn add_track(
    gallery: &mut Gallery,
    person: &str,
    track: &ClusterTrack,
    rows: &[Vec<f32>],
) -> Result<usize, Reason> {
    let first = rows.first().ok_or(Reason::NoEmbedding)?;
    if let Some(source) = edit::find(gallery, person, first) {
        return Err(Reason::Known(source));
    }
    let mut taken = edit::sources(gallery, person);
    let mut added = 0;
    for row in rows {
        let source = edit::free_source(&mut taken, &source(track));
        added += edit::add_image(gallery, person, &source, &[row]).unwrap_or(0);
    }
    match added {
        0 => Err(Reason::NoEmbedding),
        added => Ok(added),
    }
}

/// The name of a track in a gallery.
fn source(track: &ClusterTrack) -> String {
    format!("{} track {}", track.folder, track.track)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Cluster;

    fn naming(text: &str) -> Naming {
        Naming::parse(text).expect("a naming")
    }

    #[test]
    fn a_naming_is_an_id_and_a_name() {
        let ben = naming("stranger-2=Ben = B.");
        assert_eq!((&*ben.stranger, &*ben.person), ("stranger-2", "Ben = B."));
        for wrong in [
            "stranger-1",
            "=Anna",
            "stranger-1=",
            "stranger-1= ",
            "",
            "stranger-1=Unknown",
            "stranger-1=Ann\n",
            "stranger-1=stranger-2",
        ] {
            assert!(Naming::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn strangers_of_one_name_are_one_person() {
        let cluster = |number: u64| Cluster {
            id: format!("stranger-{number}"),
            tracks: vec![ClusterTrack {
                folder: "film".into(),
                track: number,
            }],
            ..Default::default()
        };
        let clusters = Clusters {
            clusters: (1..=3).map(cluster).collect(),
            ..Default::default()
        };
        let people = |names: &[&str]| {
            let namings: Vec<Naming> = names.iter().map(|n| naming(n)).collect();
            people(&clusters, &namings)
        };
        let found = people(&[
            "stranger-3=Ann",
            "stranger-2=Bo",
            "stranger-1=Ann",
            "stranger-2=Bo",
        ]);
        let found: Vec<(String, Vec<u64>)> = found
            .expect("all there")
            .into_iter()
            .map(|(name, tracks)| (name, tracks.iter().map(|t| t.track).collect()))
            .collect();
        assert_eq!(found, [("Ann".into(), vec![3, 1]), ("Bo".into(), vec![2])]);

        let error = people(&["stranger-4=Ann"])
            .expect_err("not there")
            .to_string();
        assert!(
            error.contains("stranger-1, stranger-2, stranger-3"),
            "{error}"
        );
        let error = people(&["stranger-1=Ann", "stranger-1=Bo"]).expect_err("two names");
        assert!(error.to_string().contains("cannot be"), "{error}");
    }
}
