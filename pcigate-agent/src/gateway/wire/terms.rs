//! What a session is given, as it crosses to the gateway's process: its Target, rules and limits,
//! and the bytes of the files it needs, because that process opens none.
//!
//! The one place for it: a further field of a Target, a rule or the limits is a line in [`fields`]
//! or in one of the functions below it.

use std::{sync::Arc, time::Duration};

use pcigate_gateway::{
    Knowledge, Limits, Password, Plan, Review, Tokens, TokensError, Workload, tls,
};
use pcigate_policy::{
    document::{
        CertificateRef, ClientTls, Column, ColumnClass, Credential, Effect, MaskStyle, Masking,
        ObjectName, Place, SessionBudget, SessionRole, Shape, Statement, StatementAction, Target,
        TargetProtocol, TlsMode, Token, Upstream,
    },
    mask::{Detector, SettingsError},
};
use pcigate_postgres::login::Secret;
use zeroize::Zeroizing;

use super::fields::{Fields, Malformed};

/// Bytes of all terms of a session; the files of its Target have most of them.
pub const TERMS_MAX: usize = 4 << 20;
const FILE_MAX: usize = 1 << 20;
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

/// What a session is given. Not printable: it holds a key.
pub struct Terms {
    /// PEM of the authorities, for `verify-full`.
    pub authorities: Vec<u8>,
    /// PEM of certificate and key that the credential has.
    pub own: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// PEM of certificate and key towards clients, where TLS is offered.
    pub client_tls: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// The key set for tokens, where the Target has them.
    pub jwks: Option<Vec<u8>>,
    /// See [`Plan::request_secret`]; empty = none.
    pub request_secret: Zeroizing<Vec<u8>>,
    /// See [`Plan::workload`].
    pub workload: Workload,
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
    /// See [`Plan::budgets`].
    pub budgets: Vec<(String, SessionBudget)>,
}

/// Why terms make no session.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// TLS towards the Target or its clients.
    #[error("TLS towards {whom}Target {target} cannot be set up")]
    Tls {
        /// Clients of it, or nobody else.
        whom: &'static str,
        /// The Target.
        target: String,
        /// Why.
        #[source]
        source: tls::TlsError,
    },
    /// The key set.
    #[error("tokens for Target {target} cannot be verified")]
    Tokens {
        /// The Target.
        target: String,
        /// Why.
        #[source]
        source: TokensError,
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
            authorities: Vec::new(),
            own: None,
            client_tls: None,
            jwks: None,
            request_secret: Zeroizing::default(),
            workload: Workload::default(),
            client: String::new(),
            scope: String::new(),
            target: blank_target(),
            rules: Vec::new(),
            databases: Vec::new(),
            limits: Limits::default(),
            budgets: Vec::new(),
        }
    }

    /// The bytes that cross. Made at their final size, so that no copy of a key is left.
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

    /// What the session's engine works with; the password comes with each connection.
    ///
    /// # Errors
    /// See [`TermsError`].
    pub fn into_plan(
        self,
        knowledge: Arc<Knowledge>,
        password: Password,
        review: Review,
    ) -> Result<Plan, TermsError> {
        let target = Arc::new(self.target);
        let name = || target.name.to_string();
        let failed = |whom| move |source| TermsError::Tls { whom, target: name(), source };
        let own = self.own.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
        let upstream_tls = match target.upstream.tls {
            TlsMode::Disable => None,
            TlsMode::Require => Some(tls::encrypt_only(own)),
            TlsMode::VerifyFull => Some(tls::verify_full(&self.authorities, own)),
        };
        let upstream_tls = upstream_tls.transpose().map_err(failed(""))?;
        let client_tls = self.client_tls.as_ref();
        let client_tls = client_tls.map(|(certificate, key)| tls::to_clients(certificate, key));
        let client_tls = client_tls.transpose().map_err(failed("clients of "))?;
        let tokens = target.token.as_ref().zip(self.jwks.as_ref());
        let tokens = tokens.map(|(token, jwks)| Tokens::new(token, jwks)).transpose();
        let tokens = tokens.map_err(|source| TermsError::Tokens { target: name(), source })?;
        let masker = knowledge.maskers(&target.mask);
        let masker = masker.map_err(|source| TermsError::Mask { target: name(), source })?;
        let secret = self.request_secret;
        Ok(Plan {
            rules: self.rules,
            password,
            upstream_tls,
            client_tls,
            tokens: tokens.map(Arc::new),
            review: Some(review),
            workload: self.workload,
            request_secret: (!secret.is_empty()).then(|| Arc::new(Secret::new(secret.to_vec()))),
            databases: self.databases,
            scope: self.scope,
            masker,
            knowledge,
            limits: self.limits,
            budgets: self.budgets,
            target,
        })
    }
}

