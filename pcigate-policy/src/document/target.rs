//! Target: a protected destination, how the gateway reaches it and what it masks there. Holds only
//! references to secrets, never a secret.

use std::fmt;

use super::access::{CertificateRef, ClientTls, SessionRole, Token};
use super::canonical;
use super::cidr::Cidr;
use super::egress::{decode_list, port};
use super::masking::Masking;
use super::names::{Fqdn, ObjectName, Place, dns_label, dns_subdomain};
use super::policy::refuse_empty_lists;
use super::secret::{self, SecretKey};
use super::session::SessionBudget;
use super::statement::table;
use crate::yaml::{Fields, Item, Mistakes, Node, shown};

/// A protected destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: ObjectName,
    /// Where it was read from.
    pub place: Place,
    /// What it speaks.
    pub protocol: TargetProtocol,
    /// Where it answers (TCP).
    pub endpoints: Vec<Endpoint>,
    /// How the gateway reaches it.
    pub upstream: Upstream,
    /// What the gateway logs in with; absent = nothing.
    pub credential: Option<Credential>,
    /// How its answers are masked.
    pub mask: Masking,
    /// Columns known to hold card data.
    pub columns: Vec<Column>,
    /// TLS towards clients; absent = not offered.
    pub client_tls: Option<ClientTls>,
    /// Tokens that clients bring; absent = none is asked for.
    pub token: Option<Token>,
    /// A role for each session; absent = all have the credential's.
    pub session_role: Option<SessionRole>,
    /// What any one session may use.
    pub session: SessionBudget,
    /// Its content in one spelling; part of the policy hash.
    pub canonical: String,
}

/// What a target speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetProtocol {
    /// PostgreSQL frontend/backend protocol 3.
    Postgres,
    /// The Kubernetes API.
    Kubernetes,
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// MySQL client/server protocol.
    Mysql,
    /// Redis serialisation protocol.
    Redis,
    /// MongoDB wire protocol.
    Mongodb,
}

/// One place where a target answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub at: EndpointAt,
    /// TCP port.
    pub port: u16,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAt {
    /// Addresses.
    Cidr(Cidr),
    /// A Service of the target's namespace.
    Service(String),
    /// A name.
    Fqdn(Fqdn),
}

impl fmt::Display for EndpointAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(cidr) => write!(f, "cidr {cidr}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Fqdn(fqdn) => write!(f, "fqdn {fqdn}"),
        }
    }
}

/// How the gateway reaches a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// `host:port` or `[v6]:port`.
    pub address: String,
    /// How TLS is used; verify-full unless said otherwise.
    pub tls: TlsMode,
    /// PEM file of the authorities to trust.
    pub ca_file: Option<String>,
    /// The same in a Secret of the target's namespace.
    pub ca_secret: Option<SecretKey>,
    /// Name the certificate must carry; absent = the host of `address`.
    pub server_name: Option<String>,
}

/// How the gateway uses TLS towards a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Certificate and name are verified.
    #[default]
    VerifyFull,
    /// Encrypted, nothing verified.
    Require,
    /// Cleartext.
    Disable,
}

/// What the gateway logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// User name at the target.
    pub username: String,
    /// Where the password is.
    pub password: Option<PasswordRef>,
    /// The certificate that proves the user, and its key.
    pub certificate: Option<CertificateRef>,
}

/// A certificate and its key, in PEM files on the node (documents loaded from disk only).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate and those between it and its authority.
    pub cert: String,
    /// The key.
    pub key: String,
}

/// Where a password is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordRef {
    /// A file on the node (documents loaded from disk only).
    File(String),
    /// A key of a Kubernetes Secret of the target's namespace.
    Secret(SecretKey),
}

/// What stays of a card number; the later one, the less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MaskStyle {
    /// First six and last four digits stay.
    #[default]
    Truncate,
    /// Last four digits stay.
    Last4,
    /// Nothing stays.
    Full,
}

/// A column known to hold card data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Table, with schema where needed.
    pub table: String,
    /// Column.
    pub column: String,
    /// What it holds.
    pub class: ColumnClass,
}

/// What a tagged column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnClass {
    /// Card numbers.
    Pan,
    /// Sensitive authentication data, which is never passed on.
    Sad,
}

const PROTOCOLS: &[(&str, TargetProtocol)] = &[
    ("postgres", TargetProtocol::Postgres),
    ("kubernetes", TargetProtocol::Kubernetes),
    ("http", TargetProtocol::Http),
    ("mysql", TargetProtocol::Mysql),
    ("redis", TargetProtocol::Redis),
    ("mongodb", TargetProtocol::Mongodb),
];
const TLS_MODES: &[(&str, TlsMode)] = &[
    ("verify-full", TlsMode::VerifyFull),
    ("require", TlsMode::Require),
    ("disable", TlsMode::Disable),
];
const CLASSES: &[(&str, ColumnClass)] = &[("pan", ColumnClass::Pan), ("sad", ColumnClass::Sad)];

