//! What each byte of a block may be part of, as bit masks: tables, and the plain way to use them.
//!
//! The tables are those of a nibble lookup: a byte has a class when the table of its low half and
//! that of its high half both say so. [`super::avx2`] looks up 32 bytes at once in the same tables;
//! a property test holds both ways equal.

/// Bytes one block speaks for.
pub(super) const BLOCK: usize = 64;
/// Bytes read for it: a key is known by three letters.
pub(super) const READ: usize = BLOCK + 2;

/// What is known of every block. Bit n of each mask speaks of byte n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    /// ASCII digits.
    pub digits: u64,
    /// Letters (and a few marks) as tokens without a break have them; with digits, base64 and hex.
    pub letters: u64,
    /// Of the letters, those that are no hexadecimal digits (or all bytes).
    pub not_hex: u64,
    /// What may stand before an escaped digit: `%`, `#`, `=`, `x` (and a few others).
    pub marks: u64,
    /// What an escape or a line's end begins with, and bytes beyond ASCII (and a few others).
    pub escapes: u64,
    /// Blanks and control characters.
    pub white: u64,
    /// First letters of a base64 group whose first byte is a digit, space, dash, point or slash.
    pub base64: u64,
    /// What [`Rare`] speaks of, together (and a few others).
    pub rare: u64,
}

impl Masks {
    /// Digits right behind a mark. The first byte's is not known.
    #[inline]
    pub(super) const fn marked(&self) -> u64 {
        self.digits & self.marks << 1
    }

    /// Of these, those whose mark is no digit (for tables `8` is one): only they may be an escape.
    #[inline]
    pub(super) const fn escaped(&self) -> u64 {
        self.marked() & !(self.digits << 1)
    }

    /// The masks of the block that begins a byte earlier, with a blank.
    pub(super) const fn behind_a_blank(self) -> Self {
        Self {
            digits: self.digits << 1,
            letters: self.letters << 1,
            not_hex: self.not_hex << 1,
            marks: self.marks << 1,
            escapes: self.escapes << 1,
            white: self.white << 1 | 1,
            base64: self.base64 << 1,
            rare: self.rare << 1,
        }
    }
}

/// What few blocks have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rare {
    /// First bytes of decimal digits beyond ASCII, in UTF-8 (and of others).
    pub leads: u64,
    /// NUL bytes, as UTF-16 has them beside each digit.
    pub nuls: u64,
    /// First letters of keys (`cvv`, `exp`, `pin`, …) and of EMV tags with a length (and a few
    /// others).
    pub keys: u64,
}

pub(super) const DIGIT: u8 = 0x01;
pub(super) const MARKS: u8 = 0x06;
pub(super) const ESCAPE: u8 = 0x08;
pub(super) const LEADS: u8 = 0x30;
pub(super) const BASE64: u8 = 0x40;
pub(super) const LETTER: u8 = 0x80;
/// Escapes that are no product of halves: four bytes that differ in these bits from one of these.
pub(super) const ESCAPES_LOW: u8 = 0x03;
/// `$` to `'`, with `%` and `&`.
pub(super) const PERCENT: u8 = 0x27;
/// `\` to `_`.
pub(super) const BACKSLASH: u8 = 0x5f;
/// The last of the blanks and control characters.
pub(super) const WHITE: u8 = b' ';

/// Two tables, by the low and the high half of a byte.
pub(super) struct Nibbles {
    pub low: [u8; 16],
    pub high: [u8; 16],
}

/// Low and high halves of bytes, as sets of bits, and the class they mean together.
type Product = (u8, u16, u16);

const fn nibbles(products: &[Product]) -> Nibbles {
    let mut tables = Nibbles { low: [0; 16], high: [0; 16] };
    let mut rest = products;
    while let [(class, low, high), tail @ ..] = rest {
        let mut half = 0;
        while half < 16 {
            if *low >> half & 1 == 1 {
                tables.low[half] |= *class;
            }
            if *high >> half & 1 == 1 {
                tables.high[half] |= *class;
            }
            half += 1;
        }
        rest = tail;
    }
    tables
}

const fn set(halves: &[u8]) -> u16 {
    let mut bits = 0;
    let mut rest = halves;
    while let [half, tail @ ..] = rest {
        bits |= 1 << *half;
        rest = tail;
    }
    bits
}

const ANY: u16 = 0xffff;

/// The classes of single bytes.
pub(super) const BYTES: Nibbles = nibbles(&[
    (DIGIT, set(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), set(&[3])),
    (0x02, set(&[3, 5]), set(&[2])),
    (0x04, set(&[8, 0xd]), set(&[3, 5, 7])),
    (ESCAPE, set(&[0xa, 0xd]), set(&[0, 3])),
    (BASE64, set(&[9, 0xa, 0xc, 0xd, 0xe, 0xf]), set(&[4])),
    (0x10, set(&[0, 1, 0xa, 0xf]), set(&[0xe, 0xf])),
    (0x20, set(&[9, 0xb, 0xf]), set(&[0xd])),
    (LETTER, ANY, set(&[4, 5, 6, 7])),
]);

