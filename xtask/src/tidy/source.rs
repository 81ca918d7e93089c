//! The rules for one file: its header, its length, its words, and where a word may stand.

use super::Finding;
use super::lexer::{Line, is_word, split, words};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
/// A file with `unsafe` is to be read at one sitting.
const UNSAFE_FILE_LINES_MAX: usize = 120;
/// How far down the reason for `unsafe` may stand.
const HEADER_LINES: usize = 30;

/// Where aya may be named, as beginnings of paths.
const AYA_PLACES: &[&str] = &["pcigate-agent/src/enforcer", "pcigate-agent/src/sensor"];

/// Where kube may be named: one place each in agent and collector.
const KUBE_PLACES: &[&str] =
    &["pcigate-agent/src/kubernetes", "pcigate-collector/src/enroll/review.rs"];

/// The rule for every text file: nothing of the machine it was written on.
pub fn any_file(path: &str, text: &str) -> Vec<Finding> {
    // Spelled so that this file passes its own rule.
    let ours = ["/wo", "rk/"].concat();
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let stands_alone = line.match_indices(&ours).any(|(at, _)| {
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            !before.is_some_and(|c| is_word(c) || ".-}".contains(c))
        });
        if stands_alone {
            findings.push(Finding {
                path: path.to_owned(),
                line: number,
                what: "a path of one machine".to_owned(),
                remedy: "write it relative to the repository, or take it from the environment",
            });
        }
    }
    findings
}

/// All rules for a Rust file.
pub fn rust_file(path: &str, text: &str) -> Vec<Finding> {
    let file = File::new(path, text);
    let mut findings = Vec::new();
    file.shape(text, &mut findings);
    file.functions(&mut findings);
    for (number, line) in (1..).zip(&file.lines) {
        file.marks(number, line, &mut findings);
        file.calls(number, line, &mut findings);
    }
    file.unsafety(&mut findings);
    findings
}

struct File<'a> {
    path: &'a str,
    lines: Vec<Line>,
    /// The first line of the tests at the end of the file; all of it where the file is tests.
    tests_from: usize,
}

impl<'a> File<'a> {
    fn new(path: &'a str, text: &str) -> Self {
        let mut lines = split(text);
        if text.ends_with('\n') {
            lines.pop();
        }
        let is_tests = path.starts_with("tests/")
            || path.contains("/tests/")
            || path.contains("/benches/")
            || path.ends_with("/tests.rs");
        let tests_from = if is_tests { 1 } else { tail(&lines).unwrap_or(lines.len() + 1) };
        Self { path, lines, tests_from }
    }

    fn finding(&self, line: usize, what: impl Into<String>, remedy: &'static str) -> Finding {
        Finding { path: self.path.to_owned(), line, what: what.into(), remedy }
    }

