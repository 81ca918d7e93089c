//! TLS: what is verified of the server, what channel binding hashes, what clients are shown.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authorities' file.
    #[error("the PEM file of authorities holds no certificate that can be read; check caFile")]
    Authorities,
    /// A certificate of ours.
    #[error("the PEM file of the certificate holds none that can be read; check certFile")]
    Certificate,
    /// Its key.
    #[error("the PEM file of the key holds none that can be read; check keyFile")]
    Key,
    /// Both together.
    #[error("certificate and key cannot be used together; check certFile and keyFile")]
    Pair {
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Versions and ciphers.
    #[error("TLS cannot be set up; this build lacks a protocol version")]
    Setup {
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// A certificate (and those between it and its authority) and its key, both PEM.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// Certificate and name are verified (`verify-full`), with the authorities of a PEM file; `own` is
/// shown to a server that asks for it.
///
/// # Errors
/// No certificate in it, or `own` cannot be used.
pub fn verify_full(
    authorities: &[u8],
    own: Option<Pair<'_>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        let certificate = certificate.map_err(|_| TlsError::Authorities)?;
        roots.add(certificate).map_err(|_| TlsError::Authorities)?;
    }
    if roots.is_empty() {
        return Err(TlsError::Authorities);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Setup { source })?
        .with_root_certificates(roots);
    showing(config, own)
}

/// Encrypted, nothing verified (`require`): keeps out who only listens. `own` as above.
///
/// # Errors
/// `own` cannot be used.
pub fn encrypt_only(own: Option<Pair<'_>>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Setup { source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    showing(config, own)
}

fn showing(
    config: ConfigBuilder<ClientConfig, WantsClientCert>,
    own: Option<Pair<'_>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let Some(own) = own else { return Ok(Arc::new(config.with_no_client_auth())) };
    let (chain, key) = read(own)?;
    let config = config.with_client_auth_cert(chain, key);
    config.map(Arc::new).map_err(|source| TlsError::Pair { source })
}

fn read(
    (certificate, key): Pair<'_>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|_| TlsError::Certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
    Ok((chain, key))
}

/// The protocol's name within TLS (manual, "SSL Session Encryption").
pub(crate) const ALPN: &[u8] = b"postgresql";

/// TLS towards clients, with a certificate (and those between it and its authority) and its key,
/// both PEM.
///
/// # Errors
/// One of them cannot be read, or they do not belong together.
pub fn to_clients(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = read((certificate, key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Setup { source })?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Pair { source })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Takes every certificate, and still checks that the peer holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What tls-server-end-point hashes (RFC 5929, 4.1): the certificate by the hash of its own
/// signature, SHA-256 in place of MD5 and SHA-1. Nothing where that hash is none we know: then
/// there is no channel binding.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
    let hash = match algorithm.as_str() {
        // md5, sha1, sha256 with RSA; ecdsa with sha1, sha256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Sha256::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(certificate).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}