/// Keys by their first, second and third letter, in both cases; a bit is a key or a few alike.
pub(super) const KEYS: [Nibbles; 3] = [
    nibbles(&[
        (0x01, set(&[3]), set(&[4, 6])),
        (0x02, set(&[5]), set(&[4, 6])),
        (0x04, set(&[0]), set(&[5, 7])),
        (0x08, set(&[3]), set(&[4, 6])),
        (0x10, set(&[3]), set(&[4, 6])),
        (0x20, set(&[3]), set(&[4, 6])),
        (0x40, set(&[9]), set(&[5, 7])),
        (0x80, set(&[7, 0xa]), set(&[5])),
    ]),
    nibbles(&[
        // c v [vcn]
        (0x01, set(&[6]), set(&[5, 7])),
        // e x p
        (0x02, set(&[8]), set(&[5, 7])),
        // p i n
        (0x04, set(&[9]), set(&[4, 6])),
        // c s c
        (0x08, set(&[3]), set(&[5, 7])),
        // c i d
        (0x10, set(&[9]), set(&[4, 6])),
        // c a v
        (0x20, set(&[1]), set(&[4, 6])),
        // (securit) y [ _-c] [co]
        (0x40, set(&[0, 3, 0xd, 0xf]), set(&[2, 4, 5, 6])),
        // EMV tags 57 and 5A: the length of a track 2 or number.
        (0x80, ANY, set(&[0, 1])),
    ]),
    nibbles(&[
        (0x01, set(&[3, 6, 0xe]), set(&[4, 5, 6, 7])),
        (0x02, set(&[0]), set(&[5, 7])),
        (0x04, set(&[0xe]), set(&[4, 6])),
        (0x08, set(&[3]), set(&[4, 6])),
        (0x10, set(&[4]), set(&[4, 6])),
        (0x20, set(&[6]), set(&[5, 7])),
        (0x40, set(&[3, 0xf]), set(&[4, 6])),
        (0x80, ANY, ANY),
    ]),
];

const fn table(nibbles: &Nibbles) -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = nibbles.low[byte & 15] & nibbles.high[byte >> 4];
        byte += 1;
    }
    table
}

const WHOLE: [u8; 256] = table(&BYTES);
const WHOLE_KEYS: [[u8; 256]; 3] = [table(&KEYS[0]), table(&KEYS[1]), table(&KEYS[2])];

/// What `classify` says of the block at the beginning of a text; behind its end there are blanks.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled once for each instruction set")]
pub(super) fn whole<T>(text: &[u8], classify: impl Fn(&[u8; READ]) -> T) -> T {
    if let Some(block) = text.first_chunk() {
        return classify(block);
    }
    let mut block = [WHITE; READ];
    for (place, byte) in block.iter_mut().zip(text) {
        *place = *byte;
    }
    classify(&block)
}

/// The masks of a block, byte by byte.
#[inline]
pub(super) fn scalar(block: &[u8; READ]) -> Masks {
    let mut masks = Masks::default();
    for (at, byte) in block.iter().take(BLOCK).enumerate() {
        let class = class_of(*byte);
        masks.digits |= u64::from(class & DIGIT != 0) << at;
        masks.letters |= u64::from(class & LETTER != 0) << at;
        masks.marks |= u64::from(class & MARKS != 0) << at;
        masks.escapes |= u64::from(is_escape(*byte)) << at;
        masks.white |= u64::from(*byte <= WHITE) << at;
        masks.base64 |= u64::from(class & BASE64 != 0) << at;
    }
    masks.not_hex = u64::MAX;
    let Rare { leads, nuls, keys } = scalar_rare(block);
    masks.rare = leads | nuls | keys;
    masks
}

/// The rare masks of a block, byte by byte.
pub(super) fn scalar_rare(block: &[u8; READ]) -> Rare {
    let mut rare = Rare::default();
    for (at, three) in block.windows(3).enumerate() {
        let [first, second, third] = three else { continue };
        let of = |table: &[u8; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(0);
        let [one, two, three] = &WHOLE_KEYS;
        let key = of(one, *first) & of(two, *second) & of(three, *third);
        rare.leads |= u64::from(class_of(*first) & LEADS != 0) << at;
        rare.nuls |= u64::from(*first == 0) << at;
        rare.keys |= u64::from(key != 0) << at;
    }
    rare
}

/// Whether [`Masks::escapes`] has the byte.
pub(super) const fn is_escape(byte: u8) -> bool {
    let four = byte | ESCAPES_LOW;
    class_of(byte) & ESCAPE != 0 || four == PERCENT || four == BACKSLASH || byte >= 0x80
}

/// The keys' bits of a byte as first, second or third letter.
pub(super) const fn keys_of(letter: usize, byte: u8) -> u8 {
    WHOLE_KEYS[letter][byte as usize]
}

/// The classes of a byte.
pub(super) const fn class_of(byte: u8) -> u8 {
    WHOLE[byte as usize]
}
