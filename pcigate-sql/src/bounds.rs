//! What is looked at before the parser is: length, and what would make it recurse. One pass over
//! the bytes with the server's lexical rules (PostgreSQL manual, 4.1), no memory but the levels.

use crate::Refusal;

/// Longest text, in bytes. `COPY` data and bind parameters are not text.
pub const MAX_TEXT: usize = 1 << 20;

/// Most statements of one text.
pub const MAX_STATEMENTS: usize = 1000;

/// Most words and signs of one text: what bounds the memory of the tree.
pub const MAX_TOKENS: usize = 1 << 17;

/// Sum over the open levels of what may nest. The tree is described to about 45 levels; this
/// limit, several times higher, keeps the parser's own recursion within a small stack.
const MAX_DEPTH: usize = 250;

/// Most signs that the server's scanner may read again.
const MAX_REREAD: usize = 1 << 21;

/// One level: what may have nested since the last sign that ends nesting.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators that take what is left of them as an operand, since the last `,`, `AND`, `OR`, ….
    chain: usize,
    /// JOIN, UNION and the like, which no `AND` ends.
    joins: usize,
    is_case: bool,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    levels: Vec<Level>,
    below: usize,
    tokens: usize,
    statements: usize,
    after_dot: bool,
    reread: usize,
}

