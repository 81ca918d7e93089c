//! The way to the collector: its address, the certificates, one gRPC client.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pcigate_proto::evidence_client::EvidenceClient;
use tonic::transport::{Channel, Endpoint};

use crate::failure::{Answer, Failure};

/// Largest reply, bytes: a full entry bundle of the ledger is 256 leaves of 32 KiB.
const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Until the connection must stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between signs of life while a query is followed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Which collector, and who asks.
#[derive(Args, Debug)]
#[command(next_help_heading = "Collector")]
pub struct Options {
    /// The collector's gRPC address.
    #[arg(long, value_name = "URL", global = true, env = "PCIGATE_COLLECTOR")]
    #[arg(default_value = "https://127.0.0.1:7443", hide_env_values = true)]
    pub collector: String,
    /// Directory with ca.pem, cert.pem and key.pem of the person who asks.
    #[arg(long, value_name = "DIR", global = true, env = "PCIGATE_TLS_DIR")]
    #[arg(default_value = "/etc/pcigate/tls", hide_env_values = true)]
    pub tls_dir: PathBuf,
}

/// Connects with mutual TLS.
pub async fn connect(url: &str, options: &Options) -> Result<EvidenceClient<Channel>, Failure> {
    if !url.starts_with("https://") {
        return Err(Failure::input(format!(
            "the collector's address `{url}` is not an https:// URL: give one with --collector"
        )));
    }
    let tls = pcigate_proto::tls::client(&options.tls_dir).map_err(|error| {
        Failure::because("no certificate to ask with: give its directory with --tls-dir", error)
    })?;
    let endpoint = Endpoint::from_shared(url.to_owned())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| {
            let sentence = format!(
                "cannot use {url} with the certificates in {}: check both",
                options.tls_dir.display()
            );
            Failure::because(sentence, error)
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE);
    let channel = endpoint.connect().await.map_err(|error| Failure::Unreachable {
        sentence: format!(
            "cannot reach the collector at {url}: check --collector, --tls-dir and that it runs"
        ),
        cause: Some(error.into()),
    })?;
    Ok(EvidenceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX))
}

/// Runs one verb's conversation to its end.
pub fn wait_for(
    conversation: impl Future<Output = Result<Answer, Failure>>,
) -> Result<Answer, Failure> {
    runtime()?.block_on(conversation)
}

/// A runtime on this thread.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::because("cannot start: the system gives no event queue, check its limits", error)
    })
}
