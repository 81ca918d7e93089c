//! Address prefixes as documents write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::yaml::shown;

/// A prefix of one address family. IPv6 prefixes never stand for IPv4 addresses: `::/0` is every
/// IPv6 address, `0.0.0.0/0` every IPv4 address (also where a socket writes it v4-mapped).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Every IPv4 address.
    pub const ALL_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), bits: 0 };
    /// Every IPv6 address.
    pub const ALL_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), bits: 0 };

    /// Reads `10.0.0.0/8` or `fd00::/8`.
    ///
    /// # Errors
    /// A sentence with the right spelling where it can be known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((address, bits)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => format!("{} has no length; write `{text}/32`", shown(text)),
                Ok(IpAddr::V6(_)) => format!("{} has no length; write `{text}/128`", shown(text)),
                Err(_) => not_a_prefix(text),
            });
        };
        let address: IpAddr = address.parse().map_err(|_| not_a_prefix(text))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits.parse::<u8>() {
            Ok(bits) if plain && bits <= width => bits,
            _ => return Err(format!("{}: the length must be 0 to {width}", shown(text))),
        };
        let right = Self { address, bits }.without_host_bits();
        if right.address != address {
            return Err(format!("{} has host bits set; write `{right}`", shown(text)));
        }
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
            && bits >= 96
        {
            let right = Self { address: IpAddr::V4(v4), bits: bits - 96 };
            return Err(format!("{} is an IPv4 prefix; write `{right}`", shown(text)));
        }
        Ok(right)
    }

    /// Whether the prefix covers an address, which must not be v4-mapped.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, bits: self.bits }.without_host_bits().address == self.address
    }

    /// Whether both have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Whether it is an IPv4 prefix.
    #[must_use]
    pub fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Address and length as the kernel holds them: IPv4 as v4-mapped, 96 + n.
    #[must_use]
    pub fn mapped(&self) -> (u128, u8) {
        match self.address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 96 + self.bits),
            IpAddr::V6(v6) => (v6.to_bits(), self.bits),
        }
    }

    fn without_host_bits(self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, bits: self.bits }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn not_a_prefix(text: &str) -> String {
    let text = shown(text);
    format!("{text} is not an address prefix; write it as `10.0.0.0/8` or `fd00::/8`")
}
