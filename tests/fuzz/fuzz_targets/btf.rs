//! BTF: any bytes, and a damaged sample of each kind of type, give an offset or an error.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_agent::btf::Btf;
use pcigate_agent::offsets;
use pcigate_fuzz::damage::{Patch, damaged};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes(&'a [u8]),
    Damaged(Vec<Patch<'a>>),
    Graph(Vec<Type>),
}

/// A struct or union whose members may be of any type of the graph, itself included.
#[derive(Arbitrary, Debug)]
struct Type {
    named: bool,
    flags: u8,
    members: Vec<(u8, u8, u32)>,
}

fn file(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    let lengths = [24, 0, types.len(), types.len(), strings.len()];
    bytes.extend(lengths.iter().flat_map(|length| (*length as u32).to_ne_bytes()));
    [&bytes, types, strings].concat()
}

fn graph(types: &[Type]) -> Vec<u8> {
    let mut words = Vec::new();
    for one in types {
        let kind = if one.flags & 1 == 0 { 4 } else { 5 };
        let bitfields = u32::from(one.flags & 2) << 30;
        let members = one.members.len() as u32;
        words.extend([u32::from(one.named), bitfields | kind << 24 | members, 4]);
        for (name, id, bits) in &one.members {
            // Mostly anonymous; ids from 1.
            let name = if *name < 8 { 3 } else { 0 };
            words.extend([name, 1 + u32::from(*id) % types.len() as u32, *bits]);
        }
    }
    let types: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    file(&types, b"\0s\0a\0")
}

/// `struct s { int a; struct { int b; union { int c; }; }; const struct t d; }`, and one type of
/// every other kind.
fn sample() -> Vec<u8> {
    let strings = b"\0s\0a\0b\0c\0d\0e\0t\0";
    let (s, a, b, c, d, e, t) = (1_u32, 3, 5, 7, 9, 11, 13);
    let mut types: Vec<u8> = Vec::new();
    let mut push = |words: &[u32]| types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    push(&[0, 1 << 24, 4, 32]); // 1: int
    push(&[0, 5 << 24 | 1, 4, c, 1, 0]); // 2: anonymous union
    push(&[0, 4 << 24 | 2, 8, b, 1, 0, 0, 2, 32]); // 3: anonymous struct
    push(&[t, 4 << 24 | 1, 4, e, 1, 0]); // 4: struct t
    push(&[0, 10 << 24, 4]); // 5: const struct t
    push(&[s, 4 << 24 | 3, 16, a, 1, 0, 0, 3, 32, d, 5, 96]); // 6: struct s
    push(&[s, 1 << 31 | 4 << 24 | 1, 4, a, 1, 8 << 24 | 16]); // 7: with bit fields
    push(&[0, 2 << 24, 6]); // pointer
    push(&[0, 3 << 24, 0, 1, 1, 4]); // array
    push(&[s, 6 << 24 | 1, 4, a, 1]); // enum
    push(&[0, 13 << 24 | 1, 1, a, 1]); // function prototype
    push(&[s, 14 << 24, 1, 1]); // variable
    push(&[s, 15 << 24 | 1, 4, 12, 0, 4]); // section
    push(&[s, 17 << 24, 6, 0]); // declaration tag
    push(&[s, 19 << 24 | 1, 8, a, 1, 1]); // 64-bit enum
    file(&types, strings)
}

fuzz_target!(|input: Input<'_>| {
    let bytes = match input {
        Input::Bytes(bytes) => bytes.to_vec(),
        Input::Graph(types) => graph(&types),
        Input::Damaged(patches) => damaged(&sample(), &[], &patches),
    };
    let Ok(btf) = Btf::parse(bytes) else { return };
    for (of, field) in [("s", "a"), ("s", "c"), ("s", "d.e"), ("t", "e"), ("", ""), ("s", "x")] {
        let _ = btf.offset(of, field);
    }
    let _ = offsets::find(&btf);
});
