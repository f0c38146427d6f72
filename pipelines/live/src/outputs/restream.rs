//! Serves the annotated video of all cameras over RTSP, at `/NAME`.

mod auth;
mod factory;
mod refused;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use gst_rtsp_server::prelude::*;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use self::auth::check_password;
use self::factory::Factory;
use super::hub::Hub;
use crate::config::{Config, RestreamServer};
use crate::telemetry;
use crate::threads::Thread;

/// The limit of connections; further ones are closed at once.
const MOST_CLIENTS: usize = 200;

/// Threads that talk to clients. While one waits for the first picture of a stream, others continue.
const THREADS: i32 = 8;

/// How long disconnecting the viewers may take at the end.
const CLOSE: Duration = Duration::from_millis(500);

/// How often to remove ended sessions and count viewers.
const ROUND: Duration = Duration::from_secs(1);

/// The server. It runs as long as the process.
pub struct Restream {
    server: gst_rtsp_server::RTSPServer,
    mounts: Arc<Mutex<Mounts>>,
    main_loop: glib::MainLoop,
    thread: Mutex<Thread>,
}

/// By the names of the cameras.
type Mounts = BTreeMap<String, Served>;

struct Served {
    paths: Vec<String>,
    factory: Factory,
    telemetry: Arc<telemetry::Camera>,
}

