//! Each rule of tidy with the smallest input that breaks it, and one beside it that does not.

use super::Finding;
use super::layers::{explained, manifest};
use super::lexer::split;
use super::source::{any_file, rust_file};

const PATH: &str = "pcigate-cli/src/x.rs";

/// Findings of a file that has its header, as `line: what`.
fn found(path: &str, body: &str) -> Vec<String> {
    let findings = rust_file(path, &format!("//! Answers for x.\n{body}\n"));
    findings.iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
}

fn whats(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.what.as_str()).collect()
}

fn filler(lines: usize) -> String {
    "const X: u8 = 1;\n".repeat(lines)
}

#[test]
fn a_finding_names_file_line_and_remedy() {
    let findings = rust_file(PATH, "//! X.\nfn a() { todo!() }\n");
    let shown = findings.first().unwrap().to_string();
    assert_eq!(shown, "pcigate-cli/src/x.rs:2: todo!; finish it and take the mark out");
}

#[test]
fn a_file_begins_with_its_header() {
    assert_eq!(whats(&rust_file(PATH, "fn a() {}\n")), ["no header"]);
    assert_eq!(found(PATH, "fn a() {}"), [""; 0]);
}

#[test]
fn a_file_has_at_most_400_lines_without_its_tests() {
    assert_eq!(found(PATH, filler(399).trim_end()), [""; 0]);
    let long = ["401: 401 lines without tests, more than 400"];
    assert_eq!(found(PATH, filler(400).trim_end()), long);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}", filler(500));
    assert_eq!(found(PATH, &tests), [""; 0]);
    assert_eq!(found(PATH, &format!("#[cfg(test)]\nmod tests;\n{}", filler(398))).len(), 1);
    assert_eq!(found("pcigate-cli/src/x/tests.rs", &filler(900)), [""; 0]);
}

#[test]
fn a_function_has_at_most_70_lines() {
    let function = |lines: usize| format!("fn a() -> [u8; 2] {{\n{}}}", "    b();\n".repeat(lines));
    assert_eq!(found(PATH, &function(68)), [""; 0]);
    assert_eq!(found(PATH, &function(69)), ["2: function a has 71 lines, more than 70"]);
    // Braces in literals and comments do not count, nor does a type or a declaration.
    let tricky = format!("fn a() {{ \"{{\"; '{{'; // {{\n}}\n{}", filler(90));
    assert_eq!(found(PATH, &tricky), [""; 0]);
    let no_body = format!("trait T {{\nfn a(f: fn(u8) -> u8);\n{}}}", filler(90));
    assert_eq!(found(PATH, &no_body), [""; 0]);
}

#[test]
fn a_line_has_at_most_100_columns() {
    assert_eq!(found(PATH, &format!("//{}", "é".repeat(98))), [""; 0]);
    let long = format!("//{}", "é".repeat(99));
    assert_eq!(found(PATH, &long), ["2: 101 columns, more than 100"]);
}

#[test]
fn unfinished_work_is_found_in_code_and_comments_but_not_in_text() {
    assert_eq!(found(PATH, "// TODO: x"), ["2: TODO"]);
    assert_eq!(found(PATH, "/* a\n FIXME */ // XXX"), ["3: FIXME", "3: XXX"]);
    assert_eq!(found(PATH, "fn a() { dbg!(1); unimplemented!() }").len(), 2);
    assert_eq!(found(PATH, "const A: &str = \"TODO dbg! 4111XXXX\"; // 4XXXX1"), [""; 0]);
    assert_eq!(found(PATH, "const A: &str = r#\"\"todo!\"\n TODO\"#;"), [""; 0]);
}

#[test]
fn no_test_is_ignored() {
    assert_eq!(found(PATH, "#[ignore = \"x\"]"), ["2: an ignored test"]);
}

#[test]
fn globs_of_the_parent_are_for_tests() {
    assert_eq!(found(PATH, "use super::*;"), ["2: a glob import"]);
    assert_eq!(found(PATH, "#[cfg(test)]\nmod tests {\n    use super::*;\n}"), [""; 0]);
}

#[test]
fn tests_do_not_sleep() {
    let body = "fn a() { std::thread::sleep(x); }";
    assert_eq!(found(PATH, body), [""; 0]);
    assert_eq!(found("tests/src/wait.rs", body), ["2: a sleep in a test"]);
    assert_eq!(found("pcigate-cli/src/x/tests.rs", body), ["2: a sleep in a test"]);
    let tail = format!("#[cfg(test)]\n#[allow(x)]\nmod tests {{\n{body}\n}}");
    assert_eq!(found(PATH, &tail), ["5: a sleep in a test"]);
    assert_eq!(found("tests/src/wait.rs", "fn a() { run(\"sleep\"); }"), [""; 0]);
}

#[test]
fn only_main_exits_the_process() {
    let body = "fn a() { std::process::exit(1) }";
    assert_eq!(found(PATH, body), ["2: an exit outside main.rs"]);
    assert_eq!(found("pcigate-cli/src/main.rs", body), [""; 0]);
}

