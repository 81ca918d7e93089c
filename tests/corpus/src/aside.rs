//! Sensitive authentication data: tracks, codes, PIN blocks and expiry dates, where they are such.

use crate::encode;
use crate::fill::{FIELDS, PROSE, TOKENS, fill};
use crate::number::Number;
use crate::rng::Rng;
use crate::text::{Kind, Line, Text};

/// Keys of verification codes.
const CVV_KEYS: &[&str] = &[
    "cvv",
    "CVV2",
    "cvc",
    "cvc2",
    "cid",
    "cav2",
    "csc",
    "cvn",
    "card_cvv",
    "security_code",
    "securityCode",
];
const EXPIRY_KEYS: &[&str] =
    &["exp", "expiry", "exp_date", "expDate", "expiration", "card_exp", "expires"];
const PIN_KEYS: &[&str] = &["pin", "pinblock", "pin_block", "pinBlock", "PIN"];

/// How a key and its value stand together.
const PAIRS: &[(&str, &str)] = &[
    ("json", "{\"time\":\"«time»\",\"«key»\":\"«value»\",\"n\":«n»}"),
    ("json", "{\"«key»\": \"«value»\", \"name\": \"«name»\"}"),
    ("command", "/opt/pay/bin/charge --«key»=«value» --currency EUR"),
    ("log", "«time» WARN «key»: «value» rejected"),
    ("environment", "«key»=«value»"),
    ("url", "GET /charge?«key»=«value»&amount=«cents» HTTP/1.1"),
    ("xml", "<card><«key»>«value»</«key»></card>"),
    ("yaml", "  «key»: «value»"),
];

/// A number with what follows it on paper.
const BESIDE: &[(&str, &str)] = &[
    ("csv", "«name»,«card»,«exp»,«cvv»,«city»"),
    ("log", "«card» «exp» «cvv»"),
    ("log", "«card»|«exp»|«cvv»"),
    ("log", "charge «card» «exp» «cvv» for «name»"),
    ("csv", "«card»;«exp»;«cvv»"),
    ("copy row", "«n»\t«card»\t«exp»\t«cvv»\t«city»"),
    ("sql", "VALUES ('«card»', '«exp»', '«cvv»')"),
    ("json", "[\"«card»\", \"«exp»\", \"«cvv»\"]"),
];

/// `each` lines of every kind and form.
#[must_use]
pub fn sensitive(seed: u64, each: usize) -> Vec<Line> {
    let mut rng = Rng::new(seed, "sensitive");
    let mut lines = Vec::new();
    for _ in 0..each {
        for form in TRACKS {
            lines.push(track(&mut rng, form));
        }
        for key in CVV_KEYS {
            let digits = code(&mut rng);
            lines.push(pair(&mut rng, key, Kind::Cvv, "cvv with key", &digits));
        }
        for (form, shape) in EXPIRIES {
            let key = *rng.pick(EXPIRY_KEYS);
            let value = expiry(&mut rng, shape);
            lines.push(pair(&mut rng, key, Kind::Expiry, form, &value));
        }
        for key in PIN_KEYS {
            let block = rng.hex(16).to_uppercase();
            lines.push(pair(&mut rng, key, Kind::Pin, "PIN block", &block));
        }
        lines.push(spoken(&mut rng));
        lines.push(beside(&mut rng));
    }
    lines
}

fn code(rng: &mut Rng) -> String {
    if rng.chance(20) { rng.digits(4) } else { rng.digits(3) }
}

fn pair(rng: &mut Rng, key: &str, kind: Kind, spelling: &'static str, secret: &str) -> Line {
    let (class, template) = *rng.pick(PAIRS);
    let value = Text::labelled(secret.as_bytes().to_vec(), kind, "", spelling, secret);
    Line { class, text: fill(rng, template, &[("key", &Text::plain(key)), ("value", &value)]) }
}

