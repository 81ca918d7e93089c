//! What a session is given, as it crosses to the gateway's process: its Target, rules and limits,
//! and the bytes of the files it needs, because that process opens none.
//!
//! The one place for it: a further field of a Target, a rule or the limits is a line in [`fields`]
//! or in one of the functions below it.

use std::sync::Arc;

use pcigate_gateway::{Knowledge, Limits, Maskers, Plan, tls};
use pcigate_policy::{
    document::{
        Column, ColumnClass, Credential, Effect, MaskStyle, ObjectName, PasswordRef, Place, Shape,
        Statement, StatementAction, Target, TargetProtocol, TlsMode, Upstream,
    },
    mask::SettingsError,
};
use pcigate_postgres::login::Secret;
use zeroize::Zeroizing;

use super::fields::{Fields, Malformed};

/// Bytes of all terms of a session; the authorities have most of them.
pub const TERMS_MAX: usize = 1 << 20;
const WORD_MAX: usize = 64 << 10;
const MANY: usize = 16 << 10;
const EFFECTS: [Effect; 8] = [
    Effect::Read,
    Effect::Write,
    Effect::Ddl,
    Effect::Dcl,
    Effect::BulkRead,
    Effect::Function,
    Effect::Session,
    Effect::Unknown,
];
const SHAPES: [Shape; 4] = [Shape::NoWhere, Shape::DoBlock, Shape::ServerFile, Shape::Program];
const ACTIONS: [StatementAction; 3] =
    [StatementAction::Allow, StatementAction::Ask, StatementAction::Deny];
const TLS_MODES: [TlsMode; 3] = [TlsMode::VerifyFull, TlsMode::Require, TlsMode::Disable];
const STYLES: [MaskStyle; 3] = [MaskStyle::Truncate, MaskStyle::Last4, MaskStyle::Full];
const CLASSES: [ColumnClass; 2] = [ColumnClass::Pan, ColumnClass::Sad];

/// What a session is given. Not printable: it holds the password.
pub struct Terms {
    /// The credential's password, where there is one.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// PEM of the authorities, for `verify-full`.
    pub authorities: Vec<u8>,
    /// The client's address in records.
    pub client: String,
    /// See [`Plan::scope`].
    pub scope: String,
    /// What the gateway needs of it: no endpoint, no name of a file.
    pub target: Target,
    /// See [`Plan::rules`].
    pub rules: Vec<Statement>,
    /// See [`Plan::databases`].
    pub databases: Vec<String>,
    /// See [`Plan::limits`].
    pub limits: Limits,
}

/// Why terms make no session.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// TLS towards the Target.
    #[error("TLS towards Target {target} cannot be set up")]
    Tls {
        /// The Target.
        target: String,
        /// Why.
        #[source]
        source: tls::TlsError,
    },
    /// Masking.
    #[error("masking for Target {target} cannot be set up")]
    Mask {
        /// The Target.
        target: String,
        /// Why.
        #[source]
        source: SettingsError,
    },
}

