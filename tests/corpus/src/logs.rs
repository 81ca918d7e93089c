//! Bytes by the megabyte, to measure speed with: a gateway's log without cards, and dense digits.

use crate::fill::{FIELDS, TOKENS, fill};
use crate::lookalikes::any_look_alike;
use crate::number::Number;
use crate::rng::Rng;
use crate::spelling::{SPELLINGS, spell};
use crate::text::Text;

const REQUEST: &str = "{\"time\":\"«time»\",\"level\":\"info\",\"component\":\"gateway\",\
    \"pod\":\"payments/«word»-«hex»\",\"peer\":\"«ip»:«port»\",\"trace\":\"«trace»\",\
    \"method\":\"GET\",\"path\":\"/v1/«word»/orders?page=«n»&city=«city»\",\"status\":200,\
    \"bytes\":«cents»,\"took_ms\":«amount»,\"rule\":\"allow-«word»\"}\n";

/// About `size` bytes of a gateway's JSON log, some 300 bytes a line, without any card number.
#[must_use]
pub fn clean_log(seed: u64, size: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed, "clean log");
    let mut bytes = Vec::with_capacity(size + 512);
    while bytes.len() < size {
        bytes.extend(fill(&mut rng, REQUEST, &[]).bytes);
    }
    bytes
}

/// About `size` bytes of look-alikes, one line each; two lines in a hundred hold a card number,
/// plain or in groups. The worst that is common.
#[must_use]
pub fn dense_log(seed: u64, size: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed, "dense log");
    let mut bytes = Vec::with_capacity(size + 512);
    while bytes.len() < size {
        let line = if rng.chance(2) { card(&mut rng) } else { any_look_alike(&mut rng).text };
        bytes.extend(line.bytes);
        bytes.push(b'\n');
    }
    bytes
}

fn card(rng: &mut Rng) -> Text {
    let number = Number::any(rng);
    let plain = SPELLINGS.get(..3).unwrap_or(SPELLINGS);
    let spelling = rng.pick(plain);
    let card = spell(rng, spelling, &number);
    let places = if rng.chance(50) { FIELDS } else { TOKENS };
    let (_, template) = *rng.pick(places);
    fill(rng, template, &[("card", &card)])
}
