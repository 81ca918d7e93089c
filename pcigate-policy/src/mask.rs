//! Masked text: the only text that may enter a record, and what was found in it.
//!
//! Card numbers keep their first six and last four digits (PCI DSS 3.5.1 truncation, allowed for
//! every brand); sensitive authentication data (tracks, verification codes, PIN blocks; PCI DSS
//! 3.3.1) and expiry dates are replaced by words that do not tell their length. Detection works on
//! bytes, so text that is not UTF-8 hides nothing. Time is linear in the text and memory beyond
//! the text bounded, whatever it holds.
//!
//! How: a prefilter looks at 64 bytes at once and names candidates (`prefilter`, `classes`,
//! `avx2`); a candidate is compared with the layouts and brands of card numbers (`pan`, `brands`),
//! tracks (`track`) and keys (`keyed`), and with what else it may be (`context`); candidates in
//! other spellings are decoded and looked at again (`spelling`). What is not here: compressed
//! data, encryption, more than two spellings inside each other.

mod avx2;
mod avx512;
mod brands;
mod classes;
mod context;
mod custom;
mod find;
mod keyed;
mod line;
mod pan;
mod prefilter;
mod render;
mod runs;
mod scan;
mod settings;
mod spelling;
mod stream;
mod track;
mod unfinished;
mod vectors;

use std::borrow::Cow;
use std::fmt;

pub use brands::VERSION as BRANDS_VERSION;
pub use custom::DetectorError;
pub use line::one_line;
use settings::Rules;
pub use settings::{Detector, FingerprintKey, Masker, Rendering, Settings, SettingsError};
pub use stream::Stream;

/// Text without card data. It can only be made by [`Masked::new`] and [`Masked::with`]:
///
/// ```
/// use pcigate_policy::mask::{Cut, Masked};
/// let text = Masked::new(b"--card=4111111111111111", Cut::Whole);
/// assert_eq!(text.as_str(), "--card=411111******1111");
/// ```
///
/// Not from its parts, nor out of other text, nor changed once it is made:
///
/// ```compile_fail,E0451
/// use pcigate_policy::mask::Masked;
/// let text = Masked { text: "4111111111111111".to_owned(), findings: Vec::new() };
/// ```
///
/// ```compile_fail,E0277
/// use pcigate_policy::mask::Masked;
/// let text: Masked = "4111111111111111".to_owned().into();
/// ```
///
/// ```compile_fail,E0277
/// use pcigate_policy::mask::Masked;
/// let text: Masked = "4111111111111111".parse().unwrap();
/// ```
///
/// ```compile_fail,E0616
/// use pcigate_policy::mask::{Cut, Masked};
/// let mut text = Masked::new(b"", Cut::Whole);
/// text.text.push_str("4111111111111111");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    text: String,
    findings: Vec<Finding>,
}

/// Whether the text to mask is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The text is all there is.
    Whole,
    /// The text was cut at its end. Digits (at least four) or a track touching the end may be the
    /// beginning of something longer and are taken out wholly.
    End,
}

/// One place where something was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Offset of its first byte in the input.
    pub start: usize,
    /// Offset behind its last byte in the input.
    pub end: usize,
    /// What it was.
    pub kind: Kind,
    /// Bytes that stand for it in the output.
    pub masked_len: usize,
    /// The brand of a card number, where its prefix belongs to one alone.
    pub brand: Option<&'static str>,
    /// Of a card number, where the settings have a key for it.
    pub fingerprint: Option<Fingerprint>,
}

/// The first 16 bytes of HMAC-SHA-256 over a card number's digits: equal for equal numbers, and
/// worthless without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// What was taken out. Displayed as records and reports spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `pan`: a card number, or digits at a cut end that may begin one.
    Pan,
    /// `track1`: track 1 of a magnetic stripe (ISO/IEC 7813 format B).
    Track1,
    /// `track2`: track 2 of a magnetic stripe or its chip equivalent (EMV tag 57).
    Track2,
    /// `cvv`: a card verification code.
    Cvv,
    /// `expiry`: the expiry date of a card.
    Expiry,
    /// `pin`: a PIN or PIN block.
    PinBlock,
    /// `secret`: a password, token or key, where the settings ask for it.
    Secret,
    /// `custom`: what a detector of the settings found, and which (from 0).
    Custom(u16),
}

impl Kind {
    /// What stands in its place, unless stars do.
    const fn word(self) -> &'static str {
        match self {
            Self::Pan => "[PAN]",
            Self::Track1 => "[SAD:track1]",
            Self::Track2 => "[SAD:track2]",
            Self::Cvv => "[SAD:cvv]",
            Self::Expiry => "[EXP]",
            Self::PinBlock => "[SAD:pin]",
            Self::Secret => "[SECRET]",
            Self::Custom(_) => "[MASKED]",
        }
    }
}

impl Masked {
    /// Masks `input` with the standard settings. Bytes that are not UTF-8 become U+FFFD after
    /// detection. Masks keep the length of a card number and its separators; other finds become
    /// words such as `[SAD:track1]`. Masking the result again changes nothing and finds nothing.
    #[must_use]
    pub fn new(input: &[u8], cut: Cut) -> Self {
        Self::with(Masker::standard(), input, cut)
    }

    /// Masks `input` as the masker is set.
    #[must_use]
    pub fn with(masker: &Masker, input: &[u8], cut: Cut) -> Self {
        let (bytes, findings) = masker.mask(input, cut);
        let text = match bytes {
            Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => String::from_utf8_lossy(bytes).into_owned(),
            },
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        };
        Self { text, findings }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.text
    }

    /// What was taken out, in order and without overlap; offsets are those of the input.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The parts between separators, as an argv masked in one piece needs them: split at `'\0'`.
    pub fn split(&self, separator: char) -> impl Iterator<Item = &str> {
        self.text.split(separator)
    }
}

impl Kind {
    /// As records and reports spell it.
    const fn name(self) -> &'static str {
        match self {
            Self::Pan => "pan",
            Self::Track1 => "track1",
            Self::Track2 => "track2",
            Self::Cvv => "cvv",
            Self::Expiry => "expiry",
            Self::PinBlock => "pin",
            Self::Secret => "secret",
            Self::Custom(_) => "custom",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Masks `input` as [`Masked::new`] does, and keeps bytes that are not UTF-8. For what passes
/// through; a record takes only [`Masked`].
#[must_use]
pub fn mask_bytes(input: &[u8], cut: Cut) -> (Vec<u8>, Vec<Finding>) {
    let (bytes, findings) = Masker::standard().mask(input, cut);
    (bytes.into_owned(), findings)
}

#[cfg(test)]
mod tests;
