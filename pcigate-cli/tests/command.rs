//! The built command without a collector: exit codes, the filter, policies, and ledgers on disk.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pcigate_ledger::{Edge, SigningKey, leaf_hash};
use tempfile::TempDir;

fn pcigate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pcigate"));
    command.args(arguments).env_remove("PCIGATE_COLLECTOR").env_remove("PCIGATE_TLS_DIR");
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&pcigate(arguments).output().unwrap())
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn wrong_usage_is_exit_2_with_a_remedy() {
    for arguments in [
        ["records", "--since", "yesterday"],
        ["records", "--kind", "dance"],
        ["record", "7", "--key=x"],
        ["sql", "", "--limit=1"],
        ["--collector", "http://127.0.0.1:1", "records"],
        ["verify", "/nowhere/at/all", "-o=table"],
    ] {
        let (code, out, error) = run(&arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {error}");
        assert!(error.contains("pcigate:") || error.contains("--help"), "{error}");
    }
}

#[test]
fn a_missing_tls_directory_is_named() {
    let (code, _, error) = run(&["--tls-dir", "/nowhere", "records"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--tls-dir") && error.contains("/nowhere/ca.pem"), "{error}");
}

/// A ledger of `size` entries in `parent/ledger`, with its key beside it.
fn ledger(parent: &Path, size: u64) -> SigningKey {
    let key = SigningKey::generate("ledger.example/pci").unwrap();
    fs::write(parent.join("ledger.vkey"), format!("{}\n", key.verifier())).unwrap();
    write_ledger(parent, size, &key);
    key
}

fn write_ledger(parent: &Path, size: u64, key: &SigningKey) {
    let (mut edge, mut files) = (Edge::empty(), Vec::new());
    for index in 0..size {
        let entry = format!("entry {index}");
        edge.append(entry.as_bytes(), leaf_hash(entry.as_bytes()), &mut files).unwrap();
    }
    files.extend(edge.partial_files());
    for file in files {
        let path = parent.join("ledger").join(file.path.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.bytes).unwrap();
    }
    let note = key.sign(size, &edge.root()).unwrap();
    fs::write(parent.join("ledger/checkpoint"), note).unwrap();
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

#[test]
fn a_whole_ledger_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let key = ledger(directory.path(), 300);
    let at = path(&directory, "ledger");
    let (code, out, error) = run(&["verify", &at]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.contains("ledger.example/pci") && out.contains("300") && out.ends_with("ok\n"));
    assert!(error.contains("a copy you kept"), "the key beside the ledger proves less: {error}");
    let given = key.verifier().to_string();
    let (code, out, error) = run(&["verify", &at, "--key", &given, "--output", "json"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains("\"key_from\":\"given\"") && out.contains("\"ok\":true"), "{out}");
}

#[test]
fn a_changed_entry_is_exit_1_and_the_leaf_is_named() {
    let directory = tempfile::tempdir().unwrap();
    ledger(directory.path(), 300);
    let tile = directory.path().join("ledger/tile/entries/000");
    let mut bytes = fs::read(&tile).unwrap();
    let at = bytes.windows(8).position(|part| part == b"entry 17").unwrap();
    bytes[at] ^= 1;
    fs::write(&tile, bytes).unwrap();
    let (code, out, _) = run(&["verify", &path(&directory, "ledger")]);
    assert_eq!(code, Some(1));
    assert!(out.contains("WRONG") && out.contains("leaf 17 "), "{out}");
    let (code, out, _) = run(&["verify", &path(&directory, "ledger"), "--output", "json"]);
    assert!(code == Some(1) && out.contains("\"ok\":false"), "{out}");
}

#[test]
fn a_ledger_must_extend_the_checkpoint_kept_from_earlier() {
    let directory = tempfile::tempdir().unwrap();
    let key = ledger(directory.path(), 10);
    let kept = path(&directory, "kept");
    fs::copy(directory.path().join("ledger/checkpoint"), &kept).unwrap();
    write_ledger(directory.path(), 300, &key);
    let at = path(&directory, "ledger");
    assert_eq!(run(&["verify", &at, "--since", &kept]).0, Some(0));
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    write_ledger(directory.path(), 9, &key);
    let (code, out, _) = run(&["verify", &at, "--since", &kept]);
    assert!(code == Some(1) && out.contains("rolled back"), "{out}");
}

#[test]
fn a_ledger_of_another_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    ledger(directory.path(), 3);
    let other = SigningKey::generate("ledger.example/pci").unwrap();
    let given = other.verifier().to_string();
    let (code, out, _) = run(&["verify", &path(&directory, "ledger"), "--key", &given]);
    assert!(code == Some(1) && out.contains("signature"), "{out}");
}

#[test]
fn a_ledger_without_a_key_is_a_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    ledger(directory.path(), 3);
    fs::remove_file(directory.path().join("ledger.vkey")).unwrap();
    let (code, _, error) = run(&["verify", &path(&directory, "ledger")]);
    assert!(code == Some(2) && error.contains("--key"), "{error}");
}

const POLICY: &str = "\
apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {matchLabels: {app: billing-bot}, serviceAccountNames: [billing-bot]}
  mode: enforce
  exec:
    defaultAction: allow
    rules:
      - {id: no-shells, action: deny, paths: [\"/bin/sh\", \"/usr/bin/*sh\"]}
  egress:
    defaultAction: deny
    rules:
      - {id: dns, action: allow, to: [{cidr: 10.96.0.10/32}], ports: [{port: 53, protocol: UDP}]}
";

#[test]
fn a_right_policy_is_summarised() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), POLICY).unwrap();
    fs::write(directory.path().join("notes.txt"), "not: [a policy").unwrap();
    let (code, out, error) = run(&["policy", "check", &path(&directory, "")]);
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.contains("1 policy") && out.contains("2 rules"), "{out}");
}

