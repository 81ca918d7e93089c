//! Pure decisions: policy documents, what they answer, and what the kernel is told. No clock,
//! socket, file or async: texts and requests go in, answers and tables come out.
//!
//! In the order in which they are used:
//!
//! * [`yaml`]: YAML with places; decodes any file by hand with all mistakes at once. Agent and
//!   collector read their configuration with it.
//! * [`document`]: `Documents::read(&[(file, text)])` → AgentPolicy, ClusterAgentPolicy, Target.
//! * [`workload`]: [`workload::Identity`]; `documents.select(&identity)` →
//!   [`workload::PolicySet`], with `hash()`.
//! * [`decide`]: `set.decide_exec(&ExecRequest)`, `set.decide_egress(&EgressRequest)` →
//!   [`decide::Answer`]: the meaning of the documents, slowly and with reasons.
//! * [`entries`]: `set.compile()` → [`entries::KernelEntries`]: the same answers as tables for the
//!   kernel, and what the kernel cannot do. A property test holds both against each other.
//! * [`statement`]: `decide(&rules, &columns, database, &facts)`: what the `statements` of a gate
//!   rule answer to a statement, given as plain [`statement::Facts`].
//! * [`explain`]: `explain(&documents, &identity, &request)` → why, in plain sentences.
//! * [`rule`]: what a rule number stands for; words for verdicts.
//! * [`glob`]: what a path pattern means.
//! * [`mask`]: the only text that may enter a record.

pub mod decide;
pub mod document;
pub mod entries;
pub mod explain;
mod fold;
pub mod glob;
pub mod mask;
pub mod rule;
pub mod statement;
pub mod workload;
pub mod yaml;
