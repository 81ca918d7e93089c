//! How texts are masked: the `mask` of a policy or Target, and the file of `pcigate mask`.

use super::target::{MaskStyle, absolute_path};
use crate::mask::{Detector, Masker, Rendering, Settings, SettingsError};
use crate::yaml::{self, Fields, Item, Mistakes, shown};

/// What is masked, and how card numbers are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masking {
    /// What stays of a card number.
    pub style: MaskStyle,
    /// Whether a right check digit alone makes a card number, whatever brand and words say.
    pub card_data: bool,
    /// Whether static secrets are taken out too (PCI DSS 8.6.2).
    pub secrets: bool,
    /// Names of columns or fields whose values are taken out whole.
    pub fields: Vec<String>,
    /// Patterns of one's own.
    pub detectors: Vec<Detector>,
}

/// Where the key of fingerprints is, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FingerprintRef {
    /// Says which key made a fingerprint.
    pub id: String,
    /// File with its 32 bytes, or these as 64 hexadecimal digits.
    pub key_file: String,
}

const STYLES: &[(&str, MaskStyle)] =
    &[("truncate", MaskStyle::Truncate), ("last4", MaskStyle::Last4), ("full", MaskStyle::Full)];
const CHECKSUMS: &[(&str, bool)] = &[("luhn", true), ("none", false)];

impl Masking {
    /// Reads a file of settings: the fields of a policy's `mask`, and `fingerprint`.
    ///
    /// # Errors
    /// Every mistake with its line and field.
    pub fn read(name: &str, text: &str) -> Result<(Self, Option<FingerprintRef>), Mistakes> {
        let root = yaml::read_one(name, text)?;
        let mut mistakes = Mistakes::default();
        let mut fields = Fields::of(&root, "", &mut mistakes);
        let key = fields.fields("fingerprint").and_then(FingerprintRef::decode);
        let masking = Self::decode(fields);
        mistakes.into_result((masking, key))
    }

    /// Decodes a `mask`; patterns are compiled once to see that they can be.
    pub(super) fn decode(mut fields: Fields<'_, '_>) -> Self {
        let style = fields.one_of("default", STYLES).unwrap_or_default();
        let card_data = fields.bool("cardData").unwrap_or_default();
        let secrets = fields.bool("secrets").unwrap_or_default();
        let names = fields.parsed_list("fields", |name| match Self::of_field(name).masker() {
            Ok(_) => Ok(name.to_owned()),
            Err(error) => Err(error.to_string()),
        });
        let items = fields.list("detectors");
        let detectors = items.iter().filter_map(|item| detector(item, fields.mistakes())).collect();
        let masking = Self { style, card_data, secrets, fields: names, detectors };
        if let Err(error) = masking.masker() {
            fields.mistake("", error.to_string());
        }
        fields.finish();
        masking
    }

    fn of_field(name: &str) -> Self {
        Self { fields: vec![name.to_owned()], ..Self::default() }
    }

    /// What a [`Masker`] is made of; without a fingerprint.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let rendering = match self.style {
            MaskStyle::Truncate => Rendering::Truncate,
            MaskStyle::Last4 => Rendering::Last4,
            MaskStyle::Full => Rendering::Full,
        };
        Settings {
            rendering,
            card_data: self.card_data,
            fingerprint: None,
            detectors: self.detectors.clone(),
            fields: self.fields.clone(),
            secrets: self.secrets,
        }
    }

    /// The masker of these settings.
    ///
    /// # Errors
    /// A pattern that cannot be used, or too much of something.
    pub fn masker(&self) -> Result<Masker, SettingsError> {
        Masker::new(self.settings())
    }

    /// Takes out what the other does too, and shows no more than it does.
    pub fn join(&mut self, other: &Self) {
        self.style = self.style.max(other.style);
        self.card_data |= other.card_data;
        self.secrets |= other.secrets;
        let new = other.fields.iter().filter(|name| !self.fields.contains(name));
        self.fields.extend(new.cloned().collect::<Vec<_>>());
        let new = other.detectors.iter().filter(|one| !self.detectors.contains(one));
        self.detectors.extend(new.cloned().collect::<Vec<_>>());
    }
}