#[test]
fn every_queue_is_bounded() {
    assert_eq!(found(PATH, "use x::unbounded_channel;"), ["2: an unbounded queue"]);
    assert_eq!(found(PATH, "use std::ops::Bound::Unbounded;"), [""; 0]);
}

#[test]
fn modules_are_named_after_their_folder() {
    assert_eq!(found("pcigate-cli/src/x/mod.rs", ""), ["1: a mod.rs"]);
}

#[test]
fn unsafe_needs_its_reason_and_a_small_file() {
    let body = "fn a() { unsafe { b() } }";
    assert_eq!(found(PATH, body), ["2: unsafe without its reason"]);
    assert_eq!(found(PATH, &format!("// unsafe: the pointer is ours.\n{body}")), [""; 0]);
    let long = format!("// unsafe: the pointer is ours.\n{body}\n{}", filler(120));
    assert_eq!(found(PATH, &long), ["3: unsafe in 124 lines, more than 120"]);
    assert_eq!(found("pcigate-ebpf/src/main.rs", body), [""; 0]);
    assert_eq!(found(PATH, "#![forbid(unsafe_code)] // unsafe"), [""; 0]);
}

#[test]
fn aya_is_for_the_sensor_and_the_enforcer() {
    let body = "use aya::maps::HashMap;";
    assert_eq!(found(PATH, body), ["2: aya outside the sensor and the enforcer"]);
    assert_eq!(found("pcigate-agent/src/sensor/ring.rs", body), [""; 0]);
    assert_eq!(found("pcigate-agent/src/enforcer.rs", body), [""; 0]);
    assert_eq!(found("pcigate-ebpf/src/main.rs", "use aya_ebpf::x;"), [""; 0]);
}

#[test]
fn kube_is_named_in_one_place_of_the_agent_and_one_of_the_collector() {
    let body = "use kube::Client;";
    assert_eq!(found("pcigate-agent/src/serve.rs", body), ["2: kube outside of its places"]);
    assert_eq!(found("pcigate-collector/src/enroll.rs", body), ["2: kube outside of its places"]);
    assert_eq!(found("pcigate-agent/src/kubernetes/reflector.rs", body), [""; 0]);
    assert_eq!(found("pcigate-collector/src/enroll/review.rs", body), [""; 0]);
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let ours = ["/wo", "rk/main"].concat();
    let findings = any_file("README.md", &format!("a\ncd {ours}"));
    assert_eq!(whats(&findings), ["a path of one machine"]);
    assert_eq!(findings.first().unwrap().line, 2);
    assert!(any_file("README.md", &format!("frame{ours} ./x{ours}")).is_empty());
}

#[test]
fn crates_depend_downwards_only() {
    let broken = |path: &str, text: &str| manifest(path, text).len();
    let agent = "[dependencies]\npcigate-policy = { workspace = true }\n";
    assert_eq!(broken("pcigate-agent/Cargo.toml", agent), 0);
    assert_eq!(broken("pcigate-proto/Cargo.toml", agent), 1);
    assert_eq!(broken("tests/Cargo.toml", agent), 0);
    assert_eq!(broken("pcigate-new/Cargo.toml", ""), 1);
    let path = "pcigate-collector/Cargo.toml";
    let findings = manifest(path, "[dev-dependencies]\n\npcigate-agent.workspace = true\n");
    let shown = findings.first().unwrap().to_string();
    assert!(shown.starts_with(&format!("{path}:3: pcigate-collector must not depend on")));
    assert_eq!(broken(path, "[target.'cfg(unix)'.dependencies.pcigate-cli]\nworkspace = 1"), 1);
    assert_eq!(broken(path, "[dependencies]\nx = { package = \"pcigate-agent\" }"), 1);
    assert_eq!(broken(path, "[features]\npcigate-agent = []"), 0);
}

#[test]
fn every_dependency_is_explained_and_every_explanation_used() {
    let workspace = "[workspace.dependencies]\npcigate-x = 1\nserde = \"1\"\nhex = \"1\"\n";
    let findings = explained(workspace, "| `hex` | x |\n| `aya-ebpf` | y |\n| `gone` | z |\n");
    let gone = "gone is explained, but is no dependency of the workspace";
    assert_eq!(whats(&findings), ["the dependency serde is not explained", gone]);
}

#[test]
fn the_lexer_tells_code_from_text_and_comments() {
    let lines = split("let a = b'\\''; // c\nlet l: &'a str = br#\"x\"y\"#; /* d /* e */ f */ g\n");
    let code: Vec<&str> = lines.iter().map(|line| line.code.as_str()).collect();
    assert_eq!(code, ["let a = b'; ", "let l: &'a str = br;  g", ""]);
    let comments: Vec<&str> = lines.iter().map(|line| line.comment.trim()).collect();
    assert_eq!(comments.first().unwrap(), &"c");
    assert!(comments.get(1).unwrap().contains('e'));
}
