//! The analysis of one input, from its first frame to its files.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use face_core::model::{Descriptor, Model, Task};
use gst::prelude::*;
use gstfacerecog::gallery::{Gallery, ModelId};
use image::RgbImage;

use super::collect::{Collection, Collector};
use super::inputs::Input;
use super::naming::{Namer, Restriction, Rewriter, Smoothing, restrict, set_name};
use super::tally::{Overview, Tally};
use super::{Args, people, write};
use crate::graph::{self, free_sink, make, pad};
use crate::record::{self, Summary};
use crate::source::Source;
use crate::stages::{self, Counter, picture_queue};
use crate::ui::Progress;
use crate::{enroll, interrupt};

/// How long the end of a live stream and its results may take after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all inputs share.
pub struct Analyzer<'a> {
    args: &'a Args,
    extras: stages::Extras,
    model: Descriptor,
    model_id: ModelId,
    /// Read only where tracks are named here.
    gallery: Option<Gallery>,
    neighbors: usize,
    threshold: f64,
    /// Keeps the models loaded between two inputs.
    _loaded: graph::Running,
}

/// How the work on one input ended.
pub enum Ended {
    Whole(Box<Summary>),
    /// By Ctrl-C.
    Interrupted,
}

impl<'a> Analyzer<'a> {
    /// Loads models and gallery; what is wrong with them is wrong for every input.
    pub fn new(args: &'a Args) -> Result<Self> {
        let each_frame = args.smoothing == Smoothing::None;
        let extras = stages::Extras {
            embeddings: true,
            each_frame,
            ..Default::default()
        };
        let model = Model::find(&args.stages.model)?;
        model.expect_task(Task::Recognition)?;
        let (_, sha256) = model.read_weights()?;

        let loaded = graph::Running::new();
        let end = free_sink("fakesink")?;
        stages::build_with(&loaded, &args.stages, extras, &end)?;
        graph::start(&loaded)?;
        let recognizer = loaded
            .children()
            .into_iter()
            .find(|e| e.factory().is_some_and(|f| f.name() == "facerecognizer"))
            .context("there is no recogniser")?;

        let names_here = each_frame || args.main_persons.is_some();
        let gallery = args.stages.gallery.as_ref().filter(|_| names_here);
        Ok(Self {
            args,
            extras,
            model_id: ModelId {
                name: model.descriptor.name.clone(),
                sha256,
            },
            model: model.descriptor,
            gallery: gallery.map(|path| Gallery::read(path)).transpose()?,
            neighbors: recognizer.property::<u32>("neighbors") as usize,
            threshold: recognizer.property("distance-threshold"),
            _loaded: loaded,
        })
    }

    /// The sha256 of the recognition model.
    pub fn model_sha256(&self) -> &str {
        &self.model_id.sha256
    }

    /// Analyses `input` and writes its files into `folder`, which is empty.
    pub fn analyze(
        &self,
        input: &Input,
        fingerprint: String,
        folder: &Path,
        progress: &mut Progress,
    ) -> Result<Ended> {
        let raw = folder.join("faces.part");
        let Some(collection) = self.stream(input, &raw, folder, progress)? else {
            return Ok(Ended::Interrupted);
        };
        let mut tally = Tally::default();
        for line in record::lines(&raw)? {
            tally.add(&line?);
        }
        let mut overview = tally.finish(self.args.stages.interval(), self.extras.each_frame);
        ensure!(
            overview.frames > 0,
            "no frame of {} could be decoded",
            input.path.display()
        );
        let restriction = self.name(&mut overview, &collection);
        let rewriter = Rewriter::new(&overview.tracks, self.args.smoothing, restriction.as_ref());
        write::lines(&raw, &folder.join("faces.jsonl"), &rewriter)?;
        std::fs::remove_file(&raw)?;
        write::embeddings(
            &collection.embeddings,
            &self.model_id,
            self.model.dimensions.unwrap_or(0),
            &folder.join("tracks.safetensors"),
        )?;

        let mut summary = Summary {
            version: 1,
            input: input.id.clone(),
            fingerprint,
            width: overview.width,
            height: overview.height,
            frames: overview.frames,
            duration_ns: overview.duration_ns,
            people: people::rank(&overview),
            tracks: overview.tracks.into_iter().map(|t| t.summary).collect(),
            ..Summary::default()
        };
        for track in &mut summary.tracks {
            track.thumbnail = collection.thumbnails.get(&track.track.track).cloned();
        }
        summary.note_files(folder)?;
        write::json(&summary, &folder.join("summary.json"))?;
        Ok(Ended::Whole(Box::new(summary)))
    }

