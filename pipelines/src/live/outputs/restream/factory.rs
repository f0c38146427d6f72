//! Makes a small pipeline for each viewer of one camera. One that they share saves little, as the encoder is not
//! in it, and cannot be had in the moment in which the last viewer leaves it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use glib::subclass::prelude::*;
use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::subclass::prelude::*;

use super::auth::ROLE;
use crate::live::outputs::hub::{Coded, Hub, Viewer};

glib::wrapper! {
    pub struct Factory(ObjectSubclass<Imp>) @extends gst_rtsp_server::RTSPMediaFactory;
}

/// The factory for what `hub` has.
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
    *lock(&factory.imp().hub) = Some(hub.clone());
    factory
}

impl Factory {
    /// The camera is gone for good.
    pub fn end(&self) {
        let hub = lock(&self.imp().hub).take();
        for stream in std::mem::take(&mut *lock(&self.imp().streams)) {
            if let Some(hub) = &hub {
                hub.leave(&stream.viewer);
            }
            // Fails if the stream is being shut down anyway.
            let _ = stream.source.end_of_stream();
        }
    }
}

#[derive(Default)]
pub struct Imp {
    hub: Mutex<Option<Arc<Hub>>>,
    streams: Mutex<Vec<Stream>>,
}

/// What feeds one viewer.
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
    /// None while the camera is away, so that viewers hear so at once. Not below, where GStreamer takes it for
    /// a mistake of ours.
    fn construct(&self, url: &gst_rtsp::RTSPUrl) -> Option<gst_rtsp_server::RTSPMedia> {
        let hub = lock(&self.hub).clone()?;
        if !hub.is_alive() {
            tracing::info!("a viewer is sent away: the camera has no picture");
            return None;
        }
        self.parent_construct(url)
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
        let (Some(source), Some(hub)) = (source, lock(&self.hub).clone()) else {
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
                lock(&factory.imp().streams).retain(|s| !Arc::ptr_eq(&s.viewer, &leaving));
            }
        });
        lock(&self.streams).push(Stream {
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
        // Who takes nothing for longer loses the oldest frames.
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

/// Passes frames on with the time of the viewers' pipeline, which goes on while the camera's begins anew.
struct Feed {
    source: gst_app::AppSrc,
    hub: Weak<Hub>,
    state: Mutex<FeedState>,
}

#[derive(Default)]
struct FeedState {
    caps: Option<gst::Caps>,
    /// Whether a keyframe to begin with was asked for.
    asked: bool,
}

impl Viewer for Feed {
    fn frame(&self, coded: &Coded) {
        let mut state = lock(&self.state);
        // There is no time before the viewers' pipeline runs.
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
        // Fails when the last viewer has just left.
        let _ = self.source.push_buffer(buffer);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