    fn shape(&self, text: &str, findings: &mut Vec<Finding>) {
        if !text.starts_with("//!") {
            let remedy = "begin it with one `//!` line saying what the file answers for";
            findings.push(self.finding(1, "no header", remedy));
        }
        let length = self.tests_from - 1;
        if length > FILE_LINES_MAX {
            let what = format!("{length} lines without tests, more than {FILE_LINES_MAX}");
            findings.push(self.finding(
                FILE_LINES_MAX + 1,
                what,
                "split it by what it answers for",
            ));
        }
        if self.path.ends_with("/mod.rs") {
            let remedy = "name it after its folder, beside the folder: `foo.rs` and `foo/`";
            findings.push(self.finding(1, "a mod.rs", remedy));
        }
        for (number, line) in (1..).zip(text.lines()) {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                let what = format!("{columns} columns, more than {COLUMNS_MAX}");
                findings.push(self.finding(number, what, "break the line"));
            }
        }
    }

    fn functions(&self, findings: &mut Vec<Finding>) {
        for (number, line) in (1..).zip(&self.lines) {
            let mut words = line.words().skip_while(|word| *word != "fn");
            // `fn(u8)` is a type: no name follows on the same line.
            let (Some(_), Some(name)) = (words.next(), words.next()) else { continue };
            if !line.code.contains(&format!("fn {name}")) {
                continue;
            }
            let length = body_end(&self.lines, number, name).map_or(0, |end| end + 1 - number);
            if length > FUNCTION_LINES_MAX {
                let what =
                    format!("function {name} has {length} lines, more than {FUNCTION_LINES_MAX}");
                findings.push(self.finding(number, what, "take a part of it out, with a name"));
            }
        }
    }

    /// What must not stay in a commit.
    fn marks(&self, number: usize, line: &Line, findings: &mut Vec<Finding>) {
        let remedy = "do it now, or open an issue";
        for mark in ["TODO", "FIXME", "XXX"] {
            if words(&line.comment).chain(line.words()).any(|word| word == mark) {
                findings.push(self.finding(number, mark, remedy));
            }
        }
        for mark in ["dbg!", "todo!", "unimplemented!"] {
            if holds(&line.code, mark) {
                findings.push(self.finding(number, mark, "finish it and take the mark out"));
            }
        }
        if line.code.contains("#[ignore") {
            let remedy = "make the test run, or delete it; a test that cannot run here must fail";
            findings.push(self.finding(number, "an ignored test", remedy));
        }
    }

    /// Names that may not be used, or not here.
    fn calls(&self, number: usize, line: &Line, findings: &mut Vec<Finding>) {
        let in_tests = number >= self.tests_from;
        // Measurements send at a rate, and leave the processor to what they measure meanwhile.
        let paces = self.path.starts_with("tests/benches/") || self.path == "tests/src/line.rs";
        let mut found = |is: bool, what: &str, remedy| {
            if is {
                findings.push(self.finding(number, what, remedy));
            }
        };
        let word = |wanted: &[&str]| line.words().any(|word| wanted.contains(&word));
        let code = line.code.as_str();
        found(!in_tests && code.contains("use super::*"), "a glob import", "name what is imported");
        found(
            in_tests
                && !paces
                && word(&["sleep", "sleep_ms", "usleep", "nanosleep", "sleep_until"]),
            "a sleep in a test",
            "wait for the condition itself, with a deadline",
        );
        // A build script is a main of its own.
        let is_main = self.path.ends_with("/main.rs") || self.path.ends_with("build.rs");
        found(
            !is_main && code.contains("process::exit"),
            "an exit outside main.rs",
            "return an error or an ExitCode, so that everything is dropped",
        );
        found(
            line.words().any(|word| word.starts_with("unbounded")),
            "an unbounded queue",
            "bound it, and say what happens when it is full",
        );
        let may_aya = AYA_PLACES.iter().any(|place| self.path.starts_with(place));
        found(
            !may_aya && word(&["aya"]),
            "aya outside the sensor and the enforcer",
            "ask the sensor or the enforcer of the agent for it",
        );
        let may_kube = KUBE_PLACES.iter().any(|place| self.path.starts_with(place));
        found(
            !may_kube && word(&["kube"]),
            "kube outside of its places",
            "let `kubernetes` of the agent, or the collector's review of tokens, ask",
        );
    }

    /// `unsafe` is for the kernel programs, and for small files that say why.
    fn unsafety(&self, findings: &mut Vec<Finding>) {
        if self.path.starts_with("pcigate-ebpf/") {
            return;
        }
        let first = (1..).zip(&self.lines).find(|(_, line)| line.words().any(|w| w == "unsafe"));
        let Some((number, _)) = first else { return };
        let why = self.lines.iter().take(HEADER_LINES).any(|line| {
            let said = line.comment.trim_start_matches(['/', '!', ' ']);
            said.strip_prefix("unsafe:").is_some_and(|why| !why.trim().is_empty())
        });
        if !why {
            let remedy = "say why at the top (`// unsafe: the reason it is sound`), or avoid it";
            findings.push(self.finding(number, "unsafe without its reason", remedy));
        }
        let length = self.tests_from.min(self.lines.len() + 1) - 1;
        if length > UNSAFE_FILE_LINES_MAX {
            let what = format!("unsafe in {length} lines, more than {UNSAFE_FILE_LINES_MAX}");
            findings.push(self.finding(number, what, "move the unsafe part to a file of its own"));
        }
    }
}

/// The line of the `#[cfg(test)]` that opens the tests at the end of a file.
fn tail(lines: &[Line]) -> Option<usize> {
    let mut numbered = (1..).zip(lines);
    while let Some((number, line)) = numbered.next() {
        if line.code.trim() != "#[cfg(test)]" {
            continue;
        }
        // Other attributes may stand between.
        let mut rest = numbered.clone().map(|(_, line)| line.code.trim());
        let next = rest.find(|code| !code.is_empty() && !code.starts_with("#["));
        if next.is_some_and(|code| code.starts_with("mod ") && code.ends_with('{')) {
            return Some(number);
        }
    }
    None
}

/// The line of the brace that closes the function whose `fn NAME` stands in this line.
fn body_end(lines: &[Line], from: usize, name: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    let mut skip = format!("fn {name}");
    for (number, line) in (from..).zip(lines.get(from - 1..)?) {
        let code = line.code.split_once(&skip).map_or(line.code.as_str(), |(_, rest)| rest);
        skip = "\0".to_owned();
        for c in code.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                ';' if braces == 0 && brackets == 0 => return None,
                '{' => braces += 1,
                '}' if braces == 1 => return Some(number),
                '}' => braces = braces.saturating_sub(1),
                _ => {}
            }
        }
    }
    None
}

/// Whether the code holds this macro call, and not one whose name merely ends so.
fn holds(code: &str, mark: &str) -> bool {
    code.match_indices(mark).any(|(at, _)| {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(is_word)
    })
}
