//! Whole messages from a stream, one at a time: for the opening of connections, where nothing has
//! to be fast.

use std::io;

use bytes::BytesMut;
use pcigate_postgres::backend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::SessionEnd;

/// A stream, and what was read from it.
pub(crate) struct Framed<S> {
    pub stream: S,
    pub buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Reads more; 0 bytes = the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(4096);
        self.stream.read_buf(&mut self.buffer).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The server's next message.
    pub(crate) async fn answer(
        &mut self,
        limits: &backend::Limits,
    ) -> Result<backend::Message, SessionEnd> {
        loop {
            if let Some(frame) = backend::next(&mut self.buffer, limits)? {
                return Ok(backend::Message::decode(&frame)?);
            }
            match self.fill().await {
                Ok(0) => return Err(SessionEnd::Server { source: None }),
                Ok(_) => {}
                Err(source) => return Err(SessionEnd::Server { source: Some(source) }),
            }
        }
    }
}
