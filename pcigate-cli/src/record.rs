//! `pcigate record N`: one record in full, and the check of its inclusion proof.

use std::io::{self, StdoutLock, Write};

use clap::Args;
use pcigate_ledger::{Checkpoint, Hash, VerifierKey, check_inclusion, leaf_hash};
use pcigate_proto::{Message, Proof, ProveRequest, Record};
use serde_json::{Value, json};

use crate::collector;
use crate::failure::{Answer, Failure};
use crate::key::{self, Trust};
use crate::table::{lines, plain};
use crate::{Output, record_view};

/// Which record, and what to show of it.
#[derive(Args, Debug)]
pub struct Options {
    /// Index of the record in the ledger, as `pcigate records` shows it.
    #[arg(value_name = "N")]
    index: u64,
    /// Check the inclusion proof against the signed checkpoint, and show both.
    #[arg(long)]
    proof: bool,
    /// The ledger's verifier key: a file or the text NAME+HASH+BASE64. Without it the collector's
    /// own word is taken, which proves less.
    #[arg(long, value_name = "FILE|VKEY", requires = "proof")]
    key: Option<String>,
    /// How to write the record.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// Fetches, checks, prints.
pub async fn run(collector: &collector::Options, options: &Options) -> Result<Answer, Failure> {
    let given = options.key.as_deref().map(key::given).transpose()?;
    let url = &collector.collector;
    let mut client = collector::connect(url, collector).await?;
    let proof = client
        .prove(ProveRequest { index: options.index })
        .await
        .map_err(|status| Failure::from_status(url, status))?
        .into_inner();
    let mut shown = match Record::decode(proof.record.as_slice()) {
        Ok(record) => record_view::json(options.index, &record),
        Err(error) => record_view::unreadable(options.index, &error.to_string()),
    };
    let checked = if options.proof {
        let (key, trust) = match given {
            Some(key) => (key, Trust::Given),
            None => (key::from_collector(&proof.verifier_key)?, Trust::Collector),
        };
        Some(check(options.index, &proof, &key, trust))
    } else {
        None
    };
    let mut out = io::stdout().lock();
    if let (Some(checked), Some(object)) = (&checked, shown.as_object_mut()) {
        object.insert("proof".to_owned(), checked.json());
    }
    match options.output {
        Output::Json => writeln!(out, "{}", record_view::line(&shown))?,
        Output::Table => write_table(&mut out, &shown)?,
    }
    out.flush()?;
    Ok(match checked {
        Some(Checked { wrong: Some(_), .. }) => Answer::No,
        _ => Answer::Yes,
    })
}

/// A proof and what is wrong with it, if anything.
struct Checked {
    leaf: Hash,
    hashes: Vec<String>,
    note: String,
    checkpoint: Option<Checkpoint>,
    key: String,
    trust: Trust,
    wrong: Option<String>,
}

/// Checks that the record is leaf `index` of the signed tree.
fn check(index: u64, proof: &Proof, key: &VerifierKey, trust: Trust) -> Checked {
    let leaf = leaf_hash(&proof.record);
    let opened = key.open(&proof.checkpoint);
    let wrong = match &opened {
        Err(error) => Some(format!("{error}; the ledger was replaced or the key is another's")),
        Ok(_) if proof.index != index => {
            Some(format!("the collector proves record {} instead of {index}", proof.index))
        }
        Ok(checkpoint) => inclusion(index, proof, &leaf, checkpoint),
    };
    Checked {
        leaf,
        hashes: proof.hashes.iter().map(hex::encode).collect(),
        note: String::from_utf8_lossy(&proof.checkpoint).into_owned(),
        checkpoint: opened.ok(),
        key: key.to_string(),
        trust,
        wrong,
    }
}

fn inclusion(index: u64, proof: &Proof, leaf: &Hash, checkpoint: &Checkpoint) -> Option<String> {
    let hashes: Result<Vec<Hash>, _> =
        proof.hashes.iter().map(|hash| Hash::try_from(hash.as_slice())).collect();
    let Ok(hashes) = hashes else {
        return Some("the proof holds a hash that has not 32 bytes".to_owned());
    };
    check_inclusion(index, checkpoint.size, leaf, &hashes, &checkpoint.root)
        .err()
        .map(|error| error.to_string())
}

impl Checked {
    fn json(&self) -> Value {
        let mut value = json!({
            "verified": self.wrong.is_none(),
            "leaf_hash": hex::encode(self.leaf),
            "hashes": self.hashes,
            "checkpoint": self.note,
            "verifier_key": self.key,
            "key_from": self.trust.word(),
        });
        if let Some(object) = value.as_object_mut() {
            if let Some(checkpoint) = &self.checkpoint {
                object.insert("tree_size".to_owned(), json!(checkpoint.size));
                object.insert("root".to_owned(), json!(hex::encode(checkpoint.root)));
            }
            if let Some(wrong) = &self.wrong {
                object.insert("error".to_owned(), json!(wrong));
            }
        }
        value
    }
}

/// Top-level members in the order people read them; the event's own comes where its kind says.
const ORDER: [&str; 8] =
    ["index", "time", "kind", "subject", "process", "outcome", "masked", "origin"];

fn write_table(out: &mut StdoutLock<'_>, shown: &Value) -> Result<(), Failure> {
    for line in lines(&rows(shown), &[]) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Name and value of everything in the record, one row each.
pub fn rows(shown: &Value) -> Vec<Vec<String>> {
    let Some(object) = shown.as_object() else { return Vec::new() };
    let mut rows = Vec::new();
    let (known, others): (Vec<_>, Vec<_>) =
        object.keys().map(String::as_str).partition(|name| ORDER.contains(name));
    let ordered = ORDER.into_iter().filter(|name| known.contains(name));
    let (before, after) = (ordered.clone().take(3), ordered.skip(3));
    let proof_last = |name: &&str| *name == "proof";
    let event = others.iter().copied().filter(|name| !proof_last(name));
    let proof = others.iter().copied().filter(proof_last);
    for name in before.chain(event).chain(after).chain(proof) {
        if let Some(value) = object.get(name) {
            flatten(name, value, &mut rows);
        }
    }
    rows
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let mut row = |text: String| rows.push(vec![name.to_owned(), text]);
    match value {
        Value::Object(object) => {
            for (member, value) in object {
                flatten(&format!("{name}.{member}"), value, rows);
            }
        }
        Value::Array(items) if items.is_empty() => row(String::new()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{name}[{index}]"), item, rows);
            }
        }
        // A checkpoint has several lines, which only together are what was signed.
        Value::String(text) if text.contains('\n') && name.ends_with(".checkpoint") => {
            for line in text.lines() {
                row(plain(line));
            }
        }
        Value::String(text) => row(plain(text)),
        other => row(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
