//! From a text to a decision, and from a decision to its record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pcigate_policy::document::{Column, ColumnClass, Effect, StatementAction};
use pcigate_policy::mask::{Cut, Masked, Masker};
use pcigate_policy::statement::{Answer, Facts, FunctionUse, TableName, Usage, decide};
use pcigate_postgres::denial::{Denial, OVER, REFUSED};
use pcigate_postgres::frontend::Bind;
use pcigate_postgres::values::Format;
use pcigate_sql::{Cache, CopyEnd, Refusal, Statement, normalised, text};

use super::ask::Decision;
use crate::known::Known;
use crate::plan::Plan;
use crate::record::{StatementEvent, Step};
use crate::rows::binary::numeric;

/// Bytes of a text, and of a parameter, that go into a record.
const TEXT_MAX: usize = 12 << 10;
const PARAMETER_MAX: usize = 1 << 10;
/// Parameters that go into a record.
const PARAMETERS_MAX: usize = 64;
/// Tables named in a record.
const TABLES_MAX: usize = 64;

/// What a decision needs to know.
pub(crate) struct Ground<'a> {
    pub plan: &'a Plan,
    pub known: &'a Known,
    pub database: &'a str,
    pub sql: &'a pcigate_sql::Session,
    /// Grows with what is known.
    pub version: u64,
}

impl Ground<'_> {
    /// What a text would do, and what the rules say to it. An error is a refusal too.
    pub(crate) fn of_text(&self, sql: &Bytes, cache: &mut Cache) -> Result<Decision, Refusal> {
        let catalog = &self.known.catalog;
        let statements = cache.classify(text(sql)?, self.sql, catalog, self.version)?;
        let answers = statements.iter().map(|statement| self.answer(statement)).collect();
        let sad = self.known.columns.iter().filter(|column| column.class == ColumnClass::Sad);
        let sad: Vec<&Column> = sad.collect();
        Ok(Decision {
            text: sql.clone(),
            parameter_types: Vec::new(),
            answers,
            settings: self.sql.settings(),
            version: self.version,
            volatile: statements.iter().any(Statement::depends_on_names),
            changes: statements.iter().any(may_change),
            code: REFUSED,
            request_key: None,
            touches_sad: statements
                .iter()
                .any(|one| names_any(&one.facts, &sad, |_| true) || writes_any(&one.facts, &sad)),
            statements,
        })
    }

    fn answer(&self, statement: &Statement) -> Answer {
        let (rules, columns) = (&self.plan.rules, &self.known.columns);
        let answer = decide(rules, columns, self.database, &statement.facts);
        let to_client =
            statement.copy.is_some_and(|copy| copy.from_server && copy.end == CopyEnd::Client);
        let sad: Vec<&Column> =
            columns.iter().filter(|column| column.class == ColumnClass::Sad).collect();
        let passes_on = |usage: Usage| usage != Usage::Written;
        if to_client
            && answer.action != StatementAction::Deny
            && names_any(&statement.facts, &sad, passes_on)
        {
            let sentence =
                "COPY of a column of class sad is refused whatever the rules say, because \
                            its data do not name their columns; use SELECT"
                    .to_owned();
            return Answer { action: StatementAction::Deny, rule: None, sentence, ..answer };
        }
        answer
    }

    /// A function called by its OID.
    pub(crate) fn of_function(&self, oid: u32) -> (Facts, Answer) {
        let mut facts = Facts::default();
        match self.known.function(oid) {
            Some((schema, name)) => {
                facts.add_effect(Effect::Function);
                facts.functions.push(FunctionUse {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                    effect: Some(Effect::Function),
                });
            }
            None => {
                facts.add_effect(Effect::Unknown);
                facts.reasons.push("a function by a number that is not known".to_owned());
            }
        }
        let (rules, columns) = (&self.plan.rules, &self.known.columns);
        let answer = decide(rules, columns, self.database, &facts);
        (facts, answer)
    }
}

impl Decision {
    /// The same, refused because the session has used what it may.
    pub(crate) fn beyond(&self, sentence: &str) -> Self {
        let refused = |answer: &Answer| Answer {
            action: StatementAction::Deny,
            sentence: sentence.to_owned(),
            ..answer.clone()
        };
        let answers = self.answers.iter().map(refused).collect();
        Self { answers, code: OVER, ..self.clone() }
    }

