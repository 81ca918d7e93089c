//! What crosses between the agent and the gateway's process: frames, one in each message of a
//! `SOCK_SEQPACKET` socket, so that each arrives whole or not at all. To the gateway a frame may
//! carry one descriptor; from it none is taken.
//!
//! To the agent all of it is foreign: bounded, exact, and a mistake ends that process. The first
//! byte of a frame is the version; both ends are one binary, so another one is a mistake, too.

pub mod fields;
pub mod terms;
pub mod told;

use zeroize::Zeroizing;

use fields::Fields;
pub use fields::Malformed;
pub use terms::Terms;
pub use told::Told;

/// Bytes of a frame.
pub const FRAME_MAX: usize = 64 << 10;
/// Bytes of terms in one frame.
pub const PIECE_MAX: usize = 48 << 10;
/// Events in one frame.
pub const TOLD_MAX: usize = 128;
/// Of this protocol.
const VERSION: u8 = 1;
/// Bytes of a sentence.
const WHY_MAX: usize = 2 << 10;
/// Bytes of a password.
pub const PASSWORD_MAX: usize = 4 << 10;
/// Bytes of a token.
pub const TOKEN_MAX: usize = 16 << 10;

/// A client's token on its way to be reviewed.
#[derive(Clone, Default, PartialEq)]
pub struct ClientToken(Zeroizing<Vec<u8>>);

impl ClientToken {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// It opens doors.
impl std::fmt::Debug for ClientToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientToken")
    }
}

/// From the agent to the gateway. Sessions have numbers of the agent's.
pub enum ToGateway {
    /// A piece of a session's [`Terms`]. The last one carries the client's connection.
    Terms {
        /// The session.
        session: u64,
        /// Whether the terms are complete with it.
        last: bool,
        /// At most [`PIECE_MAX`].
        piece: Zeroizing<Vec<u8>>,
    },
    /// The answer to [`FromGateway::Dial`]; carries the connection. The password comes with it,
    /// so that what was exchanged counts at the next login.
    Dialled {
        /// The session.
        session: u64,
        /// Which of its questions.
        dial: u32,
        /// Why there is no connection.
        failure: Option<String>,
        /// The credential's, where there is one.
        password: Option<Zeroizing<Vec<u8>>>,
    },
    /// The answer to [`FromGateway::Told`].
    Kept {
        /// The session.
        session: u64,
        /// Whether its records are on disk; not: the session ends.
        kept: bool,
    },
    /// The answer to [`FromGateway::Review`].
    Reviewed {
        /// The session.
        session: u64,
        /// Whose it is and by whose word; nothing where that is not known, or not who connects.
        identity: Option<(String, String)>,
        /// Why not.
        why: String,
        /// Nobody can say now.
        later: bool,
    },
    /// A session is to end.
    End {
        /// The session.
        session: u64,
        /// Why, for the client and the record.
        why: String,
    },
    /// Is anybody there?
    Ask(u64),
}

/// From the gateway to the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum FromGateway {
    /// It has given up all it does not need, and takes sessions.
    Ready,
    /// Events of a session, in order. It waits for [`ToGateway::Kept`] before it tells more.
    Told {
        /// The session.
        session: u64,
        /// Whether they have to be on disk before it is answered.
        durable: bool,
        /// At most [`TOLD_MAX`].
        told: Vec<Told>,
    },
    /// A session wants a connection to its Target.
    Dial {
        /// The session.
        session: u64,
        /// Given back with the answer.
        dial: u32,
    },
    /// A session's client has brought a token; asked once at most.
    Review {
        /// The session.
        session: u64,
        /// As it came.
        token: ClientToken,
    },
    /// A session is over; all it had to tell has been told.
    Over {
        /// The session.
        session: u64,
        /// Why, for the log; empty where its client has left in good order.
        why: String,
    },
    /// The answer to [`ToGateway::Ask`].
    Here(u64),
}

impl ToGateway {
    /// The bytes of the frame.
    ///
    /// # Errors
    /// Something is too long.
    pub fn encode(&mut self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        let mut frame = Zeroizing::new(Vec::with_capacity(self.capacity()));
        to_gateway(&mut Fields::Write(&mut frame), self)?;
        Ok(frame)
    }

    /// So much that no copy of a piece is left behind.
    fn capacity(&self) -> usize {
        match self {
            Self::Terms { piece, .. } => piece.len() + 64,
            Self::Dialled { password: Some(password), .. } => password.len() + WHY_MAX + 64,
            _ => 64,
        }
    }

    /// Out of the bytes of a frame.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut value = Self::Ask(0);
        let mut io = Fields::Read(frame);
        to_gateway(&mut io, &mut value)?;
        io.end()?;
        Ok(value)
    }
}

impl FromGateway {
    /// The bytes of the frame.
    ///
    /// # Errors
    /// Something is too long.
    pub fn encode(&mut self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        // At once as large as a token needs it, so that no copy of one is left behind.
        let size = if matches!(self, Self::Review { .. }) { TOKEN_MAX + 64 } else { 0 };
        let mut frame = Zeroizing::new(Vec::with_capacity(size));
        from_gateway(&mut Fields::Write(&mut frame), self)?;
        let length = frame.len();
        if length > FRAME_MAX {
            return Err(Malformed::Long { length, most: FRAME_MAX });
        }
        Ok(frame)
    }

