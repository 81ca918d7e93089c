//! One asking: a key made here, a request signed by it, and the pod's token.

use std::{fs, io::Read, path::PathBuf, time::Duration};

use pcigate_proto::{EnrollRequest, enroll_client::EnrollClient};
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use zeroize::Zeroizing;

use super::{Settings, pair::Pair};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The collector waits ten seconds for the API server.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Largest token, bytes; as the collector.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// A file cannot be read.
    #[error("cannot read {path} ({key})")]
    File {
        /// The file.
        path: PathBuf,
        /// The key of the configuration.
        key: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No token in it.
    #[error(
        "{path} holds no token (collector.enroll.tokenFile): project a serviceAccountToken with \
         the collector's audience there"
    )]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// No key or request.
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
    /// Nobody there, or not whom the authority names.
    #[error(
        "cannot connect to {url} (collector.enroll): check that the collector enrols agents there, \
         and that collector.enroll.caFile issued its certificate"
    )]
    Connect {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The collector does not issue one.
    #[error("the collector says: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// Not what was asked for.
    #[error("the certificate that was issued cannot be used: {why}")]
    Unusable {
        /// Why.
        why: String,
    },
}

/// Asks for a certificate.
pub(super) async fn ask(settings: &Settings) -> Result<Pair, AskError> {
    let Settings { url, token_file, ca_file, node, .. } = settings;
    let ca = fs::read_to_string(ca_file).map_err(|source| AskError::File {
        path: ca_file.clone(),
        key: "collector.enroll.caFile",
        source,
    })?;
    let mut token = token(token_file)?;
    let key = KeyPair::generate().map_err(AskError::Key)?;
    let mut params = CertificateParams::default();
    // The collector issues for the node the API server names; this is for who reads the request.
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key).map_err(AskError::Key)?.der().to_vec();
    let failed = |source| AskError::Connect { url: url.clone(), source };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca));
    let endpoint = Endpoint::from_shared(url.clone()).and_then(|endpoint| endpoint.tls_config(tls));
    let endpoint = endpoint.map_err(failed)?;
    let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).timeout(ANSWER_WITHIN);
    let channel = endpoint.connect().await.map_err(failed)?;
    let request = EnrollRequest { csr, token: std::mem::take(&mut *token) };
    let answer = EnrollClient::new(channel).enroll(request).await;
    let answer = answer.map_err(|status| AskError::Refused { message: words(&status) })?;
    let cert = Pem::new("CERTIFICATE", answer.into_inner().certificate);
    let cert = pem::encode_config(&cert, EncodeConfig::new().set_line_ending(LineEnding::LF));
    let key = Zeroizing::new(key.serialize_pem());
    Pair::new(ca, cert, key, node).map_err(|why| AskError::Unusable { why })
}

/// The token, as it is now: the kubelet exchanges it.
fn token(path: &std::path::Path) -> Result<Zeroizing<String>, AskError> {
    let failed = |source| AskError::File {
        path: path.to_owned(),
        key: "collector.enroll.tokenFile",
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(String::new());
    file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    let token = Zeroizing::new(text.trim().to_owned());
    let is_token = !token.is_empty()
        && token.len() as u64 <= TOKEN_BYTES_MAX
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(token) } else { Err(AskError::NoToken { path: path.to_owned() }) }
}

fn words(status: &Status) -> String {
    match status.code() {
        Code::Unimplemented => {
            "it does not enrol agents: set `enroll` in its configuration".to_owned()
        }
        code => format!("{} ({code:?})", status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_without_its_line_end_and_anything_else_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "aa.bb.cc\n").unwrap();
        assert_eq!(*token(&path).unwrap(), "aa.bb.cc");
        for wrong in [String::new(), "\n".into(), "a b".into(), "x".repeat(16 * 1024 + 1)] {
            fs::write(&path, &wrong).unwrap();
            let error = token(&path).unwrap_err().to_string();
            assert!(error.contains("holds no token"), "{error}");
            assert!(wrong.len() < 3 || !error.contains(&wrong));
        }
        fs::remove_file(&path).unwrap();
        let error = token(&path).unwrap_err().to_string();
        assert!(error.contains("collector.enroll.tokenFile"), "{error}");
    }
}
