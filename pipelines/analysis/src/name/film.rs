//! Names one input again, and writes its files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use face_core::model::Model;
use face_gallery::evidence::Embedded;
use face_gallery::vote::{FALSE_NAME_RATE, Rule};
use face_gallery::{Gallery, ModelId};
use face_parts::output::Output;
use serde::Serialize;

use super::bars::Bars;
use super::tracks::{Names, shown};
use super::{NamedBy, NamedGallery};
use crate::analyze::naming::{Restriction, Rewriter, Smoothing};
use crate::cluster::Embeddings;
use crate::gallery;
use crate::record::{self, Summary};

const LINES: &str = "faces.jsonl";
const SUMMARY: &str = "summary.json";

/// A gallery that was read.
pub struct Loaded {
    pub gallery: Gallery,
    pub named: NamedGallery,
}

impl Loaded {
    pub fn source(&self) -> Source<'_> {
        Source {
            gallery: &self.gallery,
            named: &self.named,
        }
    }
}

/// The gallery that gives names.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub gallery: &'a Gallery,
    pub named: &'a NamedGallery,
}

/// A track that got another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The input's folder.
    pub folder: String,
    pub track: u64,
    /// The names before and now. `None` if it is nobody's.
    pub from: Option<String>,
    pub to: Option<String>,
    /// Who it is believed to be, as in [`record::TrackSummary::person`].
    pub person: Option<String>,
}

/// An input of a folder of results.
pub struct Film {
    pub folder: PathBuf,
    /// The folder's name.
    pub name: String,
    pub summary: Summary,
}

impl Film {
    pub fn read(folder: PathBuf) -> Result<Self> {
        let path = folder.join(SUMMARY);
        let summary: Summary = record::read(&path)?;
        ensure!(
            summary.version == 1,
            "{} has version {}; this program supports only version 1",
            path.display(),
            summary.version
        );
        ensure!(
            summary.removing.is_none(),
            "`facepipe forget` was interrupted in {}; run it again",
            folder.display()
        );
        Ok(Self::new(folder, summary))
    }

