//! Connections, and which request is whose to answer.

use std::{collections::BTreeMap, convert::Infallible, future::Future, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use pcigate_policy::yaml;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{
    State, discovery,
    faults::Gone,
    objects::{Patch, Refusal},
    route::{self, Route},
    selector::Selector,
    watch::{self, Lines, Wanted},
};
use crate::postgres::Keys;

/// Largest body of a request, as in Kubernetes.
const BODY_MAX: usize = 3 << 20;
/// Connections at a time; others wait.
const CONNECTIONS_MAX: usize = 256;

type Answer = Response<Either<Full<Bytes>, Lines>>;

/// Binds a port; what it gives serves until it is dropped.
pub(super) async fn bind(
    keys: &Keys,
    state: Arc<State>,
) -> (SocketAddr, impl Future<Output = ()> + Send + use<>) {
    let certificate = CertificateDer::from_pem_slice(keys.server.as_bytes()).expect("our own");
    let key = PrivateKeyDer::from_pem_slice(keys.server_key.as_bytes()).expect("our own");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound port");
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let serving = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
            tokio::spawn(async move {
                connection(stream, acceptor, state).await;
                drop(place);
            });
        }
    };
    (address, serving)
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let mut away = state.away.subscribe();
    let serve = async {
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let service = service_fn(|request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(answer(state, request).await) }
        });
        let http = hyper::server::conn::http1::Builder::new();
        // A client that goes is its own affair.
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    };
    tokio::select! {
        biased;
        _ = away.wait_for(|away| *away) => {}
        () = serve => {}
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Answer {
    let watching = request.uri().query().is_some_and(|query| {
        matches!(route::query(query).get("watch").map(String::as_str), Some("true" | "1"))
    });
    let verb = if watching { "WATCH".to_owned() } else { request.method().to_string() };
    let seen = format!("{verb} {}", request.uri().path());
    let fault = state.lock_faults().take(seen);
    if let Some((status, retry_after)) = fault {
        let refusal = Refusal::new(status, "TooManyRequests", "refused on demand");
        let mut answer = json(status, &refusal.status());
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert("retry-after", seconds.into());
        }
        return answer;
    }
    match handle(&state, request, watching).await {
        Ok(answer) => answer,
        Err(refusal) => json(refusal.code, &refusal.status()),
    }
}

async fn handle(
    state: &Arc<State>,
    request: Request<Incoming>,
    watching: bool,
) -> Result<Answer, Refusal> {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let user = state.lock_users().authenticate(header);
    let user = user.ok_or_else(|| Refusal::new(401, "Unauthorized", "Unauthorized"))?;
    let path = request.uri().path().to_owned();
    if let Some(found) = discovery::answer(&state.lock_store(), &path) {
        return Ok(json(200, &found));
    }
    if path == "/openapi/v2" {
        return Ok(empty_openapi());
    }
    let route = Route::read(&path).ok_or_else(|| {
        Refusal::new(404, "NotFound", "the server could not find the requested resource")
    })?;
    let query = route::query(request.uri().query().unwrap_or_default());
    let verb = verb(request.method(), &route, watching);
    if !state.lock_users().may(&user, verb, &route.ruled()) {
        let message = format!(
            "{} is forbidden: User \"{}\" cannot {verb} resource \"{}\" in API group \"{}\"",
            route.resource,
            user.name,
            route.ruled(),
            route.group
        );
        return Err(Refusal::new(403, "Forbidden", message));
    }
    if watching || (verb == "list") {
        return read_many(state, route, &query, watching);
    }
    let method = request.method().clone();
    let kind = request.headers().get("content-type").and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await;
    let body = body.map_err(|_| {
        let message = format!("limit is {BODY_MAX}");
        Refusal::new(413, "RequestEntityTooLarge", message)
    })?;
    let body = parse(&body.to_bytes())?;
    let made = change(state, &route, &query, &method, &kind, body)?;
    state.tell();
    Ok(json(if method == Method::POST { 201 } else { 200 }, &made))
}

fn verb(method: &Method, route: &Route, watching: bool) -> &'static str {
    match (method.as_str(), route.name.is_empty()) {
        _ if watching => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        _ => "delete",
    }
}

