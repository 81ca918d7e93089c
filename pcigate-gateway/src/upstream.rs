//! The connection to the server: dialled, TLS as the Target says, logged in.

use std::sync::Arc;

use bytes::BytesMut;
use pcigate_policy::document::{Target, TlsMode};
use pcigate_postgres::login::{self, Login, LoginError, Secret, Step, Transport};
use pcigate_postgres::startup::{Packet, VERSION_3_0};
use rand_core::{OsRng, RngCore};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::error::SessionEnd;
use crate::framed::Framed;
use crate::opening::Wish;
use crate::plan::{Dial, Plan};
use crate::session_role::Role;
use crate::stream::Stream;
use crate::tls;

/// The server's connection.
pub(crate) type ServerStream<U> = Stream<U, TlsStream<U>>;

/// As whom to log in, and with what settings.
pub(crate) struct As<'a> {
    pub user: &'a str,
    /// Asked once the server is reached: what was exchanged meanwhile counts.
    pub password: Box<dyn Fn() -> Option<Secret> + Send + Sync + 'a>,
    pub parameters: Vec<(String, String)>,
}

impl<'a> As<'a> {
    /// The client, with the Target's credential or the role of its session.
    pub(crate) fn client(plan: &'a Plan, wish: &'a Wish, role: &'a Role) -> Self {
        let parameters = parameters(wish);
        match role {
            Role::Shared(user) => Self { user, password: Box::new(&plan.password), parameters },
            Role::Own(own) => {
                let password = || Some(Secret::new(own.password.to_vec()));
                Self { user: &own.name, password: Box::new(password), parameters }
            }
        }
    }

    /// The gateway itself, with the Target's credential.
    pub(crate) fn credential(plan: &'a Plan, wish: &'a Wish) -> Self {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parameters = vec![
            pair("database", &wish.database),
            pair("application_name", "pcigate"),
            pair("client_encoding", "UTF8"),
        ];
        let user = shared_role(&plan.target, wish);
        Self { user, password: Box::new(&plan.password), parameters }
    }
}

/// Dials and logs in.
pub(crate) async fn log_in<U: AsyncRead + AsyncWrite + Unpin>(
    plan: &Plan,
    dial: &Dial<U>,
    who: As<'_>,
) -> Result<(Framed<ServerStream<U>>, login::Session), SessionEnd> {
    let stream = dial().await.map_err(|source| SessionEnd::Dial { source })?;
    let (stream, certificate_hash) = encrypt(plan, stream).await?;
    let mut server = Framed::new(stream);
    let transport = match plan.target.upstream.tls {
        TlsMode::VerifyFull => Transport::Verified,
        TlsMode::Require | TlsMode::Disable => Transport::Unproven,
    };
    let As { user, password, parameters } = who;
    let password = password();
    let mut nonce = [0; 18];
    OsRng.fill_bytes(&mut nonce);
    let options = login::Options {
        user: user.to_owned(),
        parameters,
        version: VERSION_3_0,
        // Without a password the server can only let us in by certificate or trust.
        allow_unasked: password.is_none(),
        password,
        transport,
        certificate_hash,
        require_binding: false,
        iterations: login::ITERATIONS,
        nonce,
    };
    let failed = |source: LoginError| SessionEnd::Login { source };
    let lost = |source| SessionEnd::Server { source: Some(source) };
    let (mut login, first) = Login::begin(options).map_err(failed)?;
    server.send(&first).await.map_err(lost)?;
    loop {
        let message = server.answer(&plan.limits.backend).await?;
        match login.received(&message).map_err(failed)? {
            Step::Read => {}
            Step::Send(secret) => server.send(secret.bytes()).await.map_err(lost)?,
            Step::Done(session) => return Ok((server, session)),
        }
    }
}

/// The role upstream: the credential's, or who the client says it is where there is none.
pub(crate) fn shared_role<'a>(target: &'a Target, wish: &'a Wish) -> &'a str {
    target.credential.as_ref().map_or(&wish.user, |credential| &credential.username)
}

/// What the client wishes, and what is pinned.
fn parameters(wish: &Wish) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut parameters = vec![pair("database", &wish.database)];
    parameters.extend(wish.settings.iter().cloned());
    parameters.push(pair("client_encoding", "UTF8"));
    parameters.push(pair("standard_conforming_strings", "on"));
    parameters
}

async fn encrypt<U: AsyncRead + AsyncWrite + Unpin>(
    plan: &Plan,
    mut stream: U,
) -> Result<(ServerStream<U>, Option<Vec<u8>>), SessionEnd> {
    let upstream = &plan.target.upstream;
    if upstream.tls == TlsMode::Disable {
        return Ok((Stream::Plain(stream), None));
    }
    let failed = |source| SessionEnd::UpstreamTls { source };
    let config = plan.upstream_tls.as_ref().ok_or_else(|| failed(None))?;
    let mut packet = BytesMut::new();
    Packet::SslRequest.encode(&mut packet)?;
    let asked = async {
        tokio::io::AsyncWriteExt::write_all(&mut stream, &packet).await?;
        stream.read_u8().await
    };
    if asked.await.map_err(|source| failed(Some(source)))? != b'S' {
        return Err(failed(None));
    }
    let host = upstream.server_name.as_deref().unwrap_or_else(|| {
        let host = upstream.address.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    });
    let name = ServerName::try_from(host.to_owned()).map_err(|_| failed(None))?;
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    let stream = connected.map_err(|source| failed(Some(source)))?;
    let (_, connection) = stream.get_ref();
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let hash = certificate.and_then(|certificate| tls::end_point(certificate));
    Ok((Stream::Tls(Box::new(stream)), hash))
}
