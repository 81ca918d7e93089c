//! Blocks of `PORTS`: what prefixes and names say of protocols and ports, each list once a policy.

use std::collections::HashMap;

use pcigate_common::maps::{Decision, PortKey, block};

use super::{DECISION, Installed, PORT, TableError, Tables, bytes, write};

/// (protocol, port, answer), sorted; 0 = any.
type Ports = [(u8, u16, Decision)];

/// The blocks of a policy that is being written. The prefixes of a rule mostly say the same: one
/// block for all of them takes less room, and less of the processors' caches.
pub(super) type Blocks<'a> = HashMap<&'a Ports, u32>;

impl Tables {
    /// The number of a block that holds `ports`, written now where the policy has none.
    pub(super) fn write_block<'a>(
        &mut self,
        ports: &'a Ports,
        written: &mut Blocks<'a>,
        into: &mut Installed,
    ) -> Result<u32, TableError> {
        if let Some(&block) = written.get(ports) {
            return Ok(block);
        }
        let block = self.next_block | kinds(ports);
        self.next_block = ((self.next_block + 1) % block::NUMBERS).max(1);
        for &(protocol, port, decision) in ports {
            let port = PortKey { block, port, protocol, reserved: 0 };
            into.ports.push(port);
            self.ports
                .insert(bytes::<_, PORT>(&port), bytes::<_, DECISION>(&decision), 0)
                .map_err(write("PORTS"))?;
        }
        written.insert(ports, block);
        Ok(block)
    }
}

/// The bits that say which keys there are.
fn kinds(ports: &Ports) -> u32 {
    ports.iter().fold(0, |kinds, &(protocol, port, _)| match (protocol, port) {
        (0, _) => kinds,
        (_, 0) => kinds | block::PROTOCOLS,
        _ => kinds | block::PORTS,
    })
}

#[cfg(test)]
mod tests {
    use pcigate_common::maps::{rule, verdict};

    use super::*;

    #[test]
    fn the_number_of_a_block_says_which_keys_it_has() {
        let deny = Decision::enforced(verdict::DENY, rule::DEFAULT);
        assert_eq!(kinds(&[(0, 0, deny)]), 0);
        assert_eq!(kinds(&[(0, 0, deny), (6, 0, deny)]), block::PROTOCOLS);
        assert_eq!(kinds(&[(0, 0, deny), (6, 443, deny)]), block::PORTS);
        let all = block::PORTS | block::PROTOCOLS;
        assert_eq!(kinds(&[(0, 0, deny), (17, 0, deny), (17, 53, deny)]), all);
    }
}
