//! Turns messages of GStreamer, GLib and (through GStreamer's category `onnxruntime`) ONNX Runtime
//! into events.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use glib::translate::*;
use parking_lot::Mutex;
use tracing::callsite::{self, Callsite};
use tracing::field::{FieldSet, Value};
use tracing::metadata::Kind;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata};

use super::limit::{self, Limit};
use super::normal;

/// The prefix in the names of camera pipelines.
const PIPELINE: &str = "camera-";

/// The category of ONNX Runtime's messages, where they have one level less than intended.
const RUNTIME: &str = "onnxruntime";

/// Elements are nested in a handful of bins.
const DEEPEST: usize = 16;

/// Whether the user chose GStreamer's log levels.
pub fn is_asked_for() -> bool {
    std::env::var_os("GST_DEBUG").is_some_and(|value| !value.is_empty())
}

/// Redirects the messages.
pub fn install() {
    let everything = is_asked_for();
    if !everything {
        gst::log::set_active(true);
        gst::log::set_default_threshold(gst::DebugLevel::Warning);
        gst::log::set_threshold_for_name(RUNTIME, gst::DebugLevel::Info);
    }
    gst::log::remove_default_log_function();
    gst::log::add_log_function(
        move |category, level, _file, _function, _line, object, message| {
            let runtime = category.name() == RUNTIME;
            let Some(level) = meant(level, runtime) else {
                return;
            };
            let Some(text) = message.get() else {
                return;
            };
            let level = match runtime {
                true => level,
                false => normal::level(category.name(), level, &text),
            };
            let target = match runtime {
                true => RUNTIME.to_owned(),
                false => format!("gstreamer::{}", category.name()),
            };
            let camera = object.and_then(|object| camera(object.as_ptr()));
            let object = object.map(ToString::to_string);
            let said = Said {
                target,
                level,
                camera,
                object,
            };
            said.send(&text, !everything);
        },
    );
    glib::log_set_default_handler(|domain, level, text| {
        let said = Said {
            target: format!("glib::{}", domain.unwrap_or("default")),
            level: match level {
                glib::LogLevel::Error | glib::LogLevel::Critical => Level::ERROR,
                glib::LogLevel::Warning => Level::WARN,
                glib::LogLevel::Message => Level::INFO,
                glib::LogLevel::Info | glib::LogLevel::Debug => Level::DEBUG,
            },
            camera: None,
            object: None,
        };
        said.send(text, true);
    });
}

/// The level of a message of GStreamer.
fn meant(level: gst::DebugLevel, runtime: bool) -> Option<Level> {
    Some(match (level, runtime) {
        (gst::DebugLevel::None, _) => return None,
        (gst::DebugLevel::Error, _) | (gst::DebugLevel::Warning, true) => Level::ERROR,
        (gst::DebugLevel::Warning, _) | (gst::DebugLevel::Info, true) => Level::WARN,
        (gst::DebugLevel::Fixme | gst::DebugLevel::Info, _) => Level::INFO,
        (gst::DebugLevel::Debug, _) => Level::DEBUG,
        _ => Level::TRACE,
    })
}

/// Everything in a message except its text.
struct Said {
    target: String,
    level: Level,
    camera: Option<String>,
    object: Option<String>,
}

static HELD_BACK: LazyLock<Mutex<Limit<(Said, String)>>> = LazyLock::new(Mutex::default);

impl Said {
    fn send(self, text: &str, limited: bool) {
        let site = site(&self.target, self.level);
        if !site.is_enabled() {
            return;
        }
        if limited {
            let camera = self.camera.as_deref().unwrap_or_default();
            let key = limit::key(&[camera, &self.target], text);
            let first = || {
                let text = text.to_owned();
                let said = Self {
                    target: self.target.clone(),
                    level: self.level,
                    camera: self.camera.clone(),
                    object: None,
                };
                (said, text)
            };
            let mut held = HELD_BACK.lock();
            if !held.admit(key, Instant::now(), first) {
                return;
            }
        }
        site.send(text, self.camera.as_deref(), self.object.as_deref(), None);
    }
}

/// Logs how many messages were suppressed in the past minutes.
pub fn tell_held_back() {
    let over = {
        let mut held = HELD_BACK.lock();
        held.expire(Instant::now())
    };
    for ((said, text), more) in over {
        let site = site(&said.target, said.level);
        site.send(&text, said.camera.as_deref(), None, Some(more));
    }
}

/// The origin of events for `tracing`, which keeps it for ever. There is one for each category and
/// level in use.
struct Site(OnceLock<Metadata<'static>>);

impl Callsite for Site {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.known()
    }
}

