//! DNS messages (RFC 1035) read in small steps: the question asked, and the addresses answered.
//!
//! The kernel programs take one step per turn of `bpf_loop`, tests and fuzzers take them in a
//! plain loop: the same code reads foreign bytes on both sides. A walk begins as [`Default`].

mod answers;

pub use answers::AnswerWalk;

use crate::limits::{DNS_MESSAGE_BYTES_MAX, DNS_NAME_BYTES_MAX};

/// The port of DNS servers.
pub const PORT: u16 = 53;
/// Bytes of a message's header.
pub const HEADER_BYTES: u32 = 12;
/// Steps of the longest question: a measuring one a label, a copying one a byte.
pub const QUESTION_STEPS_MAX: u32 = 400;
/// Steps of an answer. An address whose owner is a pointer takes three, so the most that fit a
/// message (256) take 768; the rest is for chains and for names written out.
pub const ANSWER_STEPS_MAX: u32 = 4096;
/// Record type A.
pub const A: u16 = 1;
/// Record type CNAME.
pub const CNAME: u16 = 5;
/// Record type AAAA.
pub const AAAA: u16 = 28;
const IN: u16 = 1;

/// A message of `len` bytes in a buffer of fixed size.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The buffer.
    pub bytes: &'a [u8; DNS_MESSAGE_BYTES_MAX],
    /// Bytes of it that belong to the message.
    pub len: u32,
}

/// What a step leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take the next one.
    Next,
    /// [`AnswerWalk::address`] and [`AnswerWalk::ttl`] are an answer; take the next step.
    Address,
    /// The end.
    Done,
    /// The message breaks the rules.
    Malformed,
}

/// What the header says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A query with one question.
    Query,
    /// An answer to one question, complete and without an error.
    Answer,
    /// An answer cut short (TC), which teaches nothing.
    Truncated,
    /// Anything else: an error, an update, no or several questions.
    Other,
}

impl Message<'_> {
    #[inline(always)]
    fn byte(&self, at: u32) -> Option<u8> {
        if at >= self.len {
            return None;
        }
        // The mask is for the verifier.
        self.bytes.get(at as usize & (DNS_MESSAGE_BYTES_MAX - 1)).copied()
    }

    #[inline(always)]
    fn word(&self, at: u32) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte(at)?, self.byte(at + 1)?]))
    }

    /// The id that joins an answer to its query.
    #[inline(always)]
    #[must_use]
    pub fn id(&self) -> u16 {
        self.word(0).unwrap_or_default()
    }

    /// What kind of message it is.
    #[inline(always)]
    #[must_use]
    pub fn header(&self) -> Header {
        let (Some(flags), Some(questions)) = (self.word(2), self.word(4)) else {
            return Header::Other;
        };
        let (response, opcode, truncated, code) =
            (flags & 0x8000 != 0, flags & 0x7800, flags & 0x0200 != 0, flags & 0x000f);
        if self.len < HEADER_BYTES || questions != 1 || opcode != 0 || code != 0 {
            Header::Other
        } else if !response {
            Header::Query
        } else if truncated {
            Header::Truncated
        } else {
            Header::Answer
        }
    }
}

/// A walk over the question's name. After [`Step::Done`] the name lies reversed in the buffer it
/// was given: lower case, labels parted by `.`, a NUL behind (`moc.elpmaxe.ipa\0`), so that a
/// prefix of these bytes is an end of the name.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct QuestionWalk {
    at: u32,
    /// Bytes of the current label to come.
    left: u32,
    /// Where the root label lies; 0 while that is not known.
    end: u32,
}

impl QuestionWalk {
    /// One step.
    #[inline(always)]
    pub fn step(&mut self, message: &Message<'_>, name: &mut [u8; DNS_NAME_BYTES_MAX]) -> Step {
        let at = if self.at == 0 { HEADER_BYTES } else { self.at };
        let Some(byte) = message.byte(at) else { return Step::Malformed };
        if self.end == 0 { self.measure(at, byte) } else { self.copy(at, byte, name) }
    }

    #[inline(always)]
    fn measure(&mut self, at: u32, byte: u8) -> Step {
        if byte == 0 {
            self.end = at;
            self.at = HEADER_BYTES;
            // The root itself is no name of a rule.
            return if at == HEADER_BYTES { Step::Malformed } else { Step::Next };
        }
        self.at = at + 1 + u32::from(byte);
        // A question is the first name of its message, so there is nothing to point back to. Its
        // text is one byte shorter than its labels with their lengths, and a NUL follows.
        let too_long = (self.at - HEADER_BYTES) as usize > DNS_NAME_BYTES_MAX;
        if byte > 63 || too_long { Step::Malformed } else { Step::Next }
    }

    #[inline(always)]
    fn copy(&mut self, at: u32, byte: u8, name: &mut [u8; DNS_NAME_BYTES_MAX]) -> Step {
        if at == self.end {
            return Step::Done;
        }
        let text = if self.left == 0 {
            self.left = u32::from(byte);
            b'.'
        } else {
            self.left -= 1;
            match folded(byte) {
                Some(byte) => byte,
                None => return Step::Malformed,
            }
        };
        if at > HEADER_BYTES
            && let Some(slot) = name.get_mut(self.end.wrapping_sub(1 + at) as usize)
        {
            *slot = text;
        }
        self.at = at + 1;
        Step::Next
    }

    /// Bytes of the name, with the NUL.
    #[inline(always)]
    #[must_use]
    pub fn name_bytes(&self) -> u32 {
        self.end.wrapping_sub(HEADER_BYTES)
    }

    /// The record type asked for, where the class is IN; else 0.
    #[inline(always)]
    #[must_use]
    pub fn kind(&self, message: &Message<'_>) -> u16 {
        match (message.word(self.end + 1), message.word(self.end + 3)) {
            (Some(kind), Some(IN)) => kind,
            _ => 0,
        }
    }

    /// The walk over the records that answer this question.
    #[inline(always)]
    #[must_use]
    pub fn answers(&self, message: &Message<'_>) -> AnswerWalk {
        AnswerWalk::new(self.end + 5, u32::from(message.word(6).unwrap_or_default()))
    }
}

/// A byte of a host name in lower case. Others (a dot inside of a label above all) would give two
/// names the same text.
#[inline(always)]
fn folded(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte | 0x20),
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => Some(byte),
        _ => None,
    }
}

/// Whether a name may stand for an address (IPv4 as v4-mapped). This host, its links and groups
/// never are what a name stands for: who answers for a name could otherwise point it at them (the
/// metadata service of a cloud, 169.254.169.254). They need a rule by `cidr`.
#[inline(always)]
#[must_use]
pub fn is_nameable(address: &[u8; 16]) -> bool {
    let [head @ .., a, b, c, d] = *address;
    let v4 = [a, b, c, d];
    match head {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] => {
            !(matches!(v4, [0 | 127 | 224..=255, ..]) || v4[0] == 169 && v4[1] == 254)
        }
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => false,
        [0xff, ..] => false,
        [0xfe, second, ..] => second & 0xc0 != 0x80,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
