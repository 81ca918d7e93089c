//! Reads YAML (and so JSON) into nodes that know their place, and decodes them by hand so that
//! every mistake of a file is reported at once with file, line and field. It knows no document.
//!
//! [`read`] gives the documents of a stream. [`Fields`] decodes one mapping: each method asks for
//! one field, notes a mistake where it is wrong, and [`Fields::finish`] notes every field that was
//! never asked for. A decoder never stops at the first mistake: it builds its value from what it
//! got, and the value counts only if no mistake was noted ([`Mistakes::into_result`]).
//!
//! ```
//! use pcigate_policy::yaml::{self, Fields, Mistakes};
//!
//! struct Config {
//!     node_name: String,
//!     fail_open: bool,
//!     tls_dir: Option<String>,
//! }
//!
//! fn config(file: &str, text: &str) -> Result<Config, Mistakes> {
//!     let mut mistakes = Mistakes::default();
//!     let root = yaml::read_one(file, text)?;
//!     let mut top = Fields::of(&root, "", &mut mistakes);
//!     let node_name = top.required_string("nodeName");
//!     let fail_open = top.one_of("failMode", &[("closed", false), ("open", true)]);
//!     let tls_dir = top.fields("collector").and_then(|mut collector| {
//!         let tls_dir = collector.string("tlsDir");
//!         collector.finish();
//!         tls_dir
//!     });
//!     top.finish();
//!     let config = Config { node_name, fail_open: fail_open.unwrap_or(false), tls_dir };
//!     mistakes.into_result(config)
//! }
//!
//! let text = "nodeName: 7\nfailMod: open\ncollector: {tlsDir: /etc/pcigate/tls}\n";
//! let mistakes = config("agent.yaml", text).err().unwrap_or_default();
//! assert_eq!(
//!     mistakes.to_string(),
//!     "agent.yaml:1: nodeName: expected text, found a number; put it in quotes\n\
//!      agent.yaml:2: failMod: unknown field; did you mean `failMode`? \
//!      known fields: nodeName, failMode, collector"
//! );
//! ```
//!
//! Fine points, all in favour of "applied never means ignored": a field written without a value
//! (`exec:`) is a mistake, not an absent field; a number where text is expected is a mistake, not
//! text; a key given twice is a mistake; aliases (`*name`) are refused, so no text can unfold
//! into more than it says. Empty documents (comments only) are skipped.

mod fields;
mod mistakes;
mod node;
mod reader;
mod scalar;

pub use fields::{Fields, Item, choice};
pub use mistakes::{Mistake, Mistakes, shown};
pub use node::{Entry, Node, Value};
pub use reader::{DEPTH_MAX, read, read_one};

#[cfg(test)]
mod tests;
