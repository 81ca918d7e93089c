//! Templates: what stands around card data. `«card»` and the like are filled at random.

use crate::rng::Rng;
use crate::text::Text;

/// Where a value without blanks, quotes and control characters can stand.
pub const TOKENS: &[(&str, &str)] = &[
    ("url", "GET /v1/charges?card=«card»&amount=«cents» HTTP/1.1"),
    ("url", "https://pay.example.com/card/«card»/confirm?lang=en"),
    ("url", "«ip» - - \"POST /charge?q=«card» HTTP/2\" 200 «n»"),
    ("command", "«time» exec /usr/bin/pay --card=«card» --amount=«cents»"),
    ("command", "/opt/pay/bin/charge --pan «card» --currency EUR"),
    ("command", "curl -s -d card=«card» https://pay.example.com/v1/«word»"),
    ("file name", "/var/spool/receipts/receipt-«card».pdf"),
    ("file name", "open scan_«card»_front.png: no such file"),
    ("environment", "PAYMENT_CARD=«card»"),
    ("command", "redis-cli SET card:«word» «card»"),
];

/// Where a value with blanks can stand, but no line end.
pub const FIELDS: &[(&str, &str)] = &[
    (
        "json",
        "{\"time\":\"«time»\",\"level\":\"info\",\"msg\":\"payment accepted\",\
         \"trace\":\"«uuid»\",\"card\":\"«card»\",\"amount\":«amount»}",
    ),
    ("json", "{\"id\":\"ch_«hex»\",\"customer\":\"«name»\",\"value\":\"«card»\",\"n\":«n»}"),
    ("json", "{\"body\":\"{\\\"card\\\":\\\"«card»\\\",\\\"ok\\\":true}\",\"status\":201}"),
    ("json", "[\"«name»\", \"«card»\", «amount», null]"),
    ("sql", "INSERT INTO payments VALUES («n», '«name»', '«card»', «amount», '«date»');"),
    ("sql", "UPDATE cards SET data = '«card»' WHERE id = «n»"),
    ("sql row", " «n» | «name»   | «card» | «amount»"),
    ("csv", "«n»,«name»,«card»,«amount»,«city»"),
    ("csv", "\"«name»\";\"«card»\";\"«city»\""),
    ("copy row", "«n»\t«name»\t«card»\t«amount»\t\\N"),
    ("xml", "<Payment><CardNumber>«card»</CardNumber><Amt>«amount»</Amt></Payment>"),
    ("yaml", "  card: \"«card»\""),
];

/// Where anything can stand.
pub const PROSE: &[(&str, &str)] = &[
    ("bare", "«card»"),
    ("log", "«time» WARN retrying charge of «card» for «name»"),
    ("log", "«word»: card «card» declined (code «n»)"),
    ("prose", "Please charge «card», thank you. «name», «city»"),
    ("prose", "Paid on «date» with «card»."),
    ("log", "[«card»]"),
    ("numbers around", "«year» «card» «year»"),
    ("numbers around", "«n» «card»"),
    ("numbers around", "«n», «card», «n»"),
    ("two numbers", "«card» «card»"),
    ("two numbers", "«card»,«card»"),
    ("broken UTF-8", "«junk» «card» «junk»"),
];

/// What an encoded body looks like before it is encoded.
pub const BODIES: &[&str] = &[
    "«card»",
    "card=«card»",
    "{\"card\":\"«card»\",\"amount\":«amount»}",
    "«n»,«card»,«amount»",
    "user «word» paid with «card» today",
];

const NAMES: &[&str] = &["Ana Silva", "John Doe", "Ngozi Obi", "Li Wei", "Jürgen Weiß", "Zoë"];
const CITIES: &[&str] = &["Lisbon", "Lagos", "São Paulo", "Köln", "Pune", "Izmir"];
const WORDS: &[&str] = &["alpha", "checkout", "ledger", "batch", "worker", "refund", "edge"];

/// Fills a template; `values` are the labelled parts by name, everything else is made up.
pub fn fill(rng: &mut Rng, template: &str, values: &[(&str, &Text)]) -> Text {
    let mut text = Text::default();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('«') {
        text.push(before);
        let (name, after) = after.split_once('»').unwrap_or((after, ""));
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => text.append(value),
            None => text.push(filler(rng, name)),
        }
        rest = after;
    }
    text.push(rest);
    text
}

/// Made-up text of this kind.
///
/// # Panics
/// No template may name another kind.
pub fn filler(rng: &mut Rng, name: &str) -> Vec<u8> {
    match name {
        "time" => time(rng),
        "date" => date(rng),
        "name" => (*rng.pick(NAMES)).to_owned(),
        "city" => (*rng.pick(CITIES)).to_owned(),
        "word" => (*rng.pick(WORDS)).to_owned(),
        "amount" => format!("{}.{}", rng.within(1, 9_999), rng.digits(2)),
        "cents" => rng.within(100, 999_999).to_string(),
        "year" => rng.within(2020, 2034).to_string(),
        "n" => rng.within(1, 99_999).to_string(),
        "port" => rng.within(1024, 65_535).to_string(),
        "hex" => rng.hex(14),
        "trace" => rng.hex(32),
        "ip" => {
            let mut part = || rng.below(256);
            format!("10.{}.{}.{}", part(), part(), part())
        }
        "uuid" => uuid(rng, '4'),
        "junk" => return vec![0xff, 0xfe, 0x80 | rng.bits().to_le_bytes()[0] >> 1],
        _ => panic!("a template names {name}, which nobody makes"),
    }
    .into_bytes()
}

/// A UUID of this version.
pub fn uuid(rng: &mut Rng, version: char) -> String {
    // One in five has decimal digits only: rare in life, but the hardest.
    let alphabet = if rng.chance(20) { "0123456789" } else { "0123456789abcdef" };
    let mut part = |count| rng.string(alphabet, count);
    let (a, b, c, d, e) = (part(8), part(4), part(3), part(3), part(12));
    format!("{a}-{b}-{version}{c}-8{d}-{e}")
}

/// A day of 2024 to 2027.
pub fn date(rng: &mut Rng) -> String {
    format!("{}-{:02}-{:02}", rng.within(2024, 2027), rng.within(1, 12), rng.within(1, 28))
}

/// RFC 3339 with none, milli-, micro- or nanoseconds.
pub fn time(rng: &mut Rng) -> String {
    let (day, fraction) = (date(rng), *rng.pick(&[0_usize, 3, 6, 9]));
    let point = if fraction == 0 { "" } else { "." };
    let (hour, minute, second) = (rng.below(24), rng.below(60), rng.below(60));
    format!("{day}T{hour:02}:{minute:02}:{second:02}{point}{}Z", rng.digits(fraction))
}