/// Refuses what is too long, too many or too deep. `strings_standard` is the session's
/// `standard_conforming_strings`.
pub fn check(text: &str, strings_standard: bool) -> Result<(), Refusal> {
    if text.len() > MAX_TEXT {
        return Err(Refusal::TooLong { len: text.len(), most: MAX_TEXT });
    }
    let bytes = text.as_bytes();
    if bytes.contains(&0) {
        return Err(Refusal::ZeroByte);
    }
    if !strings_standard && bytes.contains(&b'\\') {
        return Err(Refusal::Backslash);
    }
    let levels = vec![Level::default()];
    let mut scan = Scan {
        bytes,
        at: 0,
        levels,
        below: 0,
        tokens: 0,
        statements: 1,
        after_dot: false,
        reread: 0,
    };
    while scan.at < bytes.len() {
        scan.token()?;
    }
    Ok(())
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Result<(), Refusal> {
        let byte = self.peek(0);
        match (byte, self.peek(1)) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => {
                self.at += 1;
                return Ok(());
            }
            (b'-', b'-') => {
                self.skip_while(|b| b != b'\n' && b != b'\r');
                return Ok(());
            }
            (b'/', b'*') => return self.block_comment(),
            _ => {}
        }
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return Err(Refusal::TooManyTokens { most: MAX_TOKENS });
        }
        let after_dot = std::mem::take(&mut self.after_dot);
        match byte {
            b'\'' => self.quoted(b'\'', false),
            b'"' => self.quoted(b'"', false),
            b'e' | b'E' if self.peek(1) == b'\'' => {
                self.at += 1;
                self.quoted(b'\'', true);
            }
            b'$' => self.dollar(),
            b'(' | b'[' => {
                self.at += 1;
                return self.open(false);
            }
            b')' | b']' => {
                self.at += 1;
                self.close();
            }
            b',' => {
                self.at += 1;
                self.end_chain();
            }
            b';' => {
                self.at += 1;
                self.statements += 1;
                self.levels.clear();
                self.levels.push(Level::default());
                self.below = 0;
                if self.statements > MAX_STATEMENTS {
                    return Err(Refusal::TooMany { most: MAX_STATEMENTS });
                }
            }
            b'.' => {
                self.at += 1;
                self.after_dot = true;
            }
            b'0'..=b'9' => {
                self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
            }
            b if is_operator(b) => return self.operator(),
            b if is_word(b) => return self.word(after_dot),
            _ => self.at += 1,
        }
        Ok(())
    }

    fn skip_while(&mut self, which: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && which(self.peek(0)) {
            self.at += 1;
        }
    }

    /// The server's scanner reads the run of signs behind each `/*` again, which takes time in the
    /// square of its length: the sum is bounded.
    fn block_comment(&mut self) -> Result<(), Refusal> {
        let mut depth = 0usize;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                    let rest = self.bytes.get(self.at..).unwrap_or_default();
                    self.reread += rest.iter().take_while(|byte| is_operator(**byte)).count();
                    if self.reread > MAX_REREAD {
                        return Err(Refusal::TooDeep);
                    }
                }
                (b'*', b'/') => {
                    depth = depth.saturating_sub(1);
                    self.at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn quoted(&mut self, quote: u8, backslashes: bool) {
        self.at += 1;
        while self.at < self.bytes.len() {
            let byte = self.peek(0);
            self.at += 1;
            if backslashes && byte == b'\\' {
                self.at += 1;
            } else if byte == quote {
                if self.peek(0) != quote {
                    return;
                }
                self.at += 1;
            }
        }
    }

    /// `$tag$ … $tag$`, `$1`, or a lone dollar.
    fn dollar(&mut self) {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let tag = rest.iter().take_while(|b| is_word(**b) || b.is_ascii_digit()).count();
        let is_tag = rest.get(tag) == Some(&b'$') && !rest.first().is_some_and(u8::is_ascii_digit);
        let delimiter = self.bytes.get(self.at..self.at + tag + 2).unwrap_or_default();
        if !is_tag || delimiter.is_empty() {
            self.at += 1;
            self.skip_while(|b| b.is_ascii_digit());
            return;
        }
        self.at += delimiter.len();
        while self.at < self.bytes.len() {
            if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(delimiter)) {
                self.at += delimiter.len();
                return;
            }
            self.at += 1;
        }
    }

    fn operator(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        while is_operator(self.peek(0)) {
            let comment = matches!((self.peek(0), self.peek(1)), (b'-', b'-') | (b'/', b'*'));
            if self.at > start && comment {
                break;
            }
            self.at += 1;
        }
        // Comparisons do not nest without parentheses: the grammar has them as non-associative.
        let one = self.bytes.get(start..self.at).unwrap_or_default();
        let compares = matches!(one, b"=" | b"<" | b">" | b"<=" | b">=" | b"<>" | b"!=" | b":=");
        // `+++1` is three operators, `||` is one: a run counts as what it may be at most.
        let signs = one.len();
        if compares { Ok(()) } else { self.count(|level| level.chain += signs, signs) }
    }

    fn word(&mut self, after_dot: bool) -> Result<(), Refusal> {
        let start = self.at;
        self.skip_while(|b| is_word(b) || b.is_ascii_digit() || b == b'$');
        let word = self.bytes.get(start..self.at).unwrap_or_default();
        if after_dot || word.len() > 9 {
            return Ok(());
        }
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        if is(b"and") || is(b"or") || is(b"when") || is(b"then") || is(b"else") {
            self.end_chain();
        } else if is(b"case") {
            return self.open(true);
        } else if is(b"end") {
            if self.levels.last().is_some_and(|level| level.is_case) {
                self.close();
            }
        } else if is(b"join") || is(b"union") || is(b"intersect") || is(b"except") {
            return self.count(|level| level.joins += 1, 1);
        } else if is(b"not") || is(b"collate") || is(b"at") || is(b"operator") {
            return self.count(|level| level.chain += 1, 1);
        }
        Ok(())
    }

    fn count(&mut self, what: impl FnOnce(&mut Level), by: usize) -> Result<(), Refusal> {
        if let Some(level) = self.levels.last_mut() {
            what(level);
        }
        self.below += by;
        if self.below > MAX_DEPTH { Err(Refusal::TooDeep) } else { Ok(()) }
    }

    fn open(&mut self, is_case: bool) -> Result<(), Refusal> {
        self.levels.push(Level { is_case, ..Level::default() });
        self.count(|_| {}, 1)
    }

    fn close(&mut self) {
        // A parenthesis also ends a CASE whose END is missing; the parser will say so.
        while self.levels.len() > 1 {
            let Some(level) = self.levels.pop() else { return };
            self.below = self.below.saturating_sub(level.chain + level.joins + 1);
            let ended_by_end =
                self.bytes.get(self.at.wrapping_sub(1)).is_some_and(|b| !matches!(b, b')' | b']'));
            if !level.is_case || ended_by_end {
                return;
            }
        }
    }

    fn end_chain(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            self.below = self.below.saturating_sub(level.chain);
            level.chain = 0;
        }
    }
}

/// The characters of operators (PostgreSQL manual, 4.1.3), and `:` of `::` and `:=`.
fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?:".contains(&byte)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}
