//! Builds GStreamer pipelines and explains their errors.

mod lost;
mod stop;

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use gst::prelude::*;

pub use stop::stop;

use crate::address;
use crate::interrupt;
use crate::output::{Output, Sink};

/// The Debian package that contains an element.
fn package(element: &str) -> &'static str {
    match element {
        "x264enc" => "gstreamer1.0-plugins-ugly",
        "avenc_aac" => "gstreamer1.0-libav",
        "openh264enc" | "h264parse" | "hlssink2" | "voaacenc" | "fdkaacenc" => {
            "gstreamer1.0-plugins-bad"
        }
        "aacparse" | "autovideosink" | "deinterlace" | "jpegenc" | "matroskamux" | "mp4mux"
        | "pngenc" | "rtspsrc" | "v4l2src" | "videocrop" | "videoflip" => {
            "gstreamer1.0-plugins-good"
        }
        "rtspclientsink" => "gstreamer1.0-rtsp",
        "capsfilter" | "fdsink" | "filesink" | "queue" | "tee" => "libgstreamer1.0-0",
        _ => "gstreamer1.0-plugins-base",
    }
}

/// Makes an element.
pub fn make(name: &str) -> Result<gst::Element> {
    make_first(&[name])
}

/// Makes the first of `names` that is installed.
pub fn make_first(names: &[&str]) -> Result<gst::Element> {
    for name in names {
        if let Ok(element) = gst::ElementFactory::make(name).build() {
            return Ok(element);
        }
    }
    Err(missing(names))
}

/// The error that none of the elements `names` is installed.
pub fn missing(names: &[&str]) -> anyhow::Error {
    let choices: Vec<_> = names
        .iter()
        .map(|name| format!("`{name}` (Debian package {})", package(name)))
        .collect();
    anyhow!(
        "the GStreamer element {} is missing; install it",
        choices.join(" or ")
    )
}

/// Sets a property from its text form, which GStreamer converts to the property's type.
pub fn set(element: &gst::Element, property: &str, value: impl ToString) -> Result<()> {
    let name = element.factory().map(|f| f.name()).unwrap_or_default();
    let spec = element
        .find_property(property)
        .ok_or_else(|| anyhow!("the element `{name}` has no property `{property}`"))?;
    let value = value.to_string();
    let value = glib::Value::deserialize_with_pspec(&value, &spec)
        .map_err(|_| anyhow!("`{value}` is not valid for `{property}` of the element `{name}`"))?;
    element.set_property_from_value(property, &value);
    Ok(())
}

/// Adds `elements` to `pipeline` and links them in order.
pub fn chain(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<()> {
    pipeline.add_many(elements)?;
    gst::Element::link_many(elements)?;
    Ok(())
}

/// Makes a sink that waits neither for the clock nor for other sinks. Next to an encoder, whose
/// look-ahead exceeds the queues, it would wait for the other sinks for ever.
pub fn free_sink(name: &str) -> Result<gst::Element> {
    let sink = make(name)?;
    set(&sink, "sync", false)?;
    set(&sink, "async", false)?;
    Ok(sink)
}

/// A free sink that writes to `output`, which must outlive it. Once it is linked, call
/// [`check_muxer`].
pub fn output_sink(output: &Output) -> Result<gst::Element> {
    match output.sink() {
        Sink::Location(path) => {
            let sink = free_sink("filesink")?;
            sink.set_property("location", path);
            Ok(sink)
        }
        Sink::Descriptor(descriptor) => {
            let sink = free_sink("fdsink")?;
            sink.set_property("fd", descriptor);
            never_seek(&sink)?;
            Ok(sink)
        }
    }
}

/// Makes a `filesink`, or an `fdsink` in its place, write to `output`, which must outlive it. The
/// pipeline must not run yet.
pub fn write_to(sink: &gst::Element, output: &Output) -> Result<()> {
    if let Sink::Location(path) = output.sink() {
        sink.set_property("location", path);
        return Ok(());
    }
    let other = output_sink(output)?;
    for property in ["sync", "async"] {
        other.set_property_from_value(property, &sink.property_value(property));
    }
    let parent = sink.parent().and_downcast::<gst::Bin>();
    let parent = parent.ok_or_else(|| anyhow!("a sink without a pipeline"))?;
    let peer = pad(sink, "sink")?.peer();
    parent.remove(sink)?;
    parent.add(&other)?;
    if let Some(peer) = peer {
        peer.link(&pad(&other, "sink")?)?;
    }
    check_muxer(&other, output)
}

/// Answers that the output of a sink is not seekable. `fdsink` would try to seek, even in files
/// that others write, too.
fn never_seek(sink: &gst::Element) -> Result<()> {
    let answer = |_: &gst::Pad, info: &mut gst::PadProbeInfo| {
        let Some(gst::QueryViewMut::Seeking(seeking)) = info.query_mut().map(|q| q.view_mut())
        else {
            return gst::PadProbeReturn::Ok;
        };
        let nowhere = gst::GenericFormattedValue::none_for_format(seeking.format());
        seeking.set(false, nowhere, nowhere);
        gst::PadProbeReturn::Handled
    };
    pad(sink, "sink")?.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, answer);
    Ok(())
}

