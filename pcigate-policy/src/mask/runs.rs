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
