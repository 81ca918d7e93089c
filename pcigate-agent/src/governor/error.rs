//! Why a workload is not governed as its policies say.

use std::{io, path::PathBuf};

use pcigate_policy::{entries::CompileError, mask::SettingsError};

use crate::enforcer::TableError;

/// Why a workload is not governed as its policies say. The kernel keeps what it had.
#[derive(Debug, thiserror::Error)]
pub enum GovernError {
    /// The policies do not compile.
    #[error("the policies of {pod} cannot be compiled")]
    Compile {
        /// `namespace/pod`.
        pod: String,
        /// Why.
        #[source]
        source: CompileError,
    },
    /// Together they mask more than can be.
    #[error("the `mask` of all policies of {pod} together cannot be used")]
    Mask {
        /// `namespace/pod`.
        pod: String,
        /// Why.
        #[source]
        source: SettingsError,
    },
    /// The kernel has no room or refuses.
    #[error("the policies of {pod} cannot be put into the kernel")]
    Tables {
        /// `namespace/pod`.
        pod: String,
        /// Why.
        #[source]
        source: TableError,
    },
    /// The names cannot be kept for the next agent.
    #[error("cannot write {path} (stateDir): the next agent could not name what this one governs")]
    Names {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
