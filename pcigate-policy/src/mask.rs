//! Masked text: the only text that may enter a record, and what was found in it.
//!
//! Card numbers keep their first six and last four digits (PCI DSS 3.5.1 truncation, allowed for
//! every brand); whole tracks are sensitive authentication data (PCI DSS 3.3.1) and are replaced by
//! a fixed word that does not tell their length. Detection works on bytes, so text that is not
//! UTF-8 hides nothing. What is *not* here: numbers in other encodings (base64, `\u` escapes,
//! full-width digits), verification codes, PIN blocks and expiry dates.

mod brands;
mod pan;
mod track;

use std::fmt;

pub use brands::VERSION as BRANDS_VERSION;

/// Text without card data. It can only be made by [`Masked::new`].
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
}

/// What was taken out. Displayed as records and reports spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `pan`: a card number, or digits at a cut end that may begin one.
    Pan,
    /// `track1`: track 1 of a magnetic stripe (ISO/IEC 7813 format B).
    Track1,
    /// `track2`: track 2 of a magnetic stripe or its chip equivalent (EMV tag 57).
    Track2,
}

impl Masked {
    /// Masks `input`. Bytes that are not UTF-8 become U+FFFD after detection. Masks keep the length
    /// of a card number and its separators; tracks become `[SAD:track1]` or `[SAD:track2]`.
    /// Masking the result again changes nothing and finds nothing.
    #[must_use]
    pub fn new(input: &[u8], cut: Cut) -> Self {
        let (bytes, findings) = mask_bytes(input, cut);
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pan => "pan",
            Self::Track1 => "track1",
            Self::Track2 => "track2",
        })
    }
}

/// Masks `input` as [`Masked::new`] does, and keeps bytes that are not UTF-8. For what passes
/// through; a record takes only [`Masked`].
#[must_use]
pub fn mask_bytes(input: &[u8], cut: Cut) -> (Vec<u8>, Vec<Finding>) {
    let tracks = track::find(input, cut);
    let mut working = input.to_vec();
    let mut findings = pan::mask(input, &mut working);
    if cut == Cut::End {
        findings.extend(pan::mask_unfinished(input, &mut working));
    }
    if findings.is_empty() && tracks.is_empty() {
        return (working, findings);
    }
    track::fill(&mut working, &tracks);
    findings.extend(tracks);
    findings.extend(pan::settle(&mut working));
    let findings = disjoint(findings);
    (track::replace(&working, &findings), findings)
}

/// Orders the findings and resolves overlaps: tracks stay whole, card numbers that overlap each
/// other become one, and a card number keeps only what lies outside a track.
fn disjoint(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| (finding.start, finding.kind == Kind::Pan, finding.end));
    let mut kept: Vec<Finding> = Vec::with_capacity(findings.len());
    for mut finding in findings {
        if let Some(last) = kept.last_mut()
            && finding.start < last.end
        {
            match (last.kind, finding.kind) {
                (Kind::Pan, Kind::Pan) => {
                    last.end = last.end.max(finding.end);
                    continue;
                }
                (Kind::Pan, _) => last.end = finding.start,
                (_, _) if finding.end <= last.end => continue,
                (_, _) => finding.start = last.end,
            }
        }
        kept.push(finding);
    }
    kept
}

#[cfg(test)]
mod tests;
