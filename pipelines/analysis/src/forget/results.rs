//! Removes a person from the results of `facepipe analyze` and `facepipe cluster`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use face_core::file::read_at_most;
use face_meta::names;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::{Forgetting, Removed, lines};
use crate::analyze::people;
use crate::cluster::{Embeddings, LARGEST_FILE};
use crate::name::bars::Bars;
use crate::record::{self, Clusters, Summary};
use face_gallery::edit::distance;
use face_parts::output::Output;

/// A track whose embedding is this near to a row of the person's gallery was enrolled as the person.
const ENROLLED: f64 = 1e-5;

/// The outcome for the results of one input.
pub struct ForgottenInput {
    pub removed: Removed,
    tracks: BTreeSet<u64>,
    /// The sha256 of the embeddings before and after.
    sha256: [Option<String>; 2],
}

/// Removes the person from the folder of an input: lines, embeddings, pictures, and finally the
/// summary. An interrupted removal is done again: from beginning to end, the summary records that
/// it is under way and for which tracks, as tracks found by their embeddings are found only once.
pub fn input(folder: &Path, forgetting: &mut Forgetting) -> Result<ForgottenInput> {
    let path = folder.join("summary.json");
    let mut summary: Summary = record::read(&path)?;
    let unfinished = summary.removing.take();
    let was_whole = unfinished.is_some() || summary.damage(folder).is_none();
    let named = summary.tracks.iter().filter_map(|t| t.track.name.clone());
    forgetting.names.extend(named);
    let person = forgetting.person.clone();
    let is_theirs = |name: &str| names::same(name, &person);
    let embeddings = folder.join("tracks.safetensors");
    let old = embeddings.is_file().then(|| Embeddings::read(folder));
    let old = old.transpose()?;
    let mut tracks: BTreeSet<u64> = summary
        .tracks
        .iter()
        .filter(|t| {
            [&t.track.name, &t.person]
                .into_iter()
                .flatten()
                .any(|name| is_theirs(name))
        })
        .map(|t| t.track.track)
        .collect();
    tracks.extend(old.iter().flat_map(|old| enrolled(old, &forgetting.rows)));
    tracks.extend(unfinished.iter().flatten());
    let mut removed = Removed {
        tracks: tracks.len() as u64,
        ..Default::default()
    };
    let faces = folder.join("faces.jsonl");
    let looked = faces
        .is_file()
        .then(|| lines::look(&faces, tracks.clone(), forgetting));
    let looked = looked.transpose()?;
    removed.add(
        &looked
            .as_ref()
            .map(|(_, found)| found.clone())
            .unwrap_or_default(),
    );
    let is_in = removed != Removed::default()
        || unfinished.is_some()
        || summary.people.iter().any(|p| is_theirs(&p.name));
    // A result that was damaged before must not pass as complete, so that it is analysed again.
    if is_in && was_whole {
        summary.removing = Some(tracks.clone());
        forgetting.write_json(&path, &summary)?;
        summary.removing = None;
    }
    if let Some((lines, found)) = looked
        && found != Removed::default()
        && !forgetting.dry_run
    {
        lines::edit(&faces, lines, forgetting)?;
    }
    let mut sha256 = [old.as_ref().map(|old| old.sha256.clone()), None];
    if let Some(old) = old {
        let theirs = old.rows.keys().filter(|id| tracks.contains(id)).count();
        removed.rows = theirs as u64;
        if theirs > 0 && !forgetting.dry_run {
            without_tracks(&embeddings, &tracks)?;
            sha256[1] = Some(Embeddings::read(folder)?.sha256);
        }
    }
    let mut pictures = Vec::new();
    summary.tracks.retain(|track| {
        let theirs = tracks.contains(&track.track.track);
        pictures.extend(track.thumbnail.clone().filter(|_| theirs));
        !theirs
    });
    for picture in pictures {
        removed.pictures += u64::from(forgetting.remove_file(folder, &picture)?);
    }
    // Another person's track may be enrolled as theirs.
    people::update(&mut summary);
    if is_in {
        if was_whole && !forgetting.dry_run {
            summary.note_files(folder)?;
        }
        forgetting.write_json(&path, &summary)?;
    }
    Ok(ForgottenInput {
        removed,
        tracks,
        sha256,
    })
}

/// Tracks whose embeddings are rows of the person.
fn enrolled(embeddings: &Embeddings, rows: &[Vec<f32>]) -> Vec<u64> {
    let is_row = |own: &Vec<f32>| {
        let same = |row: &&Vec<f32>| row.len() == own.len() && distance(row, own) <= ENROLLED;
        rows.iter().any(|row| same(&row))
    };
    let theirs = embeddings
        .rows
        .iter()
        .filter(|(_, own)| own.iter().any(is_row));
    theirs.map(|(id, _)| *id).collect()
}

