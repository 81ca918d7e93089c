//! Rules out most runs of digits by the run, the bytes that touch it and the lengths of the groups
//! behind it, before anything is built: of look-alikes there are far more than of card numbers.

use super::spelling;
use super::{pan, pan::DIGITS_MAX, pan::DIGITS_MIN};

/// Longer runs, and those whose end is not known, are left to the exact search.
const KNOWN: usize = 40;
/// Bytes before a run where an escape may begin that reaches into it.
const BEFORE: usize = 6;

/// Whether [`super::find::View::look`] may find something in the run of digits at `start`: `false`
/// only where it certainly does not. Bit n of `digits` says whether the byte n behind `start` is
/// one.
pub(super) fn may_count(text: &[u8], start: usize, digits: u64) -> bool {
    let run = digits.trailing_ones() as usize;
    if run >= KNOWN {
        return true;
    }
    let after = text.get(start + run).copied().unwrap_or(b'"');
    let before = match start.checked_sub(BEFORE).and_then(|from| text.get(from..start)) {
        Some(before) => {
            if before.iter().any(|byte| matches!(byte, b'%' | b'\\')) {
                return true;
            }
            before.last().copied().unwrap_or(b' ')
        }
        None => return true,
    };
    let number = (DIGITS_MIN..=DIGITS_MAX).contains(&run);
    let quoted = before == b'=' && matches!(text.get(start), Some(b'2' | b'3'));
    if quoted || number && pan::checks(text, start, run) || looks_like_pairs(text, start, run) {
        return true;
    }
    match after {
        b'^' | b'D' | b'd' => true,
        b'=' if number => true,
        b'%' | b'\\' | b'&' if number => true,
        b'%' | b'\\' | b'&' | b'=' | 0xc2.. => {
            run < DIGITS_MAX && spelling::is_escape(text, start + run)
        }
        b' ' if matches!(before, b'B' | b'b') => true,
        b' ' | b'\t' | b'\r' | b'\n' | 0 | b'-' | b'.' | b'_' | b'/' | b'+' => {
            run <= DIGITS_MAX && may_go_on(text, start, run, digits)
        }
        _ => false,
    }
}

/// Whether groups in a layout of use, or two in a line that wraps, may begin with this run, which
/// ends before a separator.
fn may_go_on(text: &[u8], start: usize, run: usize, digits: u64) -> bool {
    let end = start + run;
    let behind = digits >> run >> 1;
    let second = behind.trailing_ones() as usize;
    let white = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    if second == 0 {
        // More than one blank, of which one is a line's end.
        return white(text.get(end)) && white(text.get(end + 1)) && pan::wraps(text, end);
    }
    if matches!(text.get(end), Some(b'\r' | b'\n'))
        && (DIGITS_MIN..=DIGITS_MAX).contains(&(run + second))
        && !pan::alone_on_lines(text, start, end + 1 + second)
    {
        return true;
    }
    let third = (behind >> second >> 1).trailing_ones() as usize;
    let unknown = third == 0 && white(text.get(end + 1 + second));
    match (run, second) {
        (4, 4) => unknown || matches!(third, 4 | 5),
        (4, 5) => unknown || third == 6,
        (4, 6) => unknown || matches!(third, 2..=5),
        (6, 6..=13) | (8, 8) => true,
        _ => false,
    }
}

/// Whether four digits 3 may stand at every second place: hexadecimal pairs of digits look so. One
/// of any four such places is one of these.
fn looks_like_pairs(text: &[u8], start: usize, run: usize) -> bool {
    let three = |place: usize| (place < run) & (text.get(start + place) == Some(&b'3'));
    let four = |at: usize| three(at) | three(at + 1) | three(at + 8) | three(at + 9);
    run >= 8
        && (four(6) || run > 22 && (four(22) | three(38) | three(39)))
        && spelling::looks_like_hex(text, start).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::find::{Quiet, View};
    use super::super::prefilter::PLAIN;
    use super::super::{Cut, Kind, Masked, Masker, Settings};
    use super::*;

    fn lines_of_digits() -> impl Strategy<Value = Vec<u8>> {
        let gap =
            prop::sample::select(vec![" ", "\n", "\r\n", "  ", " \n ", "\t", "-", "x", "%20"]);
        let group = prop_oneof![
            2 => "[0-9]{4}",
            1 => "[0-9]{5,9}",
            1 => "[0-9]{10,20}",
            1 => Just("4111111111111111".to_owned()),
            1 => "3[0-9]3[0-9]3[0-9]3[0-9]",
        ];
        prop::collection::vec((group, gap), 1..8).prop_map(|groups| {
            groups.into_iter().map(|(digits, gap)| digits + gap).collect::<String>().into_bytes()
        })
    }

    fn digit_at(text: &[u8], at: usize) -> bool {
        text.get(at).is_some_and(u8::is_ascii_digit)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_ruled_out_the_exact_search_does_not_find_either(text in lines_of_digits()) {
            let settings = Settings { card_data: true, ..Settings::default() };
            let masker = Masker::new(settings).unwrap();
            let view = View { text: &text, cut: Cut::Whole, rules: &masker.rules, depth: 2 };
            let starts = |at: &usize| {
                !at.checked_sub(1).is_some_and(|before| digit_at(&text, before))
                    && (0..4).all(|by| digit_at(&text, at + by))
            };
            for start in (0..text.len()).filter(starts) {
                let bit = |by: usize| u64::from(digit_at(&text, start + by)) << by;
                let digits = (0..64).map(bit).sum();
                if !may_count(&text, start, digits) {
                    let looked = view.look(start, PLAIN, Quiet::default());
                    prop_assert!(looked.hit.is_none(), "{start} of {}", text.escape_ascii());
                }
            }
        }

        #[test]
        fn digits_are_counted_as_if_one_by_one(
            text in prop::collection::vec(prop_oneof![4 => b'0'..=b'9', 1 => any::<u8>()], 0..60),
            at in 0_usize..70,
            most in 0_usize..50,
        ) {
            let rest = text.get(at..).unwrap_or_default();
            let expected = rest.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
            prop_assert_eq!(pan::run_length(&text, at, most), expected);
        }
    }

    #[test]
    fn the_shortest_text_that_can_hold_something_is_looked_at() {
        let masked = Masked::new(b"cvv=123", Cut::Whole);
        assert_eq!(masked.as_str(), "cvv=[SAD:cvv]");
        assert_eq!(masked.findings().first().map(|finding| finding.kind), Some(Kind::Cvv));
    }
}
