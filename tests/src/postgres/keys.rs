//! Certificates of a test's own: an authority, a server on 127.0.0.1, one client.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// All as PEM, and the server's certificate also as DER.
pub struct Keys {
    /// The authority's certificate.
    pub authority: String,
    /// The server's certificate, for 127.0.0.1 and localhost.
    pub server: String,
    /// The same as DER, for channel binding: it is signed with SHA-256.
    pub server_der: Vec<u8>,
    /// The server's key.
    pub server_key: String,
    /// The client's certificate.
    pub client: String,
    /// The client's key.
    pub client_key: String,
}

impl Keys {
    /// Makes them; the client's is for the role `client`.
    ///
    /// # Panics
    /// Never: nothing comes from outside.
    #[must_use]
    pub fn new(client: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        let key = KeyPair::generate().expect("random numbers");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a fresh key");
        let issue = |name: &str, names: Vec<SanType>| {
            let key = KeyPair::generate().expect("random numbers");
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.subject_alt_names = names;
            params.distinguished_name.push(DnType::CommonName, name);
            (params.signed_by(&key, &authority).expect("the authority's key"), key)
        };
        let loopback = SanType::IpAddress([127, 0, 0, 1].into());
        let localhost = SanType::DnsName("localhost".try_into().expect("a name"));
        let (server, server_key) = issue("localhost", vec![loopback, localhost]);
        let (client, client_key) = issue(client, Vec::new());
        Self {
            authority: authority.pem(),
            server: server.pem(),
            server_der: server.der().to_vec(),
            server_key: server_key.serialize_pem(),
            client: client.pem(),
            client_key: client_key.serialize_pem(),
        }
    }
}
