//! Foreign text, fit for a line of a log.

use super::{Cut, Masked};

/// Masked, without control characters, and at most `most` bytes.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let cut = text.floor_char_boundary(most);
    let (text, end) = match text.get(..cut) {
        Some(part) if part.len() < text.len() => (part, Cut::End),
        _ => (text, Cut::Whole),
    };
    let masked = Masked::new(text.as_bytes(), end).into_string();
    let mut plain: String =
        masked.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    plain.truncate(plain.floor_char_boundary(most));
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn foreign_text_is_masked_cut_and_on_one_line() {
        let line = |text: &str| one_line(text, 64);
        assert_eq!(line("0.1.0"), "0.1.0");
        assert_eq!(line("v 4111111111111111"), "v 411111******1111");
        assert_eq!(line("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        let long = format!("{}4111111111111111", "x".repeat(56));
        assert_eq!(line(&long), format!("{}********", "x".repeat(56)), "{long}");
    }

    proptest! {
        #[test]
        fn foreign_text_is_always_short_and_printable(
            text in any::<String>(),
            most in 0_usize..99,
        ) {
            let shown = one_line(&text, most);
            prop_assert!(shown.len() <= most);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
