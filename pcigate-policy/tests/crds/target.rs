//! Target. Fields that name files of the node are absent: documents on the node have them.

use serde_json::Value;

use super::definition::{self, Names, STATUS_COLUMNS, status};
use super::schema::{
    LABEL, NAMES_MAX, SUBDOMAIN, cidr, flag, form, fqdn, list, mask, number, object, secret_key,
    secret_pair, session, text, with_rules, word,
};

fn with_spec(spec: Value) -> Value {
    let names = Names {
        kind: "Target",
        plural: "targets",
        short: "pgt",
        scope: "Namespaced",
        about: "A protected destination: refused to every pod but through the gateway.",
    };
    let mut columns = vec![
        ("Protocol", "string", ".spec.protocol"),
        ("Upstream", "string", ".spec.upstream.address"),
    ];
    columns.extend(STATUS_COLUMNS);
    definition::definition(&names, vec![("spec!", spec), ("status", status())], &columns)
}

pub fn definition() -> Value {
    const PROTOCOLS: [&str; 6] = ["postgres", "kubernetes", "http", "mysql", "redis", "mongodb"];
    let column = object(
        "A column that holds card data.",
        vec![
            ("table!", text("table or schema.table.", 256)),
            ("column!", text("Name of the column.", 256)),
            ("class!", word("Card numbers, or codes that are never passed on.", &["pan", "sad"])),
        ],
    );
    let spec = object(
        "Where it answers, and how the gateway gets there.",
        vec![
            ("protocol!", word("What it speaks.", &PROTOCOLS)),
            ("endpoints!", list("Where it answers (TCP).", NAMES_MAX, endpoint())),
            ("upstream!", upstream()),
            ("credential", credential()),
            ("mask", mask("How its answers are masked.")),
            ("columns", list("Columns known to hold card data.", 1024, column)),
            ("clientTls", client_tls()),
            ("token", token()),
            ("sessionRole", session_role()),
            ("session", session("What any one session may use.")),
        ],
    );
    with_spec(with_rules(
        spec,
        &[
            (
                "!has(self.credential) || !has(self.credential.certificateSecretRef) || \
                 !has(self.upstream.tls) || !has(self.upstream.tls.mode) || \
                 self.upstream.tls.mode != 'disable'",
                "a certificate is shown over TLS only; set upstream.tls",
            ),
            ("!has(self.token) || has(self.clientTls)", "token is asked for over TLS only"),
            (
                "!has(self.sessionRole) || self.protocol == 'postgres'",
                "sessionRole is for protocol postgres only",
            ),
            (
                "!has(self.sessionRole) || has(self.credential)",
                "sessionRole needs a credential, which makes and drops the roles",
            ),
            (
                "!has(self.sessionRole) || !has(self.credential) || \
                 !self.sessionRole.grants.exists(g, g == self.credential.username)",
                "sessionRole.grants names the credential's own role",
            ),
        ],
    ))
}

fn endpoint() -> Value {
    let endpoint = object(
        "An address prefix, a Service or a name, and its port.",
        vec![
            ("cidr", cidr("Address prefix, as 10.0.0.5/32.")),
            ("service", form("A Service of the Target's namespace.", 63, LABEL)),
            ("fqdn", fqdn("Name, or *.NAME for all below it.")),
            ("port!", number("TCP port.", 1, 65_535)),
        ],
    );
    let one = "(has(self.cidr) ? 1 : 0) + (has(self.service) ? 1 : 0) + (has(self.fqdn) ? 1 : 0) \
               == 1";
    with_rules(endpoint, &[(one, "needs exactly one of cidr, service and fqdn")])
}

fn upstream() -> Value {
    let modes = ["verify-full", "require", "disable"];
    let tls = object(
        "How TLS is used.",
        vec![
            ("mode", word("verify-full where nothing is said.", &modes)),
            ("caSecretRef", secret_key("PEM of the authorities to trust.")),
            ("serverName", form("Name in the certificate.", 253, SUBDOMAIN)),
        ],
    );
    let verified = "!has(self.mode) || self.mode == 'verify-full' || (!has(self.caSecretRef) && \
                    !has(self.serverName))";
    let tls = with_rules(
        tls,
        &[(verified, "caSecretRef and serverName are used by mode verify-full only")],
    );
    let address = form("host:port, or [v6]:port.", 259, "^[^*].*:[0-9]{1,5}$");
    object("How the gateway reaches it.", vec![("address!", address), ("tls", tls)])
}

fn credential() -> Value {
    let credential = object(
        "What the gateway logs in with; the clients never have it.",
        vec![
            ("username!", text("User name at the Target.", 256)),
            ("secretRef", secret_key("The password, in a Secret of the Target's namespace.")),
            (
                "certificateSecretRef",
                secret_pair("Its certificate and key: a Secret of type kubernetes.io/tls."),
            ),
        ],
    );
    with_rules(
        credential,
        &[(
            "has(self.secretRef) || has(self.certificateSecretRef)",
            "needs secretRef, certificateSecretRef, or both",
        )],
    )
}

fn client_tls() -> Value {
    object(
        "TLS towards clients; left out: not offered.",
        vec![
            ("secretRef!", secret_pair("A Secret of type kubernetes.io/tls.")),
            ("required", flag("Clients that do not ask for TLS are refused.")),
        ],
    )
}

fn token() -> Value {
    let token = object(
        "Tokens (JWT) that clients bring as their password.",
        vec![
            ("required!", flag("Who brings none, or a wrong one, is refused.")),
            ("audience!", text("What aud must hold.", 1024)),
            ("issuer", text("What iss must be.", 1024)),
            ("jwksSecretRef", secret_key("The issuer's keys (JWK Set).")),
            (
                "tokenReview",
                flag("The API server says whose it is, and it must be the connecting pod's own."),
            ),
        ],
    );
    let rule = "has(self.tokenReview) && self.tokenReview ? \
                !has(self.issuer) && !has(self.jwksSecretRef) : \
                has(self.issuer) && has(self.jwksSecretRef)";
    with_rules(token, &[(rule, "needs either issuer and jwksSecretRef, or tokenReview")])
}

fn session_role() -> Value {
    let role = text("A role whose rights a session has.", 63);
    object(
        "A role of its own for each session.",
        vec![
            ("grants!", list("Roles it is a member of.", NAMES_MAX, role)),
            ("prefix", form("How its name begins.", 47, "^[a-z][a-z0-9_]*$")),
        ],
    )
}
