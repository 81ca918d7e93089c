//! The way out: a connection to a Target's upstream, from the client's network namespace or from
//! the agent's own.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use pcigate_policy::{
    decide::is_gateway,
    document::{ObjectName, Target, TlsMode},
};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

use super::Network;

/// Why there is no connection. `address` is the Target's `upstream.address`.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or the resolver does not answer.
    #[error("cannot resolve {address} (upstream.address of Target {target})")]
    Resolve {
        /// The Target.
        target: ObjectName,
        /// Its upstream.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is the gateway itself.
    #[error(
        "upstream.address {address} of Target {target} is the gateway's own listener: name the \
         server's address"
    )]
    Itself {
        /// The Target.
        target: ObjectName,
        /// Its upstream.
        address: String,
    },
    /// None of its addresses takes a connection; the last answer.
    #[error("cannot connect to {address} (upstream.address of Target {target})")]
    Connect {
        /// The Target.
        target: ObjectName,
        /// Its upstream.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} (upstream.address of Target {target}) did not answer within {within:?}")]
    TooLate {
        /// The Target.
        target: ObjectName,
        /// Its upstream.
        address: String,
        /// The deadline.
        within: Duration,
    },
}

pub(super) async fn dial(
    target: &Target,
    network: &Arc<Network>,
    within: Duration,
) -> Result<TcpStream, DialError> {
    let late = || DialError::TooLate {
        target: target.name.clone(),
        address: target.upstream.address.clone(),
        within,
    };
    timeout(within, connect(target, network)).await.unwrap_or_else(|_| Err(late()))
}

async fn connect(target: &Target, network: &Arc<Network>) -> Result<TcpStream, DialError> {
    let name = || (target.name.clone(), target.upstream.address.clone());
    let failed = |source| {
        let (target, address) = name();
        DialError::Resolve { target, address, source }
    };
    // In the agent's own namespace: a name is resolved by the node, never by the pod.
    let addresses = lookup_host(&target.upstream.address).await.map_err(failed)?;
    let mut last = io::Error::other("the name has no address");
    for to in addresses {
        if is_gateway(to.ip().to_canonical(), to.port()) {
            let (target, address) = name();
            return Err(DialError::Itself { target, address });
        }
        let from = (target.upstream.tls == TlsMode::VerifyFull).then_some(network);
        match open(from, to).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    let (target, address) = name();
    Err(DialError::Connect { target, address, source: last })
}

/// A socket belongs to the namespace it was made in, wherever it is connected from.
async fn open(from: Option<&Arc<Network>>, to: SocketAddr) -> io::Result<TcpStream> {
    let make = move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = match from.cloned() {
        None => make()?,
        Some(network) => {
            let made = tokio::task::spawn_blocking(move || network.inside(make)).await;
            made.map_err(io::Error::other)??
        }
    };
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
