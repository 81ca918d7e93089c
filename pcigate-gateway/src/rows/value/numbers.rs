//! Numbers that stand for a card number, in the ways types write them: there is no masked number.

use super::{Fate, Look};
use crate::record::MaskedCounts;
use crate::rows::binary::{numeric, take_u32};

/// Digits of a number with zeros in front.
const PADDED: usize = 64;
/// Bytes of a number in binary: `numeric` has 8 and two for each group of four digits.
const NUMBER: std::ops::RangeInclusive<usize> = 8..=40;
/// Bytes of a value of no known type that are looked at as floats: what points and boxes need.
const FLOATS: usize = 1_024;

impl Look<'_> {
    /// Whether it is a card number behind zeros, as files of fixed width have it.
    pub(super) fn is_padded(&self, value: &[u8], counts: &mut MaskedCounts) -> bool {
        let digits = || value.iter().all(u8::is_ascii_digit);
        if value.first() != Some(&b'0') || value.len() > PADDED || !digits() {
            return false;
        }
        let zeros = value.iter().take_while(|digit| **digit == b'0').count();
        value.get(zeros..).is_some_and(|number| self.content(number, counts).is_some())
    }

    /// A number as people write it: its whole part counts, and with an exponent what it stands for.
    pub(super) fn decimal(&self, number: &str, counts: &mut MaskedCounts) -> Fate {
        let number = number.trim_start_matches('-');
        if number.contains(['e', 'E']) {
            let value = number.parse::<f64>().unwrap_or(f64::NAN);
            let whole = value < 1e20 && self.number(&format!("{value:.0}"), counts) == Fate::Null;
            return if whole { Fate::Null } else { Fate::Same };
        }
        let whole = number.split('.').next().unwrap_or(number);
        match self.number(whole, counts) {
            Fate::Same => self.number(number, counts),
            fate => fate,
        }
    }

    /// An amount in hundredths (`cash_send`).
    pub(super) fn hundredths(&self, value: &[u8], counts: &mut MaskedCounts) -> Fate {
        let Ok(bytes) = <[u8; 8]>::try_from(value) else { return Fate::Null };
        let number = i64::from_be_bytes(bytes);
        match self.number(&(number / 100).to_string(), counts) {
            Fate::Same => self.number(&number.to_string(), counts),
            fate => fate,
        }
    }

    /// An amount: its digits, with and without the hundredths, whatever separates them.
    pub(super) fn money(&self, value: &[u8], counts: &mut MaskedCounts) -> Fate {
        let digits: String = value
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .map(|byte| char::from(*byte))
            .collect();
        let whole = digits.get(..digits.len().saturating_sub(2)).unwrap_or_default();
        match self.number(whole, counts) {
            Fate::Same => self.number(&digits, counts),
            fate => fate,
        }
    }

    /// Whether a string of 57 to 64 bits (`varbit_send`) is a number that must not pass.
    pub(super) fn bits(&self, value: &[u8], counts: &mut MaskedCounts) -> bool {
        let Some((count, bits)) = take_u32(value) else { return false };
        let Ok(bits) = <[u8; 8]>::try_from(bits) else { return false };
        let spare = 64_u32.checked_sub(count).filter(|spare| *spare < 8);
        let number = spare.map(|spare| u64::from_be_bytes(bits) >> spare);
        number.is_some_and(|number| self.number(&number.to_string(), counts) == Fate::Null)
    }

    /// Whether floats that stand side by side (`point_send` and what is made of points) are such
    /// numbers.
    pub(super) fn floats(&self, value: &[u8], counts: &mut MaskedCounts) -> bool {
        // Boxes and lines are floats only; paths and polygons count their points first.
        if value.len() > FLOATS {
            return false;
        }
        let counted = match value.len() % 16 {
            4 | 5 => value.len() % 16,
            0 | 8 => 0,
            _ => return false,
        };
        let (chunks, _) = value.get(counted..).unwrap_or_default().as_chunks::<8>();
        chunks.iter().any(|bytes| {
            let float = f64::from_be_bytes(*bytes);
            let plain = float.fract() == 0.0 && (1e11..1e20).contains(&float.abs());
            plain && self.number(&float.abs().to_string(), counts) == Fate::Null
        })
    }

    /// Whether values inside of one of no known type (elements of arrays, fields of composites,
    /// bounds of ranges: each has its length in front) are such numbers.
    pub(super) fn inside(&self, value: &[u8], counts: &mut MaskedCounts) -> bool {
        let found = |number: &[u8], counts: &mut MaskedCounts| match <[u8; 8]>::try_from(number) {
            Ok(bytes) => {
                let whole = i64::from_be_bytes(bytes).to_string();
                self.number(&whole, counts) == Fate::Null || self.floats(number, counts)
            }
            Err(_) => numeric(number).is_some_and(|text| self.decimal(&text, counts) == Fate::Null),
        };
        (0..value.len()).any(|at| {
            let Some((length, rest)) = value.get(at..).and_then(take_u32) else { return false };
            let number = usize::try_from(length).ok().filter(|length| NUMBER.contains(length));
            number.and_then(|length| rest.get(..length)).is_some_and(|one| found(one, counts))
        })
    }

    /// A number in digits: there is no masked number.
    pub(super) fn number(&self, digits: &str, counts: &mut MaskedCounts) -> Fate {
        match self.content(digits.as_bytes(), counts) {
            Some(_) => Fate::Null,
            None => Fate::Same,
        }
    }
}