    /// Gives whole tracks their names, where that is not what the lines say.
    fn name(&self, overview: &mut Overview, collection: &Collection) -> Option<Restriction> {
        let gallery = self.gallery.as_ref()?;
        let namer = Namer {
            gallery,
            neighbors: self.neighbors,
            threshold: self.threshold,
        };
        let embeddings = |id| collection.embeddings_of(id);
        if self.extras.each_frame {
            for track in &mut overview.tracks {
                let verdict = namer.name(embeddings(track.summary.track.track));
                set_name(&mut track.summary, verdict);
            }
        }
        let which = self.args.main_persons?;
        let main = people::choose(&people::rank(overview), which);
        let renamed = restrict(&mut overview.tracks, &main, &namer, embeddings);
        Some(Restriction { main, renamed })
    }

    /// Sends the input through the stages and its lines to `raw`; `None` if Ctrl-C ended it early.
    fn stream(
        &self,
        input: &Input,
        raw: &Path,
        folder: &Path,
        progress: &mut Progress,
    ) -> Result<Option<Collection>> {
        let pipeline = graph::Running::new();
        let queue = picture_queue()?;
        let json = make("facemetajson")?;
        let sink = free_sink("filesink")?;
        sink.set_property("location", raw);
        let first = stages::build_with(&pipeline, &self.args.stages, self.extras, &queue)?;
        pipeline.add_many([&json, &sink])?;
        gst::Element::link_many([&queue, &json, &sink])?;
        let end = pad(&json, "sink")?;
        let counter = Arc::new(Counter::default());
        counter.watch(&end);
        let collector = Collector::new(&self.model, folder)?.watch(&end);
        let whole = match input.is_picture {
            true => show_picture(&pipeline, input, &first)?,
            false => play(&pipeline, input, &first, &counter, progress)?,
        };
        // Shuts the pipeline down, which closes the file.
        drop(pipeline);
        whole.then(|| collector.finish()).transpose()
    }
}

/// Plays a video to its end, or a live one until Ctrl-C; `false` if Ctrl-C cut it short.
fn play(
    pipeline: &gst::Pipeline,
    input: &Input,
    first: &gst::Element,
    counter: &Counter,
    progress: &mut Progress,
) -> Result<bool> {
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
            return Ok(true);
        }
        // Before it is shown, which asks how long the video is.
        let begun = counter.frames() > 0;
        counter.show(pipeline, started, progress);
        if interrupt::requested() && !stopping {
            // A live source has no other end.
            if !begun || progress.total().is_some() {
                return Ok(false);
            }
            stopping = true;
            interrupt::finish_within(PATIENCE);
            source.end();
        }
        source.connect(|| Ok(None))?;
    }
}

/// Sends a picture through the stages; `false` if Ctrl-C came before its end.
fn show_picture(pipeline: &gst::Pipeline, input: &Input, first: &gst::Element) -> Result<bool> {
    let name = input.path.display();
    let picture = enroll::read_image(&input.path)
        .with_context(|| format!("{name} cannot be read as a picture"))?;
    let (buffer, caps) = frame(&picture)?;
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

/// A picture as a video frame.
fn frame(picture: &RgbImage) -> Result<(gst::Buffer, gst::Caps)> {
    let (width, height) = picture.dimensions();
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .fps(gst::Fraction::new(0, 1))
        .build()?;
    let mut buffer = gst::Buffer::with_size(info.size())?;
    {
        let buffer = buffer
            .get_mut()
            .ok_or_else(|| anyhow!("a new buffer is shared"))?;
        buffer.set_pts(gst::ClockTime::ZERO);
        let mut map = buffer.map_writable()?;
        let rows = map.chunks_exact_mut(info.stride()[0] as usize);
        for (to, from) in rows.zip(picture.as_raw().chunks_exact(3 * width as usize)) {
            to[..from.len()].copy_from_slice(from);
        }
    }
    Ok((buffer, info.to_caps()?))
}
