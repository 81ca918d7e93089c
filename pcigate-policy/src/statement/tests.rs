//! How demands are answered: strictest rule, names, shapes, tagged columns.

use super::*;
use crate::document::{Documents, EgressEffect};

fn rules(text: &str) -> Vec<Statement> {
    let policy = format!(
        "apiVersion: pcigate.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: p, namespace: n}}\n\
         spec:\n  selector: {{matchLabels: {{a: b}}}}\n  egress:\n    defaultAction: deny\n    \
         rules: [{{id: g, action: gate, target: t, statements: [{text}]}}]\n---\n\
         apiVersion: pcigate.dev/v1alpha1\nkind: Target\nmetadata: {{name: t, namespace: n}}\n\
         spec: {{protocol: postgres, endpoints: [{{cidr: 10.0.0.5/32, port: 5432}}], \
         upstream: {{address: '10.0.0.5:5432'}}}}\n"
    );
    let documents = Documents::read(&[("p.yaml", policy)]).unwrap();
    let egress = documents.policies()[0].egress.clone().unwrap();
    match egress.rules.into_iter().next().unwrap().effect {
        EgressEffect::Gate { statements, .. } => statements,
        EgressEffect::Direct { .. } => unreachable!(),
    }
}

fn table(name: &str) -> TableName {
    let (schema, name) = name.split_once('.').unwrap();
    TableName { schema: schema.to_owned(), name: name.to_owned() }
}

fn uses(tables: &[(&str, Effect)]) -> Facts {
    let mut facts = Facts::default();
    for (name, effect) in tables {
        facts.add_effect(*effect);
        let names = vec![table(name)];
        facts.tables.push(TableUse { names, effect: *effect, through_view: false });
    }
    facts
}

fn answer(rule_text: &str, facts: &Facts) -> (StatementAction, Option<String>) {
    let answer = decide(&rules(rule_text), &[], "shop", facts);
    assert_eq!(answer.sentence.is_empty(), answer.action == StatementAction::Allow);
    (answer.action, answer.rule)
}

const READ_A: &str = "{id: r, action: allow, effects: [read], tables: [public.a], maxRows: 500}";

#[test]
fn what_no_rule_speaks_of_is_refused_and_the_sentence_says_how_to_ask() {
    let facts = uses(&[("public.b", Effect::Read)]);
    let answer = decide(&rules(READ_A), &[], "", &facts);
    assert_eq!((answer.action, answer.rule), (StatementAction::Deny, None));
    assert_eq!(
        answer.sentence,
        "reading table public.b is refused because no rule allows it; ask for a rule with \
         `effects: [read]` and `tables: [public.b]`"
    );
}

#[test]
fn a_statement_that_reads_one_table_and_writes_another_needs_both() {
    let facts = uses(&[("public.a", Effect::Read), ("public.b", Effect::Write)]);
    assert_eq!(answer(READ_A, &facts).0, StatementAction::Deny);
    let both = format!("{READ_A}, {{id: w, action: allow, effects: [write], tables: [public.b]}}");
    assert_eq!(answer(&both, &facts).0, StatementAction::Allow);
}

#[test]
fn the_strictest_rule_wins_whatever_the_order() {
    let facts = uses(&[("public.a", Effect::Read)]);
    let ask = "{id: q, action: ask, effects: [read]}";
    let deny = "{id: d, action: deny, effects: [read], tables: [a]}";
    assert_eq!(answer(&format!("{READ_A}, {ask}"), &facts).1.as_deref(), Some("q"));
    assert_eq!(answer(&format!("{ask}, {READ_A}"), &facts).1.as_deref(), Some("q"));
    for order in [format!("{READ_A}, {ask}, {deny}"), format!("{deny}, {ask}, {READ_A}")] {
        assert_eq!(answer(&order, &facts), (StatementAction::Deny, Some("d".to_owned())));
    }
}

