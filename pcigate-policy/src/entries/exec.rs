//! The exec rules of a policy set as tables: which answer a path, a digest and arguments lead to.
//!
//! The automaton over paths says which rules match a name. What they say together depends on the
//! file's digest only by which rules name it, so digests fall into classes, and each end of the
//! automaton has one answer per class. Rules with `args` are left out of these answers: each is a
//! bit there, and a second automaton says which bits an argument sets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pcigate_common::limits;
use pcigate_common::maps::{ARGS_RULES_MAX, Decision, ExecAnswer, digest_class};

use super::CompileError;
use super::automaton::{Automaton, Patterns};
use crate::decide::ExecRequest;
use crate::document::{Action, ExecRule, Mode};
use crate::fold::{Defaults, Fold, with_invoked};
use crate::glob::{Glob, Token};
use crate::workload::PolicySet;

/// The tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecEntries {
    /// Over names: number n stands for the answers from `(n - 1) * digest_classes`.
    pub paths: Automaton,
    /// How many classes of digests there are; 1 where no rule names a digest.
    pub digest_classes: u32,
    /// The class of each digest that rules name.
    pub digests: BTreeMap<[u8; 32], u32>,
    /// Files whose digest a rule asks for; empty where none does.
    pub hashed: Vec<Glob>,
    /// One per digest class for each number of `paths`.
    pub answers: Vec<ExecAnswer>,
    /// `None` where no rule asks for arguments.
    pub args: Option<ArgsEntries>,
}

/// What arguments lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgsEntries {
    /// Over one argument: number n stands for `masks[n - 1]`.
    pub automaton: Automaton,
    /// The bits an argument sets.
    pub masks: Vec<u64>,
    /// The rule behind each bit, in ascending order.
    pub rules: Vec<u32>,
    /// Bits of rules that are enforced.
    pub enforced: u64,
}

/// `None` where there is no rule.
pub(super) fn build(set: &PolicySet) -> Result<Option<ExecEntries>, CompileError> {
    let rules: Vec<(u32, &ExecRule)> = set.exec_rules().map(|(n, _, rule)| (n, rule)).collect();
    if rules.is_empty() {
        return Ok(None);
    }
    let names = set.names(|policy| policy.exec.is_some());
    let mut patterns = Patterns::default();
    for (index, (_, rule)) in (0..).zip(&rules) {
        for glob in &rule.paths {
            patterns.add(index, glob.tokens());
        }
        if rule.paths.is_empty() {
            patterns.add(index, &[Token::Byte(b'/'), Token::DeepStar]);
        }
    }
    let args = args(&rules, &names)?;
    let (digests, classes) = digest_classes(&rules);
    let mut answers = Answers {
        rules: &rules,
        bits: args.as_ref().map_or(&[], |args| &args.rules),
        classes: &classes,
        defaults: set.exec_defaults(),
        numbers: HashMap::new(),
        answers: Vec::new(),
    };
    let paths = Automaton::build(&patterns, &names, |owners| answers.number(owners))?;
    let answers = answers.answers;
    let more = args.as_ref().map_or(0, |args| args.masks.len() + args.rules.len());
    let most = limits::EXEC_DECISIONS_MAX as usize;
    if answers.len() + more > most {
        return Err(CompileError::size(&names, "distinct answers", most));
    }
    let digest_classes = u32::try_from(classes.len()).unwrap_or(u32::MAX);
    let hashed = hashed(&rules);
    Ok(Some(ExecEntries { paths, digest_classes, digests, hashed, answers, args }))
}

/// The globs of rules that name digests.
fn hashed(rules: &[(u32, &ExecRule)]) -> Vec<Glob> {
    let mut globs = Vec::new();
    for (_, rule) in rules.iter().filter(|(_, rule)| !rule.sha256.is_empty()) {
        globs.extend(rule.paths.iter().cloned());
        if rule.paths.is_empty() {
            globs.extend(Glob::parse("/**"));
        }
    }
    globs
}

/// What a class of digests means to the rules.
enum Class {
    Unknown,
    /// A digest of the class.
    Of([u8; 32]),
    Later,
}

impl Class {
    fn is_covered_by(&self, rule: &ExecRule) -> bool {
        match self {
            Self::Unknown => rule.covers_digest(None),
            Self::Of(digest) => rule.covers_digest(Some(digest)),
            Self::Later => rule.sha256.is_empty() || rule.action == Action::Allow,
        }
    }
}

/// The class of each digest, and all classes. Digests that the same rules name share one.
fn digest_classes(rules: &[(u32, &ExecRule)]) -> (BTreeMap<[u8; 32], u32>, Vec<Class>) {
    let mut named: BTreeMap<[u8; 32], Vec<u32>> = BTreeMap::new();
    for (number, rule) in rules {
        for digest in &rule.sha256 {
            named.entry(*digest).or_default().push(*number);
        }
    }
    if named.is_empty() {
        return (BTreeMap::new(), vec![Class::Unknown]);
    }
    // A digest that no rule names: any other than those named will do.
    let other = (0_u64..).map(unlikely).find(|digest| !named.contains_key(digest));
    let other = other.map_or(Class::Unknown, Class::Of);
    let mut all = vec![Class::Unknown, other, Class::Later];
    let mut classes: HashMap<Vec<u32>, u32> = HashMap::new();
    let mut of = BTreeMap::new();
    for (digest, rules) in named {
        let next = digest_class::NAMED + u32::try_from(classes.len()).unwrap_or(u32::MAX);
        let class = *classes.entry(rules).or_insert(next);
        if class == next {
            all.push(Class::Of(digest));
        }
        of.insert(digest, class);
    }
    (of, all)
}

