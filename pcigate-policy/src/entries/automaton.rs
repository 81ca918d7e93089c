//! Many globs as one deterministic automaton, by subset construction.

use std::collections::{BTreeSet, HashMap};

use pcigate_common::limits;

use super::{CompileError, EXEC_CLASSES_MAX, EXEC_STATES_MAX};
use crate::glob::{Token, is_continuation};

/// A deterministic automaton over the bytes of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Automaton {
    /// Byte → class.
    pub classes: [u8; 256],
    /// Columns per state: one per class, and the last holding what the state answers.
    pub columns: u16,
    /// Cell (state, column) is at `state * columns + column`: the next state, or in the last column
    /// the answer's number, 0 = none. State 0 is dead: it leads only to itself.
    pub cells: Vec<u16>,
    /// The start state.
    pub start: u16,
}

impl Automaton {
    /// The number of the answer to a name; 0 = no glob matches.
    #[must_use]
    pub fn run(&self, name: &[u8]) -> u16 {
        let columns = usize::from(self.columns);
        let cell = |state: u16, column: usize| {
            self.cells.get(usize::from(state) * columns + column).copied().unwrap_or_default()
        };
        let step = |state, byte: &u8| {
            let class = self.classes.get(usize::from(*byte)).copied().unwrap_or_default();
            cell(state, usize::from(class))
        };
        cell(name.iter().fold(self.start, step), columns - 1)
    }

    /// Builds it. `answer` numbers the answer for the owners of globs that match together, 0 where
    /// that is none; `None` = it has no number left. `names` are the policies, for messages.
    pub(super) fn build(
        patterns: &Patterns,
        names: &str,
        mut answer: impl FnMut(&BTreeSet<u32>) -> Option<u16>,
    ) -> Result<Self, CompileError> {
        let classes = Classes::of(patterns);
        if classes.samples.len() > EXEC_CLASSES_MAX {
            let (found, most) = (classes.samples.len(), EXEC_CLASSES_MAX);
            return Err(CompileError::ExecClasses { policies: names.to_owned(), found, most });
        }
        let too_big = |what, most| CompileError::size(names, what, most);
        let cells_max = limits::EXEC_CELLS_MAX as usize;
        let columns = classes.samples.len() + 1;
        let mut states = States::default();
        let mut cells: Vec<u16> = Vec::new();
        // State 0 is the empty set, from which nothing leads back.
        states.number(Vec::new());
        let start = states.number(patterns.entered(&patterns.starts));
        let mut next = 0;
        while let Some(members) = states.sets.get(next).cloned() {
            let mut targets = Targets { patterns, members: &members, by_kind: [None; 3] };
            for class in &classes.samples {
                let target = targets.of(*class, &mut states);
                cells.push(target.ok_or_else(|| too_big("states", EXEC_STATES_MAX))?);
            }
            let number = answer(&patterns.ends_among(&members));
            cells.push(number.ok_or_else(|| too_big("distinct answers", usize::from(u16::MAX)))?);
            if states.sets.len() * columns > cells_max {
                return Err(too_big("cells", cells_max));
            }
            next += 1;
        }
        Ok(Self {
            classes: classes.of_byte,
            columns: u16::try_from(columns).unwrap_or(u16::MAX),
            cells,
            start: start.unwrap_or_default(),
        })
    }
}

/// The steps of all globs in one row; a number of this row is a *position*.
#[derive(Default)]
pub(super) struct Patterns {
    /// The step at a position; `None` = the end of a glob.
    positions: Vec<Option<Token>>,
    /// Who a position belongs to.
    owners: Vec<u32>,
    /// First position of each glob.
    starts: Vec<u32>,
}

impl Patterns {
    /// Adds a glob of `owner`.
    pub(super) fn add(&mut self, owner: u32, tokens: &[Token]) {
        self.starts.push(u32::try_from(self.positions.len()).unwrap_or(u32::MAX));
        self.positions.extend(tokens.iter().copied().map(Some));
        self.positions.push(None);
        self.owners.resize(self.positions.len(), owner);
    }

    /// Whether there is no glob.
    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The owners of the globs that end at one of the positions.
    fn ends_among(&self, members: &[u32]) -> BTreeSet<u32> {
        let owner = |position: &u32| {
            let position = *position as usize;
            match self.positions.get(position) {
                Some(None) => self.owners.get(position).copied(),
                _ => None,
            }
        };
        members.iter().filter_map(owner).collect()
    }

    fn at(&self, position: u32) -> Option<Token> {
        self.positions.get(position as usize).copied().flatten()
    }

