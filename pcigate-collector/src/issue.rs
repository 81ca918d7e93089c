//! A small certificate authority: makes the TLS directories of servers, nodes and people.

mod renew;

pub use renew::renew;

use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pcigate_proto::spiffe::is_name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// What a new authority calls itself.
const CA_NAME: &str = "pcigate CA";
/// Ten years, for which a new authority is valid.
const CA_DAYS: u64 = 3_650;
const DAY_SECONDS: u64 = 86_400;
/// Clocks may differ by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// For whom a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A collector under these DNS names or IP addresses.
    Server(Vec<String>),
    /// The agent of a node.
    Node(String),
    /// A person.
    Person(String),
}

/// What to issue.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where the authority lives; made on first use.
    pub ca_dir: PathBuf,
    /// The TLS directory to make.
    pub out: PathBuf,
    /// For whom.
    pub holder: Holder,
    /// Trust domain of the SPIFFE id.
    pub trust_domain: String,
    /// Days of validity.
    pub days: u32,
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name no certificate may carry.
    #[error("{what} `{name}` is not allowed: {rule}")]
    Name {
        /// Which name.
        what: &'static str,
        /// As given.
        name: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// Something is there already.
    #[error("{path} exists already: nothing is overwritten; remove it or choose another --out")]
    Exists {
        /// The file.
        path: String,
    },
    /// Half of the authority is missing.
    #[error("{missing} is missing although {present} exists: restore it, or use another --ca-dir")]
    Half {
        /// The file that is missing.
        missing: String,
        /// The file that is there.
        present: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The authority's files or the certificate cannot be made into what is needed.
    #[error("cannot make {what}")]
    Certificate {
        /// What was being made.
        what: &'static str,
        /// What rcgen says.
        #[source]
        source: rcgen::Error,
    },
}

/// Issues `ca.pem`, `cert.pem` and `key.pem` (0600) into a new TLS directory.
///
/// # Errors
/// A name is not allowed, a file exists already, or a file cannot be read or written.
pub fn issue(order: &Order) -> Result<(), IssueError> {
    let params = order.params()?;
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        let path = order.out.join(file);
        if path.exists() {
            return Err(IssueError::Exists { path: path.display().to_string() });
        }
    }
    let (ca_pem, issuer) = authority(&order.ca_dir, CA_NAME)?;
    let made = |what| move |source| IssueError::Certificate { what, source };
    let key = KeyPair::generate().map_err(made("a key"))?;
    let certificate = params.signed_by(&key, &issuer).map_err(made("a certificate"))?;
    make_dir(&order.out, 0o755)?;
    write_new(&order.out.join("key.pem"), &key.serialize_pem(), 0o600)?;
    write_new(&order.out.join("cert.pem"), &certificate.pem(), 0o644)?;
    write_new(&order.out.join("ca.pem"), &ca_pem, 0o644)
}

impl Order {
    fn params(&self) -> Result<CertificateParams, IssueError> {
        let validity = Duration::from_secs(u64::from(self.days) * DAY_SECONDS);
        params(&self.holder, &self.trust_domain, validity)
    }
}

/// What a certificate for `holder` says.
///
/// # Errors
/// A name no certificate may carry.
pub(crate) fn params(
    holder: &Holder,
    domain: &str,
    validity: Duration,
) -> Result<CertificateParams, IssueError> {
    let domain_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
    if domain.is_empty() || !domain.bytes().all(domain_ok) {
        let rule = "use lower-case letters, digits, `.`, `-` and `_`";
        return Err(IssueError::Name { what: "trust domain", name: domain.to_owned(), rule });
    }
    let rule = "use letters, digits, `.`, `-`, `_`, `@`, at most 253";
    let (names, common, usage) = match holder {
        Holder::Server(hosts) => {
            let names: Result<Vec<_>, _> = hosts.iter().map(|host| host_name(host)).collect();
            (names?, hosts.first().cloned(), ExtendedKeyUsagePurpose::ServerAuth)
        }
        Holder::Node(name) | Holder::Person(name) => {
            let (what, role) = match holder {
                Holder::Person(_) => ("person", "person"),
                _ => ("node", "node"),
            };
            let wrong = || IssueError::Name { what, name: name.clone(), rule };
            if !is_name(name) {
                return Err(wrong());
            }
            let uri = format!("spiffe://{domain}/{role}/{name}");
            let uri = SanType::URI(uri.try_into().map_err(|_| wrong())?);
            (vec![uri], Some(name.clone()), ExtendedKeyUsagePurpose::ClientAuth)
        }
    };
    let mut params = valid_for(validity);
    params.subject_alt_names = names;
    // X.520 allows 64 characters; the names that count are the SANs.
    if let Some(common) = common.filter(|common| common.len() <= 64) {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn host_name(host: &str) -> Result<SanType, IssueError> {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let labels_ok = host.len() <= 253 && host.split('.').all(label_ok);
    let name = labels_ok.then(|| host.to_owned().try_into().ok()).flatten();
    name.map(SanType::DnsName).ok_or_else(|| IssueError::Name {
        what: "server",
        name: host.to_owned(),
        rule: "give a DNS name or an IP address, without port",
    })
}

/// The authority's certificate (PEM) and its key, made under this name on first use.
pub(crate) fn authority(
    dir: &Path,
    name: &str,
) -> Result<(String, Issuer<'static, KeyPair>), IssueError> {
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
    let made = |what| move |source| IssueError::Certificate { what, source };
    let half = |missing: &Path, present: &Path| IssueError::Half {
        missing: missing.display().to_string(),
        present: present.display().to_string(),
    };
    match (cert_path.exists(), key_path.exists()) {
        (true, false) => return Err(half(&key_path, &cert_path)),
        (false, true) => return Err(half(&cert_path, &key_path)),
        (true, true) => {}
        (false, false) => {
            let key = KeyPair::generate().map_err(made("the key of the authority"))?;
            let mut params = valid_for(Duration::from_secs(CA_DAYS * DAY_SECONDS));
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let ca = params.self_signed(&key).map_err(made("the authority's certificate"))?;
            make_dir(dir, 0o700)?;
            write_new(&key_path, &key.serialize_pem(), 0o600)?;
            write_new(&cert_path, &ca.pem(), 0o644)?;
        }
    }
    let (cert, key) = (read(&cert_path)?, read(&key_path)?);
    let key = KeyPair::from_pem(&key).map_err(made("a key out of ca-key.pem"))?;
    let issuer = Issuer::from_ca_cert_pem(&cert, key).map_err(made("an issuer out of ca.pem"))?;
    Ok((cert, issuer))
}

fn valid_for(validity: Duration) -> CertificateParams {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + now + validity;
    params
}

fn read(path: &Path) -> Result<String, IssueError> {
    std::fs::read_to_string(path).map_err(|source| file_error("read", path, source))
}

fn make_dir(path: &Path, mode: u32) -> Result<(), IssueError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| file_error("create", path, source))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), IssueError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => IssueError::Exists { path: path.display().to_string() },
        _ => file_error("write", path, source),
    })
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> IssueError {
    IssueError::File { action, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