impl Terms {
    /// Nothing is allowed, nowhere.
    #[must_use]
    pub fn blank() -> Self {
        Self {
            password: None,
            authorities: Vec::new(),
            client: String::new(),
            scope: String::new(),
            target: blank_target(),
            rules: Vec::new(),
            databases: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The bytes that cross. Made at their final size, so that no copy of the password is left.
    ///
    /// # Errors
    /// Something is larger than what crosses.
    pub fn encode(&mut self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        let mut measure = Fields::Measure(0);
        fields(&mut measure, self)?;
        let Fields::Measure(length) = measure else { return Err(Malformed::Short) };
        if length > TERMS_MAX {
            return Err(Malformed::Long { length, most: TERMS_MAX });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        fields(&mut Fields::Write(&mut bytes), self)?;
        Ok(bytes)
    }

    /// Out of the bytes.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut terms = Self::blank();
        let mut io = Fields::Read(bytes);
        fields(&mut io, &mut terms)?;
        io.end()?;
        Ok(terms)
    }

    /// What the session's engine works with.
    ///
    /// # Errors
    /// See [`TermsError`].
    pub fn into_plan(self, knowledge: Arc<Knowledge>) -> Result<Plan, TermsError> {
        let target = Arc::new(self.target);
        let name = || target.name.to_string();
        let failed = |source| TermsError::Tls { target: name(), source };
        let upstream_tls = match target.upstream.tls {
            TlsMode::Disable => None,
            TlsMode::Require => Some(tls::encrypt_only().map_err(failed)?),
            TlsMode::VerifyFull => Some(tls::verify_full(&self.authorities).map_err(failed)?),
        };
        let masker =
            Maskers::of(&target).map_err(|source| TermsError::Mask { target: name(), source })?;
        let password = self.password;
        Ok(Plan {
            rules: self.rules,
            password: Box::new(move || password.as_ref().map(|kept| Secret::new(kept.to_vec()))),
            upstream_tls,
            client_tls: None,
            databases: self.databases,
            scope: self.scope,
            masker,
            knowledge,
            limits: self.limits,
            target,
        })
    }
}

fn fields(io: &mut Fields<'_>, terms: &mut Terms) -> Result<(), Malformed> {
    let blank = || Zeroizing::new(Vec::new());
    io.option(&mut terms.password, blank, |io, bytes| io.bytes(bytes, WORD_MAX))?;
    io.bytes(&mut terms.authorities, TERMS_MAX)?;
    io.text(&mut terms.client, WORD_MAX)?;
    io.text(&mut terms.scope, WORD_MAX)?;
    target(io, &mut terms.target)?;
    io.list(&mut terms.rules, MANY, blank_rule, rule)?;
    io.list(&mut terms.databases, MANY, String::new, |io, one| io.text(one, WORD_MAX))?;
    limits(io, &mut terms.limits)
}

fn target(io: &mut Fields<'_>, target: &mut Target) -> Result<(), Malformed> {
    io.text(&mut target.name.namespace, WORD_MAX)?;
    io.text(&mut target.name.name, WORD_MAX)?;
    io.text(&mut target.canonical, WORD_MAX)?;
    io.text(&mut target.upstream.address, WORD_MAX)?;
    io.choice(&mut target.upstream.tls, &TLS_MODES)?;
    let text = |io: &mut Fields<'_>, text: &mut String| io.text(text, WORD_MAX);
    io.option(&mut target.upstream.server_name, String::new, text)?;
    io.option(&mut target.credential, blank_credential, |io, one| text(io, &mut one.username))?;
    io.choice(&mut target.mask, &STYLES)?;
    io.list(&mut target.columns, MANY, blank_column, |io, column| {
        io.text(&mut column.table, WORD_MAX)?;
        io.text(&mut column.column, WORD_MAX)?;
        io.choice(&mut column.class, &CLASSES)
    })
}

fn rule(io: &mut Fields<'_>, rule: &mut Statement) -> Result<(), Malformed> {
    let text = |io: &mut Fields<'_>, text: &mut String| io.text(text, WORD_MAX);
    let number = |io: &mut Fields<'_>, number: &mut u64| io.number(number);
    io.text(&mut rule.id, WORD_MAX)?;
    io.choice(&mut rule.action, &ACTIONS)?;
    io.list(&mut rule.effects, MANY, || Effect::Unknown, |io, one| io.choice(one, &EFFECTS))?;
    io.list(&mut rule.tables, MANY, String::new, text)?;
    io.list(&mut rule.functions, MANY, String::new, text)?;
    io.list(&mut rule.columns, MANY, String::new, text)?;
    io.list(&mut rule.shapes, MANY, || Shape::NoWhere, |io, one| io.choice(one, &SHAPES))?;
    io.option(&mut rule.max_rows, u64::default, number)?;
    io.option(&mut rule.max_bytes, u64::default, number)
}

fn limits(io: &mut Fields<'_>, limits: &mut Limits) -> Result<(), Malformed> {
    io.size(&mut limits.frontend.statement)?;
    io.size(&mut limits.frontend.parameters)?;
    io.size(&mut limits.frontend.copy)?;
    io.size(&mut limits.frontend.password)?;
    io.size(&mut limits.frontend.other)?;
    io.size(&mut limits.backend.row)?;
    io.size(&mut limits.backend.copy)?;
    io.size(&mut limits.backend.long)?;
    io.size(&mut limits.backend.other)?;
    io.size(&mut limits.session.outstanding)?;
    io.size(&mut limits.session.statements)?;
    io.size(&mut limits.session.portals)?;
    io.size(&mut limits.session.descriptions)?;
    io.size(&mut limits.buffer)?;
    io.number(&mut limits.traffic)?;
    io.flag(&mut limits.end_when_truncated)?;
    io.duration(&mut limits.opening)?;
    io.duration(&mut limits.stalled)?;
    io.option(&mut limits.idle, Default::default, |io, idle| io.duration(idle))
}

/// Endpoints and places of files stay with the agent.
fn blank_target() -> Target {
    Target {
        name: ObjectName { namespace: String::new(), name: String::new() },
        place: Place { file: "".into(), line: 0 },
        protocol: TargetProtocol::Postgres,
        endpoints: Vec::new(),
        upstream: Upstream::default(),
        credential: None,
        mask: MaskStyle::default(),
        columns: Vec::new(),
        client_tls: None,
        canonical: String::new(),
    }
}

fn blank_credential() -> Credential {
    Credential { username: String::new(), password: PasswordRef::File(String::new()) }
}

fn blank_column() -> Column {
    Column { table: String::new(), column: String::new(), class: ColumnClass::Sad }
}

fn blank_rule() -> Statement {
    Statement {
        id: String::new(),
        action: StatementAction::Deny,
        effects: Vec::new(),
        tables: Vec::new(),
        functions: Vec::new(),
        columns: Vec::new(),
        shapes: Vec::new(),
        max_rows: None,
        max_bytes: None,
    }
}
