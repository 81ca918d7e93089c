//! The answer section of a DNS message: the addresses at the end of the question's chain of names.

use super::{A, AAAA, CNAME, HEADER_BYTES, IN, Message, Step};

/// A walk over the answer section: from the question's name along the CNAMEs, in the order of the
/// records (RFC 1034, 4.3.2: the chain is built in this order, and resolvers rely on it), to the
/// addresses at its end.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct AnswerWalk {
    /// The record's owner, then what follows the record.
    at: u32,
    /// Records to come.
    records: u32,
    /// Where the name lies whose records count.
    wanted: u32,
    /// Seconds the answer is good for: the least of its chain.
    pub ttl: u32,
    /// 0 = at the beginning of a record, 1 = within its owner, 2 = comparing the owner.
    state: u32,
    kind: u32,
    rdata: u32,
    record_ttl: u32,
    owner: Cursor,
    other: Cursor,
    /// Bytes of the label being compared.
    left: u32,
    /// The address (IPv4 as v4-mapped).
    pub address: [u8; 16],
}

/// A place within a name that may be compressed (RFC 1035, 4.1.4).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Cursor {
    at: u32,
    /// Where this part of the name begins: a pointer has to lead before it, so it never loops.
    floor: u32,
}

/// What lies at a place where a label begins.
enum Label {
    /// A label of that many bytes; 0 = the end of the name.
    Length(u32),
    /// A pointer, now followed.
    Followed,
}

impl Cursor {
    #[inline(always)]
    fn new(at: u32) -> Self {
        Self { at, floor: at }
    }

    #[inline(always)]
    fn label(&mut self, message: &Message<'_>) -> Option<Label> {
        let byte = message.byte(self.at)?;
        match byte >> 6 {
            0 => Some(Label::Length(u32::from(byte))),
            3 => {
                let target = u32::from(message.word(self.at)? & 0x3fff);
                if target >= self.floor {
                    return None;
                }
                *self = Self::new(target);
                Some(Label::Followed)
            }
            _ => None,
        }
    }
}

const BEGIN: u32 = 0;
const OWNER: u32 = 1;
const COMPARE: u32 = 2;

impl AnswerWalk {
    /// Over that many records behind the question.
    #[inline(always)]
    pub(super) fn new(at: u32, records: u32) -> Self {
        Self { at, records, wanted: HEADER_BYTES, ttl: u32::MAX, ..Self::default() }
    }

    /// One step.
    #[inline(always)]
    pub fn step(&mut self, message: &Message<'_>) -> Step {
        let step = match self.state {
            BEGIN => self.begin(),
            OWNER => self.owner(message),
            _ => self.compare(message),
        };
        step.unwrap_or(Step::Malformed)
    }

    #[inline(always)]
    fn begin(&mut self) -> Option<Step> {
        if self.records == 0 {
            return Some(Step::Done);
        }
        self.records -= 1;
        self.owner = Cursor::new(self.at);
        self.state = OWNER;
        Some(Step::Next)
    }

    /// One label of the owner; at its end the fixed part behind it.
    #[inline(always)]
    fn owner(&mut self, message: &Message<'_>) -> Option<Step> {
        let byte = message.byte(self.at)?;
        let fixed = match byte >> 6 {
            0 if byte != 0 => {
                self.at += 1 + u32::from(byte);
                return Some(Step::Next);
            }
            0 => self.at + 1,
            3 => self.at + 2,
            _ => return None,
        };
        let (kind, class) = (message.word(fixed)?, message.word(fixed + 2)?);
        let ttl = u32::from(message.word(fixed + 4)?) << 16 | u32::from(message.word(fixed + 6)?);
        let length = u32::from(message.word(fixed + 8)?);
        self.kind = u32::from(kind);
        // RFC 2181, 8: a number with the highest bit set is 0.
        self.record_ttl = if ttl >> 31 == 1 { 0 } else { ttl };
        self.rdata = fixed + 10;
        self.at = self.rdata + length;
        if self.at > message.len {
            return None;
        }
        let counts = match kind {
            A => length == 4,
            AAAA => length == 16,
            CNAME => true,
            _ => false,
        };
        self.state = BEGIN;
        if counts && class == IN {
            self.state = COMPARE;
            self.other = Cursor::new(self.wanted);
            self.left = 0;
        }
        Some(Step::Next)
    }

    /// One byte, label or pointer of the owner and of the wanted name.
    #[inline(always)]
    fn compare(&mut self, message: &Message<'_>) -> Option<Step> {
        if self.left > 0 {
            let (a, b) = (message.byte(self.owner.at)?, message.byte(self.other.at)?);
            if !a.eq_ignore_ascii_case(&b) {
                self.state = BEGIN;
                return Some(Step::Next);
            }
            self.left -= 1;
            self.owner.at += 1;
            self.other.at += 1;
            return Some(Step::Next);
        }
        if self.owner.at == self.other.at {
            return self.matched(message);
        }
        let Label::Length(a) = self.owner.label(message)? else { return Some(Step::Next) };
        let Label::Length(b) = self.other.label(message)? else { return Some(Step::Next) };
        if a != b {
            self.state = BEGIN;
        } else if a == 0 {
            return self.matched(message);
        } else {
            self.left = a;
            self.owner.at += 1;
            self.other.at += 1;
        }
        Some(Step::Next)
    }

    #[inline(always)]
    fn matched(&mut self, message: &Message<'_>) -> Option<Step> {
        self.state = BEGIN;
        self.ttl = self.ttl.min(self.record_ttl);
        if self.kind == u32::from(CNAME) {
            self.wanted = self.rdata;
            return Some(Step::Next);
        }
        let (from, start) = if self.kind == u32::from(A) {
            self.address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
            (self.rdata, 12)
        } else {
            (self.rdata, 0)
        };
        for (at, byte) in (from..).zip(self.address.iter_mut().skip(start)) {
            *byte = message.byte(at)?;
        }
        Some(Step::Address)
    }
}