#[test]
fn all_mistakes_are_reported_with_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "a.yaml");
    let wrong = POLICY.replace("defaultAction: allow", "defaultAction: maybe");
    fs::write(&file, wrong.replace("10.96.0.10/32", "10.96.0.10/99")).unwrap();
    let (code, out, _) = run(&["policy", "check", &file]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("a.yaml:8:") && out.contains("a.yaml:14:"), "{out}");
}

#[test]
fn files_that_are_not_there_are_bad_input() {
    let directory = tempfile::tempdir().unwrap();
    let (code, _, error) = run(&["policy", "check", &path(&directory, "none.yaml")]);
    assert!(code == Some(2) && error.contains("none.yaml"), "{error}");
    let (code, _, error) = run(&["policy", "check", &path(&directory, "")]);
    assert!(code == Some(2) && error.contains("no .yaml"), "{error}");
}

fn explained(directory: &TempDir, request: &[&str]) -> (Option<i32>, String, String) {
    let file = path(directory, "a.yaml");
    fs::write(&file, POLICY).unwrap();
    let who = ["--pod", "payments/billing-7f9c", "--label", "app=billing-bot"];
    let account = ["--service-account", "billing-bot"];
    run(&[&["policy", "explain", &file], &who[..], &account[..], request].concat())
}

#[test]
fn explain_answers_with_its_exit_code_and_the_rule() {
    let directory = tempfile::tempdir().unwrap();
    for (request, code, why) in [
        (["--exec", "/bin/sh"], 1, "no-shells"),
        (["--exec", "/usr/bin/curl"], 0, "default"),
        (["--connect", "udp:10.96.0.10:53"], 0, "dns"),
        (["--connect", "10.96.0.10:53"], 1, "default"),
        (["--connect", "[fd00::1]:443"], 1, "default"),
    ] {
        let (actual, out, error) = explained(&directory, &request);
        assert_eq!(actual, Some(code), "{request:?}: {out}{error}");
        assert!(out.contains(why), "{request:?}: {out}");
    }
}

