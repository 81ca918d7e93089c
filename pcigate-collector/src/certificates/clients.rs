//! Whom a client certificate may speak for, by the authority that issued it.
//!
//! Those of `ca.pem` issue for nodes and people. The authority of enrolment, whose key lies with
//! the collector, counts for nodes only: who steals it can be a node, and cannot read evidence.

use std::sync::Arc;

use pcigate_proto::spiffe::Identity;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::identity;

/// Checks clients against `everybody`, and nodes also against `of_nodes`.
pub(super) fn verifier(
    everybody: RootCertStore,
    of_nodes: Option<&CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let of = |roots: RootCertStore| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()
    };
    let everybody = of(everybody)?;
    let Some(of_nodes) = of_nodes else { return Ok(everybody) };
    let mut roots = RootCertStore::empty();
    // What cannot be added leaves the store empty, which the builder refuses.
    drop(roots.add(of_nodes.clone()));
    let nodes = of(roots)?;
    let hints = [everybody.root_hint_subjects(), nodes.root_hint_subjects()].concat();
    Ok(Arc::new(Clients { everybody, nodes, hints }))
}

#[derive(Debug)]
struct Clients {
    everybody: Arc<dyn ClientCertVerifier>,
    nodes: Arc<dyn ClientCertVerifier>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = match self.everybody.verify_client_cert(certificate, chain, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        match self.nodes.verify_client_cert(certificate, chain, now) {
            Ok(verified) => match identity::of_certificate(certificate) {
                Ok(Identity::Node(_)) => Ok(verified),
                _ => Err(CertificateError::ApplicationVerificationFailure.into()),
            },
            // Whichever knows the issuer says why.
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Err(refused),
            Err(of_nodes) => Err(of_nodes),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.everybody.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.everybody.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.everybody.supported_verify_schemes()
    }
}
