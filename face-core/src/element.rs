//! What the elements of all stages do alike.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use glib::{ParamSpec, Value};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;

use crate::error::Error;
use crate::image::ReadFrame;
use crate::model::Model;
use crate::session::{self, Options, PROVIDERS, SharedSession};
use crate::stats::{Stats, Work};

/// The properties that all inference stages have.
#[derive(Debug, Clone)]
pub struct Inference {
    /// Name or path.
    pub model: String,
    pub options: Options,
}

impl Inference {
    pub fn new(model: &str) -> Self {
        Self {
            model: model.into(),
            options: Options::default(),
        }
    }

    /// `model`, `execution-provider` and `threads`.
    pub fn properties(model: &str, blurb: &str) -> Vec<ParamSpec> {
        vec![
            glib::ParamSpecString::builder("model")
                .nick("Model")
                .blurb(blurb)
                .default_value(model)
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder("execution-provider")
                .nick("Execution provider")
                .blurb(&format!(
                    "What runs the model: cpu, {}",
                    PROVIDERS.join(", ")
                ))
                .default_value("cpu")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb(
                    "Threads inside one inference; stages run in parallel through queue elements",
                )
                .minimum(1)
                .maximum(256)
                .default_value(1)
                .mutable_ready()
                .build(),
        ]
    }

    /// Takes one of [`properties`](Self::properties); `false` if it is another.
    pub fn set(&mut self, name: &str, value: &Value) -> bool {
        let text = || {
            value
                .get::<Option<String>>()
                .ok()
                .flatten()
                .unwrap_or_default()
        };
        match name {
            "model" => self.model = text(),
            "execution-provider" => {
                self.options.provider = Some(text())
                    .filter(|p| !p.is_empty())
                    .unwrap_or("cpu".into());
            }
            "threads" => self.options.threads = value.get().unwrap_or(1),
            _ => return false,
        }
        true
    }

    /// The value of one of [`properties`](Self::properties).
    pub fn get(&self, name: &str) -> Option<Value> {
        match name {
            "model" => Some(self.model.to_value()),
            "execution-provider" => Some(self.options.provider.to_value()),
            "threads" => Some(self.options.threads.to_value()),
            _ => None,
        }
    }
}

/// Loads an element's models on threads of their own as soon as it leaves the state NULL. GStreamer
/// starts one element after the other; this way all load at once. What goes wrong is left to the
/// element's start, which loads again what it does not find loaded.
#[derive(Default)]
pub struct Preload(Mutex<Vec<JoinHandle<Option<Arc<SharedSession>>>>>);

impl Preload {
    /// Does the element's `change`. Call [`end`](Self::end) at the end of its start.
    pub fn change_state(
        &self,
        transition: gst::StateChange,
        inference: &Inference,
        change: impl FnOnce() -> Result<gst::StateChangeSuccess, gst::StateChangeError>,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::NullToReady {
            self.begin(inference);
        }
        let result = change();
        if transition == gst::StateChange::ReadyToNull || result.is_err() {
            self.end();
        }
        result
    }

    fn begin(&self, inference: &Inference) {
        let threads = inference.model.split(',').filter_map(|model| {
            let (model, options) = (model.trim().to_owned(), inference.options.clone());
            std::thread::Builder::new()
                .name("face-model".into())
                .spawn(move || session::load(&Model::find(&model).ok()?, &options).ok())
                .ok()
        });
        let threads = threads.collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = threads;
    }

    /// Waits for the threads and lets go of the models: the element holds those that it uses.
    pub fn end(&self) {
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic in there was reported by the start, too.
            let _ = thread.join();
        }
    }
}

/// Raw video in system memory, in any format. Those that decoders and cameras give, and that are
/// read in place, come first: a converter in front chooses the first that it can make.
pub fn pixel_caps() -> gst::Caps {
    use gst_video::VideoFormat::*;
    let preferred = [
        I420, Nv12, Yv12, Nv21, Yuy2, Uyvy, Bgrx, Rgbx, Bgra, Rgba, Rgb, Bgr, Gray8,
    ];
    let others = gst_video::VideoFormat::iter_raw().filter(|format| !preferred.contains(format));
    let formats: Vec<_> = preferred.into_iter().chain(others).collect();
    gst_video::VideoCapsBuilder::new()
        .format_list(formats)
        .build()
}

/// Raw video in any format and any memory.
pub fn any_video_caps() -> gst::Caps {
    gst::Caps::builder_full_with_any_features()
        .structure(gst::Structure::new_empty("video/x-raw"))
        .build()
}

/// Pad templates of an element that passes `caps` through.
pub fn pad_templates(caps: &gst::Caps) -> Vec<gst::PadTemplate> {
    [
        ("sink", gst::PadDirection::Sink),
        ("src", gst::PadDirection::Src),
    ]
    .into_iter()
    .filter_map(|(name, direction)| {
        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).ok()
    })
    .collect()
}

/// Runs an in-place stage on the buffer that waits in a `BaseTransform`, as [`work_on`] does. An error
/// is posted on the bus.
pub fn in_place<T>(
    stage: &T,
    stats: &Stats,
    work: impl FnOnce(&mut gst::BufferRef, &mut Work) -> Result<(), Error>,
) -> Result<GenerateOutputSuccess, gst::FlowError>
where
    T: BaseTransformImpl + ObjectSubclass,
    <T as ObjectSubclass>::Type: IsA<gst::Element>,
    <T as ObjectSubclass>::ParentType: IsA<gst_base::BaseTransform>,
{
    let Some(buffer) = stage.take_queued_buffer() else {
        return Ok(GenerateOutputSuccess::NoOutput);
    };
    match work_on(buffer, stats, work) {
        Ok(buffer) => Ok(GenerateOutputSuccess::Buffer(buffer)),
        Err(error) => {
            post(&*stage.obj(), &error);
            Err(gst::FlowError::Error)
        }
    }
}

/// Runs an in-place stage on a buffer: `work` may change its metadata; the memory is shared, never
/// copied. A gap without content passes as it is. The time goes into `stats`, with what `work`
/// counts.
pub fn work_on(
    mut buffer: gst::Buffer,
    stats: &Stats,
    work: impl FnOnce(&mut gst::BufferRef, &mut Work) -> Result<(), Error>,
) -> Result<gst::Buffer, Error> {
    if buffer.size() > 0 || !buffer.flags().contains(gst::BufferFlags::GAP) {
        stats.frame(|done| work(buffer.make_mut(), done))?;
    }
    Ok(buffer)
}

/// Maps a frame for reading.
pub fn map<'a>(
    buffer: &'a gst::BufferRef,
    info: &gst_video::VideoInfo,
) -> Result<ReadFrame<'a>, Error> {
    ReadFrame::from_buffer_ref_readable(buffer, info).map_err(|_| {
        Error::Frame(format!(
            "a buffer of {} bytes cannot be mapped as a {}x{} {} frame",
            buffer.size(),
            info.width(),
            info.height(),
            info.format()
        ))
    })
}

/// Posts `error` as an element error.
pub fn post(element: &impl IsA<gst::Element>, error: &Error) {
    element.post_error_message(error.to_message());
}
