//! Exec rules: which files may be executed.

use pcigate_common::maps::verdict;

use super::policy::{About, Action, Mode, RuleScope, refuse_empty_lists};
use crate::glob::Glob;
use crate::yaml::{Fields, Item, Mistakes, choice, shown};

/// One rule about executing files. Of paths, digests and arguments, all that are given must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRule {
    /// Id, unique within the policy.
    pub id: String,
    /// What happens on a match.
    pub action: Action,
    /// The mode it acts in: its own, lowered to the policy's.
    pub mode: Mode,
    /// Patterns of the resolved file; empty = any path.
    pub paths: Vec<Glob>,
    /// SHA-256 of the file; empty = any content.
    pub sha256: Vec<[u8; 32]>,
    /// Patterns of which one must match an argument (argv\[0\] included); empty = any arguments.
    /// Only a deny has them.
    pub args: Vec<Glob>,
    /// Who answers for it.
    pub about: About,
}

impl ExecRule {
    pub(super) fn decode(item: &Item<'_>, scope: &mut RuleScope, mistakes: &mut Mistakes) -> Self {
        let mut fields = Fields::of(item.node, item.path.as_str(), mistakes);
        let id = scope.id(&mut fields);
        let action = fields.required_parsed("action", |text| match text {
            "ask" => Err("`ask` is not available yet for exec; write `deny`".to_owned()),
            _ => choice(text, &[("allow", Action::Allow), ("deny", Action::Deny)]),
        });
        let rule = Self {
            id,
            action: action.unwrap_or(Action::Deny),
            mode: scope.rule_mode(&mut fields),
            paths: fields.parsed_list("paths", Glob::parse),
            sha256: fields.parsed_list("sha256", sha256),
            args: fields.parsed_list("args", Glob::parse_argument),
            about: About::decode(&mut fields),
        };
        refuse_empty_lists(&mut fields, &["paths", "sha256", "args"]);
        if !fields.has("paths") && !fields.has("sha256") {
            fields.mistake("", "matches nothing; add `paths` (for every file: [\"/**\"])");
        }
        if fields.has("args") && rule.action == Action::Allow {
            let message = "belongs to `action: deny`: whoever calls the program could add the \
                           argument that allows it";
            fields.mistake("args", message);
        }
        fields.finish();
        rule
    }

    /// The verdict on a match.
    #[must_use]
    pub fn verdict(&self) -> u32 {
        match self.action {
            Action::Allow => verdict::ALLOW,
            Action::Deny => verdict::DENY,
        }
    }

    /// Whether the rule covers a file of this digest. A file whose digest is not known (`None`) may
    /// be the one a deny names, and is not known to be the one an allow names.
    #[must_use]
    pub fn covers_digest(&self, sha256: Option<&[u8; 32]>) -> bool {
        match sha256 {
            _ if self.sha256.is_empty() => true,
            Some(digest) => self.sha256.contains(digest),
            None => self.action == Action::Deny,
        }
    }
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| format!("{} is not a SHA-256; write 64 hexadecimal digits", shown(text)))?;
    Ok(digest)
}
