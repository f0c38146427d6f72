//! A camera that sends motion JPEG over HTTP, `multipart/x-mixed-replace`.

use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::media;

/// The time between pictures.
const PERIOD: Duration = Duration::from_millis(66);

#[derive(Default)]
struct State {
    /// Sends nothing, but keeps connections open.
    silent: AtomicBool,
    /// Closes all connections.
    closing: AtomicBool,
    /// The number of viewers so far.
    viewers: AtomicUsize,
}

pub struct Camera {
    pub uri: String,
    state: Arc<State>,
}

impl Camera {
    /// Sends a photo repeatedly, `pictures` times to each viewer.
    pub fn start(pictures: usize) -> Self {
        let photo = image::open(media("single_face.jpg")).expect("a photo");
        let small = photo.thumbnail(640, 640).into_rgb8();
        let mut jpeg = Cursor::new(Vec::new());
        small
            .write_to(&mut jpeg, image::ImageFormat::Jpeg)
            .expect("encodes");
        let jpeg: Arc<[u8]> = jpeg.into_inner().into();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, jpeg) = (shared.clone(), jpeg.clone());
                state.viewers.fetch_add(1, Ordering::SeqCst);
                // Fails when the viewer leaves.
                std::thread::spawn(move || send(stream, &state, &jpeg, pictures));
            }
        });
        Self {
            uri: format!("http://127.0.0.1:{port}/mj"),
            state,
        }
    }

    pub fn set_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    pub fn set_closing(&self, closing: bool) {
        self.state.closing.store(closing, Ordering::SeqCst);
    }
}

fn send(stream: TcpStream, state: &State, jpeg: &[u8], pictures: usize) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?).lines();
    while request
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let mut stream = stream;
    stream.write_all(
        b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n",
    )?;
    let mut sent = 0;
    while sent < pictures && !state.closing.load(Ordering::SeqCst) {
        if !state.silent.load(Ordering::SeqCst) {
            let length = jpeg.len();
            write!(
                stream,
                "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
            )?;
            stream.write_all(jpeg)?;
            stream.write_all(b"\r\n")?;
            sent += 1;
        }
        std::thread::sleep(PERIOD);
    }
    Ok(())
}
