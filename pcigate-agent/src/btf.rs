//! The kernel's BTF: where a field lies in a struct. Reads `/sys/kernel/btf/vmlinux` and nothing
//! else; no relocation, no types beyond structs and unions.
//!
//! Format: Documentation/bpf/btf.rst. All reads are bounds-checked: bytes that are not BTF give an
//! error, never a panic.

use std::{io, path::Path};

/// Where the running kernel keeps its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// `typedef`, `volatile`, `const`, `restrict` and type tags: the type behind them is what counts.
const MODIFIERS: [u32; 5] = [8, 9, 10, 11, 18];
/// Anonymous structs nested deeper than this do not exist in the kernel.
const NESTING_MAX: u32 = 16;
/// Members looked at for one field; the kernel's largest structs have some hundred.
const MEMBERS_MAX: u32 = 10_000;

/// Why BTF cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there.
    #[error(
        "cannot read the kernel's type information at {path}: pcigate needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF (every Debian, Ubuntu, RHEL and COS kernel since 2020 is)"
    )]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The bytes are not BTF.
    #[error("the kernel's type information is malformed at byte {at}")]
    Malformed {
        /// Offset of the first wrong byte.
        at: usize,
    },
    /// A field does not exist in this kernel.
    #[error("this kernel has no field `{field}` in `struct {of}`, which pcigate reads")]
    NoField {
        /// The struct.
        of: String,
        /// The field.
        field: String,
    },
}

/// Parsed BTF: the raw bytes and where each type begins.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Byte offset of each type; index = type id, entry 0 is `void`.
    types: Vec<usize>,
}

