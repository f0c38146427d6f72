//! Writes who the tracks are into the summaries of a folder.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::tracks::{Results, Track};
use crate::analyze::people;
use crate::name::bars::{Bars, hold};
use crate::record::{self, Cluster, Summary};
use face_parts::output::Output;

/// Gives the tracks of all inputs their persons. Tracks in `clusters` are theirs, and those in
/// `named`, by their indices, have the name of another track of the person. The numbers of the
/// clusters are the folder's.
pub fn write(
    folder: &Path,
    results: &Results,
    clusters: &[(Cluster, Vec<&Track>)],
    named: &[(usize, String)],
) -> Result<()> {
    let mut persons: BTreeMap<&str, HashMap<u64, &str>> = BTreeMap::new();
    for (cluster, tracks) in clusters {
        for track in tracks {
            let input = persons.entry(track.key.folder.as_str()).or_default();
            input.insert(track.key.track, &cluster.id);
        }
    }
    for (place, name) in named {
        let key = &results.tracks[*place].key;
        let input = persons.entry(key.folder.as_str()).or_default();
        input.insert(key.track, name);
    }
    let bars = Bars::read(folder)?;
    let model = results.model.as_ref().map_or("", |model| &model.sha256);
    let mut embeddings: BTreeMap<&str, HashMap<u64, &[f32]>> = BTreeMap::new();
    for track in results.tracks.iter().filter(|_| !bars.bars.is_empty()) {
        let input = embeddings.entry(track.key.folder.as_str()).or_default();
        input.insert(track.key.track, &track.look.unit);
    }
    let none = HashMap::new();
    for name in results.inputs.keys() {
        let path = folder.join(name).join("summary.json");
        let before: Summary = record::read(&path)?;
        let mut summary = before.clone();
        let persons = persons.get(name.as_str()).unwrap_or(&none);
        for track in &mut summary.tracks {
            track.person = persons.get(&track.track.track).map(|p| p.to_string());
        }
        summary.shared_strangers = clusters.len() as u64;
        people::update(&mut summary);
        let barred = bars.barred(&summary.input, model, &summary.tracks, |id| {
            embeddings.get(name.as_str())?.get(&id).copied()
        });
        hold(&mut summary, &barred);
        if summary != before {
            let output = Output::replace(&path)?;
            fs::write(
                output.writable(),
                serde_json::to_string_pretty(&summary)? + "\n",
            )?;
            output.keep()?;
        }
    }
    Ok(())
}
