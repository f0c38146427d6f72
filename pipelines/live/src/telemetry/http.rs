//! The port for metrics and health: `/metrics`, `/healthz`, `/livez`.

mod guard;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use self::guard::Guard;
use super::Telemetry;
use super::health::Health;
use super::metrics::{self, Metrics};
use crate::config;

/// Answers until it is dropped.
pub struct Server {
    thread: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

/// The data for the answers.
struct Sources {
    metrics: Metrics,
    telemetry: Arc<Telemetry>,
}

impl Server {
    /// Starts to listen. With `disabled` it opens no port.
    pub fn start(config: &config::Server, telemetry: Arc<Telemetry>) -> Result<Self> {
        match config.disabled {
            true => Ok(Self {
                thread: None,
                stop: None,
            }),
            false => Self::on(listen(config.listen)?, guard::LONGEST, telemetry),
        }
    }

    /// Answers on `listener`. No connection lasts longer than `longest`.
    fn on(listener: TcpListener, longest: Duration, telemetry: Arc<Telemetry>) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let thread = spawn(listener, longest, telemetry, stopped)?;
        Ok(Self {
            thread: Some(thread),
            stop: Some(stop),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the metrics server panicked");
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::AddrInUse => {
                "another program uses this port; choose another `listen`, or set `disabled = true`"
            }
            ErrorKind::AddrNotAvailable => "this machine has no such address; correct `listen`",
            ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges; choose another `listen`"
            }
            _ => "correct `listen`, or set `disabled = true`",
        };
        anyhow::anyhow!("listen = \"{address}\": {error}; {remedy}")
    })?;
    listener.set_nonblocking(true)?;
    if !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "metrics and health are readable from other machines, without a password"
        );
    }
    Ok(listener)
}

/// Serves on a separate thread, so that clients cost the cameras no more than the time of an answer.
fn spawn(
    listener: TcpListener,
    longest: Duration,
    telemetry: Arc<Telemetry>,
    stopped: oneshot::Receiver<()>,
) -> Result<JoinHandle<()>> {
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("the metrics server does not start")?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let sources = Arc::new(Sources {
        metrics: Metrics::new(telemetry.clone()),
        telemetry,
    });
    let serve = move || {
        let serving = axum::serve(Guard::new(listener, longest), routes(sources)).into_future();
        let serving = runtime.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!("the metrics server failed: {error}");
            }
        });
        // Fails when the sender is dropped, which is the signal. The runtime ends all connections.
        let _ = runtime.block_on(stopped);
        serving.abort();
    };
    let thread = std::thread::Builder::new()
        .name("metrics".into())
        .spawn(serve)?;
    tracing::info!("metrics at http://{address}/metrics, health at http://{address}/healthz");
    Ok(thread)
}

fn routes(sources: Arc<Sources>) -> Router {
    Router::new()
        .route("/metrics", get(answer_metrics))
        .route("/healthz", get(answer_health))
        // Any answer means alive. For supervisors that restart a program that hangs, but not one
        // whose camera is unplugged.
        .route(
            "/livez",
            get(|| async { reply(StatusCode::OK, "text/plain", "ok\n".into()) }),
        )
        .fallback(|| async {
            let text = "There are /metrics, /healthz and /livez.\n";
            reply(StatusCode::NOT_FOUND, "text/plain", text.into())
        })
        .with_state(sources)
}

async fn answer_metrics(State(sources): State<Arc<Sources>>, headers: HeaderMap) -> Response {
    let open = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"));
    let (kind, text) = match open {
        true => (metrics::OPEN_METRICS, sources.metrics.open_metrics()),
        false => (metrics::PLAIN, sources.metrics.plain()),
    };
    match text {
        Ok(text) => reply(StatusCode::OK, kind, text),
        Err(error) => {
            let text = format!("{error}\n");
            reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", text)
        }
    }
}

async fn answer_health(State(sources): State<Arc<Sources>>) -> Response {
    let health = Health::of(&sources.telemetry);
    let code = match health.is_good() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    match serde_json::to_string(&health) {
        Ok(text) => reply(code, "application/json", text + "\n"),
        Err(error) => {
            let text = format!("{error}\n");
            reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", text)
        }
    }
}

