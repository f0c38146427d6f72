//! Analyses one input, from its first frame to its files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use face_core::model::{Descriptor, Model};
use face_core::still;
use face_gallery::evidence::Mean;
use face_gallery::group::Nearness;
use face_gallery::vote::{FALSE_NAME_RATE, Rule};
use face_gallery::{Gallery, ModelId};
use face_picture::Picture;
use gst::prelude::*;

use super::collect::{Collection, Collector};
use super::inputs::Input;
use super::naming::{Namer, Restriction, Rewriter, Smoothing, restrict, set_name, settle};
use super::stitch::Look;
use super::tally::{Overview, Tally};
use super::{Options, people, write};
use crate::name::NamedBy;
use crate::name::bars::{Barred, Bars, hold};
use crate::record::{self, Summary, TrackSummary};
use face_parts::graph::{self, free_sink, make, pad};
use face_parts::interrupt;
use face_parts::source::Source;
use face_parts::stages::{self, Counter, picture_queue};
use face_parts::ui::Progress;

/// How long the end of a live stream and writing its results may take after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(60);

/// Shared by all inputs.
pub struct Analyzer<'a> {
    options: &'a Options,
    extras: stages::Extras,
    model: Descriptor,
    model_id: ModelId,
    /// The length of an embedding.
    dimensions: usize,
    /// To name whole tracks.
    gallery: Option<Gallery>,
    rule: Rule,
    /// Keeps the models loaded between inputs.
    _loaded: graph::Running,
}

/// What is recorded of how an input was analysed, and the names that its tracks must not get.
pub struct Marks {
    pub fingerprint: String,
    pub naming: NamedBy,
    pub bars: Arc<Bars>,
}

/// How the analysis of an input ended.
pub enum Ended {
    /// With what the decoder complained about.
    Whole(Box<Summary>, Vec<String>),
    /// Ended by Ctrl-C.
    Interrupted,
}

impl<'a> Analyzer<'a> {
    /// Loads the models and the gallery. Their errors affect every input.
    pub fn new(options: &'a Options) -> Result<Self> {
        let each_frame = options.smoothing == Smoothing::None;
        let extras = stages::Extras {
            embeddings: true,
            each_frame,
            ..Default::default()
        };
        let model = Model::find(&options.stages.model)?;
        let (model_id, dimensions) = ModelId::of(&options.stages.model)?;

        let loaded = graph::Running::new();
        let end = free_sink("fakesink")?;
        stages::build_with(&loaded, &options.stages, extras, &end)?;
        graph::start(&loaded)?;

        let gallery = options.stages.gallery.as_ref();
        Ok(Self {
            options,
            extras,
            model_id,
            dimensions,
            gallery: gallery.map(|path| Gallery::read(path)).transpose()?,
            rule: Rule {
                false_name_rate: options.stages.false_name_rate.unwrap_or(FALSE_NAME_RATE),
                distance_threshold: options.stages.distance_threshold,
                ..Rule::of(&model.descriptor)
            },
            model: model.descriptor,
            _loaded: loaded,
        })
    }

    /// The gallery that names the tracks.
    pub fn gallery(&self) -> Option<&Gallery> {
        self.gallery.as_ref()
    }

    /// The sha256 of the recognition model.
    pub fn model_sha256(&self) -> &str {
        &self.model_id.sha256
    }

