//! The two connections and the four buffers between them. Reading stops where the other side does
//! not take what is there; an idle session holds no buffer.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::SessionEnd;

/// Bytes read at once, on the stack.
const CHUNK: usize = 32 << 10;
/// A drained buffer over this size is given back.
const KEPT: usize = 4 << 10;

pub(crate) struct Pipe<C, U> {
    pub client: End<C>,
    pub server: End<U>,
}

/// One connection with what came from it and what is to go to it.
pub(crate) struct End<S> {
    pub stream: S,
    pub incoming: BytesMut,
    pub outgoing: BytesMut,
    pub closed: bool,
    /// Bytes that came and were dropped.
    pub heard: u64,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> End<S> {
    pub(crate) fn new(stream: S, incoming: BytesMut) -> Self {
        Self {
            stream,
            incoming,
            outgoing: BytesMut::new(),
            closed: false,
            heard: 0,
            unflushed: false,
        }
    }

    /// Writes what can be written; whether anything was.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(wrote);
            self.unflushed = true;
        }
        if self.outgoing.capacity() > KEPT {
            self.outgoing = BytesMut::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; the end sets `closed`.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::uninit(); CHUNK];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.closed = buffer.filled().is_empty();
        self.incoming.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }

    /// Drops what still comes; ready once nothing does.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let received = ready!(self.poll_receive(cx));
        self.heard += u64::try_from(self.incoming.len()).unwrap_or(u64::MAX);
        self.incoming.clear();
        if received.is_err() || self.closed {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives back the memory of what was taken out.
    pub(crate) fn trim(&mut self) {
        if self.incoming.is_empty() && self.incoming.capacity() > 0 {
            self.incoming = BytesMut::new();
        }
    }
}

impl<C, U> Pipe<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Moves what can be moved. Ready = something came, or a buffer was emptied.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        read_client: bool,
        read_server: bool,
    ) -> Poll<Result<(), SessionEnd>> {
        let of_client = |source| SessionEnd::Client { source: Some(source) };
        let of_server = |source| SessionEnd::Server { source: Some(source) };
        let had = self.client.outgoing.len() + self.server.outgoing.len();
        if let Poll::Ready(sent) = self.client.poll_send(cx) {
            sent.map_err(of_client)?;
        }
        if let Poll::Ready(sent) = self.server.poll_send(cx) {
            // What it said before it went may still be read.
            if sent.is_err() {
                self.server.outgoing.clear();
            }
        }
        let mut moved = self.client.outgoing.len() + self.server.outgoing.len() < had;
        if read_server
            && !self.server.closed
            && let Poll::Ready(received) = self.server.poll_receive(cx)
        {
            received.map_err(of_server)?;
            moved = true;
        }
        if read_client
            && !self.client.closed
            && let Poll::Ready(received) = self.client.poll_receive(cx)
        {
            received.map_err(of_client)?;
            moved = true;
        }
        if moved { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
