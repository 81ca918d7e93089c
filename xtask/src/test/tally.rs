//! Counts what test programs print: libtest's `test result:` lines, Go's `--- PASS:` lines, and our
//! own `not run:` lines (`tests/src/needs.rs`), which libtest counts as passed.

use std::collections::BTreeMap;

/// What is known after a number of test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// Each with the stage it belongs to.
    pub failed_names: Vec<String>,
    /// What did not run and why; in which stages.
    not_run: BTreeMap<String, Vec<String>>,
    stage: String,
    /// Test programs that began but never came to their result: they crashed or were killed.
    running: u64,
    /// Tests of the running program that said they cannot run here.
    not_run_yet: u64,
    /// libtest lists the failed names last, just before its result.
    listed: Vec<String>,
    listing: bool,
}

impl Tally {
    /// Begins a stage.
    pub fn begin(&mut self, stage: &str) {
        stage.clone_into(&mut self.stage);
    }

    /// Takes one line of a test program's output.
    pub fn take(&mut self, line: &str) {
        if line == "failures:" {
            self.listed.clear();
            self.listing = true;
        } else if let Some(result) = result_in(line) {
            self.take_result(result);
        } else if is_beginning(line) {
            self.running += 1;
            self.listing = false;
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.listing) {
            self.listed.push(name.to_owned());
        } else if line.trim_start().starts_with("--- PASS: ") {
            self.passed += 1;
        } else if let Some(name) = line.trim_start().strip_prefix("--- FAIL: ") {
            self.fail(name);
        } else if let Some(what) = line.strip_prefix("not run: ") {
            // libtest will count it as passed.
            self.not_run_yet += 1;
            self.leave_out(what);
        } else if let Some(what) = line.strip_prefix("left out: ") {
            self.leave_out(what);
        }
    }

    /// What did not run, and in which stages, a line each.
    pub fn not_run(&self) -> impl Iterator<Item = String> {
        self.not_run.iter().map(|(what, stages)| format!("{what} [{}]", stages.join("; ")))
    }

    fn leave_out(&mut self, what: &str) {
        self.not_run.entry(what.to_owned()).or_default().push(self.stage.clone());
    }

    /// Ends the stage: a test program without a result, or a command that failed though no test
    /// did, is a failure of its own.
    pub fn end(&mut self, outcome: &anyhow::Result<()>, failed_before: u64) {
        for _ in 0..std::mem::take(&mut self.running) {
            self.fail("a test program ended without its result");
        }
        if let Err(error) = outcome
            && self.failed == failed_before
        {
            self.fail(&format!("{error:#}"));
        }
    }

    /// Tables that are not what was printed are a failure each.
    pub fn stale(&mut self, what: &[String]) {
        self.begin("tables");
        what.iter().for_each(|what| self.fail(what));
    }

    fn fail(&mut self, name: &str) {
        self.failed += 1;
        self.failed_names.push(format!("{}: {name}", self.stage));
    }

    fn take_result(&mut self, result: &str) {
        self.running = self.running.saturating_sub(1);
        let not_run = std::mem::take(&mut self.not_run_yet);
        self.passed += number_before(result, " passed").saturating_sub(not_run);
        self.failed += number_before(result, " failed");
        self.ignored += number_before(result, " ignored");
        let listed = std::mem::take(&mut self.listed);
        self.failed_names.extend(listed.iter().map(|name| format!("{}: {name}", self.stage)));
        self.listing = false;
    }
}

/// What follows `test result: `, also after something a test printed without a line end.
fn result_in(line: &str) -> Option<&str> {
    let at = line.find("test result: ok. ").or_else(|| line.find("test result: FAILED. "))?;
    line.get(at..)
}

/// `running 12 tests`, `running 1 test`.
fn is_beginning(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("running ") else { return false };
    let mut words = rest.split(' ');
    let number = words.next().is_some_and(|word| word.parse::<u64>().is_ok());
    number && matches!(words.next(), Some("test" | "tests")) && words.next().is_none()
}

/// The 12 of `ok. 12 passed; 0 failed`.
fn number_before(text: &str, what: &str) -> u64 {
    let before = text.split_once(what).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        tally.begin("system");
        text.lines().for_each(|line| tally.take(line));
        tally
    }

    const ONE_FAILS: &str = "
running 3 tests
test a ... ok
test m::b ... FAILED

failures:

---- m::b stdout ----
    an indented line of the test itself

failures:
    m::b

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0s
";

    #[test]
    fn results_of_all_programs_are_summed_and_failed_tests_named() {
        let good = "running 1 test\nnoise without an end\
                    test result: ok. 1 passed; 0 failed; 4 ignored; 0 measured\n";
        let tally = tally(&format!("{good}{ONE_FAILS}{good}"));
        assert_eq!((tally.passed, tally.failed, tally.ignored), (4, 1, 8));
        assert_eq!(tally.failed_names, ["system: m::b"]);
    }

    #[test]
    fn a_program_that_dies_before_its_result_counts_as_failed() {
        let mut tally = tally(&format!("{ONE_FAILS}running 7 tests\ntest a ... ok\n"));
        tally.end(&Err(anyhow::anyhow!("`cargo test` failed")), 0);
        assert_eq!(tally.failed, 2);
        assert_eq!(
            tally.failed_names.last().unwrap(),
            "system: a test program ended without its result"
        );
    }

    #[test]
    fn a_command_that_fails_without_a_failed_test_counts_as_failed() {
        let mut tally = Tally::default();
        tally.begin("build");
        tally.end(&Err(anyhow::anyhow!("`cargo build` failed")), 0);
        assert_eq!(tally.failed_names, ["build: `cargo build` failed"]);
        tally.end(&Ok(()), 1);
        assert_eq!(tally.failed, 1);
    }

    #[test]
    fn a_test_that_did_not_run_is_listed_with_its_stages_and_is_no_pass() {
        let text = "running 2 tests\ntest a ... ok\nnot run: b: it needs BPF-LSM active\n\
                    test b ... ok\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";
        let mut tally = tally(text);
        tally.begin("kernel");
        text.lines().for_each(|line| tally.take(line));
        tally.take("left out: all but c");
        assert_eq!((tally.passed, tally.failed), (2, 0));
        let listed: Vec<String> = tally.not_run().collect();
        let expected = ["all but c [kernel]", "b: it needs BPF-LSM active [system; kernel]"];
        assert_eq!(listed, expected);
    }

    #[test]
    fn go_tests_are_counted_too() {
        let tally = tally("=== RUN   TestA\n--- PASS: TestA (0.00s)\n--- FAIL: TestB (0.1s)\nFAIL");
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert_eq!(tally.failed_names, ["system: TestB (0.1s)"]);
    }
}