    /// Analyses `input` and writes its files into `folder`, which is empty.
    pub fn analyze(
        &self,
        input: &Input,
        marks: &Marks,
        folder: &Path,
        progress: &mut Progress,
    ) -> Result<Ended> {
        let raw = folder.join("faces.part");
        let Some(seen) = self.stream(input, &raw, folder, progress)? else {
            return Ok(Ended::Interrupted);
        };
        let collection = seen.collection;
        let mut tally = Tally::default();
        for line in record::lines(&raw)? {
            tally.add(&line?);
        }
        let mut overview = tally.finish(self.options.stages.interval, self.extras.each_frame);
        if let (0, Some(flaw)) = (overview.frames, &seen.trouble.flaw) {
            bail!("{}: {flaw}; nothing could be decoded", input.path.display());
        }
        ensure!(
            overview.frames > 0,
            "no frame of {} could be decoded",
            input.path.display()
        );
        let mut summary = Summary {
            version: 1,
            input: input.id.clone(),
            fingerprint: marks.fingerprint.clone(),
            naming: Some(marks.naming.clone()),
            width: overview.width,
            height: overview.height,
            frames: overview.frames,
            duration_ns: overview.duration_ns,
            flaw: seen.trouble.flaw,
            ..Summary::default()
        };
        let tracks: Vec<TrackSummary> = overview.tracks.iter().map(|t| t.summary.clone()).collect();
        let model = &self.model_id.sha256;
        let barred = marks.bars.barred(&input.id, model, &tracks, |id| {
            Mean::of(collection.embeddings_of(id)).unit()
        });
        let restriction = self.name(&mut overview, &collection, &summary, &barred);
        let rewriter = Rewriter::new(
            overview.tracks.iter().map(|t| &t.summary),
            self.options.smoothing,
            restriction.as_ref(),
        );
        write::lines(&raw, &folder.join("faces.jsonl"), &rewriter)?;
        std::fs::remove_file(&raw)?;
        write::embeddings(
            &collection.embeddings,
            &self.model_id,
            self.dimensions,
            &folder.join("tracks.safetensors"),
        )?;

        summary.tracks = overview.tracks.into_iter().map(|t| t.summary).collect();
        self.stitch(&mut summary, &collection);
        hold(&mut summary, &barred);
        for track in &mut summary.tracks {
            track.thumbnail = collection.thumbnails.get(&track.track.track).cloned();
        }
        summary.note_files(folder)?;
        write::json(&summary, &folder.join("summary.json"))?;
        Ok(Ended::Whole(Box::new(summary), seen.trouble.complaints))
    }

    /// Names whole tracks where the lines do not have the final names.
    fn name(
        &self,
        overview: &mut Overview,
        collection: &Collection,
        input: &Summary,
        barred: &Barred,
    ) -> Option<Restriction> {
        let gallery = self.gallery.as_ref()?;
        let namer = Namer {
            gallery,
            rule: self.rule,
            repeated_names: self.options.stages.repeated_names,
            barred,
        };
        let embeddings = |id| collection.embeddings_of(id);
        let mut renamed = BTreeSet::new();
        for track in &mut overview.tracks {
            let id = track.summary.track.track;
            let embeddings = embeddings(id);
            let is_barred = barred.contains_key(&id);
            // As `facepipe name` does later. The name of a running track is that of its last frame.
            let by_whole = self.options.smoothing != Smoothing::Running || is_barred;
            // Faces below `min-quality` were compared with nobody.
            if by_whole && !embeddings.is_empty() {
                set_name(&mut track.summary, namer.name(id, embeddings));
            }
            if is_barred {
                renamed.insert(id);
            }
        }
        settle(&mut overview.tracks, &namer, embeddings);
        let Some(which) = self.options.main_persons else {
            // On single frames, too, a barred track must not have the name.
            let main = gallery.people().iter().cloned().collect();
            return (!renamed.is_empty()).then_some(Restriction { main, renamed });
        };
        let mut named = Summary {
            tracks: overview.tracks.iter().map(|t| t.summary.clone()).collect(),
            ..input.clone()
        };
        self.stitch(&mut named, collection);
        hold(&mut named, barred);
        let main = people::choose(&named.people, which);
        renamed.extend(restrict(&mut overview.tracks, &main, &namer, embeddings));
        Some(Restriction { main, renamed })
    }

    /// Finds out which tracks are one person, and lists the people.
    fn stitch(&self, summary: &mut Summary, collection: &Collection) {
        people::stitch(summary, &Nearness::of(&self.model), |id| {
            Look::of(collection.embeddings_of(id))
        });
    }

