//! The life of a grant on this node: put into the kernel, revoked or expired, its connections
//! closed.
//!
//! The kernel stops a grant at its deadline by itself, also when this process is gone; nothing here
//! is needed for that. What is here takes the entry out and tells both ends of its connections.

use nix::time::{ClockId, clock_gettime};

use crate::{
    cgroup::{self, CgroupError},
    connections::{self, CloseError, Destination},
    enforcer::{Grant, TableError},
    governor::Governor,
};

/// Why a grant is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No workload of this id is governed.
    #[error(
        "grant {id} is for cgroup {workload}, which is not governed: name a workload of this node"
    )]
    NotGoverned {
        /// The grant.
        id: u64,
        /// Its workload.
        workload: u64,
    },
    /// The kernel's tables refuse.
    #[error("the kernel does not take the change of grant {id}")]
    Tables {
        /// The grant.
        id: u64,
        /// Why.
        #[source]
        source: TableError,
    },
}

/// A grant that is over.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub grant: Grant,
    /// Connections that were closed; packets of all others are dropped.
    pub closed: Result<usize, CloseError>,
}

impl Governor {
    /// Lets a workload reach a destination until a deadline. An id that is there already has its
    /// deadline moved. The grant that it replaces, if any, ends with its connections.
    ///
    /// # Errors
    /// The workload is not governed, or the kernel refuses; nothing has changed then.
    pub fn grant(&mut self, grant: Grant) -> Result<Option<Ended>, GrantError> {
        let (id, workload) = (grant.id, grant.workload);
        if !self.governs(workload) {
            return Err(GrantError::NotGoverned { id, workload });
        }
        let refused = |source| GrantError::Tables { id, source };
        Ok(self.grants().put(grant).map_err(refused)?.map(end))
    }

    /// Ends a grant now; `None` where there is none of this id.
    ///
    /// # Errors
    /// The kernel refuses: the grant holds until its deadline.
    pub fn revoke(&mut self, id: u64) -> Result<Option<Ended>, GrantError> {
        let refused = |source| GrantError::Tables { id, source };
        Ok(self.grants().remove(id).map_err(refused)?.map(end))
    }

    /// Closes what grants left that the kernel has stopped: to be called a few times a second.
    ///
    /// # Errors
    /// The kernel refuses to remove an entry, which counts for nothing any more.
    pub fn end_expired_grants(&mut self) -> Result<Vec<Ended>, TableError> {
        Ok(self.grants().remove_expired(now_ns())?.into_iter().map(end).collect())
    }
}

/// The clock of deadlines: ns since boot, suspended time included. The end of time where it cannot
/// be read, which is never.
#[must_use]
pub fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(u64::MAX, |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
    })
}

fn end(grant: Grant) -> Ended {
    let closed = match path(&grant) {
        Ok(Some(cgroup)) => {
            let Grant { address, protocol, port, .. } = grant;
            connections::close(&cgroup, &Destination { address, protocol, port })
        }
        // With the workload its sockets are gone.
        Ok(None) => Ok(0),
        Err(error) => {
            let source = std::io::Error::other(error);
            Err(CloseError::Cgroup { path: "cgroup2".into(), source })
        }
    };
    Ended { grant, closed }
}

fn path(grant: &Grant) -> Result<Option<std::path::PathBuf>, CgroupError> {
    Ok(connections::cgroup_of(&cgroup::mount_point()?, grant.workload))
}
