//! The binary forms of types: numbers as the digits they stand for, and walks through what holds
//! other values. Bytes of a server are foreign bytes too: what does not fit together is `None`.

/// The digits of a `numeric` as `numeric_send` writes it: count, weight, sign, scale, and digits to
/// the base 10,000.
pub(crate) fn numeric(value: &[u8]) -> Option<String> {
    let (count, rest) = take_i16(value)?;
    let (weight, rest) = take_i16(rest)?;
    let (sign, rest) = take_i16(rest)?;
    let (_scale, rest) = take_i16(rest)?;
    let groups = usize::try_from(count).ok()?;
    if rest.len() != groups * 2 || sign & 0x3fff != 0 {
        return None;
    }
    let mut text = String::new();
    let weight = i32::from(weight);
    // What stands before the first group is zeros only; far behind the last nothing counts.
    let last = weight.clamp(-1, 64);
    let mut place = weight;
    let mut groups = rest.chunks_exact(2);
    if weight < 0 {
        text.push_str("0.");
        (place + 1..0).take(16).for_each(|_| text.push_str("0000"));
    }
    for group in groups.by_ref() {
        let &[high, low] = group.first_chunk::<2>()?;
        let group = u16::from_be_bytes([high, low]);
        if group >= 10_000 {
            return None;
        }
        text.push_str(&format!("{group:04}"));
        if place == 0 {
            text.push('.');
        }
        place -= 1;
    }
    if place >= 0 {
        (0..=place.min(last)).for_each(|_| text.push_str("0000"));
    }
    let text = text.trim_start_matches('0');
    let has_fraction = text.contains('.');
    let text = if has_fraction { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    Some(if text.is_empty() { "0".to_owned() } else { text.to_owned() })
}

pub(crate) fn take_i16(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((i16::from_be_bytes(*number), rest))
}

pub(crate) fn take_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*number), rest))
}

pub(crate) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// A value with its length in front; NULL is `None` inside.
pub(crate) fn take_value(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = take_i32(bytes)?;
    if length == -1 {
        return Some((None, rest));
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(value), rest))
}

/// Appends a value with its length in front. Nothing fits that is over 2 GiB.
pub(crate) fn put_value(value: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    match value {
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(value) => {
            out.extend_from_slice(&i32::try_from(value.len()).ok()?.to_be_bytes());
            out.extend_from_slice(value);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(weight: i16, groups: &[u16]) -> Vec<u8> {
        let count = u16::try_from(groups.len()).unwrap();
        let head = [count, weight as u16, 0, 0];
        head.iter().chain(groups).flat_map(|number| number.to_be_bytes()).collect()
    }

    #[test]
    fn a_numeric_is_read_as_the_digits_it_stands_for() {
        for (weight, groups, text) in [
            (3, &[4111, 1111, 1111, 1111][..], "4111111111111111"),
            (4, &[5, 0, 0, 12][..], "50000000000120000"),
            (0, &[7, 2500][..], "7.25"),
            (-1, &[4111, 1111][..], ".41111111"),
            (-2, &[5][..], ".00000005"),
            (0, &[][..], "0"),
        ] {
            let read = numeric(&encoded(weight, groups)).unwrap();
            assert_eq!(read.trim_start_matches('0'), text.trim_start_matches('0'));
        }
        assert_eq!(numeric(&[0, 1, 0]), None);
        assert_eq!(numeric(&encoded(i16::MAX, &[1])).unwrap().len(), 1 + 4 * 65);
    }
}
