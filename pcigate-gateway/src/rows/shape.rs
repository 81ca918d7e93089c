//! How the values of a type are written, by the type's OID (`pg_type.dat` for the server's own).

use std::collections::HashMap;

/// How values of a type are written, as far as masking needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Too short for card data, or of dates: passes as it is.
    Pass,
    /// Numbers of 8 bytes.
    Int8,
    /// Hundredths in 8 bytes; text with a currency and separators of thousands.
    Money,
    /// A count of bits, then the bits.
    Bits,
    Float4,
    Float8,
    Numeric,
    /// Bytes of text, the same in both formats.
    Text,
    Bytea,
    Uuid,
    Json,
    /// JSON behind a version byte in binary.
    Jsonb,
    /// In binary it names its elements' type. Whether those are texts, for the text format.
    Array {
        of_text: bool,
    },
    /// In binary each field names its type.
    Composite,
    /// Of this type.
    Range(u32),
    Multirange(u32),
    Hstore,
    /// Not known: looked at in every way, and NULL when anything is found that text cannot hold.
    Other,
}

/// Types of a database that are not the server's own.
pub(crate) type Types = HashMap<u32, Shape>;

/// The first OID that is not the server's own (`FirstNormalObjectId`).
pub(crate) const FIRST_OWN: u32 = 16_384;

impl Shape {
    pub(crate) fn of(oid: u32, types: &Types) -> Self {
        if oid >= FIRST_OWN {
            return types.get(&oid).copied().unwrap_or(Self::Other);
        }
        match oid {
            // bool, int2, int4, regproc, oid, tid, xid, cid.
            16 | 21 | 23 | 24 | 26 | 27 | 28 | 29 => Self::Pass,
            // date, time, timestamp, timestamptz, interval, timetz.
            1082 | 1083 | 1114 | 1184 | 1186 | 1266 => Self::Pass,
            // int8, xid8.
            20 | 5069 => Self::Int8,
            790 => Self::Money,
            // bit, varbit.
            1560 | 1562 => Self::Bits,
            700 => Self::Float4,
            701 => Self::Float8,
            1700 => Self::Numeric,
            // char, name, text, xml, bpchar, varchar, unknown, cstring, refcursor.
            18 | 19 | 25 | 142 | 1042 | 1043 | 705 | 2275 | 1790 => Self::Text,
            17 => Self::Bytea,
            2950 => Self::Uuid,
            114 => Self::Json,
            3802 => Self::Jsonb,
            // Arrays of text, varchar, bpchar, name, char, xml, cstring.
            1009 | 1015 | 1014 | 1003 | 1002 | 143 | 1263 => Self::Array { of_text: true },
            // Arrays of bytea, numbers, json, jsonb, uuid, dates, records.
            1000 | 1001 | 1005 | 1006 | 1007 | 1016 | 1021 | 1022 | 1028 | 1115 | 1182 | 1183
            | 1185 | 1187 | 1231 | 199 | 3807 | 2951 | 2287 | 1270 | 791 => {
                Self::Array { of_text: false }
            }
            2249 => Self::Composite,
            // int4range, numrange, tsrange, tstzrange, daterange, int8range.
            3904 => Self::Range(23),
            3906 => Self::Range(1700),
            3908 => Self::Range(1114),
            3910 => Self::Range(1184),
            3912 => Self::Range(1082),
            3926 => Self::Range(20),
            4451 => Self::Multirange(23),
            4532 => Self::Multirange(1700),
            4536 => Self::Multirange(20),
            _ => Self::Other,
        }
    }
}