/// Fails if a muxer before `sink` seeks back in its file at the end and `output` cannot. The file
/// would be unreadable, without an error.
pub fn check_muxer(sink: &gst::Element, output: &Output) -> Result<()> {
    if output.is_file() {
        return Ok(());
    }
    let goes_back = |element: &gst::Element| {
        let family = glib::Type::from_name("GstBaseQTMux");
        let fragments = element
            .find_property("fragment-duration")
            .is_some_and(|_| element.property::<u32>("fragment-duration") > 0);
        family.is_some_and(|family| element.type_().is_a(family)) && !fragments
    };
    let mut element = sink.clone();
    // Skips queues and the like.
    while let [sink] = element.sink_pads().as_slice()
        && let Some(before) = sink.peer().and_then(|pad| pad.parent_element())
    {
        element = before;
        ensure!(
            !goes_back(&element),
            "{} cannot take MP4, whose writer seeks back at the end; name a file, or write .mkv",
            output.name()
        );
    }
    Ok(())
}

/// A static pad of an element.
pub fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad> {
    element
        .static_pad(name)
        .ok_or_else(|| anyhow!("the element `{}` has no pad `{name}`", element.name()))
}

/// Starts the pipeline. This loads the models, so it may take a second.
pub fn start(pipeline: &gst::Pipeline) -> Result<()> {
    lost::find(pipeline);
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(first_error(pipeline)
            .unwrap_or_else(|| anyhow!("the pipeline does not start and gives no reason")));
    }
    Ok(())
}

/// The same if nothing else is running: a source may be a pipe without a writer.
pub fn start_alone(pipeline: &gst::Pipeline) -> Result<()> {
    let _waiting = interrupt::waiting();
    start(pipeline)
}

/// The first error on the bus, if any.
pub fn first_error(pipeline: &gst::Pipeline) -> Option<anyhow::Error> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(explain(error)),
        _ => None,
    }
}

/// Whether an error concerns a sink's output, such as a full disk, and not the input.
fn is_of_output(error: &gst::message::Error) -> bool {
    use gst::ResourceError::{Close, NoSpaceLeft, OpenWrite, Write};
    let kinds = [Close, NoSpaceLeft, OpenWrite, Write];
    let sink = error
        .src()
        .and_then(|src| src.downcast_ref::<gst::Element>())
        .is_some_and(|element| element.element_flags().contains(gst::ElementFlags::SINK));
    sink && kinds.iter().any(|kind| error.error().matches(*kind))
}

/// The error for an error message from the bus, in words for the user.
pub fn explain(error: &gst::message::Error) -> anyhow::Error {
    anyhow!(readable(error.src(), &error.error(), error.debug()))
}

/// The text for a warning from the bus, in words for the user.
pub fn warning(warning: &gst::message::Warning) -> String {
    readable(warning.src(), &warning.error(), warning.debug())
}

fn readable(
    src: Option<&gst::Object>,
    error: &glib::Error,
    debug: Option<glib::GString>,
) -> String {
    let summary = error.message().trim().to_owned();
    let details = debug.map(|debug| details(&debug)).unwrap_or_default();
    // Our own elements put everything into the details; GStreamer prefixes its general phrase.
    let ours = src
        .and_then(|src| src.downcast_ref::<gst::Element>())
        .and_then(|element| element.factory())
        .is_some_and(|factory| factory.name().starts_with("face"));
    let text = match (ours, details.is_empty(), summary.is_empty()) {
        (_, true, _) => summary,
        (true, false, _) | (_, false, true) => details,
        (false, false, false) => format!("{summary} ({details})"),
    };
    // Sources mention their address.
    address::redact(&text)
}

