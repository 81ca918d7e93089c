//! Rows of a server: whatever their bytes, a masked row has the same columns and nothing is left in
//! it to mask; a number planted in a column does not come out.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_gateway::mask_row;
use pcigate_policy::mask::Masker;
use pcigate_postgres::values::{Format, Values};

/// A published test number.
const PAN: &[u8] = b"4111111111111111";
const NUMBER: [u8; 8] = 4_111_111_111_111_111_i64.to_be_bytes();
/// Types of every shape, and one that nobody knows.
const TYPES: [u32; 16] =
    [16, 17, 20, 25, 114, 142, 700, 701, 1009, 1016, 1700, 2249, 2950, 3802, 3926, 99];

#[derive(Arbitrary, Debug)]
struct Column<'a> {
    kind: u8,
    binary: bool,
    null: bool,
    before: &'a [u8],
    /// 0 = nothing, 1 = digits, 2 = an int8, else nothing.
    planted: u8,
    after: &'a [u8],
}

fuzz_target!(|columns: Vec<Column<'_>>| {
    let kinds = columns.iter().map(|column| {
        let oid = TYPES[usize::from(column.kind) % TYPES.len()];
        (oid, if column.binary { Format::Binary } else { Format::Text })
    });
    let kinds: Vec<_> = kinds.collect();
    let texts: Vec<Vec<u8>> = columns
        .iter()
        .map(|column| match column.planted {
            // Alone, so that nothing around it makes it part of something else.
            1 => PAN.to_vec(),
            2 => NUMBER.to_vec(),
            _ => [column.before, column.after].concat(),
        })
        .collect();
    let given = columns.iter().zip(&texts);
    let given = given.map(|(column, text)| (!column.null).then_some(text.as_slice()));
    let Ok(values) = Values::new(given) else { return };
    let Ok(masked) = mask_row(&kinds, &values, Masker::standard()) else { return };
    let out = masked.unwrap_or_else(|| values.clone());
    assert_eq!(out.len(), values.len());
    let again = mask_row(&kinds, &out, Masker::standard()).expect("it was written once");
    assert!(again.is_none_or(|again| again == out), "masked again it is another");
    for ((oid, _), value) in kinds.iter().zip(out.iter()) {
        // A boolean of sixteen digits is nobody's.
        if *oid != 16 {
            assert_ne!(value, Some(PAN));
        }
    }
    for ((oid, format), value) in kinds.iter().zip(out.iter()) {
        if [20, 99].contains(oid) && *format == Format::Binary {
            assert_ne!(value, Some(NUMBER.as_slice()));
        }
    }
});
