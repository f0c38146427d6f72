//! Building GStreamer pipelines and saying what went wrong in them.

mod lost;

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use gst::prelude::*;

use crate::address;
use crate::interrupt;
use crate::live::secret;
use crate::output::{Output, Sink};

/// The Debian package that an element is in.
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

/// Says that none of the elements `names` is installed.
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

/// Sets a property from its text form, which GStreamer turns into the property's own type.
pub fn set(element: &gst::Element, property: &str, value: impl ToString) -> Result<()> {
    let name = element.factory().map(|f| f.name()).unwrap_or_default();
    let spec = element
        .find_property(property)
        .ok_or_else(|| anyhow!("the element `{name}` has no property `{property}`"))?;
    let value = value.to_string();
    let value = glib::Value::deserialize_with_pspec(&value, &spec)
        .map_err(|_| anyhow!("`{value}` is no value for `{property}` of the element `{name}`"))?;
    element.set_property_from_value(property, &value);
    Ok(())
}

/// Adds `elements` to `pipeline` and links them in a row.
pub fn chain(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<()> {
    pipeline.add_many(elements)?;
    gst::Element::link_many(elements)?;
    Ok(())
}

/// Makes a sink that waits neither for the clock nor for other sinks. The latter would be for ever
/// beside an encoder, which looks ahead further than the queues reach.
pub fn free_sink(name: &str) -> Result<gst::Element> {
    let sink = make(name)?;
    set(&sink, "sync", false)?;
    set(&sink, "async", false)?;
    Ok(sink)
}

/// A free sink that writes to `output`, which must live as long. Once it is linked, ask [`check_muxer`].
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

/// Lets a `filesink` of a pipeline that does not run yet write to `output`, which must live as long; or an
/// `fdsink` in its place.
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

/// Says that nobody can go back in what a sink writes: `fdsink` would try, in files that others write, too.
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

/// Fails if a muxer before `sink` goes back in its file at the end and `output` cannot: it would be
/// unreadable, and nobody says so.
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
    // Queues and such may be in between.
    while let [sink] = element.sink_pads().as_slice()
        && let Some(before) = sink.peer().and_then(|pad| pad.parent_element())
    {
        element = before;
        ensure!(
            !goes_back(&element),
            "{} takes no MP4, whose writer goes back in it at the end; name a file, or write .mkv",
            output.name()
        );
    }
    Ok(())
}

/// A pad that every element of this kind has.
pub fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad> {
    element
        .static_pad(name)
        .ok_or_else(|| anyhow!("the element `{}` has no pad `{name}`", element.name()))
}

/// Starts the pipeline. Models are loaded in here, so this may take a second.
pub fn start(pipeline: &gst::Pipeline) -> Result<()> {
    lost::find(pipeline);
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(first_error(pipeline)
            .unwrap_or_else(|| anyhow!("the pipeline does not start, and does not say why")));
    }
    Ok(())
}

/// The same where nothing else is at work: a source may be a pipe that nobody writes to.
pub fn start_alone(pipeline: &gst::Pipeline) -> Result<()> {
    let _waiting = interrupt::waiting();
    start(pipeline)
}

/// The first error that waits on the bus, if any.
pub fn first_error(pipeline: &gst::Pipeline) -> Option<anyhow::Error> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    match message.view() {
        gst::MessageView::Error(error) => Some(explain(error)),
        _ => None,
    }
}

/// Whether an error is of what a sink writes to, such as a full disk, and not of the input.
fn is_of_output(error: &gst::message::Error) -> bool {
    use gst::ResourceError::{Close, NoSpaceLeft, OpenWrite, Write};
    let kinds = [Close, NoSpaceLeft, OpenWrite, Write];
    let sink = error
        .src()
        .and_then(|src| src.downcast_ref::<gst::Element>())
        .is_some_and(|element| element.element_flags().contains(gst::ElementFlags::SINK));
    sink && kinds.iter().any(|kind| error.error().matches(*kind))
}

/// An error message from the bus as the user should read it.
pub fn explain(error: &gst::message::Error) -> anyhow::Error {
    anyhow!(readable(error.src(), &error.error(), error.debug()))
}

/// A warning from the bus as the user should read it.
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
    // Our own elements say it all in the details; before those stands GStreamer's general phrase.
    let ours = src
        .and_then(|src| src.downcast_ref::<gst::Element>())
        .and_then(|element| element.factory())
        .is_some_and(|factory| factory.name().starts_with("face"));
    let text = match (ours, details.is_empty(), summary.is_empty()) {
        (_, true, _) => summary,
        (true, false, _) | (_, false, true) => details,
        (false, false, false) => format!("{summary} ({details})"),
    };
    // A source tells its address.
    secret::redact(&text)
}

/// What stands in debug information behind the line that says where in the source it was.
fn details(debug: &str) -> String {
    let text = match debug.split_once('\n') {
        Some((_place, text)) => text,
        None if debug.contains(" (): /Gst") => "",
        None => debug,
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The kinds of stream that there is no decoder for, as the bus tells.
#[derive(Default)]
pub struct Undecodable(Vec<String>);

impl Undecodable {
    pub fn note(&mut self, message: &gst::message::Element) {
        if let Ok(missing) = gst_pbutils::MissingPluginMessage::parse(message) {
            self.0.push(missing.description().to_string());
        }
    }

    /// Why the pipeline failed with `error`: a missing decoder ends in an error that does not name
    /// it, and may stand on the bus behind it.
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
            let cause = match is_of_output(error) {
                true => explain(error).context("the output cannot be written"),
                false => explain(error),
            };
            cause.context(address::shown(input))
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names the missing decoders, if there are any.
    pub fn error(&self, input: &Path) -> Option<anyhow::Error> {
        (!self.0.is_empty()).then(|| {
            anyhow!(
                "{}: this GStreamer cannot decode it, missing: {}; install the Debian packages \
                 gstreamer1.0-libav and gstreamer1.0-plugins-bad",
                address::shown(input),
                self.0.join(", ")
            )
        })
    }
}

/// A pipeline that is shut down when it goes out of scope, however that comes.
pub struct Running(pub gst::Pipeline);

impl Running {
    pub fn new() -> Self {
        Self(gst::Pipeline::new())
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
        let _ = self.0.set_state(gst::State::Null);
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
