//! What the elements of all stages have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use face_meta::Face;
use glib::{ParamSpec, Value};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use crate::error::Error;
use crate::late::{Budget, Late, Lateness, Share};
use crate::model::Model;
use crate::session::{self, Options, SharedSession};
use crate::stats::{Stats, Work};

/// The properties of all inference stages.
#[derive(Debug, Clone)]
pub struct Inference {
    /// The name of a model, or the path of its file.
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
                    "What runs the model: {}",
                    [&["cpu"], session::built_in().as_slice()]
                        .concat()
                        .join(", ")
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

    /// Sets one of [`properties`](Self::properties). Returns `false` if `name` is not one of them.
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

/// Loads an element's models on separate threads as soon as it leaves the state NULL. GStreamer
/// starts elements one after the other; this way, all models load at once. Errors are left to the
/// element's start, which loads again what failed.
#[derive(Default)]
pub struct Preload(Mutex<Vec<JoinHandle<Option<Arc<SharedSession>>>>>);

impl Preload {
    /// Performs the element's `change`. Call [`end`](Self::end) at the end of its start.
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
        // Threads left by a start that no stop followed.
        self.end();
        let threads = inference.model.split(',').filter_map(|model| {
            let (model, options) = (model.trim().to_owned(), inference.options.clone());
            std::thread::Builder::new()
                .name("face-model".into())
                .spawn(move || session::load(&Model::find(&model).ok()?, &options).ok())
                .ok()
        });
        let threads = threads.collect();
        *self.0.lock() = threads;
    }

    /// Waits for the threads and releases the models. The element holds those that it uses.
    pub fn end(&self) {
        let threads = std::mem::take(&mut *self.0.lock());
        for thread in threads {
            // If a thread panicked, the start has reported it.
            let _ = thread.join();
        }
    }
}

/// An element may be disposed of without going to NULL.
impl Drop for Preload {
    fn drop(&mut self) {
        self.end();
    }
}

/// Defines the enum `Late` for an element's property `late`, with the type name `$name`: two
/// plugins cannot share a type.
#[macro_export]
macro_rules! late_enum {
    ($name:tt) => {
        /// The property `late`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
        #[enum_type(name = $name)]
        pub enum Late {
            #[default]
            #[enum_value(name = "drop-work in a live pipeline, wait in others", nick = "auto")]
            Auto,
            #[enum_value(
                name = "Skip inferences when late; every frame passes",
                nick = "drop-work"
            )]
            DropWork,
            #[enum_value(name = "Make later frames wait", nick = "wait")]
            Wait,
        }

        impl Late {
            pub fn property() -> glib::ParamSpec {
                use gst::prelude::*;
                glib::ParamSpecEnum::builder_with_default("late", Self::default())
                    .nick("Late")
                    .blurb("What to do when frames arrive faster than they can be processed")
                    .mutable_playing()
                    .build()
            }
        }

        impl From<Late> for $crate::late::Late {
            fn from(late: Late) -> Self {
                match late {
                    Late::Auto => Self::Auto,
                    Late::DropWork => Self::DropWork,
                    Late::Wait => Self::Wait,
                }
            }
        }
    };
}

/// When an element's frames arrive, and how much work it skips as a result.
#[derive(Debug, Default)]
pub struct Timing {
    lateness: Mutex<Lateness>,
    /// Whether the pipeline is live, once it has been asked.
    live: Mutex<Option<bool>>,
}

/// Running times in ns: of the clock when a frame arrived, and of the frame. `None` without a clock
/// or a timestamp.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    clock: Option<u64>,
    frame: Option<u64>,
}

impl Timing {
    /// Starts afresh.
    pub fn reset(&self) {
        self.lateness.lock().reset();
        *self.live.lock() = None;
    }

    /// Handles an event from upstream. Call it for every one.
    pub fn sink_event(&self, event: &gst::Event) {
        match event.view() {
            gst::EventView::FlushStop(_) | gst::EventView::StreamStart(_) => self.reset(),
            gst::EventView::Caps(caps) => {
                let structure = caps.caps().structure(0);
                let rate = structure.and_then(|s| s.get::<gst::Fraction>("framerate").ok());
                let (frames, seconds) = rate.map_or((0, 1), |r| (r.numer(), r.denom()));
                self.lateness.lock().set_rate(frames, seconds);
                *self.live.lock() = None;
            }
            _ => {}
        }
    }