    /// Whether it needs approval, and nothing in it is denied.
    pub(crate) fn asks(&self) -> bool {
        self.refused().is_some_and(|answer| answer.action == StatementAction::Ask)
    }

    /// Whether it does no more than end a transaction, which nobody is kept from.
    pub(crate) fn ends_transaction(&self) -> bool {
        self.statements.iter().all(|one| ["COMMIT", "ROLLBACK"].contains(&one.kind))
    }

    /// The first statement that is not allowed, by the strictest answer.
    pub(crate) fn refused(&self) -> Option<&Answer> {
        let of = |action| self.answers.iter().find(|answer| answer.action == action);
        of(StatementAction::Deny).or_else(|| of(StatementAction::Ask))
    }

    /// The record of its statement `index`.
    pub(crate) fn record(
        &self,
        index: usize,
        number: u64,
        step: Step,
        parameters: &[Option<Masked>],
        masker: &Masker,
    ) -> Option<StatementEvent> {
        let (statement, answer) = (self.statements.get(index)?, self.answers.get(index)?);
        let own = self.text.get(statement.place.clone()).unwrap_or(&self.text);
        let text =
            if self.touches_sad { without_constants(own) } else { cut(masker, own, TEXT_MAX) };
        Some(StatementEvent {
            number,
            step,
            command: statement.kind,
            text,
            text_bytes: length(own),
            parameters: parameters.to_vec(),
            effects: statement.facts.effects.clone(),
            tables: tables(&statement.facts),
            verdict: answer.action,
            rule: answer.rule.as_ref().map(|rule| masked(rule)),
            reason: masked(&answer.sentence),
            request_key: self.request_key.filter(|_| answer.action == StatementAction::Ask),
            deciding: Duration::ZERO,
        })
    }
}

/// The record of a text that nobody can read.
pub(crate) fn unreadable(
    sql: &[u8],
    number: u64,
    step: Step,
    refusal: &Refusal,
    masker: &Masker,
) -> StatementEvent {
    StatementEvent {
        number,
        step,
        command: "UNKNOWN",
        text: cut(masker, sql, TEXT_MAX),
        text_bytes: length(sql),
        parameters: Vec::new(),
        effects: vec![Effect::Unknown],
        tables: Vec::new(),
        verdict: StatementAction::Deny,
        rule: None,
        reason: masked(&refusal.to_string()),
        request_key: None,
        deciding: Duration::ZERO,
    }
}

/// What the client is told of a refusal.
pub(crate) fn denial(
    code: &'static str,
    answer: &Answer,
    request: Option<&[u8; 32]>,
    target: &str,
) -> Denial {
    let rule = answer.rule.as_ref().map(|rule| format!("rule: {rule}"));
    let request = request.filter(|_| answer.action == StatementAction::Ask);
    let detail = match (rule, request) {
        (Some(rule), Some(request)) => Some(format!("{rule}; request: {}", shortened(request))),
        (rule, _) => rule,
    };
    let hint = match (answer.action, request) {
        (StatementAction::Ask, Some(_)) => {
            "Approval cannot be asked for from here yet; name the request to the owner of"
        }
        (StatementAction::Ask, None) => {
            "Approval is for a text by itself, not for what runs by a name; ask the owner of"
        }
        _ => "To have it allowed, ask the owner of",
    };
    Denial {
        code,
        message: masked(&format!("pcigate: {}", answer.sentence)).into_string(),
        detail,
        hint: Some(format!("{hint} target {target}.")),
    }
}

