//! GStreamer's RTSP server with cameras behind its mount points.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gst::prelude::*;
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{RTSPFilterResult, RTSPMedia, RTSPMediaFactory, RTSPServer};

use crate::camera::Camera;
use crate::clip::{Clip, Codec, Spec};

/// The role of viewers who know the password.
const ROLE: &str = "viewer";

/// How long the main loop may take to carry out a command.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Settings {
    pub address: String,
    /// 0 picks a free port.
    pub port: u16,
    pub credentials: Option<(String, String)>,
    pub media: PathBuf,
    /// The folder of encoded clips.
    pub cache: PathBuf,
}

pub struct Serving {
    server: RTSPServer,
    settings: Settings,
    mounts: BTreeMap<String, Mount>,
}

struct Mount {
    camera: Arc<Camera>,
    factory: RTSPMediaFactory,
}

impl Serving {
    /// Starts listening. The caller must run the default main loop.
    pub fn start(settings: Settings, specs: Vec<Spec>) -> Result<Self> {
        ensure!(!specs.is_empty(), "no NAME=CLIP");
        let server = RTSPServer::new();
        server.set_address(&settings.address);
        server.set_service(&settings.port.to_string());
        if let Some((username, password)) = &settings.credentials {
            let auth = gst_rtsp_server::RTSPAuth::new();
            auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
            let token = gst_rtsp_server::RTSPToken::builder()
                .field(gst_rtsp_server::RTSP_TOKEN_MEDIA_FACTORY_ROLE, ROLE)
                .build();
            auth.add_digest(username, password, &token);
            server.set_auth(Some(&auth));
        }
        let points = server.mount_points().context("no mount points")?;
        let mut mounts = BTreeMap::new();
        for spec in specs {
            let clip = Clip::load(&spec, &settings.media, &settings.cache)?;
            let factory = RTSPMediaFactory::new();
            factory.set_shared(true);
            factory.set_launch(&launch(spec.codec));
            factory.set_protocols(spec.transport.lower());
            if settings.credentials.is_some() {
                let allowed = gst::Structure::builder(ROLE)
                    .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
                    .field(gst_rtsp_server::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
                    .build();
                factory.add_role_from_structure(&allowed);
            }
            let name = spec.name.clone();
            let camera = Camera::start(spec, clip);
            let feeding = camera.clone();
            factory.connect_media_configure(move |_, media| {
                if let Err(error) = configure(&feeding, media) {
                    eprintln!("face-rtsp-server: {error:#}");
                }
            });
            points.add_factory(&path(&name), factory.clone());
            mounts.insert(name, Mount { camera, factory });
        }
        server
            .attach(None)
            .with_context(|| format!("cannot listen on {}:{}", settings.address, settings.port))?;
        Ok(Self {
            server,
            settings,
            mounts,
        })
    }

    pub fn port(&self) -> i32 {
        self.server.bound_port()
    }

    pub fn camera(&self, name: &str) -> Result<&Arc<Camera>> {
        Ok(&self.mount(name)?.camera)
    }

    fn mount(&self, name: &str) -> Result<&Mount> {
        self.mounts
            .get(name)
            .with_context(|| format!("no camera `{name}`"))
    }

    pub fn cameras(&self) -> impl Iterator<Item = (&str, &Arc<Camera>)> {
        self.mounts
            .iter()
            .map(|(name, mount)| (name.as_str(), &mount.camera))
    }

    /// Changes a camera's clip, size, rate, codec or transport. Viewers stay connected, except that
    /// a new codec or transport requires them to reconnect.
    pub fn change(&self, name: &str, changes: &str) -> Result<()> {
        let mount = self.mount(name)?;
        let old = mount.camera.spec();
        let mut spec = old.clone();
        spec.change(changes)?;
        let clip = Clip::load(&spec, &self.settings.media, &self.settings.cache)?;
        let (codec, transport) = (spec.codec, spec.transport);
        if (codec, transport) != (old.codec, old.transport) {
            // First, so that no data of the new codec reaches the old payloader.
            mount.factory.set_launch(&launch(codec));
            mount.factory.set_protocols(transport.lower());
            self.disconnect(Some(name))?;
        }
        mount.camera.replace(spec, clip);
        Ok(())
    }

    /// Disconnects the viewers of one camera, or of all. Returns how many there were.
    ///
    /// This happens in the main loop, which also answers the viewers: two threads that take a
    /// client and its media apart at the same time may wait for each other for ever.
    pub fn disconnect(&self, name: Option<&str>) -> Result<usize> {
        let (server, path) = (self.server.clone(), name.map(path));
        let (answer, answered) = mpsc::channel();
        glib::MainContext::default().invoke(move || {
            // Fails only if nobody waits any more.
            let _ = answer.send(disconnect(&server, path.as_deref()));
        });
        answered
            .recv_timeout(PATIENCE)
            .context("the main loop does not answer")?
    }

    /// The number of connections.
    pub fn clients(&self) -> usize {
        self.server.client_filter(None).len()
    }
}

fn disconnect(server: &RTSPServer, path: Option<&str>) -> Result<usize> {
    let mut count = 0;
    let watches = |session: &gst_rtsp_server::RTSPSession| {
        let of = |media: &gst_rtsp_server::RTSPSessionMedia| {
            path.is_none_or(|path| media.matches(path).is_some())
        };
        session.filter(None).iter().any(of)
    };
    server.client_filter(Some(&mut |_, client| {
        if path.is_none() || client.session_filter(None).iter().any(watches) {
            count += 1;
            RTSPFilterResult::Remove
        } else {
            RTSPFilterResult::Keep
        }
    }));
    // Otherwise their media would live until the sessions time out.
    let sessions = server.session_pool().context("no sessions")?;
    sessions.filter(Some(&mut |_, session| {
        if watches(session) {
            RTSPFilterResult::Remove
        } else {
            RTSPFilterResult::Keep
        }
    }));
    Ok(count)
}

fn path(name: &str) -> String {
    format!("/{name}")
}

fn launch(codec: Codec) -> String {
    let name = codec.name();
    // Keeps at most half a minute of frames for a viewer that requested the stream but never plays
    // it.
    format!(
        "( appsrc name=source is-live=true format=time max-buffers=900 max-bytes=0 leaky-type=upstream \
         caps={} ! rtp{name}pay name=pay0 pt=96 config-interval=-1 )",
        codec.caps()
    )
}

/// Makes the camera feed a pipeline that was created for its first viewer.
fn configure(camera: &Arc<Camera>, media: &RTSPMedia) -> Result<()> {
    // The camera sets the pace. A sink that waits for timestamps would wait for ever after a jump.
    media.set_rate_control(false);
    let bin = media
        .element()
        .downcast::<gst::Bin>()
        .ok()
        .context("not a bin")?;
    let source = bin
        .by_name("source")
        .and_downcast::<gst_app::AppSrc>()
        .context("no appsrc")?;
    let packets = bin
        .by_name("pay0")
        .and_then(|pay| pay.static_pad("src"))
        .context("no payloader")?;
    camera.attach(source.clone(), &packets);
    let camera = camera.clone();
    media.connect_unprepared(move |_| camera.detach(&source));
    Ok(())
}
