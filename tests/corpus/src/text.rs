//! Bytes with labels: what is card data in them, and where.

/// A text and the card data in it.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// The bytes; not always UTF-8.
    pub bytes: Vec<u8>,
    /// In order.
    pub labels: Vec<Label>,
}

/// One piece of card data.
#[derive(Clone, Debug)]
pub struct Label {
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte. In an encoding whose characters do not end where bytes end,
    /// every character that holds a part of it belongs to it.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
    /// Whose number it is; empty where there is none.
    pub brand: &'static str,
    /// How it is written.
    pub spelling: &'static str,
    /// What must not be readable afterwards: the digits, or the characters of the secret.
    pub secret: String,
}

/// What a piece of card data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A card number.
    Pan,
    /// A whole track 1.
    Track1,
    /// A whole track 2.
    Track2,
    /// A card verification code.
    Cvv,
    /// An expiry date.
    Expiry,
    /// An encrypted PIN block.
    Pin,
}

impl Kind {
    /// `pan`, `track1`, `track2`, `cvv`, `expiry` or `pin`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pan => "pan",
            Self::Track1 => "track1",
            Self::Track2 => "track2",
            Self::Cvv => "cvv",
            Self::Expiry => "expiry",
            Self::Pin => "pin",
        }
    }
}

/// One entry of a corpus.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where such text occurs, or what a look-alike is.
    pub class: &'static str,
    /// The bytes with their labels. They may hold line ends.
    pub text: Text,
}

impl Text {
    /// Bytes without card data.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), labels: Vec::new() }
    }

    /// Appends bytes without card data.
    pub fn push(&mut self, bytes: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(bytes.as_ref());
    }

    /// Appends another text with its labels.
    pub fn append(&mut self, other: &Self) {
        let at = self.bytes.len();
        self.labels.extend(other.labels.iter().cloned().map(|mut label| {
            label.start += at;
            label.end += at;
            label
        }));
        self.push(&other.bytes);
    }

    /// All of it as one piece of card data.
    #[must_use]
    pub fn labelled(
        bytes: Vec<u8>,
        kind: Kind,
        brand: &'static str,
        spelling: &'static str,
        secret: &str,
    ) -> Self {
        let secret = secret.to_owned();
        let label = Label { start: 0, end: bytes.len(), kind, brand, spelling, secret };
        Self { bytes, labels: vec![label] }
    }

    /// The text in another encoding. `encode` gives, for each byte in order, the encoded bytes it
    /// begins and those it only reaches into (none but for base64).
    #[must_use]
    pub fn encoded(&self, encode: fn(&[u8]) -> Encoded) -> Self {
        let encoded = encode(&self.bytes);
        let mut labels = self.labels.clone();
        for label in &mut labels {
            label.end = encoded.ends.get(label.end.wrapping_sub(1)).copied().unwrap_or_default();
            label.start = encoded.starts.get(label.start).copied().unwrap_or_default();
        }
        Self { bytes: encoded.bytes, labels }
    }

    /// The same text under another name of spelling.
    #[must_use]
    pub fn spelled(mut self, spelling: &'static str) -> Self {
        for label in &mut self.labels {
            label.spelling = spelling;
        }
        self
    }
}

/// Encoded bytes, and where each byte of the original is in them.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// The encoded bytes.
    pub bytes: Vec<u8>,
    /// For each original byte the offset of the first encoded byte that holds a part of it.
    pub starts: Vec<usize>,
    /// For each original byte the offset behind the last encoded byte that holds a part of it.
    pub ends: Vec<usize>,
}

impl Encoded {
    /// Appends what stands for the next original byte.
    pub fn push(&mut self, bytes: impl AsRef<[u8]>) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(bytes.as_ref());
        self.ends.push(self.bytes.len());
    }
}