    /// Handles an event from downstream. Returns whether to drop it: an element that skips work
    /// keeps QoS from decoders, so that they drop no frames, until skipping is no longer enough.
    pub fn src_event(
        &self,
        element: &impl IsA<gst::Element>,
        late: Late,
        event: &gst::Event,
    ) -> bool {
        let gst::EventView::Qos(qos) = event.view() else {
            return false;
        };
        let (_, _, jitter, Some(time)) = qos.get() else {
            return false;
        };
        let live = *self.live.lock();
        let mut lateness = self.lateness.lock();
        lateness.downstream(time.nseconds(), jitter);
        late.drops_work(live == Some(true))
            && !now(element).is_some_and(|now| lateness.is_exhausted(now))
    }

    /// Records that a frame arrived. Call it for every one.
    pub fn arrival<T: IsA<gst_base::BaseTransform>>(
        &self,
        element: &T,
        buffer: &gst::BufferRef,
    ) -> Arrival {
        let segment = element.segment();
        let time = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| running_time(segment, buffer.pts()));
        let arrival = Arrival {
            clock: now(element.upcast_ref()),
            frame: time.map(gst::ClockTime::nseconds),
        };
        self.lateness.lock().see(arrival.frame);
        arrival
    }

    /// How much of the work due on a frame to do. `busy`: the worker is already at work.
    pub fn share<T: IsA<gst_base::BaseTransform>>(
        &self,
        element: &T,
        late: Late,
        arrival: Arrival,
        busy: bool,
    ) -> Share {
        if !late.drops_work(late == Late::Auto && self.is_live(element)) {
            return Share::All;
        }
        self.lateness
            .lock()
            .judge(arrival.clock, arrival.frame, busy)
    }

    /// Records that the work on a frame got no turn in time.
    pub fn gave_up(&self) {
        self.lateness.lock().gave_up();
    }

    /// Records that work ended, and how long it `took`.
    pub fn worked(&self, element: &impl IsA<gst::Element>, took: Duration) {
        self.lateness.lock().worked(now(element), took);
    }

    /// Records how the budget of a frame was spent on its faces.
    pub fn spent<F: Fn() -> Share>(
        &self,
        element: &impl IsA<gst::Element>,
        budget: &Budget<F>,
        work: &mut Work,
    ) {
        work.wait += budget.waited();
        match budget.took() {
            Some(took) => self.worked(element, took),
            None if budget.gave_up() => self.gave_up(),
            None => {}
        }
    }

    fn is_live<T: IsA<gst_base::BaseTransform>>(&self, element: &T) -> bool {
        let known = *self.live.lock();
        known.unwrap_or_else(|| {
            let mut query = gst::query::Latency::new();
            // Sources that cannot answer are files.
            let live = element.sink_pad().peer_query(&mut query) && query.result().0;
            *self.live.lock() = Some(live);
            live
        })
    }
}

/// `None` also for a segment that is played backwards from an unknown end, for which GStreamer
/// would log a critical warning.
fn running_time(
    segment: &gst::FormattedSegment<gst::ClockTime>,
    time: Option<gst::ClockTime>,
) -> Option<gst::ClockTime> {
    if segment.rate() < 0.0 && segment.stop().is_none() {
        return None;
    }
    segment.to_running_time(time)
}

fn now(element: &impl IsA<gst::Element>) -> Option<u64> {
    element.current_running_time().map(gst::ClockTime::nseconds)
}

/// Raw video in system memory, in any format. The formats of decoders and cameras, which are read
/// in place, come first: a converter upstream picks the first that it can make.
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

/// Runs an in-place stage on the buffer that waits in a `BaseTransform`, as [`work_on`] does. Posts
/// errors on the bus.
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

/// Runs an in-place stage on a buffer. `work` may change the metadata; the memory is shared, never
/// copied. A gap without content passes unchanged. The time and what `work` counts are added to
/// `stats`.
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

/// Answers upstream's allocation query for a stage that holds `held` frames: downstream's proposal,
/// with `held` more buffers and without the offer to crop.
pub fn propose_allocation<T: BaseTransformImpl>(
    stage: &T,
    decide_query: Option<&gst::query::Allocation>,
    query: &mut gst::query::Allocation,
    held: u32,
) -> Result<(), gst::LoggableError> {
    // If downstream does not answer, it asks for nothing.
    let _ = stage.parent_propose_allocation(decide_query, query);
    want_whole_frames(query);
    if held > 0 {
        ask_for_buffers(query, held);
    }
    Ok(())
}

/// Asks upstream, in the answer to its allocation query, for `more` buffers than downstream wants.
fn ask_for_buffers(query: &mut gst::query::Allocation, more: u32) {
    let pools: Vec<_> = query.allocation_pools().collect();
    for (i, (pool, size, min, max)) in (0..).zip(&pools) {
        let min = min.saturating_add(more);
        // A pool that cannot hold that many is useless; upstream makes its own.
        let pool = pool.as_ref().filter(|_| *max == 0 || *max >= min);
        let max = if pool.is_some() { *max } else { 0 };
        query.set_nth_allocation_pool(i, pool, *size, min, max);
    }
    let caps = query.get_owned().0;
    let info = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok());
    if let (true, Some(info)) = (pools.is_empty(), info) {
        query.add_allocation_pool(None::<&gst::BufferPool>, info.size() as u32, more, 0);
    }
}