/// The debug information after the line that gives the source location.
fn details(debug: &str) -> String {
    let text = match debug.split_once('\n') {
        Some((_place, text)) => text,
        None if debug.contains(" (): /Gst") => "",
        None => debug,
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Warnings from the bus, each kept once.
#[derive(Default)]
pub struct Warnings {
    /// In the order of their first appearance, with how often they came.
    texts: Vec<(String, u64)>,
}

impl Warnings {
    /// The most different texts. Some contain numbers.
    const MOST: usize = 20;

    /// Counts a warning. Returns its text if it is new.
    pub fn note(&mut self, message: &gst::message::Warning) -> Option<String> {
        let text = warning(message);
        if let Some((_, count)) = self.texts.iter_mut().find(|(known, _)| *known == text) {
            *count += 1;
            return None;
        }
        if self.texts.len() == Self::MOST {
            if let Some((_, count)) = self.texts.last_mut() {
                *count += 1;
            }
            return None;
        }
        self.texts.push((text.clone(), 1));
        Some(text)
    }

    pub fn count(&self) -> u64 {
        self.texts.iter().map(|(_, count)| count).sum()
    }

    /// How many there were, and the first of them.
    pub fn summary(&self) -> Option<String> {
        let (first, _) = self.texts.first()?;
        match self.count() {
            1 => Some(format!("warning: {first}")),
            count => Some(format!("{count} warnings, the first: {first}")),
        }
    }
}

/// The kinds of stream without a decoder, as reported on the bus, and what else may prevent
/// decoding.
#[derive(Default)]
pub struct Undecodable {
    missing: Vec<String>,
    flaw: Option<String>,
}

/// The text without the input's name in front, which its address already says.
fn without_name(text: String, input: &Path) -> String {
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    let rest = text.strip_prefix(&*name);
    match rest.and_then(|rest| rest.strip_prefix(": ")) {
        Some(rest) if !name.is_empty() => rest.to_owned(),
        _ => text,
    }
}

impl Undecodable {
    /// For an input with this flaw.
    pub fn of(flaw: Option<String>) -> Self {
        Self {
            missing: Vec::new(),
            flaw,
        }
    }

    /// What is missing of the input, in words for the user.
    pub fn flaw(&self) -> Option<&str> {
        self.flaw.as_deref()
    }

    pub fn note(&mut self, message: &gst::message::Element) {
        if let Ok(missing) = gst_pbutils::MissingPluginMessage::parse(message) {
            self.missing.push(missing.description().to_string());
        }
    }

    /// Explains why the pipeline failed with `error`. A missing decoder causes an error that does
    /// not name it; its own message may follow on the bus.
    pub fn explain(
        &mut self,
        error: &gst::message::Error,
        pipeline: &gst::Pipeline,
        input: &Path,
    ) -> anyhow::Error {
        let behind = || pipeline.bus()?.pop_filtered(&[gst::MessageType::Element]);
        while let Some(message) = behind() {
            if let gst::MessageView::Element(element) = message.view() {
                self.note(element);
            }
        }
        self.error(input).unwrap_or_else(|| {
            let cause = match (is_of_output(error), &self.flaw) {
                (true, _) => explain(error).context("the output cannot be written"),
                // GStreamer's words for it do not help.
                (false, Some(flaw)) => anyhow!("{flaw}"),
                (false, None) => anyhow!(without_name(explain(error).to_string(), input)),
            };
            cause.context(address::shown(input))
        })
    }

    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// An error that names the missing decoders, if any.
    pub fn error(&self, input: &Path) -> Option<anyhow::Error> {
        (!self.missing.is_empty()).then(|| {
            anyhow!(
                "{}: this GStreamer cannot decode it, missing: {}; install the Debian packages \
                 gstreamer1.0-libav and gstreamer1.0-plugins-bad",
                address::shown(input),
                self.missing.join(", ")
            )
        })
    }
}

/// A pipeline that is shut down when it is dropped.
pub struct Running(pub gst::Pipeline);

impl Running {
    pub fn new() -> Self {
        Self(gst::Pipeline::new())
    }
}

impl Default for Running {
    fn default() -> Self {
        Self::new()
    }
}

impl std::ops::Deref for Running {
    type Target = gst::Pipeline;

    fn deref(&self) -> &gst::Pipeline {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        stop(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_element_names_its_package() {
        gst::init().expect("GStreamer starts");
        let error = make_first(&["no-such-element"])
            .expect_err("there is none")
            .to_string();
        assert!(error.contains("`no-such-element`"), "{error}");
        assert_eq!(package("x264enc"), "gstreamer1.0-plugins-ugly");
    }

    #[test]
    fn wrong_values_are_errors_and_no_panics() {
        gst::init().expect("GStreamer starts");
        let queue = make("queue").expect("in GStreamer's core");
        assert!(set(&queue, "max-size-buffers", 3).is_ok());
        assert_eq!(queue.property::<u32>("max-size-buffers"), 3);
        for (property, value) in [("max-size-buffers", "three"), ("colour", "red")] {
            let error = set(&queue, property, value)
                .expect_err("refused")
                .to_string();
            assert!(error.contains(property), "{error}");
        }
    }

    #[test]
    fn the_place_in_the_source_is_cut_off() {
        let debug = "gst/src/imp.rs(12): start (): /GstPipeline:p/GstX:x:\nno model `y`:\n  set it";
        assert_eq!(details(debug), "no model `y`: set it");
        assert_eq!(details("a.c(1): f (): /GstPipeline:p/GstX:x"), "");
        assert_eq!(details("plain"), "plain");
    }
}
