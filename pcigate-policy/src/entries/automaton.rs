//! All globs of all exec rules as one deterministic automaton, by subset construction.

use std::collections::{BTreeSet, HashMap};

use pcigate_common::limits;
use pcigate_common::maps::Decision;

use super::{CompileError, EXEC_CLASSES_MAX, EXEC_STATES_MAX, ExecAutomaton};
use crate::document::ExecRule;
use crate::fold::{Defaults, Fold};
use crate::glob::{Token, is_continuation};
use crate::workload::PolicySet;

/// `None` where no rule has a path the kernel can match.
pub(super) fn build(set: &PolicySet) -> Result<Option<ExecAutomaton>, CompileError> {
    let patterns = Patterns::of(set);
    if patterns.positions.is_empty() {
        return Ok(None);
    }
    let names = || set.names(|policy| policy.exec.is_some());
    let classes = Classes::of(&patterns);
    if classes.samples.len() > EXEC_CLASSES_MAX {
        let (found, most) = (classes.samples.len(), EXEC_CLASSES_MAX);
        return Err(CompileError::ExecClasses { policies: names(), found, most });
    }
    let too_big = |what, most| CompileError::ExecSize { policies: names(), what, most };
    let cells_max = limits::EXEC_CELLS_MAX as usize;
    let columns = classes.samples.len() + 1;
    let defaults = set.exec_defaults();
    let mut states = States::default();
    let mut answers = Answers::default();
    let mut cells: Vec<u16> = Vec::new();
    // State 0 is the empty set, from which nothing leads back.
    states.number(Vec::new());
    let start = states.number(patterns.entered(&patterns.starts));
    let mut next = 0;
    while let Some(members) = states.sets.get(next).cloned() {
        let mut targets = Targets { patterns: &patterns, members: &members, by_kind: [None; 3] };
        for class in &classes.samples {
            let target = targets.of(*class, &mut states);
            cells.push(target.ok_or_else(|| too_big("states", EXEC_STATES_MAX))?);
        }
        let number = answers.number(&patterns, &members, &defaults);
        cells.push(number.ok_or_else(|| too_big("distinct answers", usize::from(u16::MAX)))?);
        if states.sets.len() * columns > cells_max {
            return Err(too_big("cells", cells_max));
        }
        next += 1;
    }
    Ok(Some(ExecAutomaton {
        classes: classes.of_byte,
        columns: u16::try_from(columns).unwrap_or(u16::MAX),
        cells,
        start: start.unwrap_or_default(),
        decisions: answers.decisions,
    }))
}

/// The steps of all globs in one row; a number of this row is a *position*.
struct Patterns<'a> {
    /// The step at a position; `None` = the end of a glob.
    positions: Vec<Option<Token>>,
    /// The rule a position belongs to, with its number.
    owners: Vec<(u32, &'a ExecRule)>,
    /// First position of each glob.
    starts: Vec<u32>,
}

impl<'a> Patterns<'a> {
    fn of(set: &'a PolicySet) -> Self {
        let mut all = Self { positions: Vec::new(), owners: Vec::new(), starts: Vec::new() };
        for (number, _, rule) in set.exec_rules() {
            for glob in rule.kernel_paths() {
                all.starts.push(u32::try_from(all.positions.len()).unwrap_or(u32::MAX));
                all.positions.extend(glob.tokens().iter().copied().map(Some));
                all.positions.push(None);
                all.owners.resize(all.positions.len(), (number, rule));
            }
        }
        all
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
                Some(Token::Byte(_) | Token::Char | Token::InDirs) | None => {}
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
    fn of(patterns: &Patterns<'_>) -> Self {
        let mut named = [false; 256];
        for token in patterns.positions.iter().flatten() {
            if let Token::Byte(byte) = token
                && let Some(flag) = named.get_mut(usize::from(*byte))
            {
                *flag = true;
            }
        }
        let characters = patterns.positions.contains(&Some(Token::Char));
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
    patterns: &'a Patterns<'a>,
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

/// The distinct answers found so far.
#[derive(Default)]
struct Answers {
    numbers: HashMap<Decision, u16>,
    decisions: Vec<Decision>,
}

impl Answers {
    /// The decision column of a state; `None` when there are too many answers.
    fn number(
        &mut self,
        patterns: &Patterns<'_>,
        members: &[u32],
        defaults: &Defaults,
    ) -> Option<u16> {
        let mut fold = Fold::default();
        for position in members.iter().map(|p| *p as usize) {
            if let (Some(None), Some((number, rule))) =
                (patterns.positions.get(position), patterns.owners.get(position))
            {
                fold.add(rule.mode, rule.verdict(), *number);
            }
        }
        if fold.is_empty() {
            return Some(0);
        }
        let decision = fold.decision(defaults);
        if let Some(number) = self.numbers.get(&decision) {
            return Some(*number);
        }
        self.decisions.push(decision);
        let number = u16::try_from(self.decisions.len()).ok()?;
        self.numbers.insert(decision, number);
        Some(number)
    }
}
