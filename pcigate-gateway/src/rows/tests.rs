//! Every shape of value, malformed ones included; and that masking twice is masking once.

use pcigate_policy::mask::Masker;
use pcigate_postgres::values::{Format, Values};
use proptest::prelude::*;

use super::binary::put_value;
use super::mask_row;

const PAN: &str = "4111111111111111";
const NUMBER: i64 = 4_111_111_111_111_111;

fn masked(oid: u32, format: Format, value: &[u8]) -> Option<Vec<u8>> {
    let values = Values::new([Some(value)]).unwrap();
    let new = mask_row(&[(oid, format)], &values, Masker::standard()).unwrap().unwrap_or(values);
    new.iter().next().unwrap().map(<[u8]>::to_vec)
}

fn array(oid: u32, elements: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    let nulls = i32::from(elements.iter().any(Option::is_none));
    let length = i32::try_from(elements.len()).unwrap();
    for number in [1, nulls, oid.cast_signed(), length, 1] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    elements.iter().for_each(|element| put_value(*element, &mut out).unwrap());
    out
}

#[test]
fn what_a_type_cannot_hold_is_null_and_what_it_can_is_masked() {
    let text = |value: &str| Some(value.as_bytes().to_vec());
    let int8 = NUMBER.to_be_bytes();
    for oid in [20, 701, 1700] {
        assert_eq!(masked(oid, Format::Text, PAN.as_bytes()), None, "{oid}");
    }
    assert_eq!(masked(20, Format::Binary, &int8), None);
    assert_eq!(masked(20, Format::Binary, &7_i64.to_be_bytes()), Some(7_i64.to_be_bytes().into()));
    assert_eq!(masked(701, Format::Binary, &(NUMBER as f64).to_be_bytes()), None);
    assert_eq!(masked(25, Format::Binary, PAN.as_bytes()), text("411111******1111"));
    assert_eq!(masked(1043, Format::Text, PAN.as_bytes()), text("411111******1111"));
    assert_eq!(masked(114, Format::Text, b"{\"a\":4111111111111111}"), None);
    let json = masked(114, Format::Text, b"{\"a\":\"4111111111111111\"}");
    assert_eq!(json, text("{\"a\":\"411111******1111\"}"));
    let jsonb = masked(3802, Format::Binary, b"\x01{\"a\":\"4111111111111111\"}");
    assert_eq!(jsonb, text("\u{1}{\"a\":\"411111******1111\"}"));
    assert_eq!(masked(9_999_999, Format::Binary, &int8), None);
}

#[test]
fn values_inside_of_values_are_masked_where_they_stand() {
    let number = NUMBER.to_be_bytes();
    let bigs = array(20, &[Some(&number), Some(&1_i64.to_be_bytes())]);
    assert_eq!(
        masked(1016, Format::Binary, &bigs),
        Some(array(20, &[None, Some(&1_i64.to_be_bytes())]))
    );
    let texts = array(25, &[Some(PAN.as_bytes()), None, Some(b"x")]);
    let wanted = array(25, &[Some(b"411111******1111"), None, Some(b"x")]);
    assert_eq!(masked(1009, Format::Binary, &texts), Some(wanted));
    let clean = array(25, &[Some(b"y"), None]);
    assert_eq!(masked(1009, Format::Binary, &clean), Some(clean));
    let mut record = 2_i32.to_be_bytes().to_vec();
    for (oid, value) in [(20_u32, number.as_slice()), (25, PAN.as_bytes())] {
        record.extend_from_slice(&oid.to_be_bytes());
        put_value(Some(value), &mut record).unwrap();
    }
    let mut wanted = 2_i32.to_be_bytes().to_vec();
    wanted.extend_from_slice(&20_u32.to_be_bytes());
    put_value(None, &mut wanted).unwrap();
    wanted.extend_from_slice(&25_u32.to_be_bytes());
    put_value(Some(b"411111******1111"), &mut wanted).unwrap();
    assert_eq!(masked(2249, Format::Binary, &record), Some(wanted));
    let mut range = vec![2];
    put_value(Some(&number), &mut range).unwrap();
    assert_eq!(masked(3926, Format::Binary, &range), None);
}