fn unlikely(n: u64) -> [u8; 32] {
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(n.to_be_bytes()) {
        *to = from;
    }
    digest
}

fn args(rules: &[(u32, &ExecRule)], names: &str) -> Result<Option<ArgsEntries>, CompileError> {
    let mut patterns = Patterns::default();
    let (mut numbers, mut enforced) = (Vec::new(), 0_u64);
    for (number, rule) in rules.iter().filter(|(_, rule)| !rule.args.is_empty()) {
        let bit = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        if numbers.len() >= ARGS_RULES_MAX {
            return Err(CompileError::size(names, "rules with `args`", ARGS_RULES_MAX));
        }
        if rule.mode == Mode::Enforce {
            enforced |= 1 << bit;
        }
        numbers.push(*number);
        for glob in &rule.args {
            patterns.add(bit, glob.tokens());
        }
    }
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut masks: Vec<u64> = Vec::new();
    let automaton = Automaton::build(&patterns, names, |bits| {
        let mask = bits.iter().fold(0, |mask, bit| mask | 1 << bit);
        if mask == 0 {
            return Some(0);
        }
        let at = masks.iter().position(|known| *known == mask).unwrap_or_else(|| {
            masks.push(mask);
            masks.len() - 1
        });
        u16::try_from(at + 1).ok()
    })?;
    Ok(Some(ArgsEntries { automaton, masks, rules: numbers, enforced }))
}

/// The rows of answers found so far.
struct Answers<'a> {
    rules: &'a [(u32, &'a ExecRule)],
    /// Numbers of the rules with `args`.
    bits: &'a [u32],
    classes: &'a [Class],
    defaults: Defaults,
    numbers: HashMap<Vec<ExecAnswer>, u16>,
    answers: Vec<ExecAnswer>,
}

impl Answers<'_> {
    /// The number of the row for the rules that match a name; `None` when there are too many.
    fn number(&mut self, owners: &BTreeSet<u32>) -> Option<u16> {
        if owners.is_empty() {
            return Some(0);
        }
        let row: Vec<ExecAnswer> =
            self.classes.iter().map(|class| self.answer(owners, class)).collect();
        if let Some(number) = self.numbers.get(&row) {
            return Some(*number);
        }
        let number = u16::try_from(self.numbers.len() + 1).ok()?;
        if self.answers.len() + row.len() > limits::EXEC_DECISIONS_MAX as usize {
            return None;
        }
        self.answers.extend_from_slice(&row);
        self.numbers.insert(row, number);
        Some(number)
    }

    fn answer(&self, owners: &BTreeSet<u32>, class: &Class) -> ExecAnswer {
        let (mut fold, mut args) = (Fold::default(), 0_u64);
        for (number, rule) in owners.iter().filter_map(|owner| self.rules.get(*owner as usize)) {
            if !class.is_covered_by(rule) {
                continue;
            }
            match self.bits.binary_search(number) {
                Ok(bit) => args |= 1 << bit,
                Err(_) => fold.add(rule.mode, rule.verdict(), *number),
            }
        }
        let matched = u32::from(!fold.is_empty());
        ExecAnswer { decision: fold.decision(&self.defaults), args, matched, reserved: 0 }
    }
}

impl ExecEntries {
    /// What the kernel answers for a file whose path is `path`; `default` where no rule matches.
    pub(super) fn run(
        &self,
        path: &[u8],
        request: &ExecRequest<'_>,
        default: Decision,
    ) -> Decision {
        let class = match &request.sha256 {
            None => digest_class::UNKNOWN,
            Some(_) if self.digest_classes == 1 => 0,
            Some(digest) => self.digests.get(digest).copied().unwrap_or(digest_class::OTHER),
        };
        let bits = self.args.as_ref().map_or(0, |args| args.bits(request.args));
        let by_path = self.answer(path, class).map_or(default, |answer| self.joined(answer, bits));
        let by_name = self.answer(request.invoked, class);
        let by_name = by_name.filter(|answer| answer.matched == 1 || answer.args & bits != 0);
        with_invoked(by_path, by_name.map(|answer| self.joined(answer, bits)))
    }

    fn answer(&self, name: &[u8], class: u32) -> Option<ExecAnswer> {
        let row = u32::from(self.paths.run(name)).checked_sub(1)?;
        self.answers.get((row * self.digest_classes + class) as usize).copied()
    }

    fn joined(&self, answer: ExecAnswer, bits: u64) -> Decision {
        let Some(args) = &self.args else { return answer.decision };
        let rule = |bits: u64| args.rules.get(bits.trailing_zeros() as usize).copied();
        let bits = answer.args & bits;
        answer.decision.with_args(rule(bits & args.enforced), rule(bits))
    }
}

impl ArgsEntries {
    /// The bits that arguments set together; all of them where the arguments are not known.
    fn bits(&self, args: Option<&[&[u8]]>) -> u64 {
        let Some(args) = args else { return u64::MAX };
        let of = |arg: &&[u8]| {
            let number = usize::from(self.automaton.run(arg)).checked_sub(1)?;
            self.masks.get(number).copied()
        };
        args.iter().filter_map(of).fold(0, |bits, mask| bits | mask)
    }
}
