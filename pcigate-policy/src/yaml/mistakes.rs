//! What is wrong in a file and where: one mistake, and the list of all of them.

use std::error::Error;
use std::fmt;

/// One mistake of one file, with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file's name as the caller gave it.
    pub file: String,
    /// Line, from 1; 0 = the file as a whole.
    pub line: usize,
    /// Path of the field from the document's root (`spec.egress.rules[2].id`); may be empty.
    pub field: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// All mistakes found; as an error it shows one per line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
}

impl Mistakes {
    /// Notes a mistake. `line` 0 means the file as a whole.
    pub fn add(&mut self, file: &str, line: usize, field: &str, message: impl Into<String>) {
        self.list.push(Mistake {
            file: file.to_owned(),
            line,
            field: field.to_owned(),
            message: message.into(),
        });
    }

    /// Takes over all mistakes of `other`.
    pub fn append(&mut self, mut other: Mistakes) {
        self.list.append(&mut other.list);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many mistakes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The mistakes in the order in which they were noted.
    pub fn iter(&self) -> std::slice::Iter<'_, Mistake> {
        self.list.iter()
    }

    /// The value if nothing is wrong, else the mistakes.
    ///
    /// # Errors
    /// The mistakes themselves, sorted by place, if there is one.
    pub fn into_result<T>(mut self, value: T) -> Result<T, Mistakes> {
        if self.list.is_empty() {
            return Ok(value);
        }
        self.list.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Err(self)
    }
}

impl<'a> IntoIterator for &'a Mistakes {
    type Item = &'a Mistake;
    type IntoIter = std::slice::Iter<'a, Mistake>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl Error for Mistakes {}

/// Longest piece of a file's text quoted in a message, in characters.
const SHOWN_CHARS_MAX: usize = 80;
/// A run of this many digits may be a card number (ISO/IEC 7812-1: 13 to 19 are in use).
const CARD_DIGITS_MIN: usize = 13;

/// Foreign text in a form fit for a message: escaped, in backquotes, cut at 80 characters, and
/// without any run of digits (also with single blanks, dots or dashes between) that may be a card
/// number.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut digits = 0;
    let mut separators = 0;
    for character in text.chars() {
        match character {
            '0'..='9' => (digits, separators) = (digits + 1, 0),
            ' ' | '-' | '.' if separators == 0 => separators = 1,
            _ => (digits, separators) = (0, 0),
        }
        if digits >= CARD_DIGITS_MIN {
            return format!("(a text of {} characters with a long number)", text.chars().count());
        }
    }
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", short.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}
