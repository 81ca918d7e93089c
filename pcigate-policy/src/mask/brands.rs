//! Which number ranges are cards of which brand, and how long their numbers may be. Data only.

/// State of the table: the date it was last compared with braintree/credit-card-type (commit
/// fbd8ed8) and the networks' own documents.
pub const VERSION: &str = "2026-06-30";

/// Digits of a prefix in the table.
pub(super) const PREFIX_DIGITS: usize = 6;

/// One range of six-digit prefixes, both ends included.
#[derive(Clone, Copy)]
struct Range {
    brand: &'static str,
    first: u32,
    last: u32,
    lengths: Lengths,
}

/// A set of lengths: bit n is set where n digits are allowed.
#[derive(Clone, Copy)]
pub(super) struct Lengths(u32);

impl Lengths {
    const fn of(lengths: &[u32]) -> Self {
        let mut bits = 0;
        let mut rest = lengths;
        while let [length, tail @ ..] = rest {
            bits |= 1 << *length;
            rest = tail;
        }
        Self(bits)
    }

    /// Whether a number of `digits` digits is allowed.
    pub(super) const fn allow(self, digits: usize) -> bool {
        digits < 32 && self.0 >> digits & 1 == 1
    }
}

const VISA: Lengths = Lengths::of(&[13, 16, 18, 19]);
const SIXTEEN: Lengths = Lengths::of(&[16]);
const FIFTEEN: Lengths = Lengths::of(&[15]);
const FROM_12: Lengths = Lengths::of(&[12, 13, 14, 15, 16, 17, 18, 19]);
const FROM_14: Lengths = Lengths::of(&[14, 15, 16, 17, 18, 19]);
const FROM_16: Lengths = Lengths::of(&[16, 17, 18, 19]);

const fn range(brand: &'static str, first: u32, last: u32, lengths: Lengths) -> Range {
    Range { brand, first, last, lengths }
}

/// Ranges may overlap; the lengths allowed are those of all of them.
const RANGES: [Range; 29] = [
    // UATP.
    range("uatp", 100_000, 199_999, FIFTEEN),
    // JCB: 1800 and 2131 (legacy, within UATP's for 1800), 3528–3589.
    range("jcb", 180_000, 180_099, FIFTEEN),
    range("jcb", 213_100, 213_199, FIFTEEN),
    range("jcb", 352_800, 358_999, FROM_16),
    // Mir.
    range("mir", 220_000, 220_499, FROM_16),
    // Mastercard.
    range("mastercard", 222_100, 272_099, SIXTEEN),
    range("mastercard", 510_000, 559_999, SIXTEEN),
    // Diners Club.
    range("diners", 300_000, 305_999, FROM_14),
    range("diners", 309_500, 309_599, FROM_14),
    range("diners", 360_000, 369_999, FROM_14),
    range("diners", 380_000, 399_999, FROM_14),
    // American Express.
    range("amex", 340_000, 349_999, FIFTEEN),
    range("amex", 370_000, 379_999, FIFTEEN),
    // All of 35 with sixteen digits: JCB as test data makers spell it, and RuPay's 353 and 356.
    range("jcb", 350_000, 359_999, SIXTEEN),
    // RuPay: 508, 60, 82; its 81 is within UnionPay's, its 6521 and 6522 within Discover's.
    range("rupay", 508_000, 508_999, SIXTEEN),
    range("rupay", 600_000, 609_999, SIXTEEN),
    range("rupay", 820_000, 829_999, SIXTEEN),
    // Visa, with Electron and the Elo ranges below 4.
    range("visa", 400_000, 499_999, VISA),
    // Maestro, with Verve (506099–506198) and the Elo ranges below 50.
    range("maestro", 500_000, 509_999, FROM_12),
    range("maestro", 560_000, 599_999, FROM_12),
    range("maestro", 630_400, 630_499, FROM_12),
    range("maestro", 639_000, 639_999, FROM_12),
    range("maestro", 670_000, 679_999, FROM_12),
    // Elo 636297 and Hipercard 637095–637612 (606282 is within RuPay's 60).
    range("elo", 636_297, 637_612, SIXTEEN),
    // UnionPay 62 and 81, Discover 6011, 644–649 and 65 (with Troy, Verve, Elo below 65).
    range("unionpay", 620_000, 629_999, FROM_14),
    range("discover", 644_000, 659_999, FROM_16),
    range("unionpay", 810_000, 819_999, FROM_14),
    range("discover", 601_100, 601_199, FROM_16),
    // Troy.
    range("troy", 979_200, 979_299, SIXTEEN),
];

/// The lengths allowed for any number that begins with these two digits: rules most numbers out.
const OF_TWO: [Lengths; 100] = {
    let mut table = [Lengths(0); 100];
    let mut rest: &[Range] = &RANGES;
    while let [range, tail @ ..] = rest {
        let mut two = range.first / 10_000;
        while two <= range.last / 10_000 {
            table[two as usize].0 |= range.lengths.0;
            two += 1;
        }
        rest = tail;
    }
    table
};

/// The lengths a number that begins with these six digits may have.
pub(super) fn lengths(prefix: u32) -> Lengths {
    let covering = |range: &&Range| (range.first..=range.last).contains(&prefix);
    Lengths(RANGES.iter().filter(covering).fold(0, |bits, range| bits | range.lengths.0))
}

/// The brand a number of so many digits that begins with these six belongs to, where it is one
/// alone.
pub(super) fn name(prefix: u32, digits: usize) -> Option<&'static str> {
    let covers = |range: &&Range| {
        (range.first..=range.last).contains(&prefix) && range.lengths.allow(digits)
    };
    let mut covering = RANGES.iter().filter(covers).map(|range| range.brand);
    let first = covering.next()?;
    covering.all(|brand| brand == first).then_some(first)
}

/// Whether some number of so many digits begins with these two.
#[inline]
pub(super) fn possible(two: usize, digits: usize) -> bool {
    OF_TWO.get(two).is_some_and(|lengths| lengths.allow(digits))
}