    pub fn new(folder: PathBuf, summary: Summary) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        Self {
            name: name.into_owned(),
            folder,
            summary,
        }
    }

    /// Names the tracks as `naming` says, with the gallery that it means. Writes nothing if `dry_run`,
    /// and the lines only if a name has changed. The caller holds the lock of the folder of results.
    pub fn rename(
        &mut self,
        naming: &NamedBy,
        gallery: Option<Source>,
        bars: &Bars,
        dry_run: bool,
    ) -> Result<Vec<Change>> {
        let embeddings = Embeddings::read(&self.folder)?;
        let naming = NamedBy {
            gallery: gallery.map(|loaded| loaded.named.clone()),
            bars: bars.digest(&self.summary.input),
            ..naming.clone()
        };
        let restriction = self.apply(&naming, gallery, &embeddings, bars)?;
        let Some((restriction, changes)) = restriction else {
            if self.summary.naming.as_ref() != Some(&naming) || self.summary.renaming {
                self.summary.naming = Some(naming);
                if !dry_run {
                    self.repair()?;
                }
            }
            return Ok(Vec::new());
        };
        self.summary.naming = Some(naming);
        if !dry_run {
            self.write(&restriction)?;
        }
        Ok(changes)
    }

    /// `None` if no name changes.
    fn apply(
        &mut self,
        naming: &NamedBy,
        gallery: Option<Source>,
        embeddings: &Embeddings,
        bars: &Bars,
    ) -> Result<Option<(Restriction, Vec<Change>)>> {
        if let Some(loaded) = gallery.filter(|_| !embeddings.rows.is_empty()) {
            self.expect_model(loaded, &embeddings.model)?;
        }
        let rule = match gallery {
            Some(_) if !embeddings.rows.is_empty() => rule(naming, &embeddings.model.name)?,
            // Nothing is compared.
            _ => rule_without_model(naming),
        };
        let rows: HashMap<u64, Vec<Embedded>> = embeddings
            .rows
            .iter()
            .map(|(id, rows)| (*id, rows.iter().map(|row| full(row)).collect()))
            .collect();
        let tracks = &self.summary.tracks;
        let barred = bars.barred(
            &self.summary.input,
            &embeddings.model.sha256,
            tracks,
            |id| embeddings.mean(id),
        );
        let names = Names {
            gallery: gallery.map(|loaded| loaded.gallery),
            rule,
            repeated_names: naming.repeated_names,
            main_persons: naming.main_persons,
        };
        let before: HashMap<u64, Option<String>> =
            tracks.iter().map(|t| (t.track.track, shown(t))).collect();
        let restriction = names.apply(&mut self.summary, &rows, &barred);
        if restriction.renamed.is_empty() {
            return Ok(None);
        }
        let mut changes = Vec::new();
        for track in &self.summary.tracks {
            let id = track.track.track;
            let (from, to) = (before.get(&id).cloned().flatten(), shown(track));
            if from != to {
                changes.push(Change {
                    folder: self.name.clone(),
                    track: id,
                    from,
                    to,
                    person: track.person.clone(),
                });
            }
        }
        Ok(Some((restriction, changes)))
    }

    fn expect_model(&self, loaded: Source, model: &ModelId) -> Result<()> {
        let of = &loaded.gallery.model;
        ensure!(
            of.sha256 == model.sha256,
            "{} was made by the model {}, the tracks in {} by {}: their embeddings cannot be compared; name \
             a gallery of that model, or analyse again with `facepipe analyze --model {}`",
            loaded.named.path.display(),
            gallery::model(of),
            self.folder.display(),
            gallery::model(model),
            of.name
        );
        Ok(())
    }

    /// Writes lines and summary. From beginning to end, the summary says that it is under way.
    fn write(&mut self, restriction: &Restriction) -> Result<()> {
        let mut all = Restriction::default();
        let restriction = match self.summary.renaming {
            // Nobody knows which names the lines have: every face gets the name of its track.
            true => {
                all.renamed
                    .extend(self.summary.tracks.iter().map(|t| t.track.track));
                &all
            }
            false => restriction,
        };
        let was_intact = self.summary.renaming || self.summary.is_intact(&self.folder, LINES);
        self.summary.renaming = true;
        self.save()?;
        self.lines(restriction)?;
        // Lines that were damaged before must not pass as whole.
        if was_intact {
            self.summary.note_file(&self.folder, LINES)?;
        }
        self.summary.renaming = false;
        self.save()
    }

    /// Writes the summary, and the lines if an earlier renaming was interrupted.
    fn repair(&mut self) -> Result<()> {
        match self.summary.renaming {
            true => self.write(&Restriction::default()),
            false => self.save(),
        }
    }

    fn lines(&self, restriction: &Restriction) -> Result<()> {
        let path = self.folder.join(LINES);
        let smoothing = match &self.summary.naming {
            Some(naming) => naming.smoothing,
            None => Smoothing::Track,
        };
        let rewriter = Rewriter::new(&self.summary.tracks, smoothing, Some(restriction));
        let output = Output::replace(&path)?;
        let unwritable = || format!("{} cannot be written", path.display());
        let file = File::create(output.writable()).with_context(unwritable)?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        for line in record::lines(&path)? {
            let mut line = line?;
            rewriter.rewrite(&mut line);
            serde_json::to_writer(&mut out, &line).with_context(unwritable)?;
            out.write_all(b"\n").with_context(unwritable)?;
        }
        out.flush().with_context(unwritable)?;
        output.keep().map(drop)
    }

    fn save(&self) -> Result<()> {
        let path = self.folder.join(SUMMARY);
        let output = Output::replace(&path)?;
        let text = serde_json::to_string_pretty(&self.summary)? + "\n";
        fs::write(output.writable(), text)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        output.keep().map(drop)
    }
}

fn full(row: &[f32]) -> Embedded {
    Embedded {
        embedding: Arc::from(row),
        weight: 1.0,
    }
}

/// The rule for embeddings of a model.
fn rule(naming: &NamedBy, model: &str) -> Result<Rule> {
    let of = Model::find(model).map(|model| Rule::of(&model.descriptor));
    let rule = match of {
        Ok(rule) => rule,
        Err(_) if naming.distance_threshold.is_some() => rule_without_model(naming),
        Err(error) => {
            return Err(error).with_context(|| {
                format!("the rule of the model `{model}` is unknown; give --distance-threshold")
            });
        }
    };
    Ok(Rule {
        false_name_rate: naming.false_name_rate.unwrap_or(FALSE_NAME_RATE),
        distance_threshold: naming.distance_threshold,
        ..rule
    })
}

fn rule_without_model(naming: &NamedBy) -> Rule {
    Rule {
        false_name_rate: naming.false_name_rate.unwrap_or(FALSE_NAME_RATE),
        distance_threshold: naming.distance_threshold,
        strangers: None,
        fallback: face_gallery::vote::DISTANCE_THRESHOLD,
    }
}