#[test]
fn amounts_bits_and_what_is_made_of_floats_hold_no_numbers() {
    let cents = |number: i64| number.to_be_bytes();
    assert_eq!(masked(790, Format::Binary, &cents(NUMBER * 100)), None);
    assert_eq!(masked(790, Format::Binary, &cents(NUMBER)), None);
    for shown in ["$4,111,111,111,111,111.00", "-4.111.111.111.111.111,99 EUR"] {
        assert_eq!(masked(790, Format::Text, shown.as_bytes()), None, "{shown}");
    }
    assert_eq!(masked(790, Format::Text, b"$1,234.50"), Some(b"$1,234.50".to_vec()));
    assert_eq!(masked(790, Format::Binary, &cents(123_450)), Some(cents(123_450).into()));
    let bits = |count: u32, number: i64| [&count.to_be_bytes()[..], &number.to_be_bytes()].concat();
    for (count, number) in [(64, NUMBER), (60, NUMBER << 4)] {
        assert_eq!(masked(1562, Format::Binary, &bits(count, number)), None, "{count}");
    }
    assert_eq!(masked(1562, Format::Binary, &bits(64, 7)), Some(bits(64, 7)));
    let floats =
        |all: &[f64]| -> Vec<u8> { all.iter().flat_map(|one| one.to_be_bytes()).collect() };
    let big = NUMBER as f64;
    assert_eq!(masked(600, Format::Binary, &floats(&[1.0, big])), None);
    assert_eq!(masked(600, Format::Binary, &floats(&[1.5, 2.0])), Some(floats(&[1.5, 2.0])));
    assert_eq!(masked(718, Format::Binary, &floats(&[0.0, 0.0, big])), None);
    let polygon = [&1_i32.to_be_bytes()[..], &floats(&[-big, 0.0])].concat();
    assert_eq!(masked(604, Format::Binary, &polygon), None);
    // As in COPY, where nobody says what type a value has.
    assert_eq!(masked(99, Format::Binary, &array(20, &[Some(&NUMBER.to_be_bytes())])), None);
    let plain = array(20, &[Some(&7_i64.to_be_bytes())]);
    assert_eq!(masked(99, Format::Binary, &plain), Some(plain));
}

#[test]
fn zeros_in_front_and_commas_do_not_hide_a_number() {
    assert_eq!(masked(25, Format::Text, b"0004111111111111111"), Some(vec![b'*'; 19]));
    assert_eq!(masked(25, Format::Text, b"4,111,111,111,111,111"), Some(vec![b'*'; 21]));
    for other in ["0000000000000000000", "0000012", "1,234,567.89", "0093901.57763026"] {
        assert_eq!(masked(25, Format::Text, other.as_bytes()), Some(other.into()), "{other}");
    }
}

#[test]
fn malformed_values_are_null() {
    for (oid, value) in [
        (20, &b"123"[..]),
        (701, PAN.as_bytes()),
        (1700, b"\0\x01"),
        (1016, b"\0\0\0\x01"),
        (2249, b"\0\0\0\x05xx"),
    ] {
        assert_eq!(masked(oid, Format::Binary, value), None, "{oid}");
    }
}

#[test]
fn a_number_in_two_computed_columns_or_backwards_is_starred() {
    let values = Values::new([Some(&b"41111111"[..]), Some(b"11111111")]).unwrap();
    let types = [(25, Format::Text), (25, Format::Text)];
    let new = mask_row(&types, &values, Masker::standard()).unwrap().unwrap();
    assert!(new.iter().all(|value| value == Some(b"********")));
    let back: Vec<u8> = b"4000000000000002".iter().rev().copied().collect();
    assert_eq!(masked(25, Format::Text, &back), Some(vec![b'*'; 16]));
}

proptest! {
    #[test]
    fn a_masked_row_masked_again_stays_as_it_is(
        columns in prop::collection::vec(
            (
                prop::sample::select(vec![
                    16_u32, 17, 20, 25, 114, 701, 1009, 1016, 1700, 2249, 2950, 3802, 3926, 4536,
                    99, 600, 790, 1562,
                ]),
                any::<bool>(),
                prop::option::of(prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..64),
                    Just(PAN.as_bytes().to_vec()),
                    Just(NUMBER.to_be_bytes().to_vec()),
                    Just(array(20, &[Some(&NUMBER.to_be_bytes())])),
                    Just(b"{\"cvv\": \"123\", \"pan\": 4111111111111111}".to_vec()),
                ]),
            ),
            0..6,
        ),
    ) {
        let format = |binary| if binary { Format::Binary } else { Format::Text };
        let types: Vec<_> =
            columns.iter().map(|(oid, binary, _)| (*oid, format(*binary))).collect();
        let values = Values::new(columns.iter().map(|(_, _, value)| value.as_deref())).unwrap();
        if let Some(once) = mask_row(&types, &values, Masker::standard()).unwrap() {
            prop_assert_eq!(once.len(), values.len());
            let twice = mask_row(&types, &once, Masker::standard()).unwrap();
            prop_assert!(twice.is_none_or(|twice| twice == once));
        }
    }
}

#[test]
fn a_number_is_known_by_its_whole_part_however_it_is_written() {
    for (oid, text) in [
        (1700, "4111111111111111.0"),
        (1700, "-4111111111111111.00"),
        (701, "4.111111111111111e+15"),
        (700, "4111111111111111"),
        (790, "4111111111111111"),
    ] {
        assert_eq!(masked(oid, Format::Text, text.as_bytes()), None, "{text}");
    }
    assert_eq!(masked(701, Format::Text, b"4.25e-7"), Some(b"4.25e-7".to_vec()));
    assert_eq!(masked(701, Format::Text, b"NaN"), Some(b"NaN".to_vec()));
}