impl Btf {
    /// Reads a BTF file.
    ///
    /// # Errors
    /// Unreadable or malformed.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path)
            .map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Self::parse(bytes)
    }

    /// Parses BTF bytes of this machine's byte order.
    ///
    /// # Errors
    /// Malformed.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let mut btf = Self { bytes, strings: 0, types: vec![0] };
        if btf.u16(0)? != MAGIC {
            return Err(BtfError::Malformed { at: 0 });
        }
        let header = btf.u32(4)? as usize;
        let (type_off, type_len) = (btf.u32(8)? as usize, btf.u32(12)? as usize);
        btf.strings = header.saturating_add(btf.u32(16)? as usize);
        let mut at = header.saturating_add(type_off);
        let end = at.saturating_add(type_len);
        while at < end {
            btf.types.push(at);
            at = at.saturating_add(btf.size_of_type(at)?);
        }
        Ok(btf)
    }

    /// Byte offset of `field` in `struct of`. Fields of anonymous members count as the struct's
    /// own, and `a.b` is field `b` of the struct that is field `a`.
    ///
    /// # Errors
    /// The kernel has no such field.
    pub fn offset(&self, of: &str, field: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::NoField { of: of.to_owned(), field: field.to_owned() };
        let mut id = self.find_struct(of)?.ok_or_else(missing)?;
        let (mut offset, mut budget) = (0_u32, MEMBERS_MAX);
        for part in field.split('.') {
            let (part_offset, part_type) =
                self.member(id, part, NESTING_MAX, &mut budget)?.ok_or_else(missing)?;
            offset = offset.checked_add(part_offset).ok_or(BtfError::Malformed { at: 0 })?;
            id = part_type;
        }
        Ok(offset)
    }

    fn find_struct(&self, name: &str) -> Result<Option<usize>, BtfError> {
        for (id, &at) in self.types.iter().enumerate().skip(1) {
            let info = self.u32(at + 4)?;
            let complete = info & 0xffff != 0;
            if kind(info) == KIND_STRUCT
                && complete
                && self.string(self.u32(at)?)? == name.as_bytes()
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// (byte offset, type id) of a member, looking into anonymous members.
    fn member(
        &self,
        id: usize,
        name: &str,
        depth: u32,
        budget: &mut u32,
    ) -> Result<Option<(u32, usize)>, BtfError> {
        let Some(&at) = self.types.get(id) else { return Ok(None) };
        let info = self.u32(at + 4)?;
        if depth > 0 && MODIFIERS.contains(&kind(info)) {
            return self.member(self.u32(at + 8)? as usize, name, depth - 1, budget);
        }
        if depth == 0 || !matches!(kind(info), KIND_STRUCT | KIND_UNION) {
            return Ok(None);
        }
        let bitfields = info >> 31 == 1;
        for i in 0..(info & 0xffff) as usize {
            let member = at + 12 + i * 12;
            *budget = budget.checked_sub(1).ok_or(BtfError::Malformed { at: member })?;
            let type_id = self.u32(member + 4)? as usize;
            let bits = self.u32(member + 8)?;
            let bytes = if bitfields { bits & 0x00ff_ffff } else { bits } / 8;
            let member_name = self.string(self.u32(member)?)?;
            if member_name == name.as_bytes() {
                return Ok(Some((bytes, type_id)));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.member(type_id, name, depth - 1, budget)?
            {
                let sum = bytes.checked_add(inner).ok_or(BtfError::Malformed { at: member })?;
                return Ok(Some((sum, found)));
            }
        }
        Ok(None)
    }

    /// Bytes a type takes, by kind.
    fn size_of_type(&self, at: usize) -> Result<usize, BtfError> {
        let info = self.u32(at + 4)?;
        let n = (info & 0xffff) as usize;
        let extra = match kind(info) {
            1 | 14 | 17 => 4, // int, var, decl tag
            3 => 12,          // array
            KIND_STRUCT | KIND_UNION => n * 12,
            6 | 13 => n * 8,           // enum, function prototype
            15 | 19 => n * 12,         // section, 64-bit enum
            2 | 7..=12 | 16 | 18 => 0, // pointer, forward, modifiers, function, float, type tag
            _ => return Err(BtfError::Malformed { at }),
        };
        Ok(12 + extra)
    }

    fn string(&self, offset: u32) -> Result<&[u8], BtfError> {
        let at = self.strings.saturating_add(offset as usize);
        let rest = self.bytes.get(at..).ok_or(BtfError::Malformed { at })?;
        let end = rest.iter().position(|&b| b == 0).ok_or(BtfError::Malformed { at })?;
        Ok(&rest[..end])
    }

    fn u16(&self, at: usize) -> Result<u16, BtfError> {
        let bytes = self.bytes.get(at..at.saturating_add(2)).and_then(|b| b.try_into().ok());
        bytes.map(u16::from_ne_bytes).ok_or(BtfError::Malformed { at })
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        let bytes = self.bytes.get(at..at.saturating_add(4)).and_then(|b| b.try_into().ok());
        bytes.map(u32::from_ne_bytes).ok_or(BtfError::Malformed { at })
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct s { int a; struct { int b; union { int c; }; }; }` as the compiler would write it.
    fn sample() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0c\0int\0";
        let (s, a, b, c, int) = (1u32, 3, 5, 7, 9);
        let mut types = Vec::new();
        let mut push = |words: &[u32]| types.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
        push(&[int, 1 << 24, 4, 32]); // 1: int
        push(&[0, 5 << 24 | 1, 4, c, 1, 0]); // 2: anonymous union
        push(&[0, 4 << 24 | 2, 8, b, 1, 0, 0, 2, 32]); // 3: anonymous struct
        push(&[s, 4 << 24 | 2, 12, a, 1, 0, 0, 3, 32]); // 4: struct s
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        let types_len = u32::try_from(types.len()).unwrap();
        let strings_len = u32::try_from(strings.len()).unwrap();
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn fields_of_anonymous_members_count_as_the_structs_own() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("s", "a").unwrap(), 0);
        assert_eq!(btf.offset("s", "b").unwrap(), 4);
        assert_eq!(btf.offset("s", "c").unwrap(), 8);
        assert!(matches!(btf.offset("s", "d"), Err(BtfError::NoField { .. })));
        assert!(matches!(btf.offset("t", "a"), Err(BtfError::NoField { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.offset("s", "a");
            }
        }

        #[test]
        fn a_flipped_byte_makes_no_panic(at in 0usize..200, value: u8) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.offset("s", "c");
            }
        }
    }
}