    /// Sends the input through the stages and its lines to `raw`. `None` if Ctrl-C ended it early.
    fn stream(
        &self,
        input: &Input,
        raw: &Path,
        folder: &Path,
        progress: &mut Progress,
    ) -> Result<Option<Seen>> {
        let pipeline = graph::Running::new();
        let queue = picture_queue()?;
        let json = make("facemetajson")?;
        let sink = free_sink("filesink")?;
        sink.set_property("location", raw);
        let extras = stages::Extras {
            mirror: input.is_picture,
            ..self.extras
        };
        let first = stages::build_with(&pipeline, &self.options.stages, extras, &queue)?;
        pipeline.add_many([&json, &sink])?;
        gst::Element::link_many([&queue, &json, &sink])?;
        let end = pad(&json, "sink")?;
        let counter = Arc::new(Counter::default());
        counter.watch(&end);
        let collector = Collector::new(&self.model, folder)?.watch(&end);
        let trouble = match input.is_picture {
            true => {
                let path = &input.path;
                let unreadable = || format!("{} cannot be read as a picture", path.display());
                let bytes = face_picture::bytes(path).with_context(unreadable)?;
                if face_picture::is_animated(&bytes) {
                    drop(bytes);
                    play(&pipeline, input, &first, &counter, progress)?
                } else {
                    let picture = face_picture::read(&bytes, path).with_context(unreadable)?;
                    drop(bytes);
                    show_picture(&pipeline, input, picture, &first, progress)?
                        .then(Trouble::default)
                }
            }
            false => play(&pipeline, input, &first, &counter, progress)?,
        };
        // Shuts the pipeline down, which closes the file.
        drop(pipeline);
        let Some(mut trouble) = trouble else {
            return Ok(None);
        };
        trouble.complaints.extend(counter.damage());
        Ok(Some(Seen {
            collection: collector.finish()?,
            trouble,
        }))
    }
}

/// An input that went through the stages.
struct Seen {
    collection: Collection,
    trouble: Trouble,
}

/// What went wrong with an input that was analysed nevertheless.
#[derive(Default)]
struct Trouble {
    flaw: Option<String>,
    complaints: Vec<String>,
}

/// Plays a video to its end, or a live one until Ctrl-C. `None` if Ctrl-C cut it short.
fn play(
    pipeline: &gst::Pipeline,
    input: &Input,
    first: &gst::Element,
    counter: &Counter,
    progress: &mut Progress,
) -> Result<Option<Trouble>> {
    let uri = stages::uri(&input.path)?;
    let mut source = Source::build(pipeline, &input.path, &uri, first)?;
    graph::start(pipeline)?;
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let started = Instant::now();
    let mut stopping = false;
    loop {
        if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100))
            && source.handle(&message)?
        {
            return Ok(Some(Trouble {
                flaw: source.flaw().map(str::to_owned),
                complaints: source.warnings().into_iter().collect(),
            }));
        }
        // Before showing progress, which determines how long the video is.
        let begun = counter.frames() > 0;
        counter.show(pipeline, started, progress);
        if interrupt::requested() && !stopping {
            // A live source ends in no other way.
            if !begun || progress.total().is_some() {
                return Ok(None);
            }
            stopping = true;
            interrupt::finish_within(PATIENCE);
            source.end();
        }
        source.connect(|| Ok(None))?;
    }
}

/// Sends a picture through the stages. Returns `false` if Ctrl-C came before its end.
fn show_picture(
    pipeline: &gst::Pipeline,
    input: &Input,
    picture: Picture,
    first: &gst::Element,
    progress: &Progress,
) -> Result<bool> {
    let name = input.path.display();
    for note in &picture.notes {
        progress.note(&format!("{name}: {note}"));
    }
    let (buffer, info) = still::frame(picture.image.as_raw(), picture.image.dimensions())?;
    let caps = info.to_caps()?;
    let source = gst_app::AppSrc::builder()
        .format(gst::Format::Time)
        .caps(&caps)
        .build();
    pipeline.add(&source)?;
    source.link(first)?;
    graph::start(pipeline)?;
    let refused = source.push_buffer(buffer).is_err() || source.end_of_stream().is_err();
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    while !interrupt::requested() {
        let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100)) else {
            ensure!(!refused, "the pipeline does not take {name}");
            continue;
        };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(true),
            gst::MessageView::Error(error) => {
                return Err(graph::explain(error).context(name.to_string()));
            }
            _ => {}
        }
    }
    Ok(false)
}