impl Target {
    /// Decodes the document's `spec`; kind and metadata have been read.
    pub(super) fn decode(root: &Node, name: ObjectName, top: &mut Fields<'_, '_>) -> Option<Self> {
        let canonical = canonical::of_document(root, &name);
        let mut spec = top.required_fields("spec")?;
        let protocol = spec.required_one_of("protocol", PROTOCOLS);
        if !spec.has("endpoints") {
            spec.mistake("endpoints", "is required; say where the target answers");
        }
        let endpoints = decode_list(&mut spec, "endpoints", Endpoint::decode);
        let upstream = spec.required_fields("upstream").map(Upstream::decode);
        let credential = spec.fields("credential").and_then(Credential::decode);
        let tls = upstream.as_ref().is_none_or(|upstream| upstream.tls != TlsMode::Disable);
        if !tls && credential.as_ref().is_some_and(|of| of.certificate.is_some()) {
            let message = "has a certificate, which is shown over TLS only; set upstream.tls";
            spec.mistake("credential", message);
        }
        let mask = spec.fields("mask").map(Masking::decode);
        let columns = decode_list(&mut spec, "columns", Column::decode);
        refuse_empty_lists(&mut spec, &["endpoints", "columns"]);
        let client_tls = spec.fields("clientTls").and_then(ClientTls::decode);
        let token = Token::decode(&mut spec);
        let session_role = SessionRole::decode(&mut spec, protocol, credential.as_ref());
        let session = SessionBudget::decode(&mut spec);
        spec.finish();
        Some(Self {
            name,
            place: Place::of(root),
            protocol: protocol.unwrap_or(TargetProtocol::Postgres),
            endpoints,
            upstream: upstream.unwrap_or_default(),
            credential,
            mask: mask.unwrap_or_default(),
            columns,
            client_tls,
            token,
            session_role,
            session,
            canonical,
        })
    }
}

impl Endpoint {
    fn decode(item: &Item<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let cidr = fields.parsed("cidr", Cidr::parse).map(EndpointAt::Cidr);
        let service = fields.parsed("service", dns_label).map(EndpointAt::Service);
        let fqdn = fields.parsed("fqdn", Fqdn::parse).map(EndpointAt::Fqdn);
        let given = ["cidr", "service", "fqdn"].map(|name| usize::from(fields.has(name)));
        if given.iter().sum::<usize>() != 1 {
            fields.mistake("", "needs exactly one of `cidr`, `service` and `fqdn`");
        }
        let port = port(&mut fields);
        if !fields.has("port") {
            fields.mistake("port", "is required; add it");
        }
        fields.finish();
        Some(Self { at: cidr.or(service).or(fqdn)?, port: port? })
    }
}

impl Upstream {
    fn decode(mut fields: Fields<'_, '_>) -> Self {
        let address = fields.required_parsed("address", host_port).unwrap_or_default();
        let mut upstream = Self { address, ..Self::default() };
        if let Some(mut tls) = fields.fields("tls") {
            upstream.tls = tls.one_of("mode", TLS_MODES).unwrap_or_default();
            upstream.ca_file = tls.parsed("caFile", absolute_path);
            upstream.ca_secret = SecretKey::decode(&mut tls, "caSecretRef");
            upstream.server_name = tls.parsed("serverName", dns_subdomain);
            if tls.has("caFile") && tls.has("caSecretRef") {
                tls.mistake("", "has both `caFile` and `caSecretRef`; remove one");
            }
            for name in ["caFile", "caSecretRef", "serverName"] {
                if upstream.tls != TlsMode::VerifyFull && tls.has(name) {
                    tls.mistake(name, "is used by `mode: verify-full` only; verify or remove it");
                }
            }
            tls.finish();
        }
        fields.finish();
        upstream
    }
}

impl Credential {
    fn decode(mut fields: Fields<'_, '_>) -> Option<Self> {
        let username = fields.required_string("username");
        let file = fields.parsed("passwordFile", absolute_path).map(PasswordRef::File);
        let secret = SecretKey::decode(&mut fields, "secretRef").map(PasswordRef::Secret);
        let pair = secret::pair(&mut fields, "certificateSecretRef").map(CertificateRef::Secret);
        let cert = fields.parsed("certFile", absolute_path);
        let key = fields.parsed("keyFile", absolute_path);
        if fields.has("certFile") != fields.has("keyFile") {
            fields.mistake("", "has one of `certFile` and `keyFile`; give both");
        }
        if fields.has("passwordFile") && fields.has("secretRef") {
            fields.mistake("", "has both `passwordFile` and `secretRef`; remove one");
        }
        if fields.has("certificateSecretRef") && (fields.has("certFile") || fields.has("keyFile")) {
            fields.mistake("", "has both `certFile` and `certificateSecretRef`; remove one");
        }
        let known = ["passwordFile", "secretRef", "certFile", "keyFile", "certificateSecretRef"];
        if !known.iter().any(|of| fields.has(of)) {
            let message = "needs `passwordFile` or `secretRef`, `certFile` and `keyFile`, or \
                           `certificateSecretRef`";
            fields.mistake("", message);
        }
        fields.finish();
        let files = cert.zip(key).map(|(cert, key)| CertificateRef::Files(KeyPair { cert, key }));
        Some(Self { username, password: file.or(secret), certificate: files.or(pair) })
    }
}

impl Column {
    fn decode(item: &Item<'_>, mistakes: &mut Mistakes) -> Option<Self> {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let table = fields.required_parsed("table", table);
        let column = fields.required_string("column");
        let class = fields.required_one_of("class", CLASSES);
        fields.finish();
        Some(Self { table: table?, column, class: class? })
    }
}

fn host_port(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_fits = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.parse::<std::net::Ipv4Addr>().is_ok() || Fqdn::parse(host).is_ok(),
        };
        host_fits && !host.starts_with('*') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if valid {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not host:port; write `db.example.com:5432`", shown(text)))
}

pub(super) fn absolute_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(format!("{} is not an absolute path; start it with `/`", shown(text)))
}
