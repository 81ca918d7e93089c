//! Functions and operators a statement calls.

use pcigate_policy::document::Effect;
use pcigate_policy::statement::{FunctionUse, Usage};
use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, Node, RangeVar, WindowDef, a_const};

use super::{MAX_NAMES, Walk, texts};
use crate::data::{self, FunctionKind};
use crate::settings;
use crate::statement::{Change, SetTo};

impl Walk<'_> {
    pub(super) fn call(&mut self, call: &FuncCall) {
        self.note_function(&texts(&call.funcname), &call.args);
        self.expressions(&call.args);
        self.expressions(&call.agg_order);
        self.expression(call.agg_filter.as_deref(), Usage::Computed);
        if let Some(window) = &call.over {
            self.window(window);
        }
    }

    pub(super) fn window(&mut self, window: &WindowDef) {
        self.expressions(&window.partition_clause);
        self.expressions(&window.order_clause);
        self.expression(window.start_offset.as_deref(), Usage::Computed);
        self.expression(window.end_offset.as_deref(), Usage::Computed);
    }

    /// Notes a function by its name as written, and what it does with these arguments.
    pub fn note_function(&mut self, names: &[&str], args: &[Node]) {
        let (schema, name) = match names {
            [name] => (self.schema_of_function(name), *name),
            [.., schema, name] => ((*schema).to_owned(), *name),
            [] => return self.unknown("it calls a function without a name"),
        };
        let kind = match schema.as_str() {
            "pg_catalog" => data::function(name),
            _ => FunctionKind::Other,
        };
        let mut effect = kind.effect();
        if kind == FunctionKind::Sequence {
            match args.first().and_then(constant_text).and_then(|text| relation_of(&text)) {
                Some(sequence) => {
                    let names = self.resolve(&sequence);
                    self.table(names, Effect::Write);
                    effect = None;
                }
                None => effect = Some(Effect::Function),
            }
        }
        if name == "set_config" {
            effect = self.set_config(args);
        }
        let name = name.to_owned();
        if let Some(effect) = effect {
            self.facts.add_effect(effect);
        }
        let used = FunctionUse { schema, name, effect };
        if !self.facts.functions.contains(&used) {
            if self.facts.functions.len() >= MAX_NAMES {
                return self.unknown("it calls too many functions");
            }
            self.facts.functions.push(used);
        }
    }

    /// `set_config` is SET, by names that may be computed; whether it runs at all depends on rows.
    fn set_config(&mut self, args: &[Node]) -> Option<Effect> {
        let name = args.first().and_then(constant_text).map(|name| name.to_lowercase());
        let followed = ["search_path", "standard_conforming_strings", "client_encoding"];
        for setting in followed {
            if name.as_deref().is_none_or(|name| name == setting) {
                let (name, value) = (setting.to_owned(), SetTo::Unknown);
                self.changes.push(Change::Set { name, value, local: false });
            }
        }
        let harmless = name.is_some_and(|name| settings::is_ordinary(&name));
        if harmless { None } else { Some(Effect::Session) }
    }

    /// `pg_catalog` comes first unless the path says otherwise (PostgreSQL manual, 5.10.5); a
    /// function of the same name elsewhere may still be chosen for its argument types.
    fn schema_of_function(&self, name: &str) -> String {
        let Some(path) = self.session.search_path() else { return String::new() };
        let first = path.iter().position(|s| s == "pg_catalog").is_none_or(|at| at == 0);
        match path {
            _ if data::is_function(name) && first && !self.catalog.has_function(name) => {
                "pg_catalog".to_owned()
            }
            [only] if !data::is_function(name) => only.clone(),
            _ => String::new(),
        }
    }

    /// Notes an operator: those of `pg_catalog` are harmless, others call functions not known here.
    pub(super) fn operator(&mut self, names: &[Node]) {
        let names = texts(names);
        let harmless = match names.as_slice() {
            [name] => data::is_operator(name),
            ["pg_catalog", name] => data::is_operator(name),
            _ => false,
        };
        if !harmless {
            let name = names.last().copied().unwrap_or_default();
            let schema = if names.len() > 1 { names.first().copied() } else { None };
            self.facts.add_effect(Effect::Function);
            let used = FunctionUse {
                schema: schema.unwrap_or_default().to_owned(),
                name: name.to_owned(),
                effect: Some(Effect::Function),
            };
            if !self.facts.functions.contains(&used) && self.facts.functions.len() < MAX_NAMES {
                self.facts.functions.push(used);
            }
        }
    }
}

/// A text written as a constant, also with a cast.
pub fn constant_text(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(text) => Some(text.sval.clone()),
            a_const::Val::Ival(number) => Some(number.ival.to_string()),
            a_const::Val::Fval(number) => Some(number.fval.clone()),
            a_const::Val::Boolval(value) => Some(value.boolval.to_string()),
            a_const::Val::Bsval(_) => None,
        },
        NodeEnum::TypeCast(cast) => constant_text(cast.arg.as_deref()?),
        NodeEnum::NamedArgExpr(arg) => constant_text(arg.arg.as_deref()?),
        _ => None,
    }
}

/// A relation named in a text, as `regclass` reads it.
fn relation_of(text: &str) -> Option<RangeVar> {
    let mut names = identifiers(text, '.')?;
    let relname = names.pop()?;
    let schemaname = names.pop().unwrap_or_default();
    Some(RangeVar { schemaname, relname, ..RangeVar::default() })
}

/// A list of identifiers as the server splits it (varlena.c): folded to lower case unless quoted.
pub fn identifiers(text: &str, separator: char) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim_start();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let mut name = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut chars = quoted.char_indices().peekable();
            let mut end = None;
            while let Some((at, c)) = chars.next() {
                if c != '"' {
                    name.push(c);
                } else if chars.peek().is_some_and(|(_, next)| *next == '"') {
                    name.push('"');
                    chars.next();
                } else {
                    end = Some(at + 1);
                    break;
                }
            }
            rest = quoted.get(end?..)?;
        } else {
            let end = rest.find(|c: char| c == separator || c.is_whitespace());
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            if word.is_empty() {
                return None;
            }
            name = word.to_lowercase();
            rest = after;
        }
        names.push(name);
        rest = rest.trim_start();
        match rest.strip_prefix(separator) {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => return Some(names),
            None => return None,
        }
    }
}
