//! Splits Rust source into code and comments, line by line, so that no rule trips over a string.

/// One line: its code with the insides of literals taken out, and its comments.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub code: String,
    pub comment: String,
}

impl Line {
    /// The words of the code: identifiers, keywords and numbers.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        words(&self.code)
    }
}

/// The runs of letters, digits and underscores in a text.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

/// Whether a word may hold this character.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    Text,
    /// Raw text ends at a quote and this many `#`.
    RawText(usize),
}

/// Splits a whole file. Never fails: what it cannot make sense of counts as code.
pub fn split(source: &str) -> Vec<Line> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut lines = Vec::new();
    let mut line = Line::default();
    let mut state = State::Code;
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        if c == '\n' {
            lines.push(std::mem::take(&mut line));
            state = if state == State::LineComment { State::Code } else { state };
            i += 1;
            continue;
        }
        let mut taken = 1;
        match state {
            State::Code => (state, taken) = code(&at, i, &mut line),
            State::LineComment => line.comment.push(c),
            State::BlockComment(depth) => {
                line.comment.push(c);
                (state, taken) = match (c, at(i + 1)) {
                    ('/', '*') => (State::BlockComment(depth + 1), 2),
                    ('*', '/') if depth == 1 => (State::Code, 2),
                    ('*', '/') => (State::BlockComment(depth - 1), 2),
                    _ => (state, 1),
                };
            }
            // The character after a backslash is skipped, but a line end has to be seen.
            State::Text if c == '\\' && at(i + 1) != '\n' => taken = 2,
            State::Text if c == '"' => state = State::Code,
            State::RawText(hashes) if c == '"' && (1..=hashes).all(|n| at(i + n) == '#') => {
                (state, taken) = (State::Code, 1 + hashes);
            }
            State::Text | State::RawText(_) => {}
        }
        i += taken;
    }
    lines.push(line);
    lines
}

/// One step in code: the state after it and how many characters it took.
fn code(at: &impl Fn(usize) -> char, i: usize, line: &mut Line) -> (State, usize) {
    let c = at(i);
    match (c, at(i + 1)) {
        ('/', '/') => return (State::LineComment, 2),
        ('/', '*') => return (State::BlockComment(1), 2),
        ('\'', next) => {
            line.code.push(c);
            return (State::Code, quote(at, i, next));
        }
        _ => line.code.push(c),
    }
    if c == '"' {
        return (State::Text, 1);
    }
    let hashes = (0..).take_while(|n| at(i + 1 + n) == '#').count();
    if c == 'r' && at(i + 1 + hashes) == '"' {
        return (State::RawText(hashes), 2 + hashes);
    }
    (State::Code, 1)
}

/// How long a character literal is; 1 when the quote begins a lifetime instead.
fn quote(at: &impl Fn(usize) -> char, i: usize, next: char) -> usize {
    if next == '\\' {
        let rest = (3..14).find(|n| at(i + n) == '\'');
        return rest.map_or(1, |n| n + 1);
    }
    if at(i + 2) == '\'' { 3 } else { 1 }
}
