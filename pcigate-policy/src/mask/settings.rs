//! What a masking is told: plain data for the policy, checked and compiled into a [`Masker`].

use std::borrow::Cow;
use std::sync::LazyLock;

use super::scan::{Scan, Taken, disjoint};
use super::{Cut, Finding, Fingerprint, render};

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
}

/// What every look at a candidate needs.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub rendering: Rendering,
    pub card_data: bool,
}

impl Rules {
    pub(super) fn fingerprint(&self, _number: &[u8]) -> Option<Fingerprint> {
        None
    }
}

/// Masks texts in one way. Made once, used from any thread.
#[derive(Debug, Default)]
pub struct Masker {
    pub(super) rules: Rules,
}

static STANDARD: LazyLock<Masker> = LazyLock::new(Masker::default);

impl Masker {
    /// The masker records are made with: [`Settings::default`].
    #[must_use]
    pub fn standard() -> &'static Self {
        &STANDARD
    }

    /// Masks `input`, and keeps bytes that are not UTF-8. A text without findings is returned as
    /// it is, without a copy. For what passes through; a record takes only [`super::Masked`].
    #[must_use]
    pub fn mask<'a>(&self, input: &'a [u8], cut: Cut) -> (Cow<'a, [u8]>, Vec<Finding>) {
        let mut text = Cow::Borrowed(input);
        let mut taken = Vec::new();
        Scan::default().finish(&mut text, cut, &self.rules, &mut taken);
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
}
