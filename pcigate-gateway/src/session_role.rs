//! The role a session has at the server: the Target's, or one of its own, made before the session
//! and dropped behind it. A session logs in as its own role, with a password that nobody else has:
//! no statement of a client can give it another's rights back. One that was left over, by a crash
//! or a failing server, is dropped when a later session begins.

use bytes::BytesMut;
use pcigate_policy::document::SessionRole;
use pcigate_postgres::login::{Secret, verifier};
use pcigate_postgres::{backend, frontend};
use rand_core::{OsRng, RngCore};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::error::SessionEnd;
use crate::framed::Framed;
use crate::opening::Wish;
use crate::plan::{Dial, Plan};
use crate::upstream::{self, As, ServerStream};

/// How long a role's password is good: it logs in once, at once.
const VALID: &str = "2 minutes";
/// Rounds of SCRAM: PostgreSQL's own. The password is random, so more would add nothing.
const ITERATIONS: u32 = 4_096;
/// Roles dropped when a session begins, at most.
const REAPED_MAX: usize = 16;
/// Rows of an answer.
const ROWS_MAX: usize = 1_000;
/// `undefined_object`: somebody else has dropped the role.
const UNDEFINED: &str = "42704";

/// Whose rights a session has.
pub(crate) enum Role {
    /// The Target's credential, or who the client says it is where there is none.
    Shared(String),
    /// The session's own.
    Own(Own),
}

/// A role of a session's own.
pub(crate) struct Own {
    pub name: String,
    pub password: Zeroizing<Vec<u8>>,
    /// Roles it is to be a member of.
    grants: Vec<String>,
    prefix: String,
}

/// What the server says instead of doing it: SQLSTATE.
struct Refused(String);

impl Role {
    /// The role of a session; nothing is made yet.
    pub(crate) fn of(plan: &Plan, wish: &Wish) -> Self {
        let Some(SessionRole { grants, prefix }) = plan.target.session_role.clone() else {
            return Self::Shared(upstream::shared_role(&plan.target, wish).to_owned());
        };
        let mut random = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *random);
        let password = Zeroizing::new(hex(&*random).into_bytes());
        let mut number = [0; 8];
        OsRng.fill_bytes(&mut number);
        Self::Own(Own { name: format!("{prefix}{}", hex(&number)), password, grants, prefix })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Shared(name) => name,
            Self::Own(own) => &own.name,
        }
    }

    /// Makes it where it is the session's own, and drops those that others have left.
    pub(crate) async fn make<U: AsyncRead + AsyncWrite + Unpin>(
        &self,
        plan: &Plan,
        dial: &Dial<U>,
        wish: &Wish,
    ) -> Result<(), SessionEnd> {
        let Self::Own(own) = self else { return Ok(()) };
        let (mut server, _) = upstream::log_in(plan, dial, As::credential(plan, wish)).await?;
        let mut admin = Admin { server: &mut server, limits: &plan.limits.backend };
        let failed = |Refused(why)| SessionEnd::Role { why };
        admin.begin().await?.map_err(failed)?;
        for name in admin.left(&own.prefix).await? {
            // Another session may be faster, or objects of another database in the way.
            let _ = admin.drop(&name).await?;
        }
        admin.create(own).await?.map_err(failed)?;
        let mut out = BytesMut::new();
        frontend::Message::Terminate.encode(&mut out)?;
        let _ = server.send(&out).await;
        Ok(())
    }

    /// Drops it behind the session, and whatever is still connected as it. Nothing, or what went
    /// wrong: for the record.
    pub(crate) async fn end<U: AsyncRead + AsyncWrite + Unpin>(
        &self,
        plan: &Plan,
        dial: &Dial<U>,
        wish: &Wish,
    ) -> Option<String> {
        let Self::Own(own) = self else { return None };
        let ending = async {
            let (mut server, _) = upstream::log_in(plan, dial, As::credential(plan, wish)).await?;
            let mut admin = Admin { server: &mut server, limits: &plan.limits.backend };
            match admin.begin().await? {
                Ok(_) => admin.drop(&own.name).await,
                Err(refused) => Ok(Err(refused)),
            }
        };
        let why = match tokio::time::timeout(plan.limits.opening, ending).await {
            Ok(Ok(Ok(()))) => return None,
            Ok(Ok(Err(Refused(code)))) => code,
            Ok(Err(end)) => end.to_string(),
            Err(_) => "the server takes too long".to_owned(),
        };
        let name = &own.name;
        Some(format!("; its role {name} is left for a later session to drop ({why})"))
    }
}

/// A connection with the Target's credential.
struct Admin<'a, U> {
    server: &'a mut Framed<ServerStream<U>>,
    limits: &'a backend::Limits,
}

