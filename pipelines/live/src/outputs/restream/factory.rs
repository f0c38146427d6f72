//! Makes a small pipeline for each viewer of a camera. Sharing one would save little, as the
//! encoder is outside, and a shared one is unavailable at the moment when its last viewer leaves.

use std::sync::{Arc, Weak};

use glib::subclass::prelude::*;
use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;
use parking_lot::Mutex;

use super::auth::ROLE;
use crate::outputs::hub::{Coded, Hub, Viewer};

glib::wrapper! {
    pub struct Factory(ObjectSubclass<Imp>) @extends gst_rtsp_server::RTSPMediaFactory;
}

/// The factory for the video of `hub`.
pub fn new(hub: &Arc<Hub>) -> Factory {
    let factory: Factory = glib::Object::new();
    factory.set_eos_shutdown(false);
    factory.set_protocols(gst_rtsp::RTSPLowerTrans::UDP | gst_rtsp::RTSPLowerTrans::TCP);
    factory.add_role_from_structure(
        &gst::Structure::builder(ROLE)
            .field(
                gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_ACCESS.as_str(),
                true,
            )
            .field(
                gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT.as_str(),
                true,
            )
            .build(),
    );
    *factory.imp().hub.lock() = Some(hub.clone());
    factory
}

impl Factory {
    /// Whether the camera has a picture.
    pub fn is_alive(&self) -> bool {
        let hub = self.imp().hub.lock();
        hub.as_ref().is_some_and(|hub| hub.is_alive())
    }

    /// The camera is gone for good.
    pub fn end(&self) {
        let hub = self.imp().hub.lock().take();
        for stream in std::mem::take(&mut *self.imp().streams.lock()) {
            if let Some(hub) = &hub {
                hub.leave(&stream.viewer);
            }
            // Fails if the stream is already shutting down.
            let _ = stream.source.end_of_stream();
        }
    }
}

#[derive(Default)]
pub struct Imp {
    hub: Mutex<Option<Arc<Hub>>>,
    streams: Mutex<Vec<Stream>>,
}

/// Feeds one viewer.
struct Stream {
    source: gst_app::AppSrc,
    viewer: Arc<dyn Viewer>,
}

#[glib::object_subclass]
impl ObjectSubclass for Imp {
    const NAME: &'static str = "FacepipeRestreamFactory";
    type Type = Factory;
    type ParentType = gst_rtsp_server::RTSPMediaFactory;
}

impl ObjectImpl for Imp {}

impl RTSPMediaFactoryImpl for Imp {
    /// Returns nothing if the camera disappeared since the request was answered. It is done here because
    /// GStreamer treats later failures as a programming error.
    fn construct(&self, url: &gst_rtsp::RTSPUrl) -> Option<gst_rtsp_server::RTSPMedia> {
        let hub = self.hub.lock().clone()?;
        hub.is_alive().then(|| self.parent_construct(url)).flatten()
    }

    fn create_element(&self, _url: &gst_rtsp::RTSPUrl) -> Option<gst::Element> {
        match build() {
            Ok(bin) => Some(bin.upcast()),
            Err(error) => {
                tracing::error!("no stream for viewers: {error}");
                None
            }
        }
    }

    fn media_configure(&self, media: &gst_rtsp_server::RTSPMedia) {
        self.parent_media_configure(media);
        let source = media
            .element()
            .downcast_ref::<gst::Bin>()
            .and_then(|bin| bin.by_name(SOURCE))
            .and_then(|source| source.downcast::<gst_app::AppSrc>().ok());
        let (Some(source), Some(hub)) = (source, self.hub.lock().clone()) else {
            return;
        };
        let viewer: Arc<dyn Viewer> = Arc::new(Feed {
            source: source.clone(),
            hub: Arc::downgrade(&hub),
            state: Mutex::default(),
        });
        let factory = self.obj().downgrade();
        let (leaving, left) = (viewer.clone(), hub.clone());
        media.connect_unprepared(move |_| {
            left.leave(&leaving);
            if let Some(factory) = factory.upgrade() {
                factory
                    .imp()
                    .streams
                    .lock()
                    .retain(|s| !Arc::ptr_eq(&s.viewer, &leaving));
            }
        });
        self.streams.lock().push(Stream {
            source,
            viewer: viewer.clone(),
        });
        hub.join(viewer);
    }
}

const SOURCE: &str = "source";

fn build() -> Result<gst::Bin, glib::BoolError> {
    let source = gst_app::AppSrc::builder()
        .name(SOURCE)
        .is_live(true)
        .format(gst::Format::Time)
        .min_latency(0)
        // A viewer that takes nothing for longer loses the oldest frames.
        .max_time(gst::ClockTime::from_seconds(2))
        .leaky_type(gst_app::AppLeakyType::Downstream)
        .build();
    let pay = gst::ElementFactory::make("rtph264pay")
        .name("pay0")
        .property("pt", 96u32)
        .property("config-interval", -1i32)
        .build()?;
    let bin = gst::Bin::new();
    bin.add_many([source.upcast_ref(), &pay])?;
    source.link(&pay)?;
    Ok(bin)
}

/// Passes frames on with the time of the viewer's pipeline, which continues while the camera's
/// restarts.
struct Feed {
    source: gst_app::AppSrc,
    hub: Weak<Hub>,
    state: Mutex<FeedState>,
}

#[derive(Default)]
struct FeedState {
    caps: Option<gst::Caps>,
    /// Whether a keyframe to start with has been requested.
    asked: bool,
}

impl Viewer for Feed {
    fn frame(&self, coded: &Coded) {
        let mut state = self.state.lock();
        // There is no time before the viewer's pipeline runs.
        let Some(now) = self.source.current_running_time() else {
            return;
        };
        // Nothing can be decoded before the first keyframe.
        if state.caps.is_none() && !coded.is_keyframe {
            if !std::mem::replace(&mut state.asked, true)
                && let Some(hub) = self.hub.upgrade()
            {
                hub.request_keyframe();
            }
            return;
        }
        if state.caps.as_ref() != Some(&coded.caps) {
            self.source.set_caps(Some(&coded.caps));
            state.caps = Some(coded.caps.clone());
        }
        let age = coded.taken.instant.elapsed();
        let age = gst::ClockTime::try_from(age).unwrap_or(gst::ClockTime::ZERO);
        let mut buffer = coded.buffer.copy();
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(now.saturating_sub(age));
            buffer.set_dts(gst::ClockTime::NONE);
        }
        // Fails if the last viewer has just left.
        let _ = self.source.push_buffer(buffer);
    }
}
