//! Card numbers: prefixes and lengths of every brand, and numbers made from them.
//!
//! Written from the networks' published ranges, not from the detector's table.

use crate::rng::Rng;

/// Prefixes as pairs (first, last) of equally many digits.
type Prefixes = &'static [(u64, u64)];

/// A brand: its name, its prefixes, the lengths its cards have, and those it may have as well.
struct Brand(&'static str, Prefixes, &'static [usize], &'static [usize]);

const BRANDS: [Brand; 19] = [
    Brand("visa", &[(4, 4)], &[16], &[13, 18, 19]),
    Brand(
        "visa-electron",
        &[(4026, 4026), (417_500, 417_500), (4508, 4508), (4844, 4844), (4913, 4913), (4917, 4917)],
        &[16],
        &[16],
    ),
    Brand("mastercard", &[(51, 55)], &[16], &[16]),
    Brand("mastercard-2", &[(2221, 2720)], &[16], &[16]),
    Brand("amex", &[(34, 34), (37, 37)], &[15], &[15]),
    Brand("discover", &[(6011, 6011), (644, 649), (65, 65)], &[16], &[17, 18, 19]),
    Brand("jcb", &[(3528, 3589)], &[16], &[17, 18, 19]),
    Brand("jcb-legacy", &[(2131, 2131), (1800, 1800)], &[15], &[15]),
    Brand("diners", &[(300, 305), (3095, 3095), (36, 36), (38, 39)], &[14], &[15, 16, 17, 18, 19]),
    Brand("unionpay", &[(62, 62)], &[16, 19], &[14, 15, 17, 18]),
    Brand("unionpay-81", &[(810, 817)], &[16, 19], &[14, 15, 17, 18]),
    Brand(
        "maestro",
        &[(50, 50), (56, 59), (6304, 6304), (639, 639), (67, 67)],
        &[16, 18, 19],
        &[12, 13, 14, 15, 17],
    ),
    Brand("mir", &[(2200, 2204)], &[16], &[17, 18, 19]),
    Brand("troy", &[(9792, 9792)], &[16], &[16]),
    Brand(
        "rupay",
        &[(60, 60), (6521, 6522), (81, 82), (508, 508), (353, 353), (356, 356)],
        &[16],
        &[16],
    ),
    Brand(
        "elo",
        &[
            (401_178, 401_179),
            (431_274, 431_274),
            (438_935, 438_935),
            (451_416, 451_416),
            (457_631, 457_632),
            (506_699, 506_778),
            (509_000, 509_999),
            (627_780, 627_780),
            (636_297, 636_297),
            (636_368, 636_368),
            (650_031, 650_033),
        ],
        &[16],
        &[16],
    ),
    Brand(
        "hipercard",
        &[(606_282, 606_282), (637_095, 637_095), (637_568, 637_568), (637_612, 637_612)],
        &[16],
        &[16],
    ),
    Brand("verve", &[(506_099, 506_198), (650_002, 650_027)], &[16, 19], &[18]),
    Brand("uatp", &[(1, 1)], &[15], &[15]),
];

/// A card number: random but for its prefix and its check digit.
#[derive(Clone, Debug)]
pub struct Number {
    /// Name of the brand.
    pub brand: &'static str,
    /// ASCII digits.
    pub digits: String,
}

/// The names of all brands.
#[must_use]
pub fn brands() -> Vec<&'static str> {
    BRANDS.iter().map(|Brand(name, ..)| *name).collect()
}

impl Number {
    /// A number of the brand with this name; of the first one when there is none.
    pub fn of(rng: &mut Rng, name: &str) -> Self {
        let known = BRANDS.iter().find(|Brand(known, ..)| *known == name);
        let Brand(brand, prefixes, usual, rare) = known.unwrap_or(&BRANDS[0]);
        let (first, last) = *rng.pick(prefixes);
        let length = if rng.chance(75) { *rng.pick(usual) } else { *rng.pick(rare) };
        let prefix = rng.within(first, last);
        Self { brand, digits: with_check_digit(rng, &prefix, length) }
    }

    /// A number of any brand.
    pub fn any(rng: &mut Rng) -> Self {
        let Brand(name, ..) = rng.pick(&BRANDS);
        Self::of(rng, name)
    }

    /// The digits in the groups people print them in.
    pub fn groups(&self, rng: &mut Rng) -> Vec<&str> {
        let layouts: &[&[usize]] = match self.digits.len() {
            12 => &[&[4, 4, 4]],
            13 => &[&[4, 4, 4, 1]],
            14 => &[&[4, 6, 4]],
            15 => &[&[4, 6, 5]],
            16 => &[&[4, 4, 4, 4]],
            17 => &[&[4, 4, 4, 4, 1]],
            18 => &[&[4, 4, 4, 4, 2]],
            _ => &[&[4, 4, 4, 4, 3], &[6, 13]],
        };
        let mut rest = self.digits.as_str();
        let mut groups = Vec::new();
        for size in *rng.pick(layouts) {
            let (group, after) = rest.split_at(*size);
            groups.push(group);
            rest = after;
        }
        groups
    }
}

/// `length` digits that begin with `prefix` and pass the Luhn check.
pub fn with_check_digit(rng: &mut Rng, prefix: &impl ToString, length: usize) -> String {
    let mut digits = prefix.to_string();
    digits.push_str(&rng.digits(length - 1 - digits.len()));
    digits.push(check_digit(&digits));
    digits
}

/// The digit that makes these digits pass the Luhn check (ISO/IEC 7812-1 annex B).
pub fn check_digit(digits: &str) -> char {
    let mut sum = 0;
    for (place, digit) in digits.bytes().rev().map(|byte| u32::from(byte - b'0')).enumerate() {
        let doubled = digit * 2;
        sum += if place % 2 == 1 { digit } else { doubled / 10 + doubled % 10 };
    }
    char::from_digit((10 - sum % 10) % 10, 10).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_test_numbers_have_their_check_digit() {
        for number in ["4111111111111111", "378282246310005", "6205500000000000004"] {
            let (body, last) = number.split_at(number.len() - 1);
            assert_eq!(check_digit(body).to_string(), last);
        }
    }

    #[test]
    fn every_brand_makes_numbers_of_its_lengths_and_groups_that_join_again() {
        let mut rng = Rng::new(1, "number");
        for brand in brands() {
            for _ in 0..200 {
                let number = Number::of(&mut rng, brand);
                assert!((12..=19).contains(&number.digits.len()), "{number:?}");
                let (body, last) = number.digits.split_at(number.digits.len() - 1);
                assert_eq!(check_digit(body).to_string(), last);
                assert_eq!(number.groups(&mut rng).concat(), number.digits);
            }
        }
    }
}