type Rows = Vec<Option<String>>;

impl<U: AsyncRead + AsyncWrite + Unpin> Admin<'_, U> {
    /// What nothing in the database can divert, and nobody can keep waiting.
    async fn begin(&mut self) -> Result<Result<Rows, Refused>, SessionEnd> {
        let settings = "SET search_path = pg_catalog; SET lock_timeout = '5s'; \
                        SET statement_timeout = '15s'; SET standard_conforming_strings = on";
        self.run(settings).await
    }

    /// Roles of sessions that are over: expired, and nobody is connected as one.
    async fn left(&mut self, prefix: &str) -> Result<Vec<String>, SessionEnd> {
        let question = format!(
            "SELECT r.rolname FROM pg_roles r WHERE r.rolname ~ '^{prefix}[0-9a-f]{{16}}$' \
             AND r.rolvaliduntil < now() AND NOT EXISTS \
             (SELECT FROM pg_stat_activity a WHERE a.usename = r.rolname) LIMIT {REAPED_MAX}"
        );
        let rows = self.run(&question).await?.unwrap_or_default();
        Ok(rows.into_iter().flatten().collect())
    }

    async fn create(&mut self, own: &Own) -> Result<Result<(), Refused>, SessionEnd> {
        let until = match self.run(&format!("SELECT now() + interval '{VALID}'")).await? {
            Ok(rows) => rows.into_iter().flatten().next().unwrap_or_default(),
            Err(refused) => return Ok(Err(refused)),
        };
        let mut salt = [0; 16];
        OsRng.fill_bytes(&mut salt);
        let password = Secret::new(own.password.to_vec());
        let (name, until) = (quoted(&own.name, '"'), quoted(&until, '\''));
        let password = quoted(&verifier(&password, &salt, ITERATIONS), '\'');
        let grants: Vec<String> = own.grants.iter().map(|grant| quoted(grant, '"')).collect();
        let grants = grants.join(", ");
        let made = self
            .run(&format!(
                "CREATE ROLE {name} LOGIN CONNECTION LIMIT 1 PASSWORD {password} \
                 VALID UNTIL {until}; GRANT {grants} TO {name}"
            ))
            .await?;
        Ok(made.map(drop))
    }

    /// What it owns becomes the credential's: tables that a session made are not lost.
    async fn drop(&mut self, name: &str) -> Result<Result<(), Refused>, SessionEnd> {
        let (role, text) = (quoted(name, '"'), quoted(name, '\''));
        for step in [
            // Who may make roles need not have their rights, which the rest needs.
            format!("GRANT {role} TO CURRENT_USER"),
            format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE usename = {text}"
            ),
            format!(
                "REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
            ),
        ] {
            match self.run(&step).await? {
                Err(Refused(code)) if code == UNDEFINED => return Ok(Ok(())),
                Err(refused) => return Ok(Err(refused)),
                Ok(_) => {}
            }
        }
        Ok(Ok(()))
    }

    /// The first column of each row.
    async fn run(&mut self, sql: &str) -> Result<Result<Rows, Refused>, SessionEnd> {
        let mut query = BytesMut::new();
        frontend::Message::Query(sql.as_bytes().to_vec().into()).encode(&mut query)?;
        let lost = |source| SessionEnd::Server { source: Some(source) };
        self.server.send(&query).await.map_err(lost)?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.server.answer(self.limits).await? {
                backend::Message::DataRow(values) if rows.len() < ROWS_MAX => {
                    let first = values.iter().next().flatten();
                    rows.push(first.map(|value| String::from_utf8_lossy(value).into_owned()));
                }
                backend::Message::ErrorResponse(report) => {
                    let code = report.code().iter().filter(|byte| byte.is_ascii_alphanumeric());
                    refused = Some(Refused(code.take(5).copied().map(char::from).collect()));
                }
                backend::Message::ReadyForQuery(_) => {
                    return Ok(refused.map_or(Ok(rows), Err));
                }
                _ => {}
            }
        }
    }
}

/// An identifier (`"`) or a constant (`'`) of SQL.
fn quoted(text: &str, with: char) -> String {
    let doubled: String = text
        .chars()
        .flat_map(|letter| std::iter::repeat_n(letter, if letter == with { 2 } else { 1 }))
        .collect();
    format!("{with}{doubled}{with}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_constants_are_quoted_so_that_nothing_gets_out() {
        assert_eq!(quoted("Odd \"Name\"; DROP", '"'), "\"Odd \"\"Name\"\"; DROP\"");
        assert_eq!(quoted("it's", '\''), "'it''s'");
    }
}