/// As much of a request's key as people read to each other; the record has all of it.
fn shortened(key: &[u8; 32]) -> String {
    key.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The refusal of a text that nobody can read. The parser may quote a word of it.
pub(crate) fn not_understood(refusal: &Refusal) -> Denial {
    let message = masked(&format!("pcigate: {refusal}")).into_string();
    Denial { code: REFUSED, message, detail: None, hint: None }
}

/// Whether later texts may mean something else behind it: what it says itself, and what functions
/// may do unseen.
fn may_change(statement: &Statement) -> bool {
    let unseen = [Effect::Ddl, Effect::Dcl, Effect::Function, Effect::Unknown];
    statement.changes_session()
        || statement.facts.effects.iter().any(|effect| unseen.contains(effect))
}

fn same_table(column: &Column, table: &TableName) -> bool {
    let mut parts = column.table.rsplit('.');
    let (name, schema) = (parts.next(), parts.next());
    name == Some(table.name.as_str())
        && (table.schema.is_empty() || schema.is_none_or(|schema| schema == table.schema))
}

/// Whether it writes to the table of one of these columns, which it need not name to do so.
fn writes_any(facts: &Facts, columns: &[&Column]) -> bool {
    let written = facts.tables.iter().filter(|used| used.effect == Effect::Write);
    written
        .flat_map(|used| &used.names)
        .any(|table| columns.iter().any(|column| same_table(column, table)))
}

/// Whether it names one of these columns, or all of their table.
fn names_any(facts: &Facts, columns: &[&Column], usage: impl Fn(Usage) -> bool) -> bool {
    facts.columns.iter().filter(|used| usage(used.usage)).any(|used| {
        columns.iter().any(|column| {
            used.column.as_deref().is_none_or(|name| name == column.column)
                && used.tables.iter().any(|table| same_table(column, table))
        })
    })
}

pub(crate) fn masked(text: &str) -> Masked {
    cut(Masker::standard(), text.as_bytes(), TEXT_MAX)
}

/// A text that names columns of sensitive authentication data: its constants may be such, and
/// nothing marks them.
pub(crate) fn without_constants(sql: &[u8]) -> Masked {
    match text(sql).and_then(normalised) {
        // Not all commands are taken apart: EXECUTE keeps its constants.
        Ok(normal) if !may_hold_constants(&normal.text) => masked(&normal.text),
        _ => masked("[text withheld]"),
    }
}

fn may_hold_constants(text: &str) -> bool {
    let digits = text.as_bytes().windows(3).any(|three| three.iter().all(u8::is_ascii_digit));
    digits || text.contains('\'') || text.contains("$$")
}

fn cut(masker: &Masker, text: &[u8], most: usize) -> Masked {
    match text.get(..most) {
        Some(begin) if text.len() > most => Masked::with(masker, begin, Cut::End),
        _ => Masked::with(masker, text, Cut::Whole),
    }
}

fn length(text: &[u8]) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

fn tables(facts: &Facts) -> Vec<Masked> {
    let mut names: Vec<String> = facts
        .tables
        .iter()
        .flat_map(|used| &used.names)
        .map(|table| match table.schema.as_str() {
            "" => table.name.clone(),
            schema => format!("{schema}.{}", table.name),
        })
        .collect();
    names.sort();
    names.dedup();
    names.iter().take(TABLES_MAX).map(|name| masked(name)).collect()
}

/// The parameters of a Bind in words, as far as a record takes them; without a masker, none of
/// their content.
pub(crate) fn parameters(
    bind: &Bind,
    types: &[u32],
    described: Option<&Arc<[u32]>>,
    masker: Option<&Masker>,
) -> Vec<Option<Masked>> {
    let of = |index: usize| {
        let given = types.get(index).copied().filter(|oid| *oid != 0);
        given.or_else(|| described.and_then(|types| types.get(index).copied())).unwrap_or(0)
    };
    let words = |(index, value): (usize, Option<&[u8]>)| {
        let value = value?;
        let Some(masker) = masker else { return Some(masked("[withheld]")) };
        Some(match bind.parameter_formats.of(index) {
            Some(Format::Text) => cut(masker, value, PARAMETER_MAX),
            _ => cut(masker, binary_words(of(index), value).as_bytes(), PARAMETER_MAX),
        })
    };
    bind.parameters.iter().enumerate().take(PARAMETERS_MAX).map(words).collect()
}

/// A binary parameter as people write it: numbers as digits, so that masking sees them.
fn binary_words(oid: u32, value: &[u8]) -> String {
    let texts = [18, 19, 25, 114, 142, 1042, 1043];
    if texts.contains(&oid) {
        return String::from_utf8_lossy(value).into_owned();
    }
    if oid == 1700
        && let Some(number) = numeric(value)
    {
        return number;
    }
    if oid == 701
        && let Ok(bytes) = <[u8; 8]>::try_from(value)
    {
        return f64::from_be_bytes(bytes).to_string();
    }
    match *value {
        [a, b] => i16::from_be_bytes([a, b]).to_string(),
        [a, b, c, d] => i32::from_be_bytes([a, b, c, d]).to_string(),
        [a, b, c, d, e, f, g, h] => i64::from_be_bytes([a, b, c, d, e, f, g, h]).to_string(),
        _ => match std::str::from_utf8(value) {
            Ok(text) => text.to_owned(),
            Err(_) => value.iter().map(|byte| format!("{byte:02x}")).collect(),
        },
    }
}