fn read_many(
    state: &Arc<State>,
    route: Route,
    query: &BTreeMap<String, String>,
    watching: bool,
) -> Result<Answer, Refusal> {
    let text = |key: &str| query.get(key).map_or("", String::as_str);
    let mut store = state.lock_store();
    let resource = store.resource(&route)?;
    let selector = Selector::read(text("labelSelector"), text("fieldSelector"), resource.fields());
    let selector = selector.map_err(|message| Refusal::new(400, "BadRequest", message))?;
    if watching {
        let wanted = Wanted::read(route, resource, selector, query);
        let is_gone = !wanted.initial && store.since(wanted.from).is_none();
        drop(store);
        if is_gone && state.lock_faults().gone == Gone::Status {
            let message = format!("too old resource version: {}", wanted.from);
            return Err(Refusal::new(410, "Gone", message));
        }
        let lines = watch::begin(Arc::clone(state), wanted);
        let mut answer = Response::new(Either::Right(lines));
        answer.headers_mut().insert("content-type", "application/json".parse().expect("ASCII"));
        return Ok(answer);
    }
    let limit = text("limit").parse().unwrap_or(0);
    let mut list = store.list(&route, &selector, limit, text("continue"))?;
    list["kind"] = json!(format!("{}List", resource.kind));
    list["apiVersion"] = json!(resource.api_version());
    Ok(json(200, &list))
}

fn change(
    state: &State,
    route: &Route,
    query: &BTreeMap<String, String>,
    method: &Method,
    kind: &str,
    body: Value,
) -> Result<Value, Refusal> {
    let text = |key: &str| query.get(key).map_or("", String::as_str);
    let dry = text("dryRun") == "All";
    let mut store = state.lock_store();
    match method.as_str() {
        "GET" => store.get(route),
        "POST" if route.resource == "tokenreviews" => Ok(state.lock_users().review(body)),
        "POST" => store.create(route, body, dry),
        "PUT" => store.replace(route, body, dry),
        "DELETE" if route.name.is_empty() => {
            let selector = Selector::read(text("labelSelector"), "", &[]);
            let selector = selector.map_err(|message| Refusal::new(400, "BadRequest", message))?;
            for object in store.matching(route, &selector) {
                let name = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let (namespace, name) = (name("namespace").to_owned(), name("name").to_owned());
                store.delete(&Route { namespace, name, ..route.clone() }, &Value::Null)?;
            }
            Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        "DELETE" => store.delete(route, &body),
        "PATCH" => {
            let kind = match kind.split(';').next().unwrap_or_default() {
                "application/merge-patch+json" => Patch::Merge,
                "application/strategic-merge-patch+json" => Patch::Strategic,
                "application/json-patch+json" => Patch::Json,
                "application/apply-patch+yaml" => {
                    let manager = text("fieldManager").to_owned();
                    if manager.is_empty() {
                        let message = "fieldManager is required for apply patch";
                        return Err(Refusal::new(400, "BadRequest", message));
                    }
                    Patch::Apply { manager, force: text("force") == "true" }
                }
                other => {
                    let message =
                        format!("the body of the request was in an unknown format: {other}");
                    return Err(Refusal::new(415, "UnsupportedMediaType", message));
                }
            };
            store.patch(route, &kind, &body, dry)
        }
        _ => Err(Refusal::new(405, "MethodNotAllowed", "no such method")),
    }
}

/// JSON, or the YAML of apply.
fn parse(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = String::from_utf8_lossy(body);
    let read = yaml::read("the body", &text).ok().and_then(|nodes| Some(nodes.first()?.to_json()));
    read.ok_or_else(|| Refusal::new(400, "BadRequest", "the body is neither JSON nor YAML"))
}

fn json(status: u16, value: &Value) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(value.to_string()))));
    *answer.status_mut() = status.try_into().expect("a status");
    answer.headers_mut().insert("content-type", "application/json".parse().expect("ASCII"));
    answer
}

/// The older form, which kubectl reads as protobuf where it finds a kind in no other document: a
/// message without fields has no bytes, and says that nothing is known.
fn empty_openapi() -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::new())));
    let kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    answer.headers_mut().insert("content-type", kind.parse().expect("ASCII"));
    answer
}
