//! Rows of gated sessions and their statements.

use pcigate_proto::{Session, Statement, StatementEnd, Traffic, session::Phase};

use super::{C, Rows};

impl Rows {
    pub(super) fn push_session(&mut self, session: &Session) {
        self.hex(C::Session, &session.id);
        let phase = Phase::try_from(session.phase).map(|phase| phase.as_str_name());
        self.name(C::State, session.phase, phase.ok());
        self.text(C::Target, &session.target);
        self.text(C::Protocol, &session.protocol);
        self.text(C::Database, &session.database);
        self.text(C::User, &session.user);
        self.text(C::Application, &session.application);
        self.text(C::Address, &session.client);
        self.text(C::TokenSubject, &session.token_subject);
        self.text(C::TokenIssuer, &session.token_issuer);
        if session.phase() == Phase::Ended {
            self.text(C::Reason, &session.reason);
            self.u64(C::Rows, session.rows);
            self.u64(C::Bytes, session.bytes);
            self.u64(C::DurationNs, session.duration_ns);
        }
    }

    pub(super) fn push_statement(&mut self, statement: &Statement) {
        self.hex(C::Session, &statement.session);
        self.u64(C::Number, statement.number);
        self.text(C::Target, &statement.target);
        self.text(C::Step, &statement.step);
        self.text(C::Operation, &statement.command);
        self.text(C::Statement, &statement.text);
        self.text(C::Effects, &statement.effects.join(","));
        self.text(C::Tables, &statement.tables.join(","));
        self.text(C::Reason, &statement.reason);
        self.hex(C::RequestKey, &statement.request_key);
    }

    pub(super) fn push_statement_end(&mut self, end: &StatementEnd) {
        self.hex(C::Session, &end.session);
        self.u64(C::Number, end.number);
        self.u64(C::Rows, end.rows);
        self.u64(C::Bytes, end.bytes);
        self.u64(C::DurationNs, end.duration_ns);
        self.text(C::Sqlstate, &end.sqlstate);
    }

    pub(super) fn push_traffic(&mut self, traffic: &Traffic) {
        self.hex(C::Session, &traffic.session);
        self.bool(C::FromClient, traffic.from_client);
        self.text(C::Message, &traffic.text);
    }
}