/// Rewrites a `tracks.safetensors` without some tracks.
fn without_tracks(path: &Path, tracks: &BTreeSet<u64>) -> Result<()> {
    let name = path.display();
    let bytes = read_at_most(path, LARGEST_FILE)?;
    let damaged = || format!("{name} is not what `facepipe analyze` writes");
    let (_, header) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(&bytes).with_context(damaged)?;
    let tensor = file.tensor("embeddings").with_context(damaged)?;
    let ids = metadata.get("tracks").with_context(damaged)?;
    let all: Vec<u64> = serde_json::from_str(ids).with_context(damaged)?;
    let length = tensor.data().len() / all.len().max(1);
    let left: Vec<(u64, &[u8])> = all
        .iter()
        .copied()
        .zip(tensor.data().chunks_exact(length.max(1)))
        .filter(|(id, _)| !tracks.contains(id))
        .collect();
    let ids: Vec<u64> = left.iter().map(|(id, _)| *id).collect();
    let rows: Vec<u8> = left
        .iter()
        .flat_map(|(_, row)| row.iter().copied())
        .collect();
    metadata.insert("tracks".into(), serde_json::to_string(&ids)?);
    if let Some(text) = metadata.get("weights") {
        let weights: Vec<f64> = serde_json::from_str(text).with_context(damaged)?;
        let kept = all.iter().zip(weights);
        let kept = kept.filter(|(id, _)| !tracks.contains(id));
        let kept: Vec<f64> = kept.map(|(_, weight)| weight).collect();
        metadata.insert("weights".into(), serde_json::to_string(&kept)?);
    }
    let mut shape = tensor.shape().to_vec();
    if let Some(count) = shape.first_mut() {
        *count = ids.len();
    }
    let tensor = TensorView::new(tensor.dtype(), shape, &rows)?;
    let output = Output::create_private(path)?;
    safetensors::serialize_to_file([("embeddings", tensor)], Some(metadata), output.writable())
        .with_context(|| format!("{name} cannot be written"))?;
    output.keep().map(drop)
}

/// Removes the tracks that were removed from the inputs in `folder` from its clusters, and the
/// contact sheets that show them.
pub fn clusters(
    folder: &Path,
    inputs: &BTreeMap<String, ForgottenInput>,
    forgetting: &mut Forgetting,
) -> Result<Removed> {
    let path = folder.join("clusters.json");
    let mut clusters: Clusters = record::read(&path)?;
    let mut removed = Removed::default();
    let mut changed = false;
    for (name, input) in inputs {
        if let [Some(old), Some(new)] = &input.sha256
            && let Some(known) = clusters.inputs.get_mut(name)
            && known == old
        {
            // The remaining tracks are still those that were grouped.
            known.clone_from(new);
            changed = true;
        }
    }
    let mut left = Vec::new();
    for mut cluster in clusters.clusters {
        let before = cluster.tracks.len();
        cluster.tracks.retain(|track| {
            let input = inputs.get(&track.folder);
            !input.is_some_and(|input| input.tracks.contains(&track.track))
        });
        if cluster.tracks.len() < before {
            changed = true;
            removed.tracks += (before - cluster.tracks.len()) as u64;
            removed.pictures += u64::from(forgetting.remove_file(folder, &cluster.sheet)?);
        }
        if !cluster.tracks.is_empty() {
            left.push(cluster);
        }
    }
    clusters.clusters = left;
    if changed {
        forgetting.write_json(&path, &clusters)?;
    }
    Ok(removed)
}

/// Removes the person from the names that tracks in `folder` must not get, and the looks of tracks that
/// were removed from its inputs.
pub fn bars(
    folder: &Path,
    inputs: &BTreeMap<String, ForgottenInput>,
    forgetting: &Forgetting,
) -> Result<Removed> {
    let mut bars = Bars::read(folder)?;
    let before = bars.bars.len();
    let mut removed = Removed::default();
    let mut films: BTreeMap<String, Option<(Summary, Embeddings)>> = BTreeMap::new();
    let mut left = Vec::new();
    for bar in std::mem::take(&mut bars.bars) {
        let film = films.entry(bar.folder.clone()).or_insert_with(|| {
            let path = folder.join(&bar.folder);
            let summary = record::read(&path.join("summary.json")).ok()?;
            Some((summary, Embeddings::read(&path).ok()?))
        });
        let is_gone = |id: u64| {
            let input = inputs.get(&bar.folder);
            input.is_some_and(|input| input.tracks.contains(&id))
        };
        // The look of a track that an interrupted removal has removed must go, too.
        let is_left = film.as_ref().is_none_or(|(summary, embeddings)| {
            summary.tracks.iter().any(|track| {
                let id = track.track.track;
                let mean = embeddings.mean(id);
                !is_gone(id) && mean.is_some_and(|mean| bar.is_of(track, &mean))
            })
        });
        // The input of the bar may have been deleted.
        let is_enrolled = forgetting.rows.iter().any(|row| {
            row.len() == bar.embedding.len() && distance(row, &bar.embedding) <= ENROLLED
        });
        if names::same(&bar.name, &forgetting.person) || is_enrolled || !is_left {
            removed.rows += 1;
        } else {
            left.push(bar);
        }
    }
    bars.bars = left;
    if bars.bars.len() < before && !forgetting.dry_run {
        bars.write(folder)?;
    }
    Ok(removed)
}
