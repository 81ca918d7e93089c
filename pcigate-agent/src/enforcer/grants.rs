//! Grants in the kernel's tables: a destination that a workload may reach until a deadline.
//!
//! The kernel alone keeps the deadline. What is here only puts entries in and takes them out;
//! `crate::grants` also closes connections, so that both ends hear at once. One agent after the
//! other uses the same maps, so that no grant and no connection of one is forgotten.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap as KernelMap, MapData},
};
use pcigate_common::maps::{GrantEntry, GrantKey};
use zerocopy::FromBytes;

use super::{
    EnforcerError,
    tables::{TableError, bytes, gone, take, write},
};

const KEY: usize = size_of::<GrantKey>();
const ENTRY: usize = size_of::<GrantEntry>();

/// One destination for one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its number, chosen by whoever grants; a connection ends with the grant that let it through.
    pub id: u64,
    /// Id of a governed cgroup: it and everything below it may.
    pub workload: u64,
    /// Where to.
    pub address: IpAddr,
    /// IP protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Where to.
    pub port: u16,
    /// `CLOCK_BOOTTIME` in ns, from which on it counts for nothing.
    pub deadline_ns: u64,
}

/// The grants in the kernel.
pub struct Grants {
    entries: KernelMap<MapData, [u8; KEY], [u8; ENTRY]>,
    used: Array<MapData, u64>,
    /// By id.
    live: HashMap<u64, Grant>,
}

impl Grants {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EnforcerError> {
        let entries: KernelMap<MapData, [u8; KEY], [u8; ENTRY]> = take(ebpf, "GRANTS")?;
        // What an earlier agent put there. An entry that cannot be read ends at its deadline.
        let live = entries.iter().flatten().filter_map(|(key, entry)| read(&key, &entry));
        let live = live.map(|grant| (grant.id, grant)).collect();
        Ok(Self { entries, used: take(ebpf, "GRANTS_USED")?, live })
    }

    /// Those that have not been removed, by workload and destination.
    #[must_use]
    pub fn live(&self) -> Vec<&Grant> {
        let mut live: Vec<&Grant> = self.live.values().collect();
        live.sort_by_key(|grant| (grant.workload, grant.address, grant.port, grant.id));
        live
    }

    /// Grants; with an id that is there already, moves its deadline. The grant that this one
    /// replaces: another one of the same destination and workload, or the same id's of another
    /// destination; its connections end.
    ///
    /// # Errors
    /// The map is full or the kernel refuses: nothing has changed.
    pub fn put(&mut self, grant: Grant) -> Result<Option<Grant>, TableError> {
        // From now on packets are looked at, before any can need it.
        self.used.set(0, 1, 0).map_err(write("GRANTS_USED"))?;
        let (key, id) = (key_of(&grant), grant.id);
        let entry = GrantEntry { deadline_ns: grant.deadline_ns, id };
        self.entries
            .insert(bytes::<_, KEY>(&key), bytes::<_, ENTRY>(&entry), 0)
            .map_err(write("GRANTS"))?;
        let other = self.live.values().find(|live| live.id != id && key_of(live) == key);
        let other = other.map(|other| other.id);
        let before = match other {
            Some(other) => self.live.remove(&other),
            None => None,
        };
        let moved = self.live.insert(id, grant).filter(|moved| key_of(moved) != key);
        if let Some(moved) = &moved {
            self.take_out(moved)?;
        }
        Ok(before.or(moved))
    }

    /// Ends a grant: the next connect is refused, and packets of its connections are dropped. The
    /// grant that was.
    ///
    /// # Errors
    /// The kernel refuses; the deadline still holds.
    pub fn remove(&mut self, id: u64) -> Result<Option<Grant>, TableError> {
        let Some(grant) = self.live.get(&id) else { return Ok(None) };
        let key = bytes::<_, KEY>(&key_of(grant));
        gone(self.entries.remove(&key)).map_err(write("GRANTS"))?;
        Ok(self.live.remove(&id))
    }

    /// Removes the grants whose deadline is not after `now_ns` (`CLOCK_BOOTTIME`), and gives them.
    ///
    /// # Errors
    /// The kernel refuses; to be tried again.
    pub fn remove_expired(&mut self, now_ns: u64) -> Result<Vec<Grant>, TableError> {
        let expired = self.live.values().filter(|grant| grant.deadline_ns <= now_ns);
        let expired: Vec<u64> = expired.map(|grant| grant.id).collect();
        let mut removed = Vec::with_capacity(expired.len());
        for id in expired {
            removed.extend(self.remove(id)?);
        }
        Ok(removed)
    }

    fn take_out(&mut self, grant: &Grant) -> Result<(), TableError> {
        gone(self.entries.remove(&bytes::<_, KEY>(&key_of(grant)))).map_err(write("GRANTS"))
    }
}

fn read(key: &[u8], entry: &[u8]) -> Option<Grant> {
    let key = GrantKey::read_from_bytes(key).ok()?;
    let GrantEntry { deadline_ns, id } = GrantEntry::read_from_bytes(entry).ok()?;
    let GrantKey { workload, port, protocol, .. } = key;
    let address = Ipv6Addr::from(key.address).to_canonical();
    Some(Grant { id, workload, address, protocol, port, deadline_ns })
}

fn key_of(grant: &Grant) -> GrantKey {
    let address = match grant.address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    GrantKey {
        workload: grant.workload,
        address: address.octets(),
        port: grant.port,
        protocol: grant.protocol,
        reserved: [0; 5],
    }
}