/// An answer that closes the connection, so that none outlives its request.
fn reply(code: StatusCode, kind: &'static str, text: String) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONNECTION, "close"),
    ];
    (code, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc;

    use super::*;
    use crate::telemetry::CameraState;

    /// Longer than anything takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A server on a free port that ends no connection because of its age.
    fn server(telemetry: &Arc<Telemetry>) -> (Server, SocketAddr) {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = listen(free).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let longest = 60 * PATIENCE;
        let server = Server::on(listener, longest, telemetry.clone()).expect("starts");
        (server, address)
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that is not 0");
        stream.write_all(request.as_bytes()).expect("takes it");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("answers, and closes");
        answer
    }

    fn fetch(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    #[test]
    fn health_follows_the_cameras() {
        let telemetry = Arc::new(Telemetry::new());
        let (_server, address) = server(&telemetry);
        telemetry.camera("door").set_state(CameraState::Failed);
        let answer = fetch(address, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.contains(r#""name":"door","state":"failed""#),
            "{answer}"
        );
        assert!(fetch(address, "/livez").starts_with("HTTP/1.1 200 "));
        telemetry.camera("door").set_state(CameraState::Running);
        assert!(fetch(address, "/healthz").starts_with("HTTP/1.1 200 "));
        assert!(fetch(address, "/").starts_with("HTTP/1.1 404 "));
        let posted = ask(
            address,
            "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    }

    #[test]
    fn metrics_come_in_the_format_that_is_asked_for() {
        let telemetry = Arc::new(Telemetry::new());
        let (_server, address) = server(&telemetry);
        let plain = fetch(address, "/metrics");
        assert!(plain.contains(metrics::PLAIN) && !plain.contains("# EOF"));
        let open = ask(
            address,
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n",
        );
        assert!(open.contains(metrics::OPEN_METRICS) && open.ends_with("# EOF\n"));
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_that_names_the_key() {
        let telemetry = Arc::new(Telemetry::new());
        let (_server, listen) = server(&telemetry);
        let config = config::Server {
            listen,
            disabled: false,
        };
        let Err(error) = Server::start(&config, telemetry.clone()) else {
            panic!("the port is taken");
        };
        let error = format!("{error:#}");
        assert!(error.contains("listen = \"127.0.0.1:"), "{error}");
        let disabled = config::Server {
            listen,
            disabled: true,
        };
        assert!(Server::start(&disabled, telemetry).is_ok());
    }

    #[test]
    fn a_thousand_clients_that_never_ask_keep_nobody_out() {
        let telemetry = Arc::new(Telemetry::new());
        let (server, address) = server(&telemetry);
        // Below the limit of open files of this process.
        let mut idle = Vec::new();
        for i in 0..1000 {
            let mut stream = TcpStream::connect(address).expect("listens");
            // Half of them begin a request.
            if i % 2 == 0 {
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
            }
            idle.push(stream);
            if idle.len() > 300 {
                idle.remove(0);
            }
        }
        assert!(fetch(address, "/metrics").starts_with("HTTP/1.1 200 "));
        // Remaining connections must not keep the server from ending.
        let (dropped, is_dropped) = mpsc::channel();
        std::thread::spawn(move || {
            drop(server);
            dropped.send(()).expect("the test waits");
        });
        is_dropped.recv_timeout(PATIENCE).expect("it ends");
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_connection_lasts_only_so_long() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let telemetry = Arc::new(Telemetry::new());
        let _server = Server::on(listener, Duration::ZERO, telemetry).expect("starts");
        let mut stream = TcpStream::connect(address).expect("listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that is not 0");
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(count) => assert_eq!(count, 0, "no answer"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    #[test]
    fn a_request_without_an_end_is_cut_off() {
        let telemetry = Arc::new(Telemetry::new());
        let (_server, address) = server(&telemetry);
        let mut stream = TcpStream::connect(address).expect("listens");
        let line = format!("X-{}: {}\r\n", "a".repeat(100), "b".repeat(900));
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
        // Far more than the buffers between the two can take.
        const MUCH: usize = 256 << 20;
        let mut sent = 0;
        while sent < MUCH && stream.write_all(line.as_bytes()).is_ok() {
            sent += line.len();
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        assert!(sent < MUCH, "all was taken");
    }
}
