//! The bytes of segments: headers and frames, made and checked. No files.

/// Version of the segment format. Segments of version 1 are read as well: each of their records is
/// a group of its own.
pub(super) const VERSION: u32 = 2;
/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: usize = 44;
/// Bytes a frame adds to its record.
pub(super) const FRAME_BYTES: usize = 20;
/// Smallest frame: an empty record is not allowed.
pub(super) const FRAME_BYTES_MIN: u64 = FRAME_BYTES as u64 + 1;

/// Largest number that is read. It leaves room to go on behind, so that adding never overflows.
pub(super) const SEQ_MAX: u64 = u64::MAX / 2;

const MAGIC: [u8; 8] = *b"pcgspool";
const SALVAGED: u32 = 1;
/// Not valid UTF-8, so that no text in a record contains it.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xF5, b'p', b'g', 0xFA];

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: [u8; 16],
    pub(super) first_seq: u64,
    /// Made by `set_aside_corrupt`: seqs may jump.
    pub(super) salvaged: bool,
}

/// Why the first bytes of a file are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    Unreadable,
    Version(u32),
}

/// A frame that checks out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) seq: u64,
    /// First seq of the group it was written with: everything before that was durable by then.
    pub(super) group_seq: u64,
    pub(super) record: &'a [u8],
    /// Bytes of the frame with its record.
    pub(super) bytes: usize,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    /// Too few bytes to tell.
    Short,
    /// Wrong magic, length or checksum.
    Invalid,
}

impl Header {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&if self.salvaged { SALVAGED } else { 0 }.to_le_bytes());
        bytes.extend_from_slice(&self.epoch);
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header a file begins with. The version comes first: a later one may be laid out
    /// otherwise.
    pub(super) fn read(file: &[u8]) -> Result<Self, HeaderError> {
        let mut input = Input(file);
        if input.take() != Some(MAGIC) {
            return Err(HeaderError::Unreadable);
        }
        let version = input.u32().ok_or(HeaderError::Unreadable)?;
        if !(1..=VERSION).contains(&version) {
            return Err(HeaderError::Version(version));
        }
        let mut rest = || {
            let flags = input.u32()?;
            let header =
                Self { epoch: input.take()?, first_seq: input.u64()?, salvaged: flags == SALVAGED };
            let covered = file.get(..HEADER_BYTES - 4)?;
            (input.u32()? == crc32c::crc32c(covered) && header.first_seq <= SEQ_MAX)
                .then_some(header)
        };
        rest().ok_or(HeaderError::Unreadable)
    }
}

/// Appends a frame; `lengths` are those of the record and of its group before it.
pub(super) fn put_frame(
    to: &mut Vec<u8>,
    epoch: &[u8; 16],
    seq: u64,
    lengths: (u16, u16),
    record: &[u8],
) {
    let (of_record, of_group) = lengths;
    let lengths = u32::from(of_record) | u32::from(of_group) << 16;
    to.extend_from_slice(&FRAME_MAGIC);
    to.extend_from_slice(&lengths.to_le_bytes());
    to.extend_from_slice(&seq.to_le_bytes());
    to.extend_from_slice(&checksum(epoch, lengths, seq, record).to_le_bytes());
    to.extend_from_slice(record);
}

/// The frame `bytes` begin with.
pub(super) fn frame<'a>(bytes: &'a [u8], epoch: &[u8; 16]) -> Result<Frame<'a>, FrameError> {
    let mut input = Input(bytes);
    match input.take() {
        None => return Err(FrameError::Short),
        Some(FRAME_MAGIC) => {}
        Some(_) => return Err(FrameError::Invalid),
    }
    let mut fields = || Some((input.u32()?, input.u64()?, input.u32()?));
    let (lengths, seq, expected) = fields().ok_or(FrameError::Short)?;
    let (size, in_group) = ((lengths & 0xFFFF) as usize, u64::from(lengths >> 16));
    if size == 0 || size > pcigate_proto::record::RECORD_BYTES_MAX {
        return Err(FrameError::Invalid);
    }
    let record = input.0.get(..size).ok_or(FrameError::Short)?;
    let is_number = (1..=SEQ_MAX).contains(&seq) && in_group < seq;
    if !is_number || checksum(epoch, lengths, seq, record) != expected {
        return Err(FrameError::Invalid);
    }
    Ok(Frame { seq, group_seq: seq - in_group, record, bytes: FRAME_BYTES + size })
}

/// The first frame in `bytes` at or after `from` that checks out, with its offset.
pub(super) fn find_frame<'a>(
    bytes: &'a [u8],
    from: usize,
    epoch: &[u8; 16],
) -> Option<(usize, Frame<'a>)> {
    let mut offset = from;
    loop {
        let rest = bytes.get(offset..)?;
        let found = rest.windows(FRAME_MAGIC.len()).position(|window| window == FRAME_MAGIC)?;
        offset += found;
        match frame(bytes.get(offset..)?, epoch) {
            Ok(frame) => return Some((offset, frame)),
            Err(_) => offset += 1,
        }
    }
}

fn checksum(epoch: &[u8; 16], lengths: u32, seq: u64, record: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(epoch);
    sum = crc32c::crc32c_append(sum, &FRAME_MAGIC);
    sum = crc32c::crc32c_append(sum, &lengths.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &seq.to_le_bytes());
    crc32c::crc32c_append(sum, record)
}

/// Takes fixed-size fields from the front.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
