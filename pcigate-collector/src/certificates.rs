//! The collector's certificate and the authority of its clients, exchangeable while it runs.
//!
//! Every handshake takes what is current. Files are read again on SIGHUP and every few seconds
//! (their content counts, not their time, because Kubernetes swaps links); what cannot be used
//! leaves everything as it was. A connection lives on with what it was made with. Sessions are not
//! resumed across an exchange, because each reading has a session store of its own.

mod clients;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use pcigate_proto::tls::{self, TlsDirError};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::VerifierBuilderError,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use x509_parser::prelude::FromDer;

use crate::metrics::Metrics;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
const FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

/// Why the files of a TLS directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] TlsDirError),
    /// A file holds no PEM of its kind.
    #[error(
        "{path} holds no usable {what} in PEM form: have it issued again (`pcigate-collector \
         issue`)"
    )]
    Pem {
        /// The file.
        path: String,
        /// What should be in it.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// A certificate no client can be checked against.
    #[error(
        "{path} holds no certificate of an authority that can be used: put the one there that \
         issued the certificates of nodes and people"
    )]
    Authority {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// The authorities are no base for checking clients.
    #[error(
        "clients cannot be checked against {path}: put the certificate there that issued those of \
         nodes and people"
    )]
    Verifier {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
    /// Certificate and key do not belong together.
    #[error(
        "cert.pem and key.pem in {dir} cannot be used together: both must come from the same \
         `pcigate-collector issue`"
    )]
    Pair {
        /// The directory.
        dir: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// What handshakes use at the moment.
#[derive(Debug)]
pub struct Certificates {
    dir: PathBuf,
    /// Who issues certificates of nodes beside `ca.pem`.
    of_nodes: Option<CertificateDer<'static>>,
    metrics: Arc<Metrics>,
    current: RwLock<Configs>,
    /// Digest of the files that were read last, usable or not.
    read: Mutex<[u8; 32]>,
}

/// What handshakes use: with a certificate of the client, and for those who have none yet.
#[derive(Clone, Debug)]
struct Configs {
    mutual: Arc<ServerConfig>,
    open: Arc<ServerConfig>,
}

/// One reading of the directory.
struct Reading {
    configs: Configs,
    cert_not_after: i64,
    ca_not_after: i64,
}

/// Whether the files of a TLS directory can be used.
///
/// # Errors
/// A file is missing or cannot be used.
pub fn check(dir: &Path) -> Result<(), CertificateError> {
    use_files(dir, &read(dir)?, None).map(|_| ())
}

impl Certificates {
    /// Reads the directory for the first time. `of_nodes`: an authority whose certificates count
    /// for nodes only.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn load(
        dir: &Path,
        of_nodes: Option<CertificateDer<'static>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, CertificateError> {
        let files = read(dir)?;
        let reading = use_files(dir, &files, of_nodes.as_ref())?;
        tell(&metrics, &reading);
        let (dir, read) = (dir.to_owned(), Mutex::new(digest(&files)));
        Ok(Self { dir, of_nodes, metrics, current: RwLock::new(reading.configs), read })
    }

    /// What the next handshake uses; `open`: with a client that has no certificate yet.
    #[must_use]
    pub fn current(&self, open: bool) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(if open { &current.open } else { &current.mutual })
    }

    /// Reads the files again and uses them, unless they are those read before.
    ///
    /// Returns whether others are in use now. What is wrong is logged and counted once per change.
    pub fn reload(&self) -> bool {
        let mut read_last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let files = read(&self.dir);
        let digest = files.as_ref().map_or([0; 32], digest);
        if *read_last == digest {
            return false;
        }
        *read_last = digest;
        let used = files
            .map_err(CertificateError::from)
            .and_then(|files| use_files(&self.dir, &files, self.of_nodes.as_ref()));
        let result = if used.is_ok() { "ok" } else { "failed" };
        self.metrics.tls.certificate_reloads.get_or_create(&[("result", result)]).inc();
        self.metrics.tls.certificate_files_wrong.set(i64::from(used.is_err()));
        match used {
            Ok(reading) => {
                tell(&self.metrics, &reading);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = reading.configs;
                tracing::info!(
                    dir = %self.dir.display(),
                    "new certificates are in use; connections made before go on"
                );
                true
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                tracing::error!(
                    %error, cause,
                    "the files in `tlsDir` cannot be used; the certificates read before stay in use"
                );
                false
            }
        }
    }

    /// Looks at the files every few seconds until the collector stops.
    pub async fn watch(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let certificates = Arc::clone(&self);
            // A cancelled task ends the process anyway.
            drop(tokio::task::spawn_blocking(move || certificates.reload()).await);
        }
    }
}

type Files = [Vec<u8>; 3];

fn read(dir: &Path) -> Result<Files, TlsDirError> {
    let [ca, cert, key] = FILES;
    Ok([tls::read(dir, ca)?, tls::read(dir, cert)?, tls::read(dir, key)?])
}

fn digest(files: &Files) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in files {
        digest.update((file.len() as u64).to_be_bytes());
        digest.update(file);
    }
    digest.finalize().into()
}

fn use_files(
    dir: &Path,
    [ca, cert, key]: &Files,
    of_nodes: Option<&CertificateDer<'static>>,
) -> Result<Reading, CertificateError> {
    let [ca_path, cert_path, key_path] = FILES.map(|file| dir.join(file).display().to_string());
    let authorities = certificates(ca, &ca_path)?;
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        let wrong = |source| CertificateError::Authority { path: ca_path.clone(), source };
        roots.add(authority.clone()).map_err(wrong)?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = clients::verifier(roots, of_nodes, &provider)
        .map_err(|source| CertificateError::Verifier { path: ca_path, source })?;
    let chain = certificates(cert, &cert_path)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| CertificateError::Pem {
        path: key_path,
        what: "key",
        source,
    })?;
    let pair = |source| CertificateError::Pair { dir: dir.display().to_string(), source };
    let cert_not_after = not_after(chain.iter().take(1));
    let builder = || {
        ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)
    };
    let mutual = builder()?.with_client_cert_verifier(verifier);
    let mut mutual = mutual.with_single_cert(chain.clone(), key.clone_key()).map_err(pair)?;
    let mut open = builder()?.with_no_client_auth().with_single_cert(chain, key).map_err(pair)?;
    for config in [&mut mutual, &mut open] {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let ca_not_after = not_after(authorities.iter());
    let configs = Configs { mutual: Arc::new(mutual), open: Arc::new(open) };
    Ok(Reading { configs, cert_not_after, ca_not_after })
}

fn certificates(pem: &[u8], path: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let wrong =
        |source| CertificateError::Pem { path: path.to_owned(), what: "certificate", source };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(wrong)?;
    if all.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(all) }
}

/// The first end of some certificates, seconds since 1970.
fn not_after<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'static>>) -> i64 {
    let ends = certificates.filter_map(|der| {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        Some(parsed.validity().not_after.timestamp())
    });
    ends.min().unwrap_or_default()
}

fn tell(metrics: &Metrics, reading: &Reading) {
    for (file, end) in [("cert.pem", reading.cert_not_after), ("ca.pem", reading.ca_not_after)] {
        let seconds = Duration::from_secs(u64::try_from(end).unwrap_or_default());
        metrics
            .tls
            .certificate_not_after
            .get_or_create(&[("file", file)])
            .set(seconds.as_secs_f64());
        let now = Duration::from_nanos(crate::records::now_unix_nano());
        if seconds < now {
            tracing::warn!(file, "a certificate in `tlsDir` has expired: have a new one issued");
        }
    }
}
