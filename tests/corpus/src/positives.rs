//! Lines with a card number: every brand in every spelling.

use crate::fill::{FIELDS, PROSE, TOKENS, fill};
use crate::number::{Number, brands};
use crate::rng::Rng;
use crate::spelling::{Place, SPELLINGS, Spelling, spell};
use crate::text::{Kind, Line, Text};

/// `each` lines for every brand in every spelling, and as many numbers of no known brand that a
/// key announces (brand `unknown`, spelling `plain with key`).
#[must_use]
pub fn positives(seed: u64, each: usize) -> Vec<Line> {
    let mut rng = Rng::new(seed, "positives");
    let mut lines = Vec::new();
    for spelling in SPELLINGS {
        for brand in brands() {
            for _ in 0..each {
                let number = Number::of(&mut rng, brand);
                let card = spell(&mut rng, spelling, &number);
                lines.push(placed(&mut rng, spelling, &card));
            }
        }
    }
    for _ in 0..each * brands().len() {
        lines.push(announced(&mut rng));
    }
    lines
}

/// A number nobody issues, under a key that says what it is: private-label cards look like this.
fn announced(rng: &mut Rng) -> Line {
    let prefix = *rng.pick(&["70", "71", "76", "79", "84", "87", "90", "92", "94", "96"]);
    let digits = crate::number::with_check_digit(rng, &prefix, 16);
    let plain = digits.clone().into_bytes();
    let card = Text::labelled(plain, Kind::Pan, "unknown", "plain with key", &digits);
    let (class, template) = *rng.pick(&[
        ("json", "{\"time\":\"«time»\",\"card_number\":\"«card»\",\"amount\":«amount»}"),
        ("json", "{\"pan\":\"«card»\",\"n\":«n»}"),
        ("command", "/opt/pay/bin/charge --card=«card» --currency EUR"),
        ("log", "«time» WARN card «card» declined"),
        ("environment", "CC_NUMBER=«card»"),
        ("sql", "UPDATE accounts SET pan = '«card»' WHERE id = «n»"),
        ("url", "GET /charge?ccnum=«card»&amount=«cents»"),
    ]);
    Line { class, text: fill(rng, template, &[("card", &card)]) }
}

fn placed(rng: &mut Rng, spelling: &Spelling, card: &Text) -> Line {
    let (class, template) = match spelling.place {
        Place::Whole => return Line { class: "message", text: card.clone() },
        Place::Token => *any(rng, &[TOKENS, FIELDS, PROSE]),
        Place::Field => *any(rng, &[FIELDS, PROSE]),
        Place::Prose => *any(rng, &[PROSE]),
    };
    Line { class, text: fill(rng, template, &[("card", card)]) }
}

fn any<'a, T>(rng: &mut Rng, lists: &[&'a [T]]) -> &'a T {
    let list = *rng.pick(lists);
    rng.pick(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::survives;

    #[test]
    fn the_same_seed_makes_the_same_lines_and_another_seed_others() {
        let bytes = |seed| positives(seed, 1).into_iter().map(|line| line.text.bytes);
        assert!(bytes(7).eq(bytes(7)));
        assert!(bytes(7).ne(bytes(8)));
    }

    #[test]
    fn every_planted_number_can_be_read_by_the_judge() {
        for line in positives(3, 2) {
            for label in &line.text.labels {
                let part = &line.text.bytes[label.start..label.end];
                let shown = String::from_utf8_lossy(&line.text.bytes);
                assert!(survives(&line.text.bytes, &label.secret), "{}: {shown}", label.spelling);
                assert!(part.len() >= label.secret.len(), "{}: {shown}", label.spelling);
            }
        }
    }
}