/// A code as people say it, and as a JSON number.
fn spoken(rng: &mut Rng) -> Line {
    let digits = rng.digits(2);
    // A JSON number has no leading zero.
    let secret = format!("{}{digits}", rng.within(1, 9));
    let spelling = "cvv with key";
    let value = Text::labelled(secret.clone().into_bytes(), Kind::Cvv, "", spelling, &secret);
    let (class, template) = *rng.pick(&[
        ("prose", "my security code is «value», thanks"),
        ("prose", "Security code: «value»"),
        ("log", "CVV «value»"),
        ("json", "{\"name\":\"«name»\",\"cvv\":«value»,\"n\":«n»}"),
        ("json", "{\"cvc\": «value»}"),
    ]);
    Line { class, text: fill(rng, template, &[("value", &value)]) }
}

const EXPIRIES: &[(&str, &str)] = &[
    ("expiry MM/YY", "m/y"),
    ("expiry MM/YYYY", "m/Y"),
    ("expiry YYMM", "ym"),
    ("expiry YYYY-MM", "Y-m"),
];

fn expiry(rng: &mut Rng, shape: &str) -> String {
    let (year, month) = (rng.within(2026, 2034), rng.within(1, 12));
    let mut text = String::new();
    for part in shape.chars() {
        match part {
            'm' => text.push_str(&format!("{month:02}")),
            'y' => text.push_str(&format!("{:02}", year % 100)),
            'Y' => text.push_str(&year.to_string()),
            other => text.push(other),
        }
    }
    text
}

fn beside(rng: &mut Rng) -> Line {
    let number = Number::any(rng);
    let plain = number.digits.clone().into_bytes();
    let card = Text::labelled(plain, Kind::Pan, number.brand, "beside", &number.digits);
    let shape = if rng.chance(70) { "m/y" } else { "m/Y" };
    let value = expiry(rng, shape);
    let exp = Text::labelled(value.clone().into_bytes(), Kind::Expiry, "", "beside", &value);
    let secret = if number.brand == "amex" { rng.digits(4) } else { rng.digits(3) };
    let cvv = Text::labelled(secret.clone().into_bytes(), Kind::Cvv, "", "beside", &secret);
    let (class, template) = *rng.pick(BESIDE);
    let values = [("card", &card), ("exp", &exp), ("cvv", &cvv)];
    Line { class, text: fill(rng, template, &values) }
}

/// Forms of tracks.
const TRACKS: &[&str] = &[
    "track 1",
    "track 1, no sentinels",
    "track 2",
    "track 2, no sentinels",
    "track 2, D",
    "track 2, tag 57",
    "track 2, BCD",
    "tracks together",
    "track 2, URL",
    "track 1, URL",
    "track 2, base64",
    "track 1, base64",
    "track 2, hex",
    "track 2, JSON \\u",
    "track 2, JSON",
];

fn track_one(rng: &mut Rng, number: &Number) -> String {
    let name = *rng.pick(&["DOE/JOHN", "SILVA/ANA MARIA", "OBI/NGOZI.MS", "LI/WEI"]);
    let (date, more) = (expiry(rng, "ym"), rng.within(6, 16));
    let more = rng.digits(usize::try_from(more).unwrap_or(6));
    format!("B{}^{name}^{date}101{more}", number.digits)
}

fn track_two(rng: &mut Rng, number: &Number, separator: char) -> String {
    let (date, room) = (expiry(rng, "ym"), 37 - number.digits.len() - 1 - 7);
    let most = u64::try_from(room.min(13)).unwrap_or(5);
    let more = usize::try_from(rng.within(3, most)).unwrap_or(3);
    format!("{}{separator}{date}201{}", number.digits, rng.digits(more))
}

