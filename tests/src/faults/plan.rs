//! What goes wrong, and at which call.

use nix::errno::Errno;

/// Kinds of calls a program makes to its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `write`, `pwrite`.
    Write,
    /// `fsync`, `fdatasync` of a file.
    Sync,
    /// `fsync` of a directory.
    SyncDir,
    /// `rename`.
    Rename,
    /// `open` that makes a file, `link`.
    Create,
    /// `open` of a file that is there, `opendir`.
    Open,
    /// `mkdir`.
    MakeDir,
    /// `unlink`, `rmdir`.
    Remove,
    /// `ftruncate`, and `open` that empties.
    Resize,
    /// `read`, `readdir`.
    Read,
    /// In a [`Fault`]: any of those that change something.
    Change,
}

impl Call {
    /// Those that change something.
    pub const CHANGES: [Self; 8] = [
        Self::Write,
        Self::Sync,
        Self::SyncDir,
        Self::Rename,
        Self::Create,
        Self::MakeDir,
        Self::Remove,
        Self::Resize,
    ];

    /// Whether a fault planned for `self` meets a call of the kind `made`.
    #[must_use]
    pub fn meets(self, made: Self) -> bool {
        self == made || (self == Self::Change && Self::CHANGES.contains(&made))
    }
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This call and the next `more` of its kind fail.
    Fail {
        /// With this error.
        errno: Errno,
        /// How many more.
        more: u64,
    },
    /// A write that takes only a part of its bytes; other calls are not touched.
    Short,
    /// The program is killed, before or after the call is done; the disk stays as it is.
    Kill {
        /// The call is still done.
        done: bool,
    },
    /// The machine loses power, before or after the call is done.
    CutPower {
        /// The call is still done (but is not durable because of that).
        done: bool,
    },
}

/// One fault: the `nth` call of a kind, counted from 1, from the moment it is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which calls count.
    pub call: Call,
    /// Which of them it is.
    pub nth: u64,
    /// What happens then.
    pub effect: Effect,
}