#[test]
fn explain_takes_the_arguments_and_the_digest_of_a_program() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "a.yaml");
    let (digest, other) = ("ab".repeat(32), "cd".repeat(32));
    let rules = format!(
        "[{{id: python, action: allow, paths: [/usr/bin/python3], sha256: [{digest}]}}, \
         {{id: inline, action: deny, paths: [/usr/bin/python3], args: ['-*c*']}}]"
    );
    fs::write(&file, format!("{}  exec: {{defaultAction: deny, rules: {rules}}}\n", POLICY_HEAD))
        .unwrap();
    let ask = |more: &[&str]| {
        let who = ["--pod", "payments/billing-7f9c", "--exec", "/usr/bin/python3"];
        let (code, out, error) = run(&[&["policy", "explain", &file], &who[..], more].concat());
        (code, out + &error)
    };
    for (more, code, why) in [
        (&["--sha256", &digest, "--arg", "main.py"][..], 0, "rule python"),
        (&["--sha256", &digest, "--arg", "-Ic"], 1, "rule inline"),
        (&["--sha256", &other], 1, "the default"),
        (&[], 1, "the default"),
    ] {
        let (actual, out) = ask(more);
        assert_eq!(actual, Some(code), "{more:?}: {out}");
        assert!(out.contains(why), "{more:?}: {out}");
    }
}

const POLICY_HEAD: &str = "\
apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
";

#[test]
fn explain_says_that_no_policy_selects_another_pod() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "a.yaml");
    fs::write(&file, POLICY).unwrap();
    let (_, out, error) =
        run(&["policy", "explain", &file, "--pod", "payments/other", "--exec", "/bin/sh"]);
    assert!(out.contains("No policy selects"), "{out}{error}");
}

#[test]
fn explain_needs_one_question_and_right_documents() {
    let directory = tempfile::tempdir().unwrap();
    for request in [&[][..], &["--exec", "/bin/sh", "--connect", "10.0.0.1:1"]] {
        assert_eq!(explained(&directory, request).0, Some(2), "{request:?}");
    }
    let file = path(&directory, "b.yaml");
    fs::write(&file, "kind: Nothing\n").unwrap();
    let (code, _, error) = run(&["policy", "explain", &file, "--pod", "a/b", "--exec", "/bin/sh"]);
    assert!(code == Some(2) && error.contains("b.yaml:1"), "{error}");
}

#[test]
fn what_nodes_cannot_enforce_yet_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "a.yaml");
    let named = POLICY.replace("cidr: 10.96.0.10/32", "fqdn: \"*.stripe.com\"");
    // A name that is denied is open until somebody has resolved it.
    let open = named.replace("defaultAction: deny", "defaultAction: allow");
    let open = open.replace("action: allow, to:", "action: deny, to:");
    for (text, listed) in [(named, false), (open, true)] {
        fs::write(&file, text).unwrap();
        let (code, out, error) = run(&["policy", "check", &file]);
        assert_eq!(code, Some(0), "{out}{error}");
        assert_eq!(out.contains("not enforceable"), listed, "{out}");
    }
}

#[test]
fn a_name_is_explained_by_the_rules_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "a.yaml");
    fs::write(&file, POLICY.replace("cidr: 10.96.0.10/32", "fqdn: \"*.stripe.com\"")).unwrap();
    for (name, verdict) in [("api.stripe.com", "allow"), ("stripe.com", "deny")] {
        let place = format!("udp:{name}:53");
        let pod = ["--pod", "payments/bot", "--service-account", "billing-bot"];
        let request = ["--label", "app=billing-bot", "--connect", &place];
        let words = [&["policy", "explain", &file], &pod[..], &request[..]].concat();
        let (_, out, error) = run(&words);
        assert!(out.contains(&format!("verdict: {verdict}")), "{name}: {out}{error}");
    }
}

#[test]
fn completions_and_manual_pages_are_made_of_the_command_line_as_it_is() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, script, error) = run(&["completions", shell]);
        assert_eq!(code, Some(0), "{error}");
        assert!(script.contains("pcigate") && script.contains("replay"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    let (code, out, error) = run(&["manuals", &at]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{error}");
    for page in ["pcigate", "pcigate-policy-suggest", "pcigate-session-replay", "pcigate-status"] {
        let text = fs::read_to_string(directory.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH OPTIONS"), "{page}");
    }
    assert_eq!(run(&["manuals", "/nowhere/at/all"]).0, Some(2));
}

#[test]
fn under_the_name_of_a_kubectl_plugin_usage_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("kubectl-pcigate");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pcigate"), &plugin).unwrap();
    let (code, usage, _) = told(&Command::new(plugin).args(["policy", "--help"]).output().unwrap());
    assert!(code == Some(0) && usage.contains("Usage: kubectl pcigate policy "), "{usage}");
}