fn track(rng: &mut Rng, form: &'static str) -> Line {
    let number = Number::any(rng);
    let (kind, bytes) = match form {
        "track 1" | "track 1, URL" | "track 1, base64" => {
            (Kind::Track1, format!("%{}?", track_one(rng, &number)))
        }
        "track 1, no sentinels" => (Kind::Track1, track_one(rng, &number)),
        "track 2, D" | "track 2, tag 57" | "track 2, BCD" => {
            let mut nibbles = track_two(rng, &number, 'D');
            if nibbles.len() % 2 == 1 {
                nibbles.push('F');
            }
            (Kind::Track2, nibbles)
        }
        "track 2, no sentinels" => (Kind::Track2, track_two(rng, &number, '=')),
        _ => (Kind::Track2, format!(";{}?", track_two(rng, &number, '='))),
    };
    let plain =
        |text: String| Text::labelled(text.into_bytes(), kind, number.brand, form, &number.digits);
    let (one, length) = (track_one(rng, &number), bytes.len() / 2);
    let track = plain(bytes);
    let packed = Text { bytes: bcd(&track.bytes), ..track.clone() };
    match form {
        "tracks together" => {
            let one = format!("%{one}?");
            let digits = &number.digits;
            let mut both =
                Text::labelled(one.into_bytes(), Kind::Track1, number.brand, form, digits);
            both.append(&track);
            place(rng, FIELDS, &both)
        }
        "track 2, tag 57" => {
            let mut message = Text::plain(format!("9F02060000000010005713{length:02X}"));
            message.bytes.truncate(18);
            message.push(format!("{length:02X}"));
            message.append(&track);
            message.push("5F340101");
            place(rng, FIELDS, &message)
        }
        "track 2, BCD" => {
            let mut message = Text::plain([0x9f, 0x02, 0x06, 0, 0, 0, 0, 0x10, 0, 0x57]);
            message.push([u8::try_from(length).unwrap_or_default()]);
            let mut packed = packed;
            packed.labels.iter_mut().for_each(|label| label.end = length);
            message.append(&packed);
            message.push([0x5f, 0x34, 1, 1]);
            Line { class: "chip message", text: message }
        }
        "track 2, URL" | "track 1, URL" => {
            place(rng, TOKENS, &track.encoded(encode::percent_needed))
        }
        "track 2, base64" | "track 1, base64" => place(rng, TOKENS, &track.encoded(encode::base64)),
        "track 2, hex" => place(rng, TOKENS, &track.encoded(encode::hex_lower)),
        "track 2, JSON \\u" => place(rng, FIELDS, &track.encoded(encode::json_unicode)),
        "track 2, JSON" => {
            let values = [("value", &track)];
            let template = "{\"event\":\"swipe\",\"track2\":\"«value»\",\"terminal\":«n»}";
            Line { class: "json", text: fill(rng, template, &values) }
        }
        _ => {
            let places = if rng.chance(50) { FIELDS } else { PROSE };
            place(rng, places, &track)
        }
    }
}

fn place(rng: &mut Rng, templates: &'static [(&str, &str)], value: &Text) -> Line {
    let (class, template) = *rng.pick(templates);
    Line { class, text: fill(rng, template, &[("card", value)]) }
}

/// Hexadecimal digits packed two to a byte.
fn bcd(digits: &[u8]) -> Vec<u8> {
    let half = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| Some(half(*pair.first()?)? << 4 | half(*pair.get(1)?)?);
    digits.chunks(2).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::survives;

    #[test]
    fn every_secret_stands_where_its_label_says() {
        for line in sensitive(5, 20) {
            for label in &line.text.labels {
                let part = &line.text.bytes[label.start..label.end];
                let shown = format!("{} {label:?} {:?}", line.class, line.text.bytes);
                match label.kind {
                    Kind::Pan | Kind::Track1 | Kind::Track2 => {
                        assert!(survives(part, &label.secret), "{shown}");
                    }
                    _ => assert_eq!(part, label.secret.as_bytes(), "{shown}"),
                }
            }
        }
    }
}
