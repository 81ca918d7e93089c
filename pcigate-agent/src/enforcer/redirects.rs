//! What the kernel and the gateway tell each other: in which network namespaces a gateway listens,
//! and where a redirected socket was to go.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf,
    maps::{HashMap as KernelMap, MapData},
};
use pcigate_common::redirect::{Client, Redirected};
use zerocopy::FromBytes;

use super::{
    EnforcerError,
    tables::{TableError, bytes, gone, take, write},
};

const ENTRY: usize = size_of::<Redirected>();
const CLIENT: usize = size_of::<Client>();

/// The maps. Clones are the same maps.
#[derive(Clone)]
pub struct Redirects(Arc<Mutex<Maps>>);

struct Maps {
    gateways: KernelMap<MapData, u64, u64>,
    redirected: KernelMap<MapData, u64, [u8; ENTRY]>,
    clients: KernelMap<MapData, [u8; CLIENT], u64>,
}

impl Redirects {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EnforcerError> {
        let gateways = take(ebpf, "GATEWAYS")?;
        let redirected = take(ebpf, "REDIRECTED")?;
        let clients = take(ebpf, "CLIENTS")?;
        Ok(Self(Arc::new(Mutex::new(Maps { gateways, redirected, clients }))))
    }

    /// From now on, gated connects of a network namespace (by its cookie) are redirected.
    ///
    /// # Errors
    /// The map is full, or the kernel refuses: they are refused as before.
    pub fn announce(&self, network: u64) -> Result<(), TableError> {
        self.maps().gateways.insert(network, 1, 0).map_err(write("GATEWAYS"))
    }

    /// From now on, they are refused.
    ///
    /// # Errors
    /// The kernel refuses: they find nobody once the listener is closed.
    pub fn withdraw(&self, network: u64) -> Result<(), TableError> {
        gone(self.maps().gateways.remove(&network)).map_err(write("GATEWAYS"))
    }

    /// The namespaces that count as listened in, those of an earlier agent included.
    #[must_use]
    pub fn announced(&self) -> Vec<u64> {
        self.maps().gateways.keys().flatten().collect()
    }

    /// The cookie of the redirected socket that a client's end of a connection is of, once: a later
    /// connection from the same place has to be redirected itself.
    #[must_use]
    pub fn claim(&self, network: u64, client: SocketAddr) -> Option<u64> {
        let address = match client.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let (address, port) = (address.octets(), u32::from(client.port()));
        let key = bytes::<_, CLIENT>(&Client { network, address, port, reserved: 0 });
        let mut maps = self.maps();
        let cookie = maps.clients.get(&key, 0).ok()?;
        maps.clients.remove(&key).ok()?;
        Some(cookie)
    }

    /// What is remembered of a socket, by its cookie; `None` also where it cannot be read.
    #[must_use]
    pub fn of_socket(&self, cookie: u64) -> Option<Redirected> {
        let entry = self.maps().redirected.get(&cookie, 0).ok()?;
        Redirected::read_from_bytes(&entry).ok().filter(|entry| entry.time_ns != 0)
    }

    /// How many sockets are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.maps().redirected.keys().flatten().count()
    }

    /// A poisoned lock only means that another thread panicked between two calls.
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
