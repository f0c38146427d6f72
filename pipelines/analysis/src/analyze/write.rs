//! Writes the files of an input.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use face_gallery::ModelId;
use face_gallery::evidence::Heaviest;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;

use super::naming::Rewriter;
use super::stitch::Look;
use super::tally::fine;
use crate::record;
use face_parts::output::Output;

/// Copies the lines from `from` to `to`, rewritten.
pub fn lines(from: &Path, to: &Path, rewriter: &Rewriter) -> Result<()> {
    let unwritable = || format!("{} cannot be written", to.display());
    let mut out = BufWriter::new(File::create(to).with_context(unwritable)?);
    for line in record::lines(from)? {
        let mut line = line?;
        rewriter.rewrite(&mut line);
        serde_json::to_writer(&mut out, &line).with_context(unwritable)?;
        out.write_all(b"\n").with_context(unwritable)?;
    }
    out.flush().with_context(unwritable)
}

/// Writes a document as JSON.
pub fn json(value: &impl Serialize, to: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    std::fs::write(to, text).with_context(|| format!("{} cannot be written", to.display()))
}

/// Writes one embedding of `dimensions` numbers per track: the weighted mean of its embeddings, and the
/// sum of their weights.
pub fn embeddings(
    tracks: &BTreeMap<u64, Heaviest>,
    model: &ModelId,
    dimensions: usize,
    to: &Path,
) -> Result<()> {
    let means: Vec<(u64, Look)> = tracks
        .iter()
        .filter_map(|(id, embeddings)| Some((*id, Look::of(embeddings.as_slice())?)))
        .collect();
    let ids: Vec<u64> = means.iter().map(|(id, _)| *id).collect();
    let weights: Vec<f64> = means.iter().map(|(_, look)| fine(look.weight)).collect();
    let bytes: Vec<u8> = means
        .iter()
        .flat_map(|(_, look)| look.unit.iter().flat_map(|v| v.to_le_bytes()))
        .collect();
    let metadata = HashMap::from([
        ("tracks".to_owned(), serde_json::to_string(&ids)?),
        ("weights".to_owned(), serde_json::to_string(&weights)?),
        ("model".to_owned(), model.name.clone()),
        ("model-sha256".to_owned(), model.sha256.clone()),
    ]);
    let tensor = TensorView::new(Dtype::F32, vec![ids.len(), dimensions], &bytes)?;
    let output = Output::create_private(to)?;
    safetensors::serialize_to_file([("embeddings", tensor)], Some(metadata), output.writable())
        .with_context(|| format!("{} cannot be written", to.display()))?;
    output.keep().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_gallery::evidence::Embedded;

    fn embedded(embedding: [f32; 2], weight: f64) -> Embedded {
        Embedded {
            embedding: embedding.into(),
            weight,
        }
    }

    #[test]
    fn good_embeddings_count_more_in_the_mean() {
        let look = Look::of(&[embedded([1.0, 0.0], 0.6), embedded([0.0, 1.0], 0.8)]);
        let look = look.expect("a direction");
        assert!((look.weight - 1.4).abs() < 1e-9);
        let mean = look.unit;
        assert!((mean[0] - 0.6).abs() < 1e-6 && (mean[1] - 0.8).abs() < 1e-6);
        assert_eq!(Look::of(&[]), None);
        let opposite = [embedded([1.0, 0.0], 0.5), embedded([-1.0, 0.0], 0.5)];
        assert_eq!(Look::of(&opposite), None);
    }

    #[test]
    fn embeddings_are_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tracks.safetensors");
        let model = ModelId {
            name: "m".into(),
            sha256: "ab".into(),
        };
        let of = |all: &[Embedded]| {
            let mut kept = Heaviest::new(9);
            all.iter().cloned().for_each(|one| kept.add(one));
            kept
        };
        let tracks = BTreeMap::from([
            (3, of(&[embedded([0.0, 2.0], 0.5)])),
            (9, of(&[embedded([3.0, 0.0], 0.1)])),
            (10, of(&[])),
        ]);
        for (tracks, rows) in [(&tracks, 2), (&BTreeMap::new(), 0)] {
            embeddings(tracks, &model, 2, &path).expect("writable");
            let bytes = std::fs::read(&path).expect("just written");
            let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("valid");
            let metadata = header.metadata().as_ref().expect("metadata");
            let ids: Vec<u64> = serde_json::from_str(&metadata["tracks"]).expect("JSON");
            assert_eq!(ids, [3, 9][..rows]);
            let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
            let tensor = file.tensor("embeddings").expect("there");
            assert_eq!(tensor.shape(), [rows, 2]);
            if rows > 0 {
                let expected = [0.0f32, 1.0, 1.0, 0.0].map(f32::to_le_bytes);
                assert_eq!(tensor.data(), expected.as_flattened());
            }
        }
    }
}
