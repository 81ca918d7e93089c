//! A slow and obvious search for card numbers, to compare the product's with.

/// Places of what is a card number beyond doubt: 13, 15 or 16 digits of a large brand, plain or in
/// fours with one dash or space, with right check digit, and nothing but a line end, `,` or the
/// text's end around.
#[must_use]
pub fn certain(text: &[u8]) -> Vec<(usize, usize)> {
    let edge = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b'\n' | b','));
    let mut found = Vec::new();
    for start in 0..text.len() {
        if !edge(start.checked_sub(1).and_then(|at| text.get(at))) {
            continue;
        }
        for end in start + 13..=text.len().min(start + 19) {
            let part = &text[start..end];
            let plain = part.iter().all(u8::is_ascii_digit);
            let grouped = |mark: u8| {
                part.len() == 19
                    && part.iter().enumerate().all(|(at, byte)| match at % 5 {
                        4 => *byte == mark,
                        _ => byte.is_ascii_digit(),
                    })
            };
            let digits: Vec<u8> = part.iter().filter(|b| b.is_ascii_digit()).copied().collect();
            if edge(text.get(end))
                && (plain || grouped(b'-') || grouped(b' '))
                && large_brand(&digits)
                && checks(&digits)
            {
                found.push((start, end));
            }
        }
    }
    found
}

/// Whether a part that was taken out could be a card number: some run of its digits, taken
/// together, has 12–19 of them and a right check digit; or of those whose hexadecimal pairs they
/// are.
#[must_use]
pub fn possible(part: &[u8]) -> bool {
    let digits: Vec<u8> = part.iter().filter(|byte| byte.is_ascii_digit()).copied().collect();
    let number = |digits: &[u8]| (12..=19).any(|length| digits.windows(length).any(checks));
    let pairs = |from: usize| -> Vec<u8> {
        let pairs = digits.get(from..).unwrap_or_default().chunks_exact(2);
        pairs.map(|pair| if pair[0] == b'3' { pair[1] } else { b' ' }).collect()
    };
    let spelt = [pairs(0), pairs(1)];
    let runs = spelt.iter().flat_map(|chars| chars.split(|char| *char == b' '));
    number(&digits) || runs.into_iter().any(number)
}

fn large_brand(digits: &[u8]) -> bool {
    match (digits, digits.len()) {
        ([b'4', ..], 13 | 16) | ([b'5', b'1'..=b'5', ..], 16) => true,
        ([b'3', b'4' | b'7', ..], 15) => true,
        _ => false,
    }
}

/// ISO/IEC 7812-1, as it is written there.
fn checks(digits: &[u8]) -> bool {
    let mut sum = 0;
    for (place, digit) in digits.iter().rev().enumerate() {
        let value = u32::from(digit - b'0') * if place % 2 == 1 { 2 } else { 1 };
        sum += value / 10 + value % 10;
    }
    sum % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::{certain, possible};

    #[test]
    fn published_numbers_are_certain_and_wrong_ones_not_even_possible() {
        assert_eq!(certain(b"a,4111111111111111\n"), [(2, 18)]);
        assert_eq!(certain(b"4111-1111-1111-1111"), [(0, 19)]);
        assert_eq!(certain(b"4111111111111112"), []);
        assert!(possible(b"4111 1111 1111 1111") && !possible(b"41111"));
    }
}