/// Adds an element's `own` latency to upstream's answer. Sums that overflow become the longest
/// time: a maximum below the minimum would make a live pipeline fail.
pub fn add_latency(query: &mut gst::query::Latency, own: gst::ClockTime) {
    let (live, min, max) = query.result();
    let longer = |time: gst::ClockTime| time.saturating_add(own);
    query.set(live, longer(min), max.map(longer));
}

/// Removes the offer of crop metadata from the answer to upstream's allocation query: frames must
/// be as their caps say.
fn want_whole_frames(query: &mut gst::query::Allocation) {
    while let Some(crop) = query.find_allocation_meta::<gst_video::VideoCropMeta>() {
        query.remove_nth_allocation_meta(crop);
    }
}

/// The number of frames without a detector upstream after which to warn.
const UNEXAMINED: u32 = 50;

/// Warns once if there is no detector upstream of a stage.
#[derive(Debug, Default)]
pub struct Front(AtomicU32);

impl Front {
    /// Call this at every start.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Records whether a frame was examined.
    pub fn see(&self, element: &impl IsA<gst::Element>, buffer: &gst::BufferRef, faces: &[Face]) {
        let before = self.0.load(Ordering::Relaxed);
        if before > UNEXAMINED {
            return;
        }
        // Foreign detectors do not set this, but add faces.
        if !faces.is_empty() || face_meta::examined(buffer).is_some() {
            return self.0.store(UNEXAMINED + 1, Ordering::Relaxed);
        }
        self.0.store(before + 1, Ordering::Relaxed);
        if before == UNEXAMINED {
            gst::element_warning!(
                element,
                gst::ResourceError::Settings,
                (
                    "no detector has examined these frames: put facedetector in front of {}",
                    element.upcast_ref().name()
                )
            );
        }
    }
}

/// Posts `error` as an element error.
pub fn post(element: &impl IsA<gst::Element>, error: &Error) {
    element.post_error_message(error.to_message());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backwards_from_no_end_there_is_no_running_time() {
        gst::init().expect("GStreamer starts");
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let second = Some(gst::ClockTime::SECOND);
        assert_eq!(running_time(&segment, second), second);
        segment.set_rate(-1.0);
        assert_eq!(running_time(&segment, second), None);
        segment.set_stop(3 * gst::ClockTime::SECOND);
        assert_eq!(
            running_time(&segment, second),
            Some(2 * gst::ClockTime::SECOND)
        );
    }

    #[test]
    fn the_longest_latencies_do_not_overflow() {
        gst::init().expect("GStreamer starts");
        let most = gst::ClockTime::MAX;
        let (zero, second) = (gst::ClockTime::ZERO, gst::ClockTime::SECOND);
        for (min, max, new_min, new_max) in [
            (zero, None, second, None),
            (second, Some(second), 2 * second, Some(2 * second)),
            (zero, Some(most), second, Some(most)),
            (most, Some(most), most, Some(most)),
        ] {
            let mut query = gst::query::Latency::new();
            query.set(true, min, max);
            add_latency(&mut query, second);
            assert_eq!(query.result(), (true, new_min, new_max));
        }
    }

    #[test]
    fn a_pool_with_too_few_buffers_is_not_passed_on() {
        gst::init().expect("GStreamer starts");
        let caps = gst_video::VideoCapsBuilder::new()
            .format(gst_video::VideoFormat::I420)
            .width(64)
            .height(48)
            .framerate((25, 1).into())
            .build();
        let pool = gst::BufferPool::new();
        for (max, kept, new_max) in [(0, true, 0), (4, false, 0), (5, true, 5)] {
            let mut query = gst::query::Allocation::new(Some(&caps), true);
            query.add_allocation_pool(Some(&pool), 4608, 2, max);
            ask_for_buffers(&mut query, 3);
            let pools: Vec<_> = query.allocation_pools().collect();
            let [(found, 4608, 5, found_max)] = pools.as_slice() else {
                panic!("{pools:?}");
            };
            assert_eq!((found.is_some(), *found_max), (kept, new_max), "of {max}");
        }
        let mut query = gst::query::Allocation::new(Some(&caps), true);
        ask_for_buffers(&mut query, 3);
        let pools: Vec<_> = query.allocation_pools().collect();
        assert!(
            matches!(pools.as_slice(), [(None, 4608, 3, 0)]),
            "{pools:?}"
        );
    }
}