#[test]
fn the_least_budget_of_all_rules_that_allow_counts() {
    let wide = format!("{READ_A}, {{id: w, action: allow, effects: [read], maxBytes: 9}}");
    let answer = decide(&rules(&wide), &[], "", &uses(&[("public.a", Effect::Read)]));
    assert_eq!((answer.max_rows, answer.max_bytes), (Some(500), Some(9)));
}

#[test]
fn a_bare_name_allows_the_table_of_public_and_denies_it_in_every_schema() {
    let other = uses(&[("other.a", Effect::Read)]);
    let allow = "{id: r, action: allow, effects: [read], tables: [a]}";
    assert_eq!(answer(allow, &other).0, StatementAction::Deny);
    assert_eq!(answer(allow, &uses(&[("public.a", Effect::Read)])).0, StatementAction::Allow);
    let deny = "{id: all, action: allow, effects: [read]}, \
                {id: d, action: deny, effects: [read], tables: [a]}";
    assert_eq!(answer(deny, &other).1.as_deref(), Some("d"));
}

#[test]
fn sensitive_relations_of_the_server_must_be_named() {
    let all = "{id: all, action: allow, effects: [read, write], tables: [pg_catalog.*]}";
    let every = "{id: all, action: allow, effects: [read, write]}";
    let named = "{id: s, action: allow, effects: [read], tables: [pg_catalog.pg_stats]}";
    let stats = uses(&[("pg_catalog.pg_stats", Effect::Read)]);
    let class = uses(&[("pg_catalog.pg_class", Effect::Read)]);
    let settings = uses(&[("pg_catalog.pg_settings", Effect::Write)]);
    for rule in [all, every] {
        assert_eq!(answer(rule, &class).0, StatementAction::Allow);
        assert_eq!(answer(rule, &stats).0, StatementAction::Deny);
        assert_eq!(answer(rule, &settings).0, StatementAction::Deny);
    }
    assert_eq!(answer(named, &stats).0, StatementAction::Allow);
}

#[test]
fn a_table_that_may_be_one_of_several_needs_all_of_them_allowed() {
    let mut facts = uses(&[("public.a", Effect::Read)]);
    facts.tables[0].names.push(table("evil.a"));
    assert_eq!(answer(READ_A, &facts).0, StatementAction::Deny);
}

#[test]
fn a_function_is_allowed_by_name_only() {
    let mut facts = uses(&[("public.a", Effect::Read)]);
    facts.add_effect(Effect::Function);
    facts.functions.push(FunctionUse {
        schema: "public".to_owned(),
        name: "f".to_owned(),
        effect: Some(Effect::Function),
    });
    assert_eq!(answer(READ_A, &facts).0, StatementAction::Deny);
    let other = format!("{READ_A}, {{id: f, action: allow, effects: [function], functions: [g]}}");
    assert_eq!(answer(&other, &facts).0, StatementAction::Deny);
    let named =
        format!("{READ_A}, {{id: f, action: allow, effects: [function], functions: [public.f]}}");
    assert_eq!(answer(&named, &facts).0, StatementAction::Allow);
    facts.functions[0].effect = None;
    facts.effects = vec![Effect::Read];
    let deny = format!("{READ_A}, {{id: d, action: deny, effects: [function], functions: [f]}}");
    assert_eq!(answer(&deny, &facts).1.as_deref(), Some("d"), "also a harmless one, by name");
}

#[test]
fn a_shape_must_be_named_for_its_table() {
    let mut facts = uses(&[("public.a", Effect::Write)]);
    facts.shapes.push(ShapeUse { shape: Shape::NoWhere, tables: vec![table("public.a")] });
    let write = "{id: w, action: allow, effects: [write]}";
    assert_eq!(answer(write, &facts).0, StatementAction::Deny);
    let named = "{id: w, action: allow, effects: [write], shapes: [noWhere], tables: [a]}";
    assert_eq!(answer(named, &facts).0, StatementAction::Allow);
    let elsewhere = format!(
        "{write}, {{id: n, action: allow, effects: [write], shapes: [noWhere], tables: [b]}}"
    );
    assert_eq!(answer(&elsewhere, &facts).0, StatementAction::Deny);
    let deny = format!("{write}, {{id: n, action: deny, effects: [write], shapes: [noWhere]}}");
    assert_eq!(answer(&deny, &uses(&[("public.a", Effect::Write)])).0, StatementAction::Allow);
    assert_eq!(answer(&deny, &facts).1.as_deref(), Some("n"));
}