    /// The positions and all that are reached from them without a byte, sorted.
    fn entered(&self, positions: &[u32]) -> Vec<u32> {
        let mut open = positions.to_vec();
        let mut found = BTreeSet::new();
        while let Some(position) = open.pop() {
            if !found.insert(position) {
                continue;
            }
            match self.at(position) {
                Some(Token::Star | Token::DeepStar | Token::Rest) => open.push(position + 1),
                Some(Token::Dirs) => open.extend([position + 1, position + 2]),
                Some(Token::Byte(_) | Token::Char | Token::AnyChar | Token::InDirs) | None => {}
            }
        }
        found.into_iter().collect()
    }

    /// The positions after one byte. `literal` false stands for a byte no glob names.
    fn step(&self, members: &[u32], byte: u8, literal: bool) -> Vec<u32> {
        let mut after = Vec::new();
        for &position in members {
            let Some(token) = self.at(position) else { continue };
            if matches!(token, Token::Byte(_)) && !literal {
                continue;
            }
            let (stays, advances) = token.on(byte);
            if stays {
                after.push(position);
            }
            if advances {
                after.push(position + 1);
            }
        }
        self.entered(&after)
    }
}

/// What globs other than by naming a byte can tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteKind {
    Plain = 0,
    Slash = 1,
    Continuation = 2,
}

impl ByteKind {
    fn of(byte: u8) -> Self {
        match byte {
            b'/' => Self::Slash,
            _ if is_continuation(byte) => Self::Continuation,
            _ => Self::Plain,
        }
    }

    /// A byte of this kind.
    fn sample(self) -> u8 {
        match self {
            Self::Plain => b'a',
            Self::Slash => b'/',
            Self::Continuation => 0x80,
        }
    }
}

/// One column: a byte that globs name, or all others of a kind.
#[derive(Clone, Copy, Debug)]
enum Class {
    Named(u8),
    Others(ByteKind),
}

/// Bytes that no glob tells apart share a column.
struct Classes {
    of_byte: [u8; 256],
    samples: Vec<Class>,
}

impl Classes {
    fn of(patterns: &Patterns) -> Self {
        let mut named = [false; 256];
        for token in patterns.positions.iter().flatten() {
            if let Token::Byte(byte) = token
                && let Some(flag) = named.get_mut(usize::from(*byte))
            {
                *flag = true;
            }
        }
        let characters = patterns.positions.contains(&Some(Token::Rest));
        let mut classes = Self { of_byte: [0; 256], samples: Vec::new() };
        let mut others: [Option<u8>; 3] = [None; 3];
        for (byte, (slot, named)) in (0..=u8::MAX).zip(classes.of_byte.iter_mut().zip(named)) {
            let mut fresh = |class| {
                classes.samples.push(class);
                u8::try_from(classes.samples.len() - 1).unwrap_or(u8::MAX)
            };
            let kind = match ByteKind::of(byte) {
                ByteKind::Continuation if !characters => ByteKind::Plain,
                kind => kind,
            };
            *slot = match others.get_mut(kind as usize) {
                Some(shared) if !named => *shared.get_or_insert_with(|| fresh(Class::Others(kind))),
                _ => fresh(Class::Named(byte)),
            };
        }
        classes
    }
}

/// The states found so far: each is a set of positions.
#[derive(Default)]
struct States {
    numbers: HashMap<Vec<u32>, u16>,
    sets: Vec<Vec<u32>>,
}

impl States {
    /// The number of a set, `None` when there are too many.
    fn number(&mut self, members: Vec<u32>) -> Option<u16> {
        if let Some(number) = self.numbers.get(&members) {
            return Some(*number);
        }
        if self.sets.len() >= EXEC_STATES_MAX {
            return None;
        }
        let number = u16::try_from(self.sets.len()).ok()?;
        self.sets.push(members.clone());
        self.numbers.insert(members, number);
        Some(number)
    }
}

/// Where one state leads. Most named bytes mean no more to a state than any byte of their kind, so
/// those targets are computed once.
struct Targets<'a> {
    patterns: &'a Patterns,
    members: &'a [u32],
    by_kind: [Option<u16>; 3],
}

impl Targets<'_> {
    fn of(&mut self, class: Class, states: &mut States) -> Option<u16> {
        let kind = match class {
            Class::Named(byte) => {
                let here = Some(Token::Byte(byte));
                if self.members.iter().any(|position| self.patterns.at(*position) == here) {
                    return states.number(self.patterns.step(self.members, byte, true));
                }
                ByteKind::of(byte)
            }
            Class::Others(kind) => kind,
        };
        let known = self.by_kind.get(kind as usize).copied().flatten();
        if known.is_some() {
            return known;
        }
        let after = self.patterns.step(self.members, kind.sample(), false);
        let number = states.number(after);
        if let Some(slot) = self.by_kind.get_mut(kind as usize) {
            *slot = number;
        }
        number
    }
}