    /// Out of the bytes of a frame: foreign bytes.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut value = Self::Ready;
        let mut io = Fields::Read(frame);
        from_gateway(&mut io, &mut value)?;
        io.end()?;
        Ok(value)
    }
}

/// Bytes that an event takes in a frame.
///
/// # Errors
/// Something of it is too long.
pub fn size(told: &mut Told) -> Result<usize, Malformed> {
    let mut io = Fields::Measure(0);
    told::told(&mut io, told)?;
    match io {
        Fields::Measure(length) => Ok(length),
        _ => Err(Malformed::Short),
    }
}

fn version(io: &mut Fields<'_>) -> Result<(), Malformed> {
    let mut version = VERSION;
    io.byte(&mut version)?;
    let number = version.into();
    if version == VERSION { Ok(()) } else { Err(Malformed::Choice { number }) }
}

fn to_gateway(io: &mut Fields<'_>, value: &mut ToGateway) -> Result<(), Malformed> {
    version(io)?;
    let mut tag = match value {
        ToGateway::Terms { .. } => 0,
        ToGateway::Dialled { .. } => 1,
        ToGateway::Kept { .. } => 2,
        ToGateway::End { .. } => 3,
        ToGateway::Ask(_) => 4,
        ToGateway::Reviewed { .. } => 5,
    };
    io.byte(&mut tag)?;
    if io.reads() {
        *value = match tag {
            0 => {
                let piece = Zeroizing::new(Vec::new());
                ToGateway::Terms { session: 0, last: false, piece }
            }
            1 => ToGateway::Dialled { session: 0, dial: 0, failure: None, password: None },
            2 => ToGateway::Kept { session: 0, kept: false },
            3 => ToGateway::End { session: 0, why: String::new() },
            4 => ToGateway::Ask(0),
            5 => {
                let why = String::new();
                ToGateway::Reviewed { session: 0, identity: None, why, later: false }
            }
            number => return Err(Malformed::Choice { number: number.into() }),
        };
    }
    match value {
        ToGateway::Terms { session, last, piece } => {
            io.number(session)?;
            io.flag(last)?;
            io.bytes(piece, PIECE_MAX)
        }
        ToGateway::Dialled { session, dial, failure, password } => {
            io.number(session)?;
            io.small(dial)?;
            io.option(failure, String::new, |io, why| io.text(why, WHY_MAX))?;
            io.option(password, Zeroizing::default, |io, one| io.bytes(one, PASSWORD_MAX))
        }
        ToGateway::Kept { session, kept } => {
            io.number(session)?;
            io.flag(kept)
        }
        ToGateway::End { session, why } => {
            io.number(session)?;
            io.text(why, WHY_MAX)
        }
        ToGateway::Ask(number) => io.number(number),
        ToGateway::Reviewed { session, identity, why, later } => {
            io.number(session)?;
            io.option(identity, Default::default, |io, (subject, issuer)| {
                io.text(subject, WHY_MAX)?;
                io.text(issuer, WHY_MAX)
            })?;
            io.text(why, WHY_MAX)?;
            io.flag(later)
        }
    }
}

fn from_gateway(io: &mut Fields<'_>, value: &mut FromGateway) -> Result<(), Malformed> {
    version(io)?;
    let mut tag = match value {
        FromGateway::Ready => 0,
        FromGateway::Told { .. } => 1,
        FromGateway::Dial { .. } => 2,
        FromGateway::Over { .. } => 3,
        FromGateway::Here(_) => 4,
        FromGateway::Review { .. } => 5,
    };
    io.byte(&mut tag)?;
    if io.reads() {
        *value = match tag {
            0 => FromGateway::Ready,
            1 => FromGateway::Told { session: 0, durable: false, told: Vec::new() },
            2 => FromGateway::Dial { session: 0, dial: 0 },
            3 => FromGateway::Over { session: 0, why: String::new() },
            4 => FromGateway::Here(0),
            5 => FromGateway::Review { session: 0, token: ClientToken::default() },
            number => return Err(Malformed::Choice { number: number.into() }),
        };
    }
    match value {
        FromGateway::Ready => Ok(()),
        FromGateway::Told { session, durable, told } => {
            io.number(session)?;
            io.flag(durable)?;
            io.list(told, TOLD_MAX, || Told::Truncated { limit: 0 }, told::told)
        }
        FromGateway::Dial { session, dial } => {
            io.number(session)?;
            io.small(dial)
        }
        FromGateway::Over { session, why } => {
            io.number(session)?;
            io.text(why, WHY_MAX)
        }
        FromGateway::Here(number) => io.number(number),
        FromGateway::Review { session, token: ClientToken(token) } => {
            io.number(session)?;
            io.bytes(token, TOKEN_MAX)
        }
    }
}

/// A sentence, cut to what crosses.
#[must_use]
pub fn sentence(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_MAX));
    why
}

#[cfg(test)]
mod tests;
