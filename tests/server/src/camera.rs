//! A camera: sends a clip's access units at its frame rate, for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clip::{Clip, Spec};
use crate::rtp::Faults;

/// If the machine was busy for longer than this, the camera skips the missed frames.
const BEHIND: Duration = Duration::from_secs(1);

pub struct Camera {
    state: Mutex<State>,
}

struct State {
    spec: Spec,
    clip: Arc<Clip>,
    position: usize,
    faults: Faults,
    stalled: bool,
    /// Where the frames go while there are viewers.
    target: Option<Target>,
    sent: u64,
}

struct Target {
    source: gst_app::AppSrc,
    /// The schedule's time and the pipeline's time of the first frame.
    anchor: Option<(Instant, gst::ClockTime)>,
}

impl Camera {
    /// Starts a camera. Its thread runs until the process ends.
    pub fn start(spec: Spec, clip: Clip) -> Arc<Self> {
        let name = format!("feed-{}", spec.name);
        let camera = Arc::new(Self {
            state: Mutex::new(State {
                spec,
                clip: Arc::new(clip),
                position: 0,
                faults: Faults::default(),
                stalled: false,
                target: None,
                sent: 0,
            }),
        });
        let feeding = camera.clone();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || feeding.feed())
            .expect("a thread, without which there is no server");
        camera
    }

    pub fn spec(&self) -> Spec {
        self.state.lock().spec.clone()
    }

    pub fn sent(&self) -> u64 {
        self.state.lock().sent
    }

    /// Sends another clip from the next frame on.
    pub fn replace(&self, spec: Spec, clip: Clip) {
        let mut state = self.state.lock();
        state.spec = spec;
        state.clip = Arc::new(clip);
        state.position = 0;
    }

    pub fn stall(&self, stalled: bool) {
        self.state.lock().stalled = stalled;
    }

    pub fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.lock().faults);
    }

    /// Sends frames to `source` from now on. Its packets pass through `packets`.
    pub fn attach(self: &Arc<Self>, source: gst_app::AppSrc, packets: &gst::Pad) {
        let camera = self.clone();
        let rng = Mutex::new(StdRng::seed_from_u64(1));
        let types = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        packets.add_probe(types, move |_, info| {
            let faults = camera.state.lock().faults;
            if !faults.any() {
                return gst::PadProbeReturn::Ok;
            }
            let mut rng = rng.lock();
            let spoil = |buffer: &gst::BufferRef, rng: &mut StdRng| {
                let bytes = faults.apply(&buffer.map_readable().ok()?, rng)?;
                let mut new = gst::Buffer::from_slice(bytes);
                let flags = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS;
                buffer.copy_into(new.make_mut(), flags, ..).ok()?;
                Some(new)
            };
            let new = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => {
                    spoil(buffer, &mut rng).map(gst::PadProbeData::Buffer)
                }
                Some(gst::PadProbeData::BufferList(list)) => {
                    let new: gst::BufferList =
                        list.iter().filter_map(|b| spoil(b, &mut rng)).collect();
                    (!new.is_empty()).then_some(gst::PadProbeData::BufferList(new))
                }
                _ => return gst::PadProbeReturn::Ok,
            };
            match new {
                Some(new) => {
                    info.data = Some(new);
                    gst::PadProbeReturn::Ok
                }
                None => gst::PadProbeReturn::Drop,
            }
        });
        let mut state = self.state.lock();
        state.position = 0;
        state.target = Some(Target {
            source,
            anchor: None,
        });
    }

    pub fn detach(&self, source: &gst_app::AppSrc) {
        let mut state = self.state.lock();
        if state
            .target
            .as_ref()
            .is_some_and(|target| target.source == *source)
        {
            state.target = None;
        }
    }

    fn feed(&self) {
        let mut next = Instant::now();
        loop {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let (push, interval) = self.state.lock().frame(next);
            if let Some((source, buffer)) = push {
                // Fails while the pipeline ends, which does not matter here.
                let _ = source.push_buffer(buffer);
            }
            next += interval;
            if next.elapsed() > BEHIND {
                next = Instant::now();
            }
        }
    }
}

impl State {
    /// The frame that is due at `now`, where it goes, and the time until the next one.
    fn frame(&mut self, now: Instant) -> (Option<(gst_app::AppSrc, gst::Buffer)>, Duration) {
        let interval = Duration::from_secs(1) / self.clip.rate;
        let push = self.target.as_mut().and_then(|target| {
            let running = target.source.current_running_time()?;
            let (start, base) = *target.anchor.get_or_insert((now, running));
            let elapsed = gst::ClockTime::try_from(now.saturating_duration_since(start)).ok()?;
            let mut buffer = self.clip.frames.get(self.position)?.clone();
            self.position = (self.position + 1) % self.clip.frames.len();
            if self.stalled {
                return None;
            }
            self.sent += 1;
            let shallow = buffer.make_mut();
            shallow.set_pts(base + elapsed);
            shallow.set_dts(base + elapsed);
            Some((target.source.clone(), buffer))
        });
        (push, interval)
    }
}
