//! Finds card numbers in plain sight, written anew: a bug in the product's search cannot hide here.

/// Digit groups of the spellings people use.
const LAYOUTS: [&[usize]; 6] = [&[13], &[15], &[16], &[19], &[4, 4, 4, 4], &[4, 6, 5]];
/// What may stand between groups, of one kind at a time.
const SEPARATORS: [&[u8]; 2] = [b"-", b" \0"];

/// Whether the text shows a whole card number of a large brand, with nothing touching it that makes
/// it something else: a digit, the letters of an IBAN, a sign, a decimal point.
#[must_use]
pub fn shown_in(text: &[u8]) -> bool {
    let joins = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-_".contains(&byte);
    (0..text.len()).any(|start| {
        let touched = start.checked_sub(1).is_some_and(|before| joins(text[before]));
        !touched && LAYOUTS.iter().any(|layout| stands_at(&text[start..], layout))
    })
}

fn stands_at(text: &[u8], layout: &[usize]) -> bool {
    SEPARATORS
        .iter()
        .any(|separators| digits(text, layout, separators).is_some_and(|d| is_card(&d)))
}

fn digits(text: &[u8], layout: &[usize], separators: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut digits) = (text, Vec::new());
    for (index, size) in layout.iter().enumerate() {
        if index > 0 {
            let (separator, after) = rest.split_first()?;
            rest = separators.contains(separator).then_some(after)?;
        }
        let (group, after) = rest.split_at_checked(*size)?;
        digits.extend(group.iter().map(|byte| byte.wrapping_sub(b'0')));
        rest = after;
    }
    let whole = digits.iter().all(|digit| *digit < 10);
    let goes_on =
        rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte));
    (whole && !goes_on).then_some(digits)
}

fn is_card(digits: &[u8]) -> bool {
    let brand = match (digits, digits.len()) {
        ([4, ..], 13 | 16 | 19) => true,
        ([5, 1..=5, ..] | [6, 5, ..] | [6, 0, 1, 1, ..], 16) => true,
        ([3, 4 | 7, ..], 15) => true,
        _ => false,
    };
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let value = |(index, digit): (usize, &u8)| {
        u32::from(if index % 2 == 1 { doubled(*digit) } else { *digit })
    };
    brand && digits.iter().rev().enumerate().map(value).sum::<u32>() % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::shown_in;

    #[test]
    fn published_numbers_are_seen_in_every_spelling_and_masked_ones_are_not() {
        for text in ["4111111111111111", "a 3782-822463-10005 b", "x=5555 5555\05555 4444;"] {
            assert!(shown_in(text.as_bytes()), "{text}");
        }
        for text in ["411111******1111", "41111111111111112", "4111 1111-1111 1111", "4111"] {
            assert!(!shown_in(text.as_bytes()), "{text}");
        }
    }
}