impl FingerprintRef {
    fn decode(mut fields: Fields<'_, '_>) -> Option<Self> {
        let id = fields.required_parsed("id", |id| {
            let fits = (1..=32).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            let message = || {
                let id = shown(id);
                format!("{id} must have 1 to 32 letters, digits, `-`, `_` or `.`")
            };
            if fits { Ok(id.to_owned()) } else { Err(message()) }
        });
        let key_file = fields.required_parsed("keyFile", absolute_path);
        fields.finish();
        Some(Self { id: id?, key_file: key_file? })
    }
}

fn detector(item: &Item<'_>, mistakes: &mut Mistakes) -> Option<Detector> {
    let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
    let name = fields.required_parsed("name", super::names::dns_label);
    let pattern = fields.required_string("pattern");
    let luhn = fields.one_of("checksum", CHECKSUMS).unwrap_or_default();
    let Some(name) = name else {
        fields.finish();
        return None;
    };
    let detector = Detector { name, pattern, luhn };
    let alone = Masking { detectors: vec![detector.clone()], ..Masking::default() };
    let usable = alone.masker();
    if let Err(error) = &usable
        && !detector.pattern.is_empty()
    {
        let why = std::error::Error::source(error).map(ToString::to_string);
        let why = why.unwrap_or_else(|| error.to_string());
        fields.mistake("pattern", format!("{why}: correct or simplify it"));
    }
    fields.finish();
    usable.is_ok().then_some(detector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Cut, Masked};

    #[test]
    fn settings_are_read_and_mask_what_they_name() {
        let text = "default: full\nsecrets: true\nfields: [ssn]\n\
                    detectors: [{name: staff, pattern: 'E-[0-9]{6}'}]\n\
                    fingerprint: {id: k1, keyFile: /etc/key}\n";
        let (masking, key) = Masking::read("mask.yaml", text).unwrap();
        assert_eq!(key, Some(FingerprintRef { id: "k1".into(), key_file: "/etc/key".into() }));
        let input = b"E-123456 ssn=078-05-1120 --password hunter22 4111111111111111";
        let masked = Masked::with(&masking.masker().unwrap(), input, Cut::Whole);
        assert_eq!(masked.as_str(), "[MASKED] ssn=[MASKED] --password [SECRET] ****************");
    }

    #[test]
    fn mistakes_name_their_line_and_field() {
        let text = "default: some\nfields: ['a b']\ndetectors:\n- {name: x, pattern: '('}\n\
                    - {name: y, pattern: '[0-9]+', checksum: crc}\n\
                    fingerprint: {id: 'a b', keyFile: key}\nsecret: true\n";
        let mistakes = Masking::read("mask.yaml", text).unwrap_err().to_string();
        for (line, field) in [
            (1, "default"),
            (2, "fields[0]"),
            (4, "detectors[0].pattern"),
            (5, "detectors[1].checksum"),
            (6, "fingerprint.id"),
            (6, "fingerprint.keyFile"),
            (7, "secret"),
        ] {
            let start = format!("mask.yaml:{line}: {field}");
            assert!(mistakes.contains(&start), "{start} in {mistakes}");
        }
    }

    #[test]
    fn joined_settings_take_out_what_either_does_and_show_what_both_do() {
        let read = |text| Masking::read("mask.yaml", text).unwrap().0;
        let mut joined = read("default: last4\nfields: [a]\n");
        joined.join(&read("default: truncate\nsecrets: true\nfields: [a, b]\n"));
        assert_eq!(joined, read("default: last4\nsecrets: true\nfields: [a, b]\n"));
    }
}
