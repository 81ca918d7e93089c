//! What a masking is told: plain data for the policy, checked and compiled into a [`Masker`].

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::custom::{Custom, DetectorError};
use super::scan::{Scan, Taken, disjoint};
use super::{Cut, Finding, Fingerprint, Kind, render};

/// How a card number is shown. Its length and separators stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rendering {
    /// First six and last four digits (PCI DSS 3.5.1, allowed for every brand and length).
    #[default]
    Truncate,
    /// The last four digits.
    Last4,
    /// No digit.
    Full,
}

/// What a [`Masker`] is made of. The default is what records are masked with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How card numbers are shown.
    pub rendering: Rendering,
    /// Whether the text comes from a resource that holds card data: then a right check digit is
    /// enough, whatever brand and words say.
    pub card_data: bool,
    /// Gives every card number a fingerprint, so that finds of one number can be told together.
    pub fingerprint: Option<FingerprintKey>,
    /// Patterns of one's own; at most 64.
    pub detectors: Vec<Detector>,
    /// Names of columns or fields whose values are taken out whole (`name: value`, `name=value`,
    /// JSON, XML); at most 1,024 of at most 64 bytes.
    pub fields: Vec<String>,
    /// Whether to take out static secrets (PCI DSS 8.6.2): bearer tokens, private keys, passwords
    /// in command lines and URLs.
    pub secrets: bool,
}

/// A pattern of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detector {
    /// Its name in findings.
    pub name: String,
    /// A regular expression (syntax of the `regex` crate, without Unicode classes) for at most 256
    /// bytes. A match of more is cut there.
    pub pattern: String,
    /// Whether the digits of a match must have a right check digit (ISO/IEC 7812-1).
    pub luhn: bool,
}

/// The key of fingerprints.
#[derive(Clone, PartialEq, Eq)]
pub struct FingerprintKey {
    /// Says which key made a fingerprint.
    pub id: String,
    /// 256 random bits, kept secret: with them, all card numbers can be tried.
    pub key: [u8; 32],
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A detector's pattern.
    #[error("detector {name:?} cannot be used: correct or simplify its pattern")]
    Detector {
        /// The detector.
        name: String,
        /// What is wrong with it.
        #[source]
        source: DetectorError,
    },
    /// Too much of something.
    #[error("{count} {what}, more than {most}: split them over several maskings")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A field without a usable name.
    #[error("field name {name:?} must have 1–64 bytes of ASCII letters, digits, `_`, `-` or `.`")]
    Field {
        /// The name.
        name: String,
    },
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What every look at a candidate needs.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub rendering: Rendering,
    pub card_data: bool,
    key: Option<FingerprintKey>,
}

impl Rules {
    /// The fingerprint of a number's digits, where there is a key.
    pub(super) fn fingerprint(&self, digits: &[u8]) -> Option<Fingerprint> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key.as_ref()?.key).ok()?;
        mac.update(digits);
        mac.finalize().into_bytes().first_chunk().map(|first| Fingerprint(*first))
    }
}

/// Masks texts in one way. Made once, used from any thread.
#[derive(Debug, Default)]
pub struct Masker {
    pub(super) rules: Rules,
    pub(super) custom: Option<Custom>,
}

static STANDARD: LazyLock<Masker> = LazyLock::new(Masker::default);

impl Masker {
    /// The masker records are made with: [`Settings::default`].
    #[must_use]
    pub fn standard() -> &'static Self {
        &STANDARD
    }

    /// Checks and compiles settings.
    ///
    /// # Errors
    ///
    /// A pattern that cannot be read or is too large, too many detectors or fields, an odd name.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let custom = Custom::new(&settings)?;
        let Settings { rendering, card_data, fingerprint: key, .. } = settings;
        Ok(Self { rules: Rules { rendering, card_data, key }, custom })
    }

    /// Masks `input`, and keeps bytes that are not UTF-8. A text without findings is returned as
    /// it is, without a copy. For what passes through; a record takes only [`super::Masked`].
    #[must_use]
    pub fn mask<'a>(&self, input: &'a [u8], cut: Cut) -> (Cow<'a, [u8]>, Vec<Finding>) {
        let mut text = Cow::Borrowed(input);
        let mut taken = Vec::new();
        Scan::default().finish(&mut text, cut, &self.rules, &mut taken);
        if let Some(custom) = &self.custom {
            let end = text.len();
            custom.mask(&mut text, &mut 0, end, &mut taken);
        }
        if taken.is_empty() {
            return (text, Vec::new());
        }
        disjoint(&mut taken);
        let findings = taken.iter().map(Taken::finding).collect();
        if taken.iter().any(|one| one.word) {
            let mut written = Vec::with_capacity(text.len());
            render::words(&text, &taken, &mut written);
            text = Cow::Owned(written);
        }
        (text, findings)
    }

    /// The name of a kind: a custom detector's own, otherwise as [`Kind`] displays.
    #[must_use]
    pub fn name_of(&self, kind: Kind) -> &str {
        match kind {
            Kind::Custom(number) => self
                .custom
                .as_ref()
                .and_then(|custom| custom.name(number))
                .unwrap_or_else(|| kind.name()),
            kind => kind.name(),
        }
    }
}
