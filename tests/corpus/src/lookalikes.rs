//! Look-alikes: what is made of digits and is no card number.

use crate::fill::{date, filler, time, uuid};
use crate::number::{Number, check_digit};
use crate::rng::Rng;
use crate::text::{Line, Text};

/// Makes one value of a class.
type Make = fn(&mut Rng) -> String;

/// A class: its name, the keys it is found under, how its values are made.
struct Class(&'static str, &'static [&'static str], Make);

/// Classes in which nothing at all may be found.
pub const NEVER: &[&str] = &[
    "uuid",
    "UUID",
    "uuid7",
    "uuid bare",
    "epoch s",
    "epoch ms",
    "epoch us",
    "epoch ns",
    "time",
    "time digits",
    "imei",
    "imei grouped",
    "decimal",
    "float list",
    "coordinates",
    "amount",
    "iban",
    "iban grouped",
];

const CLASSES: &[Class] = &[
    Class("uuid", &["request_id", "id", "trace"], |rng| uuid(rng, '4')),
    Class("UUID", &["GUID", "id"], |rng| uuid(rng, '4').to_uppercase()),
    Class("uuid7", &["event_id", "id"], uuid7),
    Class("uuid bare", &["id", "key", "uid"], |rng| uuid(rng, '4').replace('-', "")),
    Class("ulid", &["id", "ulid"], |rng| format!("01{}", rng.string(CROCKFORD, 24))),
    Class("imei", &["imei", "device"], imei),
    Class("imei grouped", &["imei", "IMEI"], imei_grouped),
    Class("imsi", &["imsi", "sim"], |rng| format!("{}{}", pick(rng, MCC), rng.digits(12))),
    Class("iccid", &["iccid", "sim"], iccid),
    Class("isbn 13", &["isbn", "book"], |rng| ean(rng, "978")),
    Class("isbn grouped", &["ISBN", "isbn"], isbn_grouped),
    Class("ean 13", &["ean", "gtin", "barcode"], |rng| ean(rng, "")),
    Class("gtin 14", &["gtin", "sku"], |rng| format!("1{}", ean(rng, ""))),
    Class("mac", &["mac", "hw"], mac),
    Class("decimal", &["ratio", "score", "value", "p"], decimal),
    Class("float list", &["embedding", "weights"], floats),
    Class("coordinates", &["pos", "geo"], coordinates),
    Class("amount", &["total", "amount"], |rng| {
        format!("{},{},{}.{}", rng.within(1, 999), rng.digits(3), rng.digits(3), rng.digits(2))
    }),
    Class("git hash", &["commit", "sha"], |rng| rng.hex(40)),
    Class("short hash", &["commit", "rev"], |rng| rng.hex(12)),
    Class("sha256", &["sha256", "digest"], |rng| rng.hex(64)),
    Class("md5", &["md5", "etag"], |rng| rng.hex(32)),
    Class("epoch s", &["ts", "exp", "iat"], |rng| {
        rng.within(1_600_000_000, 1_899_999_999).to_string()
    }),
    Class("epoch ms", &["ts", "time"], |rng| epoch(rng, 3)),
    Class("epoch us", &["ts", "time"], |rng| epoch(rng, 6)),
    Class("epoch ns", &["ts", "time_unix_nano"], |rng| epoch(rng, 9)),
    Class("time", &["time", "at"], time),
    Class("time digits", &["ts", "file"], time_digits),
    Class("order 16", &["order", "order_id", "ref"], sixteen),
    Class("invoice", &["invoice", "bill"], |rng| {
        format!("INV-{}-{}", rng.within(2019, 2027), rng.digits(6))
    }),
    Class("tracking", &["tracking", "parcel"], tracking),
    Class("snowflake", &["id", "tweet", "message_id"], snowflake),
    Class("iban", &["iban", "account"], iban),
    Class("iban grouped", &["IBAN", "account"], |rng| fours(&iban(rng))),
    Class("phone", &["phone", "tel", "to"], phone),
    Class("ip 4", &["ip", "peer"], |rng| String::from_utf8_lossy(&filler(rng, "ip")).into_owned()),
    Class("ip 6", &["ip", "peer"], |rng| fours_with(&rng.hex(32), ':')),
    Class("base64 blob", &["data", "token"], blob),
    Class("hex blob", &["data", "sig"], |rng| rng.hex(200)),
    Class("trace parent", &["traceparent", "b3"], |rng| {
        format!("00-{}-{}-01", rng.hex(32), rng.hex(16))
    }),
    Class("span id", &["span", "span_id"], |rng| rng.hex(16)),
    Class("object id", &["_id", "oid"], |rng| rng.hex(24)),
    Class("wrong check digit", &["value", "n"], wrong_check),
    Class("too long", &["n", "bits", "serial"], |rng| rng.digits(24)),
    Class("masked card", &["card", "pan"], masked),
    Class("counters", &["stat", "load"], counters),
    Class("number column", &["ids", "sizes"], |rng| {
        let most = *rng.pick(&[1_000, 100_000, 10_000_000, 1_000_000_000]);
        (0..6).map(|_| rng.below(most).to_string()).collect::<Vec<_>>().join("\n")
    }),
    Class("table row", &["", ""], table_row),
    Class("version", &["version", "build"], |rng| {
        format!("{}.{}.{}-{}", rng.below(30), rng.below(99), rng.below(9999), rng.digits(8))
    }),
    Class("national id", &["ssn", "sin"], |rng| {
        format!("{}-{}-{}", rng.digits(3), rng.digits(2), rng.digits(4))
    }),
    Class("gpio", &["pin", "cid", "exp"], |rng| format!("{}", rng.within(10_000, 99_999))),
    Class("status", &["status", "code", "line"], |rng| rng.within(100, 999).to_string()),
    Class("date range", &["from", "period"], |rng| format!("{}/{}", date(rng), date(rng))),
    Class("pod", &["pod", "host"], |rng| {
        format!("billing-{}-{}", rng.hex(10), rng.string("bcdfghjklmnpqrstvwxz2456789", 5))
    }),
];

const CROCKFORD: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const MCC: &[&str] = &["310", "262", "234", "208", "460"];

/// The names of all classes.
#[must_use]
pub fn look_alike_classes() -> Vec<&'static str> {
    CLASSES.iter().map(|Class(name, ..)| *name).collect()
}

/// Where a value stands.
const TEMPLATES: &[&str] = &[
    "{\"time\":\"«time»\",\"level\":\"info\",\"«key»\":\"«value»\",\"n\":«n»}",
    "{\"«key»\": \"«value»\", \"city\": \"«city»\"}",
    "«time» INFO «word» «key»=«value» took «n» ms",
    "«n»,«name»,«value»,«amount»,«city»",
    "INSERT INTO events VALUES («n», '«name»', '«value»', '«date»');",
    "«n»\t«value»\t«city»\t\\N",
    "GET /v1/«word»/«value»?page=«n» HTTP/1.1",
    "«key»: «value»",
    "«value»",
    "--«key»=«value» --retries 3",
];

/// `each` lines of every class.
#[must_use]
pub fn look_alikes(seed: u64, each: usize) -> Vec<Line> {
    let mut rng = Rng::new(seed, "look-alikes");
    let mut lines = Vec::new();
    for class in CLASSES {
        lines.extend((0..each).map(|_| look_alike(&mut rng, class)));
    }
    lines
}

/// One line of any class.
pub fn any_look_alike(rng: &mut Rng) -> Line {
    let class = rng.pick(CLASSES);
    look_alike(rng, class)
}

fn look_alike(rng: &mut Rng, Class(class, keys, make): &Class) -> Line {
    let (key, value) = (Text::plain(pick(rng, keys)), Text::plain(make(rng)));
    let template = *rng.pick(TEMPLATES);
    let text = crate::fill::fill(rng, template, &[("key", &key), ("value", &value)]);
    Line { class, text }
}

fn pick(rng: &mut Rng, of: &[&'static str]) -> &'static str {
    rng.pick::<&str>(of)
}

fn uuid7(rng: &mut Rng) -> String {
    let milliseconds = format!("{:012x}", rng.within(1_700_000_000_000, 1_800_000_000_000));
    let rest = uuid(rng, '7');
    format!("{}-{}{}", &milliseconds[..8], &milliseconds[8..], &rest[13..])
}

fn imei(rng: &mut Rng) -> String {
    let body = format!("{}{}", pick(rng, &["35", "86", "01", "99"]), rng.digits(12));
    format!("{body}{}", check_digit(&body))
}

fn imei_grouped(rng: &mut Rng) -> String {
    let (imei, separator) = (imei(rng), if rng.chance(50) { "-" } else { " " });
    [&imei[..2], &imei[2..8], &imei[8..14], &imei[14..]].join(separator)
}

fn iccid(rng: &mut Rng) -> String {
    let length = if rng.chance(50) { 16 } else { 17 };
    let body = format!("89{}", rng.digits(length));
    format!("{body}{}", check_digit(&body))
}

/// With the check digit of GS1, whose weights are 1 and 3.
fn ean(rng: &mut Rng, prefix: &str) -> String {
    let body = format!("{prefix}{}", rng.digits(12 - prefix.len()));
    let weight =
        |(place, digit): (usize, u8)| u32::from(digit - b'0') * if place % 2 == 0 { 1 } else { 3 };
    let sum: u32 = body.bytes().enumerate().map(weight).sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn isbn_grouped(rng: &mut Rng) -> String {
    let isbn = ean(rng, "978");
    [&isbn[..3], &isbn[3..4], &isbn[4..8], &isbn[8..12], &isbn[12..]].join("-")
}

fn mac(rng: &mut Rng) -> String {
    let separator = if rng.chance(50) { ":" } else { "-" };
    (0..6).map(|_| rng.hex(2)).collect::<Vec<_>>().join(separator)
}

fn decimal(rng: &mut Rng) -> String {
    let length = *rng.pick(&[12, 13, 15, 16, 16, 17, 19]);
    let digits = rng.digits(length);
    match rng.below(6) {
        0 => format!("-0.{digits}"),
        1 => format!("{}.{digits}", rng.below(10_000)),
        2 => format!("{}.{digits}e-{}", rng.below(10), rng.within(1, 20)),
        3 => format!("{}{digits}.{}", rng.within(1, 9), rng.below(100)),
        4 => format!("{}.{} %", rng.below(100), rng.digits(14)),
        _ => format!("0.{digits}"),
    }
}

fn floats(rng: &mut Rng) -> String {
    let mut float = || {
        let sign = if rng.chance(50) { "-" } else { "" };
        let length = *rng.pick(&[8, 15, 16, 17]);
        format!("{sign}{}.{}", rng.below(3), rng.digits(length))
    };
    (0..6).map(|_| float()).collect::<Vec<_>>().join(", ")
}

fn coordinates(rng: &mut Rng) -> String {
    let (north, east) = (rng.below(90), rng.below(180));
    format!("{north}.{},-{east}.{}", rng.digits(14), rng.digits(13))
}

fn epoch(rng: &mut Rng, fraction: usize) -> String {
    format!("{}{}", rng.within(1_600_000_000, 1_899_999_999), rng.digits(fraction))
}

fn time_digits(rng: &mut Rng) -> String {
    let day = date(rng);
    let (hour, minute, second) = (rng.below(24), rng.below(60), rng.below(60));
    let compact = format!("{}{hour:02}{minute:02}{second:02}", day.replace('-', ""));
    match rng.below(7) {
        0 => compact + &rng.digits(3),
        1 => compact + &rng.digits(6),
        2 => format!("{}T{hour:02}{minute:02}{second:02}Z", day.replace('-', "")),
        3 => format!("{day} {hour:02}:{minute:02}:{second:02},{}", rng.digits(3)),
        4 => format!("{} {hour:02}{minute:02}{second:02}", day.replace('-', "")),
        5 => format!("{}.{}", rng.within(1_600_000_000, 1_899_999_999), rng.digits(6)),
        _ => compact,
    }
}

fn sixteen(rng: &mut Rng) -> String {
    format!("{}{}", rng.within(1, 9), rng.digits(15))
}

fn tracking(rng: &mut Rng) -> String {
    match rng.below(5) {
        0 => format!("1Z{}{}", rng.string("0123456789ABCDEFGHX", 6), rng.digits(10)),
        1 => rng.digits(12),
        2 => rng.digits(15),
        3 => format!("9400{}", rng.digits(18)),
        _ => format!("JJD{}", rng.digits(18)),
    }
}

fn snowflake(rng: &mut Rng) -> String {
    rng.within(700_000_000_000_000_000, 1_900_000_000_000_000_000).to_string()
}

fn iban(rng: &mut Rng) -> String {
    // Country, bank in letters, digits.
    let (country, bank, digits) = *rng.pick(&[
        ("DE", "", 18),
        ("ES", "", 20),
        ("PT", "", 21),
        ("GB", "NWBK", 14),
        ("NL", "ABNA", 10),
        ("BE", "", 12),
        ("AT", "", 16),
        ("DK", "", 14),
        ("FI", "", 14),
        ("SE", "", 20),
        ("CZ", "", 20),
        ("PL", "", 24),
        ("EE", "", 16),
        ("CH", "", 17),
        ("IE", "AIBK", 14),
    ]);
    format!("{country}{}{bank}{}", rng.digits(2), rng.digits(digits))
}

fn fours(text: &str) -> String {
    fours_with(text, ' ')
}

fn fours_with(text: &str, separator: char) -> String {
    let mut grouped = String::new();
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 4 == 0 {
            grouped.push(separator);
        }
        grouped.push(c);
    }
    grouped
}

fn phone(rng: &mut Rng) -> String {
    match rng.below(4) {
        0 => format!("+49 1{} {}", rng.digits(2), rng.digits(8)),
        1 => format!("({}) {}-{}", rng.digits(3), rng.digits(3), rng.digits(4)),
        2 => format!("+55119{}", rng.digits(8)),
        _ => format!("00{}-{}-{}", rng.digits(2), rng.digits(3), rng.digits(7)),
    }
}

fn blob(rng: &mut Rng) -> String {
    let bytes = rng.bytes(90);
    String::from_utf8_lossy(&crate::encode::base64(&bytes).bytes).into_owned()
}

/// A card number with another last digit.
fn wrong_check(rng: &mut Rng) -> String {
    let digits = Number::any(rng).digits;
    let (body, last) = digits.split_at(digits.len() - 1);
    let right: u64 = last.parse().unwrap_or_default();
    format!("{body}{}", (right + rng.within(1, 9)) % 10)
}

fn masked(rng: &mut Rng) -> String {
    let number = Number::any(rng).digits;
    let (first, last) = (&number[..6], &number[number.len() - 4..]);
    let star = pick(rng, &["*", "X", "x", "#"]);
    format!("{first}{}{last}", star.repeat(number.len() - 10))
}

fn counters(rng: &mut Rng) -> String {
    let separator = if rng.chance(50) { " " } else { "  " };
    (0..8).map(|_| rng.below(100_000).to_string()).collect::<Vec<_>>().join(separator)
}

fn table_row(rng: &mut Rng) -> String {
    (0..6).map(|_| format!("{:>9}", rng.below(10_000_000))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_of_which_nothing_may_be_found_exist() {
        for name in NEVER {
            assert!(look_alike_classes().contains(name), "{name}");
        }
        assert_eq!(look_alikes(1, 2).len(), look_alike_classes().len() * 2);
    }
}
