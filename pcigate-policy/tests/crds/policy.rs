//! AgentPolicy and ClusterAgentPolicy.

use serde_json::{Value, json};

use super::definition::{Names, STATUS_COLUMNS, definition, status};
use super::schema::{
    NAMES_MAX, RULES_MAX, SUBDOMAIN, about, by_id, cidr, form, fqdn, id, labels, list, mask, mode,
    number, object, ports, session, text, with_rules, word,
};

const GATE: &str = "self.action == 'gate'";

pub fn namespaced() -> Value {
    let names = Names {
        kind: "AgentPolicy",
        plural: "agentpolicies",
        short: "agp",
        scope: "Namespaced",
        about: "What pods of its namespace may execute and reach, and who may reach them.",
    };
    let target = form("The Target, of the policy's namespace.", 63, super::schema::LABEL);
    of(&names, spec(Vec::new(), target))
}

pub fn cluster() -> Value {
    let names = Names {
        kind: "ClusterAgentPolicy",
        plural: "clusteragentpolicies",
        short: "cagp",
        scope: "Cluster",
        about: "What pods of any namespace may execute and reach. Its deny and gate are lifted by \
                no AgentPolicy.",
    };
    let whom = object(
        "Namespaces it holds for. {}: all.",
        vec![("matchLabels", labels("Labels the namespace must carry, all of them."))],
    );
    let target = form("The Target, as namespace/name.", 127, "^[-a-z0-9]+/[-a-z0-9]+$");
    of(&names, spec(vec![("namespaceSelector!", whom)], target))
}

fn of(names: &Names<'_>, spec: Value) -> Value {
    let mut columns = vec![("Mode", "string", ".spec.mode")];
    columns.extend(STATUS_COLUMNS);
    definition(names, vec![("spec!", spec), ("status", status())], &columns)
}

fn spec(first: Vec<(&str, Value)>, target: Value) -> Value {
    let account = form("Name of a ServiceAccount.", 253, SUBDOMAIN);
    let selector = object(
        "Pods it selects: all that is given must match. {}: every pod.",
        vec![
            ("matchLabels", labels("Labels the pod must carry, all of them.")),
            ("serviceAccountNames", list("The pod runs as one of these.", NAMES_MAX, account)),
        ],
    );
    let mut fields = first;
    fields.extend([
        ("selector!", selector),
        ("mode", mode("audit: what would be refused is only reported. enforce where left out.")),
        ("exec", section("Which files may be executed.", exec_rule())),
        ("egress", section("What may be reached.", egress_rule(target))),
        ("ingress", section("From where its listeners may be reached.", ingress_rule())),
        ("mask", mask("What is masked in records beyond card data.")),
    ]);
    let spec = object("Whom it selects and what it says.", fields);
    let sections = ["exec", "egress", "ingress"];
    let lower = sections.map(|of| {
        format!(
            "(!has(self.{of}) || !has(self.{of}.rules) || self.{of}.rules.all(r, !has(r.mode) || \
             r.mode != 'enforce'))"
        )
    });
    let lower = format!("!has(self.mode) || self.mode != 'audit' || {}", lower.join(" && "));
    let pairs = [("exec", "egress"), ("exec", "ingress"), ("egress", "ingress")];
    let once = pairs.map(|(a, b)| {
        format!(
            "(!has(self.{a}) || !has(self.{a}.rules) || !has(self.{b}) || !has(self.{b}.rules) || \
             self.{a}.rules.all(r, !self.{b}.rules.exists(s, s.id == r.id)))"
        )
    });
    with_rules(
        spec,
        &[
            (
                "has(self.exec) || has(self.egress) || has(self.ingress) || has(self.mask)",
                "has none of exec, egress, ingress and mask, so it does nothing; add one",
            ),
            (&lower, "a rule cannot be enforce while the policy's mode is audit"),
            (&once.join(" && "), "ids of rules must be unique in the policy"),
        ],
    )
}

fn section(about: &str, rule: Value) -> Value {
    let mut rules = by_id(list("Their order has no meaning.", RULES_MAX, rule));
    rules["minItems"] = json!(0);
    let answer = word("The answer where no rule matches.", &["allow", "deny"]);
    object(about, vec![("defaultAction!", answer), ("rules", rules)])
}

fn rule(action: &[&str]) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("id!", id()),
        ("action!", word("What happens on a match.", action)),
        ("mode", mode("A rule of an enforced policy may be audit.")),
    ];
    fields.extend(about());
    fields
}

