//! Detectors of the settings: patterns, fields by name, and the pack for static secrets.
//!
//! They look at the text after card data is gone from it. A match begins where its pattern, held
//! to [`MATCH_MAX`] bytes, matches; so it does not depend on how a text is split. All patterns are
//! finite automata: time grows with the text, not with the pattern's tricks.

use std::borrow::Cow;

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::util::{captures::Captures, syntax};
use regex_automata::{Anchored, Input, Span};
use thiserror::Error;

use super::Kind;
use super::pan::Number;
use super::render::FILLER;
use super::scan::Taken;
use super::settings::{Detector, Settings, SettingsError};

/// Bytes of the longest match.
const MATCH_MAX: usize = 4096;
/// Bytes that must be known behind a place where a match may begin.
pub(super) const AHEAD: usize = MATCH_MAX + 8;
/// Bytes looked at in one go, so that a match costs no look at all that follows.
const BLOCK: usize = 4096;
/// Bytes before a match that decide about it.
pub(super) const BEHIND: usize = 16;
const DETECTORS_MAX: usize = 64;
const FIELDS_MAX: usize = 1024;
const FIELD_BYTES_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 1024;
const AUTOMATON_BYTES_MAX: usize = 1 << 20;
/// All detectors together.
const AUTOMATA_BYTES_MAX: usize = 8 << 20;
/// Parentheses and repetitions inside each other.
const NEST_MAX: u32 = 32;