impl Served {
    /// Whether an address is that of the stream, or of a part of it.
    fn has(&self, path: &str) -> bool {
        let mut behind = (self.paths.iter()).filter_map(|own| path.strip_prefix(own.as_str()));
        behind.any(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Restream {
    pub fn start(config: &Config) -> Result<Self> {
        let settings = &config.restream;
        // GStreamer does not say why a port is not available.
        TcpListener::bind(settings.listen)
            .map(drop)
            .with_context(|| format!("[restream] listen = \"{}\"", settings.listen))?;
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address(&settings.listen.ip().to_string());
        server.set_service(&settings.listen.port().to_string());
        if settings.anonymous {
            warn_of_strangers(settings);
        } else {
            server.set_auth(Some(&auth::required(config)?));
            refused::watch(&server);
        }
        if let Some(pool) = server.thread_pool() {
            pool.set_max_threads(THREADS);
        }
        let mounts = Arc::new(Mutex::new(Mounts::new()));
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let served = mounts.clone();
        server.connect_client_connected(move |server, client| {
            let answer = answer(&served);
            client.connect_pre_setup_request(answer.clone());
            client.connect_pre_describe_request(answer);
            let clients = server.client_filter(None).len();
            if clients > MOST_CLIENTS {
                tracing::warn!(clients, "too many viewers; closed a connection");
                client.close();
            }
        });
        server
            .attach(Some(&context))
            .map_err(|_| anyhow!("[restream] listen = \"{}\": cannot listen", settings.listen))?;
        let thread = run(&server, &mounts, &main_loop)?;
        tracing::info!("annotated streams at rtsp://{}/NAME", settings.listen);
        Ok(Self {
            server,
            mounts,
            main_loop,
            thread: Mutex::new(thread),
        })
    }

    /// Serves the video of `hub` at `/name`, until the returned mount is dropped.
    pub fn mount(
        self: &Arc<Self>,
        name: &str,
        hub: &Arc<Hub>,
        telemetry: &Arc<telemetry::Camera>,
    ) -> Mount {
        let factory = factory::new(hub);
        let paths = paths(name);
        if let Some(mounts) = self.server.mount_points() {
            for path in &paths {
                mounts.add_factory(path, factory.clone());
            }
        }
        let served = Served {
            paths,
            factory,
            telemetry: telemetry.clone(),
        };
        self.mounts.lock().insert(name.to_owned(), served);
        Mount {
            restream: self.clone(),
            name: name.to_owned(),
        }
    }
}

impl Drop for Restream {
    fn drop(&mut self) {
        let mut close = |_: &gst_rtsp_server::RTSPServer, _: &gst_rtsp_server::RTSPClient| {
            gst_rtsp_server::RTSPFilterResult::Remove
        };
        self.server.client_filter(Some(&mut close));
        self.main_loop.quit();
        if !self.thread.get_mut().ends_within(CLOSE) {
            tracing::warn!(
                "the RTSP server does not end in time; continuing without waiting for it"
            );
        }
    }
}

/// Answers a request before the server looks for the stream: without a picture there is none, for which it
/// would blame the request (400).
fn answer(
    mounts: &Arc<Mutex<Mounts>>,
) -> impl Fn(&gst_rtsp_server::RTSPClient, &gst_rtsp_server::RTSPContext) -> gst_rtsp::RTSPStatusCode
+ Clone
+ Send
+ Sync
+ 'static {
    let mounts = mounts.clone();
    move |_, context| {
        let address = context.uri().map(|uri| uri.request_uri());
        let is_away = address.as_deref().and_then(path_of).is_some_and(|path| {
            let mounts = mounts.lock();
            let mut served = mounts.values();
            served.any(|served| served.has(path) && !served.factory.is_alive())
        });
        match is_away {
            true => {
                tracing::info!("refused a viewer: the camera has no picture");
                gst_rtsp::RTSPStatusCode::ServiceUnavailable
            }
            false => gst_rtsp::RTSPStatusCode::Ok,
        }
    }
}

/// The path in an address, such as `/door/stream=0`.
fn path_of(address: &str) -> Option<&str> {
    let (_, behind) = address.split_once("://")?;
    let path = &behind[behind.find('/')?..];
    path.split('?').next()
}

/// A camera's stream on the server.
pub struct Mount {
    restream: Arc<Restream>,
    name: String,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let served = self.restream.mounts.lock().remove(&self.name);
        if let Some(served) = served {
            if let Some(mounts) = self.restream.server.mount_points() {
                for path in &served.paths {
                    mounts.remove_factory(path);
                }
            }
            served.telemetry.viewers.set(0);
            served.factory.end();
        }
    }
}

/// The characters of a name that are encoded in addresses.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The paths under which viewers may ask for a camera. Some send non-ASCII letters as they are,
/// others encode them; the server compares paths literally.
fn paths(name: &str) -> Vec<String> {
    let encoded = utf8_percent_encode(name, ENCODED).to_string();
    let mut paths = vec![format!("/{name}"), format!("/{encoded}")];
    paths.dedup();
    paths
}

fn warn_of_strangers(settings: &RestreamServer) {
    if !settings.listen.ip().is_loopback() {
        tracing::warn!(
            "[restream] anonymous = true: everybody who reaches {} sees the cameras",
            settings.listen
        );
    }
}

/// Runs the server on its own thread.
fn run(
    server: &gst_rtsp_server::RTSPServer,
    mounts: &Arc<Mutex<Mounts>>,
    main_loop: &glib::MainLoop,
) -> Result<Thread> {
    let (server, mounts) = (server.downgrade(), Arc::downgrade(mounts));
    let round = glib::timeout_source_new(ROUND, None, glib::Priority::DEFAULT, move || {
        let (Some(server), Some(mounts)) = (server.upgrade(), mounts.upgrade()) else {
            return glib::ControlFlow::Break;
        };
        if let Some(pool) = server.session_pool() {
            pool.cleanup();
            count_viewers(&pool, &mounts.lock());
        }
        glib::ControlFlow::Continue
    });
    let context = main_loop.context();
    round.attach(Some(&context));
    let main_loop = main_loop.clone();
    Thread::start("rtsp-server", move || {
        let ran = context.with_thread_default(|| main_loop.run());
        if let Err(error) = ran {
            tracing::error!("the RTSP server does not run: {error}");
        }
    })
    .context("the RTSP server's thread cannot be started")
}

/// Counts viewers: the sessions with a stream set up.
fn count_viewers(pool: &gst_rtsp_server::RTSPSessionPool, mounts: &Mounts) {
    let sessions = pool.filter(None);
    for served in mounts.values() {
        let watches = |session: &&gst_rtsp_server::RTSPSession| {
            let mut paths = served.paths.iter();
            paths.any(|path| session.media(path).0.is_some())
        };
        let viewers = sessions.iter().filter(watches).count();
        served.telemetry.viewers.set(viewers as i64);
    }
}