fn exec_rule() -> Value {
    let mut fields = rule(&["allow", "deny"]);
    let path = form("Absolute; * and ? within a name, ** over names.", 512, "^/");
    let digest = form("SHA-256 of the file.", 64, "^[0-9a-fA-F]{64}$");
    let argument = text("Pattern of one argument.", 512);
    fields.extend([
        ("paths", list("Patterns of the resolved file.", NAMES_MAX, path)),
        ("sha256", list("Digests of the file.", NAMES_MAX, digest)),
        ("args", list("Patterns of which one must match an argument.", NAMES_MAX, argument)),
    ]);
    with_rules(
        object("Of paths, digests and arguments, all that are given must match.", fields),
        &[
            ("has(self.paths) || has(self.sha256)", "matches nothing; add paths"),
            ("!has(self.args) || self.action == 'deny'", "args belongs to action deny"),
        ],
    )
}

fn egress_rule(target: Value) -> Value {
    let mut fields = rule(&["allow", "deny", "gate"]);
    let peer = object(
        "An address prefix or a name.",
        vec![
            ("cidr", cidr("Address prefix, as 10.0.0.0/8 or fd00::/8, without host bits.")),
            ("fqdn", fqdn("Name, or *.NAME for all below it.")),
        ],
    );
    let peer = with_rules(
        peer,
        &[("has(self.cidr) != has(self.fqdn)", "needs exactly one of cidr and fqdn")],
    );
    let statements = list(
        "What may be done there; the strictest match counts, none is a deny.",
        NAMES_MAX,
        statement(),
    );
    fields.extend([
        ("to", list("Destinations, any of them; a deny without it: all.", 256, peer)),
        ("ports", ports()),
        ("target", target),
        ("statements", by_id(statements)),
        ("session", session("What one whole session may use.")),
    ]);
    let gate_has = format!("({GATE}) == has(self.target)");
    let gate_says = format!("({GATE}) == has(self.statements)");
    let gate_only = format!("{GATE} || !has(self.session)");
    let direct = format!("{GATE} ? !has(self.to) && !has(self.ports) : true");
    with_rules(
        object("allow and deny speak of destinations, gate of a Target.", fields),
        &[
            (&gate_has, "target belongs to action gate, which needs it"),
            (&gate_says, "statements belongs to action gate, which needs it"),
            (&gate_only, "session belongs to action gate"),
            (&direct, "a gate rule covers its target's endpoints: remove to and ports"),
            (
                "self.action != 'allow' || has(self.to)",
                "to is required for allow; everywhere is 0.0.0.0/0 and ::/0",
            ),
        ],
    )
}

fn ingress_rule() -> Value {
    let mut fields = rule(&["allow", "deny"]);
    let source = object("An address prefix.", vec![("cidr!", cidr("As 10.0.0.0/8 or fd00::/8."))]);
    fields.extend([
        ("from", list("Sources, any of them; a deny without it: all.", 256, source)),
        ("ports", ports()),
    ]);
    let everywhere = "from is required for allow; everywhere is 0.0.0.0/0 and ::/0";
    with_rules(
        object("Who may come in.", fields),
        &[("self.action != 'allow' || has(self.from)", everywhere)],
    )
}

fn statement() -> Value {
    const EFFECTS: [&str; 8] =
        ["read", "write", "ddl", "dcl", "bulkRead", "function", "session", "unknown"];
    let effects = word("What a statement does.", &EFFECTS);
    let shapes = word("A way to write it.", &["noWhere", "doBlock", "serverFile", "program"]);
    let name = |about| text(about, 256);
    let names = |about, item| list(about, NAMES_MAX, item);
    let statement = object(
        "A rule about statements.",
        vec![
            ("id!", id()),
            ("action!", word("What happens on a match.", &["allow", "ask", "deny"])),
            ("effects!", list("What it does; any of them.", 8, effects)),
            ("tables", names("Every table where left out.", name("table, schema.table, schema.*"))),
            ("functions", names("Which functions.", name("function, schema.function, schema.*"))),
            ("columns", names("Tagged columns that expressions may use.", name("table.column"))),
            ("shapes", list("Shapes it speaks of.", 4, shapes)),
            ("maxRows", number("Most rows of one answer.", 1, i64::MAX)),
            ("maxBytes", number("Most bytes of one answer.", 1, i64::MAX)),
        ],
    );
    with_rules(
        statement,
        &[
            (
                "self.action != 'deny' || (!has(self.maxRows) && !has(self.maxBytes) && \
                 !has(self.columns))",
                "maxRows, maxBytes and columns have no meaning with action deny",
            ),
            (
                "self.action != 'allow' || has(self.functions) || !self.effects.exists(e, e == \
                 'function')",
                "functions is required where effects allows function",
            ),
        ],
    )
}
