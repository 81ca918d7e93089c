//! Path globs: what a pattern means, byte by byte. The one definition that both the slow answer
//! (`decide`) and the kernel's automaton (`entries`) are made from.
//!
//! `*` matches any bytes but `/`, `**` any bytes, `?` one character but `/` (a UTF-8 sequence is
//! one character). `/**/` also matches a single `/`, so `/opt/**/sh` covers `/opt/sh`.

use std::fmt;

use pcigate_common::limits::PATH_BYTES_MAX;

use crate::yaml::shown;

/// A checked absolute pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    tokens: Vec<Token>,
}

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This byte.
    Byte(u8),
    /// One byte that starts a character other than `/`.
    Char,
    /// One byte that starts a character.
    AnyChar,
    /// Any number of UTF-8 continuation bytes.
    Rest,
    /// Any number of bytes other than `/`.
    Star,
    /// Any number of bytes.
    DeepStar,
    /// Nothing at all, or what [`Token::InDirs`] (which always follows) matches.
    Dirs,
    /// Any number of bytes, then `/`.
    InDirs,
}

impl Glob {
    /// Checks a pattern.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        check(text).map_err(|why| format!("{} {why}", shown(text)))?;
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            let after_slash = matches!(tokens.last(), Some(Token::Byte(b'/') | Token::InDirs));
            if after_slash && let Some(tail) = rest.strip_prefix(b"**/") {
                tokens.extend([Token::Dirs, Token::InDirs]);
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix(b"**") {
                tokens.push(Token::DeepStar);
                rest = tail;
            } else {
                match first {
                    b'*' => tokens.push(Token::Star),
                    b'?' => tokens.extend([Token::Char, Token::Rest]),
                    byte => tokens.push(Token::Byte(byte)),
                }
                rest = tail;
            }
        }
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// Checks a pattern of an argument: `*` matches any bytes, `?` one character, everything else
    /// itself.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it and how to write it.
    pub fn parse_argument(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("{} {why}", shown(text)));
        if text.is_empty() {
            return wrong("is empty; write the argument, or `*` for any");
        }
        if text.len() > PATH_BYTES_MAX {
            return wrong("is longer than 1024 bytes; shorten it with `*`");
        }
        if text.contains('\0') {
            return wrong("has a NUL character, which no argument has; remove it");
        }
        let mut tokens = Vec::new();
        for byte in text.bytes() {
            match byte {
                b'*' if tokens.last() == Some(&Token::DeepStar) => {}
                b'*' => tokens.push(Token::DeepStar),
                b'?' => tokens.extend([Token::AnyChar, Token::Rest]),
                byte => tokens.push(Token::Byte(byte)),
            }
        }
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// The pattern as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches all of `path`. Linear in both.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let mut now = Vec::new();
        self.enter(0, &mut now);
        for &byte in path {
            let mut next = Vec::new();
            for &at in &now {
                let Some(token) = self.tokens.get(at) else { continue };
                let (stays, advances) = token.on(byte);
                if stays {
                    self.enter(at, &mut next);
                }
                if advances {
                    self.enter(at + 1, &mut next);
                }
            }
            now = next;
        }
        now.contains(&self.tokens.len())
    }

    /// The steps; position `tokens().len()` is the end, where the pattern has matched.
    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Adds a position and all that are reached from it without a byte.
    pub(crate) fn enter(&self, at: usize, positions: &mut Vec<usize>) {
        if positions.contains(&at) {
            return;
        }
        positions.push(at);
        match self.tokens.get(at) {
            Some(Token::Star | Token::DeepStar | Token::Rest) => self.enter(at + 1, positions),
            Some(Token::Dirs) => {
                self.enter(at + 1, positions);
                self.enter(at + 2, positions);
            }
            Some(Token::Byte(_) | Token::Char | Token::AnyChar | Token::InDirs) | None => {}
        }
    }
}

impl Token {
    /// What a byte does at this token: (the position stays, the position advances).
    pub(crate) fn on(self, byte: u8) -> (bool, bool) {
        match self {
            Self::Byte(own) => (false, own == byte),
            Self::Char => (false, byte != b'/' && !is_continuation(byte)),
            Self::AnyChar => (false, !is_continuation(byte)),
            Self::Rest => (is_continuation(byte), false),
            Self::Star => (byte != b'/', false),
            Self::DeepStar => (true, false),
            Self::Dirs => (false, false),
            Self::InDirs => (true, byte == b'/'),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a byte continues a UTF-8 character (RFC 3629: 10xxxxxx).
pub(crate) fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

fn check(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("is not absolute; start it with `/`".to_owned());
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(format!("is longer than {PATH_BYTES_MAX} bytes; shorten it with `*` or `**`"));
    }
    if let Some(odd) = text.chars().find(|c| matches!(c, '[' | ']' | '{' | '}' | '\\')) {
        return Err(format!(
            "has `{odd}`, which is not supported; use only `*`, `**` and `?`, or several paths"
        ));
    }
    if text.contains('\0') {
        return Err("has a NUL character, which no path has; remove it".to_owned());
    }
    if text.contains("***") {
        return Err("has `***`; write `*` (within a name) or `**` (across names)".to_owned());
    }
    if text.ends_with('/') {
        return Err("ends with `/`, so it matches no file; append `**` for all below".to_owned());
    }
    if text.split('/').skip(1).any(|name| matches!(name, "" | "." | "..")) {
        return Err("has an empty, `.` or `..` name, which no resolved path has; \
                    write the path as the kernel resolves it"
            .to_owned());
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
