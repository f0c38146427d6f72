//! The annotated video of all cameras by RTSP, at `/NAME`.

mod auth;
mod factory;
mod refused;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use gst_rtsp_server::prelude::*;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub use self::auth::check_password;
use self::factory::Factory;
use super::hub::Hub;
use crate::live::config::{Config, RestreamServer};
use crate::live::telemetry;
use crate::live::threads::Thread;

/// Connections at a time; more are closed at once.
const MOST_CLIENTS: usize = 200;

/// Threads that talk to clients. While one waits for the first picture of a stream, others go on.
const THREADS: i32 = 8;

/// How long viewers may take to be let go at the end.
const CLOSE: Duration = Duration::from_millis(500);

/// How often sessions that ended are cleared away and viewers are counted.
const ROUND: Duration = Duration::from_secs(1);

/// The server; it runs for as long as the process.
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

impl Restream {
    pub fn start(config: &Config) -> Result<Self> {
        let settings = &config.restream;
        // GStreamer does not say why a port cannot be had.
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
        server.connect_client_connected(|server, client| {
            let clients = server.client_filter(None).len();
            if clients > MOST_CLIENTS {
                tracing::warn!(clients, "too many viewers; a connection is closed");
                client.close();
            }
        });
        server
            .attach(Some(&context))
            .map_err(|_| anyhow!("[restream] listen = \"{}\": no port", settings.listen))?;
        let thread = run(&server, &mounts, &main_loop)?;
        tracing::info!("annotated streams at rtsp://{}/NAME", settings.listen);
        Ok(Self {
            server,
            mounts,
            main_loop,
            thread: Mutex::new(thread),
        })
    }

    /// Serves what `hub` has at `/name`, until the returned mount is dropped.
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
        lock(&self.mounts).insert(name.to_owned(), served);
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
        let thread = (self.thread.get_mut()).unwrap_or_else(PoisonError::into_inner);
        if !thread.ends_within(CLOSE) {
            tracing::warn!("the RTSP server does not end in time; left behind");
        }
    }
}

/// A camera's stream on the server.
pub struct Mount {
    restream: Arc<Restream>,
    name: String,
}

impl Drop for Mount {
    fn drop(&mut self) {
        let served = lock(&self.restream.mounts).remove(&self.name);
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

/// What is encoded of a name in an address.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The paths by which viewers ask for a camera: some write letters beyond ASCII as they are, some encode
/// them. The server takes both as they come.
fn paths(name: &str) -> Vec<String> {
    let encoded = utf8_percent_encode(name, ENCODED).to_string();
    let mut paths = vec![format!("/{name}"), format!("/{encoded}")];
    paths.dedup();
    paths
}

fn lock(mounts: &Mutex<Mounts>) -> MutexGuard<'_, Mounts> {
    mounts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn warn_of_strangers(settings: &RestreamServer) {
    if !settings.listen.ip().is_loopback() {
        tracing::warn!(
            "[restream] anonymous = true: whoever reaches {} sees the cameras",
            settings.listen
        );
    }
}

/// Runs the server on a thread of its own.
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
            count_viewers(&pool, &lock(&mounts));
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
    .context("no thread for the RTSP server")
}

/// Sessions that have a stream set up are viewers.
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
