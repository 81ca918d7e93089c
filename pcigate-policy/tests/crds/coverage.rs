//! NodeCoverage: what one node makes of all documents. Written by that node's agent only.

use serde_json::{Value, json};

use super::definition::{self, Names, STATES};
use super::schema::{list, number, object, text, word};

fn status() -> Value {
    let count = |about| number(about, 0, i64::MAX);
    let reason = || json!({"type": "string", "maxLength": 1024, "description": "Why."});
    let feature = object(
        "What the node can or cannot do.",
        vec![("name!", text("Its name.", 64)), ("reason", reason())],
    );
    let document = object(
        "What the node makes of one document.",
        vec![
            ("kind!", word("Its kind.", &["AgentPolicy", "ClusterAgentPolicy", "Target"])),
            (
                "namespace",
                json!({"type": "string", "maxLength": 63,
                                 "description": "Empty where it is cluster-scoped."}),
            ),
            ("name!", text("Its name.", 253)),
            ("generation", count("The newest generation the node has seen.")),
            (
                "hash",
                json!({"type": "string", "maxLength": 64,
                            "description": "Of what is in force of it; empty: nothing."}),
            ),
            ("state!", word("What the node makes of it.", &STATES)),
            ("reason", reason()),
            ("workloads", count("Containers and pods of this node it selects.")),
        ],
    );
    let mut documents = list("What it makes of each document.", 256, document);
    documents["minItems"] = json!(0);
    let mut features = list("What the node cannot enforce.", 64, feature);
    features["minItems"] = json!(0);
    object(
        "What the agent of the node says.",
        vec![
            (
                "agentVersion",
                json!({"type": "string", "maxLength": 64,
                                    "description": "Version of the agent."}),
            ),
            (
                "observedTime",
                json!({"type": "string", "format": "date-time",
                                    "description": "When the agent was last known to be there; \
                                                    every five minutes."}),
            ),
            ("missing", features),
            ("documents", documents),
            ("documentsOmitted", count("Documents that found no place in the list.")),
            ("rejected", count("Documents that it does not use in their newest version.")),
        ],
    )
}

pub fn definition() -> Value {
    let names = Names {
        kind: "NodeCoverage",
        plural: "nodecoverages",
        short: "pgnc",
        scope: "Cluster",
        about: "What one node enforces and what it cannot; named as the node, written by its \
                agent.",
    };
    let columns = [
        ("Version", "string", ".status.agentVersion"),
        ("Rejected", "integer", ".status.rejected"),
        ("Seen", "date", ".status.observedTime"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ];
    definition::definition(&names, vec![("status", status())], &columns)
}
