//! A webhook receiver that can refuse requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

pub struct Hook {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    refuses: AtomicBool,
    bodies: Mutex<Vec<Value>>,
}

impl Hook {
    /// Listens while the process lives.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let taking = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = taking.clone();
                // An error here is a client that was killed in the middle of a request.
                std::thread::spawn(move || answer(stream, &state));
            }
        });
        Ok(Self { port, state })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/events", self.port)
    }

    /// From now on, answers all requests with 503, or accepts them.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// The accepted requests.
    pub fn bodies(&self) -> Vec<Value> {
        let bodies = &self.state.bodies;
        bodies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Answers the requests of one connection.
fn answer(stream: TcpStream, state: &State) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().context("a length")?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let status = if state.refuses.load(Ordering::SeqCst) {
            "503 Service Unavailable"
        } else {
            let body = serde_json::from_slice(&body)?;
            let mut bodies = state.bodies.lock().unwrap_or_else(PoisonError::into_inner);
            bodies.push(body);
            "200 OK"
        };
        write!(writer, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")?;
    }
}
