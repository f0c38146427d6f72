//! What keeps clients from taking too much: connections are few, short and small.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// More connections than this at a time end the oldest: whoever asks is answered in milliseconds, so it
/// is one that does not ask.
const MOST_CONNECTIONS: usize = 64;

/// From the first byte to the last.
const LONGEST: Duration = Duration::from_secs(10);

/// Of a request, with its headers.
const MOST_BYTES: usize = 16 << 10;

/// Takes in connections.
pub struct Guard {
    listener: TcpListener,
    /// Dropping one ends its connection. The oldest is in front.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Guard {
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            open: VecDeque::new(),
        }
    }
}

impl Listener for Guard {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.open.retain(|connection| !connection.is_closed());
        if self.open.len() >= MOST_CONNECTIONS {
            self.open.pop_front();
        }
        let (open, ended) = oneshot::channel();
        self.open.push_back(open);
        let connection = Connection {
            stream,
            left: MOST_BYTES,
            deadline: Box::pin(tokio::time::sleep(LONGEST)),
            ended,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once it took too much.
pub struct Connection {
    stream: TcpStream,
    /// Bytes that may still be read.
    left: usize,
    deadline: Pin<Box<Sleep>>,
    ended: oneshot::Receiver<()>,
}

impl Connection {
    /// An error if the connection is to end; else whoever calls is woken when it is.
    fn check(&mut self, context: &mut Context) -> io::Result<()> {
        let over = self.deadline.as_mut().poll(context).is_ready();
        if over || Pin::new(&mut self.ended).poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let more = buffer.filled().len().saturating_sub(before);
        self.left = self.left.saturating_sub(more);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
