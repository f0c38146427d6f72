//! Limits clients: connections are few, short and small.

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

/// Beyond this number of connections the oldest is closed. A request is answered within
/// milliseconds, so the oldest is an idle one.
const MOST_CONNECTIONS: usize = 64;

/// The lifetime of a connection.
pub const LONGEST: Duration = Duration::from_secs(10);

/// The size of a request, including its headers.
const MOST_BYTES: usize = 16 << 10;

/// Accepts connections.
pub struct Guard {
    listener: TcpListener,
    longest: Duration,
    /// Dropping one closes its connection. The oldest is in front.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Guard {
    /// No connection lasts longer than `longest`.
    pub fn new(listener: TcpListener, longest: Duration) -> Self {
        Self {
            listener,
            longest,
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
            deadline: Box::pin(tokio::time::sleep(self.longest)),
            ended,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once it exceeds its limits.
pub struct Connection {
    stream: TcpStream,
    /// Bytes that may still be read.
    left: usize,
    deadline: Pin<Box<Sleep>>,
    ended: oneshot::Receiver<()>,
}

impl Connection {
    /// Fails if the connection must end. Otherwise the caller's task is woken when it must.
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
