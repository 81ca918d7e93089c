//! Texts with their constants taken out, for grouping only: no decision rests on them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Refusal, bounds};

/// A text without its constants, and a number that is the same for texts that differ only in
/// constants, spaces, comments and the length of lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normal {
    /// The text with `$1`, `$2`, … for constants. Comments and names stay: mask it like any text.
    pub text: String,
    /// `pg_query`'s fingerprint.
    pub fingerprint: u64,
}

/// Takes the constants out of a text.
///
/// # Errors
/// A text that [`crate::classify`] refuses as well.
pub fn normalised(text: &str) -> Result<Normal, Refusal> {
    bounds::check(text, true)?;
    let both = catch_unwind(AssertUnwindSafe(|| {
        let fingerprint = pg_query::fingerprint(text, 0, 0)?;
        Ok((pg_query::normalize(text)?, fingerprint.value))
    }));
    match both {
        Ok(Ok((text, fingerprint))) => Ok(Normal { text, fingerprint }),
        Ok(Err(pg_query::Error::Parse(message))) => Err(Refusal::Syntax { message }),
        Ok(Err(_)) | Err(_) => Err(Refusal::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_constants_alone_are_one_group() {
        let one = normalised("SELECT * FROM cards WHERE id = 1 AND holder = 'A'").unwrap();
        let two = normalised("select * from cards -- x\n where id=22 and holder = 'B'").unwrap();
        assert_eq!(one.fingerprint, two.fingerprint);
        assert_eq!(one.text, "SELECT * FROM cards WHERE id = $1 AND holder = $2");
        let other = normalised("SELECT * FROM cards WHERE id = 1 OR holder = 'A'").unwrap();
        assert_ne!(one.fingerprint, other.fingerprint);
    }

    #[test]
    fn what_is_not_sql_has_no_normal_form() {
        assert!(matches!(normalised("DELETE FORM x"), Err(Refusal::Syntax { .. })));
        assert_eq!(normalised(&"(".repeat(100_000)), Err(Refusal::TooDeep));
    }
}
