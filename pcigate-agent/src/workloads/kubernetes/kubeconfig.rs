//! A kubeconfig: the current context's cluster and user. Ways of logging in that run programs, and
//! connections that verify nothing, are refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use pcigate_policy::yaml::{self, Node, Value};
use tonic::transport::Uri;

use super::connection::{ConnectError, Connection, Credential, Material};

/// Reads one.
pub(super) fn read(path: &Path) -> Result<Connection, ConnectError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConnectError::Read { path: path.to_owned(), source })?;
    parse(path, &text).map_err(|what| ConnectError::Kubeconfig { path: path.to_owned(), what })
}

fn parse(path: &Path, text: &str) -> Result<Connection, String> {
    let root = yaml::read_one("kubeconfig", text).map_err(|mistakes| mistakes.to_string())?;
    let context = text_of(&root, "current-context")?.ok_or("current-context is missing")?;
    let context = named(&root, "contexts", &context)?.get("context");
    let context = context.ok_or("the current context is empty")?;
    let name = |field: &str| {
        text_of(context, field)?.ok_or_else(|| format!("the current context names no {field}"))
    };
    let cluster = named(&root, "clusters", &name("cluster")?)?.get("cluster");
    let cluster = cluster.ok_or("its cluster is empty")?;
    let user = named(&root, "users", &name("user")?)?.get("user").ok_or("its user is empty")?;
    if cluster.get("insecure-skip-tls-verify").is_some_and(|node| node.value == Value::Bool(true)) {
        return Err("insecure-skip-tls-verify is never used; give certificate-authority".into());
    }
    let server = text_of(cluster, "server")?.ok_or("its cluster has no server")?;
    let uri: Uri = server.parse().map_err(|_| "its server is not a URL".to_owned())?;
    if uri.scheme_str() != Some("https") {
        return Err("its server is not https, and nothing else is used".into());
    }
    let host = uri.host().ok_or("its server has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let base = path.parent().unwrap_or(Path::new("."));
    let authority = material(cluster, "certificate-authority", base)?
        .ok_or("its cluster has no certificate-authority or certificate-authority-data")?;
    Ok(Connection {
        server_name: text_of(cluster, "tls-server-name")?.unwrap_or_else(|| host.clone()),
        port: uri.port_u16().unwrap_or(443),
        prefix: uri.path().trim_end_matches('/').to_owned(),
        host,
        authority,
        credential: credential(user, base)?,
    })
}

fn credential(user: &Node, base: &Path) -> Result<Credential, String> {
    if let Some(token) = text_of(user, "token")? {
        return Ok(Credential::Token(Material::given(token.into_bytes())));
    }
    if let Some(file) = text_of(user, "tokenFile")? {
        return Ok(Credential::Token(Material::File(base.join(file))));
    }
    let certificate = material(user, "client-certificate", base)?;
    if let (Some(certificate), Some(key)) = (certificate, material(user, "client-key", base)?) {
        return Ok(Credential::Certificate(certificate, key));
    }
    Err("its user has neither token, tokenFile, nor client-certificate and client-key; programs \
         (exec, auth-provider) are not run"
        .into())
}

/// `FIELD-data`, in base64, or the file `FIELD`, relative to the kubeconfig.
fn material(node: &Node, field: &str, base: &Path) -> Result<Option<Material>, String> {
    if let Some(data) = text_of(node, &format!("{field}-data"))? {
        let bytes = STANDARD.decode(data).map_err(|_| format!("{field}-data is not base64"))?;
        return Ok(Some(Material::given(bytes)));
    }
    let file: Option<PathBuf> = text_of(node, field)?.map(|file| base.join(file));
    Ok(file.map(Material::File))
}

fn text_of(node: &Node, field: &str) -> Result<Option<String>, String> {
    match node.get(field) {
        None => Ok(None),
        Some(node) => node
            .as_text()
            .filter(|text| !text.is_empty())
            .map(|text| Some(text.to_owned()))
            .ok_or_else(|| format!("{field} is {}, not text", node.kind())),
    }
}

fn named<'n>(root: &'n Node, list: &str, name: &str) -> Result<&'n Node, String> {
    let Some(Value::List(items)) = root.get(list).map(|node| &node.value) else {
        return Err(format!("{list} is not a list"));
    };
    let is = |item: &&Node| item.get("name").and_then(Node::as_text) == Some(name);
    items.iter().find(is).ok_or_else(|| format!("none of {list} has the name it wants"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: \"https://[fd00::1]:6443/base/\", certificate-authority: ca}}]
users: [{name: u, user: {token: secret-token}}]
";

    #[test]
    fn the_current_context_is_used() {
        let found = parse(Path::new("/home/x/config"), GOOD).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("fd00::1", 6443));
        assert_eq!(found.prefix, "/base");
        let Material::File(path) = found.authority else { panic!("a file") };
        assert_eq!(path, Path::new("/home/x/ca"), "relative to the kubeconfig");
    }

    #[test]
    fn what_is_unsafe_or_missing_is_refused_with_its_reason_and_without_the_token() {
        for (from, to, why) in [
            ("https://", "http://", "not https"),
            ("certificate-authority: ca", "insecure-skip-tls-verify: true", "never used"),
            (", certificate-authority: ca", "", "no certificate-authority"),
            ("token: secret-token", "exec: {command: aws}", "are not run"),
            ("current-context: c", "current-context: d", "none of contexts"),
            ("user: u}", "user: v}", "none of users"),
            ("token: secret-token", "token: 7", "a number, not text"),
        ] {
            let text = GOOD.replace(from, to);
            let error = parse(Path::new("config"), &text).err().unwrap();
            assert!(error.contains(why) && !error.contains("secret-token"), "{error}");
        }
    }
}
