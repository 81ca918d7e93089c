//! The scanner of one input: bytes in, masked bytes and what was found out.

use pcigate_policy::mask::{Finding, Stream};

use super::settings::Set;

/// One place where something was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Bytes of the input before it.
    pub offset: usize,
    /// Its bytes in the input.
    pub length: usize,
    /// What it was, as records spell it.
    pub kind: String,
    /// Whose card it is, where the number tells.
    pub brand: Option<&'static str>,
    /// `KEY:HEX`, where the settings have a key: equal for equal numbers.
    pub fingerprint: Option<String>,
    /// What stands for it in the output.
    pub masked: Vec<u8>,
}

/// A scan of one input.
pub struct Scan<'s> {
    set: &'s Set,
    stream: Stream<'s>,
    /// Masked bytes nobody has taken yet.
    text: Vec<u8>,
    /// Bytes of the output before `text`.
    taken: usize,
    /// Bytes by which masks so far were shorter (lost) or longer (gained) than what they stand for.
    lost: usize,
    gained: usize,
}

impl<'s> Scan<'s> {
    /// A scan that has seen nothing.
    pub fn new(set: &'s Set) -> Self {
        let stream = Stream::new(&set.masker);
        Self { set, stream, text: Vec::new(), taken: 0, lost: 0, gained: 0 }
    }

    /// Scans the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.stream.push(bytes, &mut self.text);
    }

    /// Gives out what is held back; digits at its end are masked, for they may begin a number.
    pub fn flush(&mut self) {
        self.stream.flush(&mut self.text);
    }

    /// The input has ended.
    pub fn finish(&mut self) {
        self.stream.finish(&mut self.text);
    }

    /// The masked bytes since [`Scan::clear`].
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Forgets the masked bytes: they are written.
    pub fn clear(&mut self) {
        self.taken += self.text.len();
        self.text.clear();
    }

    /// What was found in the bytes that came out. To be called before [`Scan::clear`].
    pub fn take_hits(&mut self) -> Vec<Hit> {
        let findings = self.stream.take_findings();
        findings.iter().map(|finding| self.hit(finding)).collect()
    }

    fn hit(&mut self, finding: &Finding) -> Hit {
        let length = finding.end - finding.start;
        let start = (finding.start + self.gained).saturating_sub(self.lost + self.taken);
        let masked = self.text.get(start..start + finding.masked_len).unwrap_or_default();
        self.lost += length.saturating_sub(finding.masked_len);
        self.gained += finding.masked_len.saturating_sub(length);
        let key = self.set.key.as_deref().unwrap_or_default();
        let fingerprint = finding.fingerprint.map(|of| format!("{key}:{}", hex::encode(of.0)));
        Hit {
            offset: finding.start,
            length,
            kind: self.set.masker.name_of(finding.kind).to_owned(),
            brand: finding.brand,
            fingerprint,
            masked: masked.to_vec(),
        }
    }
}