/// Secrets that stand in command lines, URLs and files (PCI DSS 8.6.2). Group `v` is the secret.
const SECRETS: [&str; 8] = [
    r"(?ix) \b bearer [\s\x00]+ (?P<v> [a-z0-9._~+/=-]{16,} )",
    r"(?ix) \b basic [\s\x00]+ (?P<v> [a-z0-9+/]{12,} ={0,2} )",
    r"(?x) -----BEGIN\x20 [A-Z\x20]{0,24} PRIVATE\x20KEY----- (?P<v> [A-Za-z0-9+/=\s\\]{16,} )",
    r"(?ix) --? (?: password | passwd | pwd | token | secret | api-?key | access-?key |
        client-secret ) [=\s\x00]+ (?P<v> [^\s\x00\[\x22'-] [^\s\x00]{3,} )",
    r"(?ix) \b [a-z0-9_]{0,40} (?: password | passwd | _pwd | _token | secret | api_?key )
        [\x22']? [=:] [\x20\x22']{0,2} (?P<v> [^\s\x00\[\x22',;&] [^\s\x00\x22',;&]{3,} )",
    r"(?ix) \b [a-z][a-z0-9+.-]{1,20} :// [^/\s:@\x00]{1,64} :
        (?P<v> [^/\s@\x00\[] [^/\s@\x00]{0,200} ) @",
    r"(?x) \b (?P<v> (?: AKIA | ASIA ) [0-9A-Z]{16} | gh[pousr]_[A-Za-z0-9]{36} |
        xox[abprs]-[A-Za-z0-9-]{10,80} | sk_live_[A-Za-z0-9]{16,64} ) \b",
    r"(?x) \b (?P<v> eyJ[A-Za-z0-9_-]{8,} \. [A-Za-z0-9_-]{8,} \. [A-Za-z0-9_-]{8,} )",
];

/// A pattern that cannot be used.
#[derive(Debug, Error)]
pub enum DetectorError {
    /// It is too long.
    #[error("the pattern has {bytes} bytes, more than {PATTERN_BYTES_MAX}")]
    Long {
        /// Its length.
        bytes: usize,
    },
    /// It matches where nothing is.
    #[error("the pattern matches the empty text: make it ask for at least one byte")]
    Empty,
    /// It cannot be read, or its automaton is larger than 1 MiB.
    #[error("the pattern cannot be compiled")]
    Pattern {
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
}

/// One detector, compiled.
#[derive(Debug)]
struct Compiled {
    name: String,
    kind: Kind,
    luhn: bool,
}

/// All detectors, searched for at once.
#[derive(Debug)]
pub(super) struct Custom {
    regex: Regex,
    /// By the number of the pattern.
    patterns: Vec<Compiled>,
}

impl Custom {
    /// The detectors the settings ask for; `None` if they ask for none.
    pub(super) fn new(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let too_many = |what, count, most| SettingsError::TooMany { what, count, most };
        if settings.detectors.len() > DETECTORS_MAX {
            return Err(too_many("detectors", settings.detectors.len(), DETECTORS_MAX));
        }
        if settings.fields.len() > FIELDS_MAX {
            return Err(too_many("field names", settings.fields.len(), FIELDS_MAX));
        }
        let (mut sources, mut patterns) = (Vec::new(), Vec::new());
        for (number, detector) in (0..).zip(&settings.detectors) {
            check(detector).map_err(|source| refused(&detector.name, source))?;
            sources.push(detector.pattern.clone());
            let (name, luhn) = (detector.name.clone(), detector.luhn);
            patterns.push(Compiled { name, kind: Kind::Custom(number), luhn });
        }
        if !settings.fields.is_empty() {
            let kind = Kind::Custom(u16::try_from(patterns.len()).unwrap_or(u16::MAX));
            sources.push(fields(&settings.fields)?);
            patterns.push(Compiled { name: "field".to_owned(), kind, luhn: false });
        }
        if settings.secrets {
            for source in SECRETS {
                sources.push(source.to_owned());
                let name = "secret".to_owned();
                patterns.push(Compiled { name, kind: Kind::Secret, luhn: false });
            }
        }
        if sources.is_empty() {
            return Ok(None);
        }
        let regex = compile(&sources).map_err(|source| refused("all together", source))?;
        Ok(Some(Self { regex, patterns }))
    }

    /// The name of the custom detector of this number.
    pub(super) fn name(&self, number: u16) -> Option<&str> {
        let of = |one: &&Compiled| one.kind == Kind::Custom(number);
        self.patterns.iter().find(of).map(|one| one.name.as_str())
    }

    /// Fills every match that begins at `at` or behind it, before `until`.
    pub(super) fn mask(
        &self,
        text: &mut Cow<'_, [u8]>,
        at: &mut usize,
        until: usize,
        taken: &mut Vec<Taken>,
    ) {
        let mut captures = self.regex.create_captures();
        while *at < until {
            let last = until.min(*at + BLOCK);
            let end = text.len().min(last + AHEAD);
            let input = Input::new(text.as_ref()).span(Span { start: *at, end });
            let found = self.regex.search(&input).map(|found| found.start());
            let Some(found) = found.filter(|found| *found < last) else {
                *at = last;
                continue;
            };
            *at = found + 1;
            let end = text.len().min(found + MATCH_MAX);
            let span = Span { start: found, end };
            let input = Input::new(text.as_ref()).span(span).anchored(Anchored::Yes);
            self.regex.search_captures(&input, &mut captures);
            let Some((span, kind)) = self.accepted(text, &captures) else { continue };
            text.to_mut().get_mut(span.range()).unwrap_or_default().fill(FILLER);
            taken.push(Taken::new((span.start, span.end, kind), true));
            *at = span.end;
        }
    }

    /// What of a match is to be taken out, and as what.
    fn accepted(&self, text: &[u8], captures: &Captures) -> Option<(Span, Kind)> {
        let Compiled { kind, luhn, .. } = self.patterns.get(captures.pattern()?.as_usize())?;
        let group = |name| captures.get_group_by_name(name);
        let span =
            group("v").or_else(|| group("w")).or(captures.get_match().map(|all| all.span()))?;
        let matched = text.get(span.range())?;
        let masked = matched.iter().all(|byte| *byte == FILLER)
            || text.get(..span.start)?.ends_with(b"[") && text.get(span.end) == Some(&FILLER);
        let checks = !luhn || Number::of(matched).is_some_and(|number| number.checks());
        (!matched.is_empty() && !masked && checks).then_some((span, *kind))
    }
}

fn check(detector: &Detector) -> Result<(), DetectorError> {
    let bytes = detector.pattern.len();
    if bytes > PATTERN_BYTES_MAX {
        return Err(DetectorError::Long { bytes });
    }
    let regex = compile(std::slice::from_ref(&detector.pattern))?;
    if regex.is_match("") { Err(DetectorError::Empty) } else { Ok(()) }
}

fn compile(sources: &[String]) -> Result<Regex, DetectorError> {
    let most = if sources.len() == 1 { AUTOMATON_BYTES_MAX } else { AUTOMATA_BYTES_MAX };
    let config = Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(most))
        .onepass_size_limit(Some(AUTOMATON_BYTES_MAX))
        .hybrid_cache_capacity(2 * AUTOMATON_BYTES_MAX);
    let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(NEST_MAX);
    Regex::builder()
        .configure(config)
        .syntax(syntax)
        .build_many(sources)
        .map_err(|source| DetectorError::Pattern { source: Box::new(source) })
}

fn refused(name: &str, source: DetectorError) -> SettingsError {
    SettingsError::Detector { name: name.to_owned(), source }
}

/// One pattern for the values of all fields.
fn fields(names: &[String]) -> Result<String, SettingsError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    for name in names {
        let fits = (1..=FIELD_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
        if !fits {
            return Err(SettingsError::Field { name: name.clone() });
        }
    }
    // Longer names first: `card` must not end the search for `card_holder`.
    let mut names: Vec<String> = names.iter().map(|name| name.replace('.', "\\.")).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    let quoted = r#"\\?["'] (?P<v> [^"'\\<>\[\]] [^"'\\<>]* )"#;
    let bare = r#"(?P<w> [^"'\\,;&<>\s\x00\[\]] [^"'\\,;&<>\s\x00]* )"#;
    let between = r#"["'\\]{0,2} \s{0,4} [:=>] \s{0,4}"#;
    Ok(format!(r"(?ix) \b (?: {} ) {between} (?: {quoted} | {bare} )", names.join("|")))
}