/// The site of a target and a level.
fn site(target: &str, level: Level) -> &'static Site {
    static SITES: LazyLock<Mutex<HashMap<(String, Level), &'static Site>>> =
        LazyLock::new(Mutex::default);
    let mut sites = SITES.lock();
    if let Some(site) = sites.get(&(target.to_owned(), level)) {
        return site;
    }
    let site: &'static Site = Box::leak(Box::new(Site(OnceLock::new())));
    let fields = FieldSet::new(
        &["message", "camera", "object", "more"],
        callsite::Identifier(site),
    );
    let name: &'static str = Box::leak(target.to_owned().into_boxed_str());
    site.0.get_or_init(|| {
        Metadata::new(
            "message",
            name,
            level,
            None,
            None,
            None,
            fields,
            Kind::EVENT,
        )
    });
    callsite::register(site);
    sites.insert((target.to_owned(), level), site);
    site
}

impl Site {
    fn known(&self) -> &Metadata<'static> {
        self.0.get().expect("set before anybody knows of the site")
    }

    fn is_enabled(&self) -> bool {
        tracing::dispatcher::get_default(|dispatch| dispatch.enabled(self.known()))
    }

    fn send(
        &'static self,
        text: &str,
        camera: Option<&str>,
        object: Option<&str>,
        more: Option<u64>,
    ) {
        let fields = self.known().fields();
        let [message, camera_, object_, more_] =
            ["message", "camera", "object", "more"].map(|name| fields.field(name));
        let (Some(message), Some(camera_), Some(object_), Some(more_)) =
            (message, camera_, object_, more_)
        else {
            return;
        };
        Event::dispatch(
            self.known(),
            &fields.value_set(&[
                (&message, Some(&text as &dyn Value)),
                (&camera_, camera.as_ref().map(|value| value as &dyn Value)),
                (&object_, object.as_ref().map(|value| value as &dyn Value)),
                (&more_, more.as_ref().map(|value| value as &dyn Value)),
            ]),
        );
    }
}

/// The camera whose pipeline contains `object`.
fn camera(object: *mut glib::gobject_ffi::GObject) -> Option<String> {
    // SAFETY: the caller who logs holds a reference to the object. Its type is checked, as in
    // gstreamer-rs's own `Display`, before it is treated as a GstObject. Messages come from inside
    // GStreamer while locks of objects are held, so locks are only tried; waiting for one that this
    // thread holds would deadlock. Name and parent are read with the object's lock held. That lock
    // is kept while the parent is inspected: without it, an object cannot leave its parent, nor can
    // the parent be freed. All locks are released below.
    unsafe {
        let instance = &raw mut (*object).g_type_instance;
        let any = glib::gobject_ffi::g_object_get_type();
        if glib::gobject_ffi::g_type_check_instance_is_fundamentally_a(instance, any) == 0 {
            return None;
        }
        let type_ = (*(*instance).g_class).g_type;
        if glib::gobject_ffi::g_type_is_a(type_, gst::ffi::gst_object_get_type()) == 0 {
            return None;
        }
        let mut next = object.cast::<gst::ffi::GstObject>();
        let mut locked = [std::ptr::null_mut(); DEEPEST];
        let mut depth = 0;
        let mut found = None;
        while !next.is_null()
            && depth < DEEPEST
            && from_glib(glib::ffi::g_mutex_trylock(&mut (*next).lock))
        {
            locked[depth] = next;
            depth += 1;
            if !(*next).name.is_null() {
                let name = CStr::from_ptr((*next).name).to_str().unwrap_or_default();
                if let Some(camera) = name.strip_prefix(PIPELINE) {
                    found = Some(camera.to_owned());
                    break;
                }
            }
            next = (*next).parent;
        }
        for object in &locked[..depth] {
            glib::ffi::g_mutex_unlock(&mut (**object).lock);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

    use super::*;

    #[test]
    fn an_object_is_of_the_camera_whose_pipeline_it_is_in() {
        gst::init().expect("GStreamer starts");
        let pipeline = gst::Pipeline::with_name("camera-door");
        let bin = gst::Bin::new();
        let element = gst::ElementFactory::make("identity")
            .build()
            .expect("in the core");
        bin.add(&element).expect("fits");
        let pad = element.static_pad("sink").expect("has one");
        assert_eq!(camera(pad.upcast_ref::<glib::Object>().as_ptr()), None);
        pipeline.add(&bin).expect("fits");
        assert_eq!(
            camera(pad.upcast_ref::<glib::Object>().as_ptr()).as_deref(),
            Some("door")
        );
        assert_eq!(
            camera(pipeline.upcast_ref::<glib::Object>().as_ptr()).as_deref(),
            Some("door")
        );
        // A message from inside a lock neither waits nor finds the camera.
        let _held = bin.object_lock();
        assert_eq!(camera(pad.upcast_ref::<glib::Object>().as_ptr()), None);
    }

    #[test]
    fn onnx_runtime_s_messages_are_what_it_calls_them() {
        assert_eq!(meant(gst::DebugLevel::Info, true), Some(Level::WARN));
        assert_eq!(meant(gst::DebugLevel::Info, false), Some(Level::INFO));
        assert_eq!(meant(gst::DebugLevel::Warning, true), Some(Level::ERROR));
        assert_eq!(meant(gst::DebugLevel::Warning, false), Some(Level::WARN));
        assert_eq!(meant(gst::DebugLevel::None, false), None);
    }
}
