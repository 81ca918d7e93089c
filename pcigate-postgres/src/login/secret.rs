//! A secret in memory: cannot be printed, and is overwritten when it goes.

use zeroize::Zeroizing;

/// Bytes that nobody else may see: a password, or a message that holds one. There is no `Debug`, no
/// `Display`, and no `Clone`.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes them over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// To be used, and not to be copied.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
