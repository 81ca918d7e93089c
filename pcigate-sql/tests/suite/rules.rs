//! Rules of a policy, a shop's catalog, and the answer to a text.

use pcigate_policy::document::{Column, Documents, EgressEffect, Statement, StatementAction};
use pcigate_policy::statement::{Answer, decide};
use pcigate_sql::{Catalog, Relation, Session, classify};

pub struct Site {
    pub rules: Vec<Statement>,
    pub tagged: Vec<Column>,
    pub catalog: Catalog,
    pub session: Session,
}

/// Reads the rules as a user writes them.
pub fn site(rules: &str) -> Site {
    let document = format!(
        "apiVersion: pcigate.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: p, namespace: n}}\n\
         spec:\n  selector: {{matchLabels: {{a: b}}}}\n  egress:\n    defaultAction: deny\n    \
         rules:\n      - id: g\n        action: gate\n        target: t\n        statements: \
         [{rules}]\n---\napiVersion: pcigate.dev/v1alpha1\nkind: Target\n\
         metadata: {{name: t, namespace: n}}\nspec: {{protocol: postgres, \
         endpoints: [{{cidr: 10.0.0.5/32, port: 5432}}], upstream: {{address: '10.0.0.5:5432'}}, \
         columns: [{{table: public.cards, column: pan, class: pan}}, \
         {{table: public.cards, column: cvv, class: sad}}]}}\n"
    );
    let documents = Documents::read(&[("p.yaml", document)]).unwrap();
    let egress = documents.policies()[0].egress.clone().unwrap();
    let rules = match egress.rules.into_iter().next().unwrap().effect {
        EgressEffect::Gate { statements, .. } => statements,
        EgressEffect::Direct { .. } => unreachable!(),
    };
    let tagged = documents.targets().values().next().unwrap().columns.clone();
    Site {
        rules,
        tagged,
        catalog: Catalog::default(),
        session: Session::new("billing_ro", &["public"]),
    }
}

/// The shop: cards, orders, and views over them.
pub fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let mut add = |schema: &str, name: &str, columns: &str, definition: Option<&str>| {
        let columns = columns.split(' ').map(str::to_owned).collect();
        let definition = definition.map(str::to_owned);
        catalog.add(schema, name, Relation { columns, definition });
    };
    add("public", "cards", "id holder pan cvv expiry", None);
    add("public", "orders", "id card_id amount note", None);
    add("secret", "keys", "id value", None);
    add("public", "v_orders", "id amount", Some("SELECT id, amount FROM public.orders"));
    add("public", "v_pan", "n", Some("SELECT pan AS n FROM public.cards"));
    add("public", "v_bin", "b", Some("SELECT \"left\"(pan, 6) AS b FROM public.cards"));
    add("public", "v_nested", "x", Some("SELECT n AS x FROM (SELECT n FROM public.v_pan) s"));
    add("public", "v_file", "f", Some("SELECT pg_read_file('/etc/passwd'::text) AS f"));
    add("public", "v_file2", "f", Some("SELECT f FROM public.v_file"));
    catalog
}

impl Site {
    pub fn with_catalog(mut self) -> Self {
        self.catalog = catalog();
        self
    }

    /// The strictest answer to any statement of a text, following the session. A refused text is
    /// a denial.
    pub fn answer(&mut self, text: &str) -> Answer {
        let mut worst = Answer {
            action: StatementAction::Allow,
            rule: None,
            sentence: String::new(),
            max_rows: None,
            max_bytes: None,
        };
        let statements = match classify(text, &self.session, &self.catalog) {
            Ok(statements) => statements,
            Err(refusal) => {
                worst.action = StatementAction::Deny;
                worst.sentence = refusal.to_string();
                return worst;
            }
        };
        for statement in statements {
            let answer = decide(&self.rules, &self.tagged, "shop", &statement.facts);
            if answer.action == StatementAction::Allow {
                self.session.after(&statement, true);
            }
            if answer.action != StatementAction::Allow || worst.sentence.is_empty() {
                worst = answer;
            }
        }
        worst
    }

    pub fn passes(&mut self, text: &str) -> bool {
        self.answer(text).action == StatementAction::Allow
    }
}