fn fields(io: &mut Fields<'_>, terms: &mut Terms) -> Result<(), Malformed> {
    io.bytes(&mut terms.authorities, FILE_MAX)?;
    for pair in [&mut terms.own, &mut terms.client_tls] {
        io.option(pair, Default::default, |io, (certificate, key)| {
            io.bytes(certificate, FILE_MAX)?;
            io.bytes(key, FILE_MAX)
        })?;
    }
    io.option(&mut terms.jwks, Vec::new, |io, jwks| io.bytes(jwks, FILE_MAX))?;
    io.bytes(&mut terms.request_secret, WORD_MAX)?;
    io.text(&mut terms.workload.id, WORD_MAX)?;
    io.option(&mut terms.workload.service_account, String::new, text)?;
    io.text(&mut terms.client, WORD_MAX)?;
    io.text(&mut terms.scope, WORD_MAX)?;
    target(io, &mut terms.target)?;
    io.list(&mut terms.rules, MANY, blank_rule, rule)?;
    io.list(&mut terms.databases, MANY, String::new, text)?;
    limits(io, &mut terms.limits)?;
    io.list(&mut terms.budgets, MANY, Default::default, |io, (whose, of)| {
        io.text(whose, WORD_MAX)?;
        budget(io, of)
    })
}

fn text(io: &mut Fields<'_>, text: &mut String) -> Result<(), Malformed> {
    io.text(text, WORD_MAX)
}

fn number(io: &mut Fields<'_>, number: &mut u64) -> Result<(), Malformed> {
    io.number(number)
}

fn time(io: &mut Fields<'_>, time: &mut Duration) -> Result<(), Malformed> {
    io.duration(time)
}

fn target(io: &mut Fields<'_>, target: &mut Target) -> Result<(), Malformed> {
    io.text(&mut target.name.namespace, WORD_MAX)?;
    io.text(&mut target.name.name, WORD_MAX)?;
    io.text(&mut target.canonical, WORD_MAX)?;
    io.text(&mut target.upstream.address, WORD_MAX)?;
    io.choice(&mut target.upstream.tls, &TLS_MODES)?;
    io.option(&mut target.upstream.server_name, String::new, text)?;
    io.option(&mut target.credential, blank_credential, |io, one| text(io, &mut one.username))?;
    masking(io, &mut target.mask)?;
    io.list(&mut target.columns, MANY, blank_column, |io, column| {
        io.text(&mut column.table, WORD_MAX)?;
        io.text(&mut column.column, WORD_MAX)?;
        io.choice(&mut column.class, &CLASSES)
    })?;
    io.option(&mut target.client_tls, blank_client_tls, |io, tls| io.flag(&mut tls.required))?;
    io.option(&mut target.token, blank_token, |io, token| {
        io.flag(&mut token.required)?;
        io.text(&mut token.audience, WORD_MAX)?;
        io.text(&mut token.issuer, WORD_MAX)?;
        io.flag(&mut token.review)
    })?;
    io.option(&mut target.session_role, blank_session_role, |io, role| {
        io.list(&mut role.grants, MANY, String::new, text)?;
        io.text(&mut role.prefix, WORD_MAX)
    })
}

fn masking(io: &mut Fields<'_>, masking: &mut Masking) -> Result<(), Malformed> {
    io.choice(&mut masking.style, &STYLES)?;
    io.flag(&mut masking.card_data)?;
    io.flag(&mut masking.secrets)?;
    io.list(&mut masking.fields, MANY, String::new, text)?;
    io.list(&mut masking.detectors, MANY, blank_detector, |io, detector| {
        io.text(&mut detector.name, WORD_MAX)?;
        io.text(&mut detector.pattern, WORD_MAX)?;
        io.flag(&mut detector.luhn)
    })
}

fn rule(io: &mut Fields<'_>, rule: &mut Statement) -> Result<(), Malformed> {
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

fn budget(io: &mut Fields<'_>, budget: &mut SessionBudget) -> Result<(), Malformed> {
    io.option(&mut budget.max_rows, u64::default, number)?;
    io.option(&mut budget.max_bytes, u64::default, number)?;
    io.option(&mut budget.max_statements, u64::default, number)?;
    io.option(&mut budget.max_duration, Duration::default, time)?;
    io.option(&mut budget.idle, Duration::default, time)
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
    io.duration(&mut limits.catalog)?;
    io.option(&mut limits.idle, Duration::default, time)
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
        mask: Masking::default(),
        columns: Vec::new(),
        client_tls: None,
        token: None,
        session_role: None,
        // What it says is in the budgets.
        session: SessionBudget::default(),
        canonical: String::new(),
    }
}

fn blank_client_tls() -> ClientTls {
    ClientTls { certificate: CertificateRef::Secret(String::new()), required: true }
}

fn blank_token() -> Token {
    let empty = String::new;
    Token {
        required: true,
        audience: empty(),
        issuer: empty(),
        jwks_file: empty(),
        jwks_secret: None,
        review: false,
    }
}

fn blank_session_role() -> SessionRole {
    SessionRole { grants: Vec::new(), prefix: String::new() }
}

fn blank_credential() -> Credential {
    Credential { username: String::new(), password: None, certificate: None }
}

fn blank_detector() -> Detector {
    Detector { name: String::new(), pattern: String::new(), luhn: false }
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
