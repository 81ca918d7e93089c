//! The way to the API server: where it is, whom to trust, and who we are.
//!
//! In a pod: the address in the environment, and the token and authority that the kubelet keeps
//! fresh in files, read anew for every connection. Elsewhere: a kubeconfig. TLS is always verified.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use zeroize::Zeroizing;

use super::kubeconfig;

/// Where the kubelet puts them (Kubernetes: "Accessing the API from within a Pod").
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why the API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No kubeconfig, and no pod.
    #[error(
        "there is no API server here ({variable} is not set): run the agent in a pod, or name a \
         kubeconfig (workloads.kubeconfig)"
    )]
    NotInPod {
        /// The variable.
        variable: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {path} for the way to the API server")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig {path} cannot be used: {what}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        what: String,
    },
    /// Certificates or a key cannot be used.
    #[error("{what} of the API server's connection cannot be used: give PEM")]
    Pem {
        /// Which.
        what: &'static str,
    },
}

/// Bytes in a file that may change, or given once.
#[derive(Clone)]
pub(super) enum Material {
    File(PathBuf),
    Given(Arc<Zeroizing<Vec<u8>>>),
}

/// What proves who we are.
#[derive(Clone)]
pub(super) enum Credential {
    Token(Material),
    /// Certificate and key.
    Certificate(Material, Material),
}

/// Everything a request needs.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) host: String,
    pub(super) port: u16,
    /// Before every path; without `/` at its end.
    pub(super) prefix: String,
    /// The name in the server's certificate.
    pub(super) server_name: String,
    pub(super) authority: Material,
    pub(super) credential: Credential,
}

impl Connection {
    /// By a kubeconfig, or by what the kubelet gives a pod.
    pub(super) fn find(kubeconfig: Option<&Path>) -> Result<Self, ConnectError> {
        let connection = match kubeconfig {
            Some(path) => kubeconfig::read(path)?,
            None => Self::in_pod(|variable| std::env::var(variable).ok())?,
        };
        // What is missing now is said now.
        connection.tls()?;
        connection.token()?;
        Ok(connection)
    }

    fn in_pod(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConnectError> {
        let get =
            |name: &'static str| variable(name).ok_or(ConnectError::NotInPod { variable: name });
        let host = get("KUBERNETES_SERVICE_HOST")?;
        let port = get("KUBERNETES_SERVICE_PORT")?.parse();
        let port =
            port.map_err(|_| ConnectError::NotInPod { variable: "KUBERNETES_SERVICE_PORT" })?;
        let file = |name: &str| Material::File(Path::new(SERVICE_ACCOUNT).join(name));
        Ok(Self {
            server_name: host.clone(),
            host,
            port,
            prefix: String::new(),
            authority: file("ca.crt"),
            credential: Credential::Token(file("token")),
        })
    }

    /// TLS that verifies the server, and shows our certificate where we have one.
    pub(super) fn tls(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        let wrong = |what| move || ConnectError::Pem { what };
        let authority = self.authority.read()?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            let certificate = certificate.map_err(|_| wrong("the authority")())?;
            roots.add(certificate).map_err(|_| wrong("the authority")())?;
        }
        if roots.is_empty() {
            return Err(wrong("the authority")());
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| wrong("TLS")())?
            .with_root_certificates(roots);
        let Credential::Certificate(certificate, key) = &self.credential else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let (certificate, key) = (certificate.read()?, key.read()?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        let chain = chain.map_err(|_| wrong("the client certificate")())?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| wrong("the client key")())?;
        let config = builder.with_client_auth_cert(chain, key);
        Ok(Arc::new(config.map_err(|_| wrong("the client certificate and key")())?))
    }

    /// The bearer token as it is now.
    pub(super) fn token(&self) -> Result<Option<Zeroizing<String>>, ConnectError> {
        let Credential::Token(token) = &self.credential else { return Ok(None) };
        let token = token.read()?;
        let text = str::from_utf8(&token).map_err(|_| ConnectError::Pem { what: "the token" })?;
        Ok(Some(Zeroizing::new(text.trim().to_owned())))
    }
}

impl Material {
    pub(super) fn given(bytes: Vec<u8>) -> Self {
        Self::Given(Arc::new(Zeroizing::new(bytes)))
    }

    fn read(&self) -> Result<Arc<Zeroizing<Vec<u8>>>, ConnectError> {
        match self {
            Self::Given(bytes) => Ok(Arc::clone(bytes)),
            Self::File(path) => {
                let bytes = fs::read(path)
                    .map_err(|source| ConnectError::Read { path: path.clone(), source })?;
                Ok(Arc::new(Zeroizing::new(bytes)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_a_pod_what_is_missing_is_named() {
        let error = Connection::in_pod(|_| None).err().unwrap().to_string();
        assert!(error.contains("KUBERNETES_SERVICE_HOST is not set"), "{error}");
        let value =
            |name: &str| Some(if name.ends_with("HOST") { "fd00::1" } else { "443" }.into());
        let found = Connection::in_pod(value).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("fd00::1", 443));
        let error = found.tls().unwrap_err().to_string();
        assert!(error.contains("serviceaccount/ca.crt"), "{error}");
    }
}