#[test]
fn an_expression_over_a_tagged_column_must_be_named() {
    let column = ColumnClass::Pan;
    let tagged = [Column { table: "public.a".into(), column: "pan".into(), class: column }];
    let mut facts = uses(&[("public.a", Effect::Read)]);
    let mut decide_as = |usage, column: Option<&str>, rule_text: &str| {
        let column = column.map(str::to_owned);
        facts.columns = vec![ColumnUse { tables: vec![table("public.a")], column, usage }];
        decide(&rules(rule_text), &tagged, "", &facts).action
    };
    assert_eq!(decide_as(Usage::Projected, Some("pan"), READ_A), StatementAction::Allow);
    assert_eq!(decide_as(Usage::Written, Some("pan"), READ_A), StatementAction::Allow);
    assert_eq!(decide_as(Usage::Computed, Some("id"), READ_A), StatementAction::Allow);
    assert_eq!(decide_as(Usage::Computed, Some("pan"), READ_A), StatementAction::Deny);
    assert_eq!(decide_as(Usage::Moved, None, READ_A), StatementAction::Deny);
    let named = "{id: r, action: allow, effects: [read], columns: [public.a.pan]}";
    assert_eq!(decide_as(Usage::Computed, Some("pan"), named), StatementAction::Allow);
}

#[test]
fn ordinary_session_statements_need_no_rule_but_can_be_denied() {
    let mut facts = Facts { ordinary: true, ..Facts::default() };
    facts.add_effect(Effect::Session);
    assert_eq!(answer(READ_A, &facts).0, StatementAction::Allow);
    let deny = "{id: d, action: deny, effects: [session]}";
    assert_eq!(answer(deny, &facts).1.as_deref(), Some("d"));
    facts.ordinary = false;
    assert_eq!(answer(READ_A, &facts).0, StatementAction::Deny);
}

#[test]
fn what_is_behind_a_view_can_be_denied_and_needs_no_rule_of_its_own() {
    let mut facts = uses(&[("public.a", Effect::Read), ("public.secret", Effect::Read)]);
    facts.tables[1].through_view = true;
    assert_eq!(answer(READ_A, &facts).0, StatementAction::Allow);
    let deny = format!("{READ_A}, {{id: d, action: deny, effects: [read], tables: [secret]}}");
    assert_eq!(answer(&deny, &facts).1.as_deref(), Some("d"));
}

#[test]
fn mistakes_in_statement_rules_name_field_value_and_remedy() {
    let mistakes = |rule: &str| {
        let text = format!(
            "apiVersion: pcigate.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: p, \
             namespace: n}}\nspec:\n  selector: {{matchLabels: {{a: b}}}}\n  egress:\n    \
             defaultAction: deny\n    rules: [{{id: g, action: gate, target: t, statements: \
             [{rule}]}}]\n"
        );
        Documents::read(&[("p.yaml", text)]).unwrap_err().to_string()
    };
    for (rule, wanted) in [
        ("{id: a, action: allow, effects: [reed]}", "read"),
        ("{id: a, action: allow, effects: [function]}", "functions: is required"),
        ("{id: a, action: deny, effects: [read], maxBytes: 5}", "maxBytes: has no meaning"),
        ("{id: a, action: allow, effects: [read], tables: ['*']}", "write `table`"),
        ("{id: a, action: allow, effects: [read], columns: [pan]}", "write `table.column`"),
        ("{id: a, action: allow, effects: [write], shapes: [nowhere]}", "noWhere"),
        ("{id: a, action: allow, effects: [function], functions: ['a.b.c']}", "write `function`"),
    ] {
        let said = mistakes(rule);
        assert!(said.contains(wanted), "{rule}: {said}");
    }
}
