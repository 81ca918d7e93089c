//! The keys of requests for approval, from what the session knows.

use pcigate_postgres::values::{Format, Formats, Values};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::approval::{Request, request_key};
use crate::engine::Engine;
use crate::engine::ask::Decision;

/// Parameters as a key takes them: whether they are binary, and their bytes.
pub(super) type Parameters<'a> = Vec<(bool, Option<&'a [u8]>)>;

impl<C, U, D> Engine<'_, C, U, D>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// The decision with the key of its request, where it needs approval. What runs by a name has
    /// none: its text does not say what it does.
    pub(super) fn keyed(
        &self,
        decision: Decision,
        parameters: &[(bool, Option<&[u8]>)],
    ) -> Decision {
        if !decision.asks() || decision.volatile {
            return decision;
        }
        let key = self.request_key(&decision.text, &decision.parameter_types, parameters);
        Decision { request_key: key, ..decision }
    }

    pub(super) fn request_key(
        &self,
        text: &[u8],
        types: &[u32],
        parameters: &[(bool, Option<&[u8]>)],
    ) -> Option<[u8; 32]> {
        let plan = self.plan;
        let secret = plan.request_secret.as_ref()?;
        let target = plan.target.name.to_string();
        // A session's own role has another name each time; its rights are what counts.
        let roles: Vec<&str> = match &plan.target.session_role {
            Some(own) => own.grants.iter().map(String::as_str).collect(),
            None => vec![self.sql.user()],
        };
        let request = Request {
            workload: &plan.workload.id,
            target: &target,
            database: &self.wish.database,
            roles: &roles,
            search_path: self.sql.search_path(),
            text,
            types,
            parameters,
        };
        request_key(secret, &request)
    }
}

/// The values with their formats. One without a format that is known is text.
pub(super) fn parameters<'a>(formats: &Formats, values: &'a Values) -> Parameters<'a> {
    let binary = |index| formats.of(index).is_some_and(|format| format != Format::Text);
    values.iter().enumerate().map(|(index, value)| (binary(index), value)).collect()
}
