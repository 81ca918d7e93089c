//! Reads ahead in a thread of its own, so that a pause of the input is noticed.
//!
//! Two buffers go round: while one is scanned the other is filled. With both full the thread waits,
//! and so does whoever writes to our stdin.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

const BUFFER_BYTES: usize = 256 * 1024;
const BUFFERS: usize = 2;
/// How long what came is held back for what may follow it.
const PAUSE: Duration = Duration::from_millis(200);

/// What comes next.
pub enum Piece {
    /// Bytes, at least one.
    Bytes(Vec<u8>),
    /// Nothing for a while after a line end.
    Pause,
    /// The end of the input.
    End,
    /// The input cannot be read any further.
    Failed(io::Error),
}

/// An input in pieces.
pub struct Pieces {
    filled: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    /// Whether pauses count.
    live: bool,
    /// Whether the last bytes ended a line and no pause was told since.
    line_ended: bool,
}

impl Pieces {
    /// Begins to read. A `live` input may pause; a file only takes its time.
    pub fn start(input: impl Read + Send + 'static, live: bool) -> Self {
        let (to_fill, empty) = sync_channel(BUFFERS);
        let (send, filled) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // It has room for all of them, and its receiver is here.
            let _ = to_fill.send(vec![0; BUFFER_BYTES]);
        }
        thread::spawn(move || fill(input, &empty, &send));
        Self { filled, empty: to_fill, live, line_ended: false }
    }

    /// What comes next, when it is there already.
    pub fn ready(&mut self) -> Option<Piece> {
        match self.filled.try_recv() {
            Ok(read) => Some(self.piece(read)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Piece::End),
        }
    }

    /// Waits for what comes next.
    pub fn wait(&mut self) -> Piece {
        let received = if self.live && self.line_ended {
            self.filled.recv_timeout(PAUSE)
        } else {
            self.filled.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match received {
            Ok(read) => self.piece(read),
            Err(RecvTimeoutError::Disconnected) => Piece::End,
            Err(RecvTimeoutError::Timeout) => {
                self.line_ended = false;
                Piece::Pause
            }
        }
    }

    /// Gives a buffer back to be filled again.
    pub fn give_back(&self, buffer: Vec<u8>) {
        // At the end of the input nobody fills it any more.
        let _ = self.empty.send(buffer);
    }

    fn piece(&mut self, read: io::Result<Vec<u8>>) -> Piece {
        match read {
            Ok(bytes) => {
                self.line_ended = bytes.ends_with(b"\n");
                Piece::Bytes(bytes)
            }
            Err(error) => Piece::Failed(error),
        }
    }
}

fn fill(mut input: impl Read, empty: &Receiver<Vec<u8>>, filled: &SyncSender<io::Result<Vec<u8>>>) {
    while let Ok(mut buffer) = empty.recv() {
        buffer.resize(BUFFER_BYTES, 0);
        let read = loop {
            match input.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let piece = match read {
            Ok(0) => return,
            Ok(count) => {
                buffer.truncate(count);
                Ok(buffer)
            }
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        if filled.send(piece).is_err() || failed {
            return;
        }
    }
}
