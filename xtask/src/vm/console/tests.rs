//! What is made of a console: of a good run, and of every way it can go wrong.

use std::time::Duration;

use super::{BOOT_MAX, Console, RUN_MAX, SILENCE_MAX, Trouble};

const BOOT: &str = "pcigate-vm-init: Linux 6.1.0, LSMs lockdown,capability,bpf";
const RESULT: &str = "test result: ok. 25 passed; 0 failed; 0 ignored; 0 measured";
const SECOND: Duration = Duration::from_secs(1);

fn after(lines: &[&str]) -> Console {
    let mut console = Console::default();
    for line in lines {
        console.take(line, SECOND);
    }
    console
}

#[test]
fn a_run_is_good_when_the_status_and_the_printed_result_both_say_so() {
    assert_eq!(after(&[BOOT, RESULT]).ended(Some(0x21), ""), Ok(()));
    assert_eq!(after(&[BOOT, RESULT]).ended(Some(0x23), ""), Err(Trouble::Failed));
    assert_eq!(after(&[BOOT, "running 25 tests"]).ended(Some(0x21), ""), Err(Trouble::Cut));
}

#[test]
fn qemu_s_own_exit_codes_are_never_taken_for_a_pass() {
    for code in [Some(0), Some(1), Some(255), None] {
        let died = after(&[BOOT, RESULT]).ended(code, "");
        assert!(matches!(died, Err(Trouble::Died { .. })), "{code:?} {died:?}");
        let no_boot = after(&[]).ended(code, "qemu: linux kernel too old to load a ram disk\n");
        let Err(Trouble::NoBoot(why)) = no_boot else { panic!("{code:?} {no_boot:?}") };
        assert!(why.starts_with("qemu: linux kernel too old to load a ram disk"), "{why}");
    }
}

#[test]
fn a_panic_is_named_whether_the_machine_ends_or_hangs() {
    let line = "[    1.2] Kernel panic - not syncing: No working init found.";
    let console = after(&[line, "[    1.3] CPU: 0 PID: 1 Comm: swapper"]);
    let panicked = Trouble::Panic("No working init found. (before process 1 ran)".into());
    assert_eq!(console.ended(Some(0), ""), Err(panicked));
    assert_eq!(console.overdue(2 * SECOND), None, "what follows a panic is waited for");
    assert!(matches!(console.overdue(10 * SECOND), Some(Trouble::Panic(_))));
    let after_boot = after(&[BOOT, RESULT, line]).ended(Some(0x21), "");
    assert_eq!(after_boot, Err(Trouble::Panic("No working init found.".into())));
}

#[test]
fn a_stall_the_kernel_reports_ends_the_run_at_once() {
    for line in [
        "[  42.1] watchdog: BUG: soft lockup - CPU#1 stuck for 62s! [kernel:77]",
        "[  60.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "[ 121.0] INFO: task kernel:77 blocked for more than 120 seconds.",
    ] {
        let console = after(&[BOOT, line]);
        assert_eq!(console.overdue(2 * SECOND), Some(Trouble::Stall(line.into())));
    }
}

#[test]
fn a_machine_that_never_reaches_process_1_does_not_boot() {
    let silent = after(&[]).overdue(BOOT_MAX + SECOND);
    let Some(Trouble::NoBoot(why)) = silent else { panic!("{silent:?}") };
    assert_eq!(why, "it printed nothing within 90 s");
    let stuck = after(&["Booting from ROM.."]);
    assert_eq!(stuck.overdue(BOOT_MAX), None);
    let stuck = stuck.overdue(BOOT_MAX + SECOND).unwrap().to_string();
    assert!(stuck.contains("does not boot") && stuck.contains("`Booting from ROM..`"), "{stuck}");
}

#[test]
fn silence_and_slowness_are_told_apart() {
    let mut console = after(&[BOOT, "test a ... ok"]);
    assert_eq!(console.overdue(SILENCE_MAX), None);
    let silent = console.overdue(SILENCE_MAX + 2 * SECOND);
    assert_eq!(silent, Some(Trouble::Silence { after: "test a ... ok".into() }));
    console.take("test b ... ok", RUN_MAX);
    assert_eq!(console.overdue(RUN_MAX), None);
    assert_eq!(console.overdue(RUN_MAX + SECOND), Some(Trouble::TimeOut));
}

#[test]
fn output_that_is_cut_off_says_after_which_line() {
    let cut = after(&[BOOT, "running 25 tests", "test a ... o"]).ended(Some(0), "");
    let Err(trouble) = cut else { panic!() };
    assert_eq!(
        trouble.to_string(),
        "the machine ended without a result (QEMU's exit code 0) after `test a ... o`"
    );
}

#[test]
fn tests_that_cannot_start_say_why() {
    let console = after(&[BOOT, "pcigate-vm-init: cannot run /target/debug/deps/kernel: gone"]);
    let why = "cannot run /target/debug/deps/kernel: gone";
    assert_eq!(console.ended(Some(0x25), ""), Err(Trouble::CannotRun(why.into())));
}
