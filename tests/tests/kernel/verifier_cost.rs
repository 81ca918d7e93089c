//! What the verifier spends on each program, on every kernel: growth is seen before it hurts.

use pcigate_tests::{
    kernel::{Kernel, Setup},
    table,
};

/// A quarter of what the verifier allows: the next kernel may count differently.
const VERIFIED_MAX: u32 = 250_000;

#[test]
fn no_program_comes_near_the_limit_of_the_verifier() {
    let kernel = Kernel::ungoverned(&Setup::default());
    let costs = kernel.enforcer().costs();
    assert!(costs.iter().any(|cost| cost.verified.is_some()), "nothing is loaded");
    for cost in costs {
        let told = cost.verified.map_or_else(|| "-".to_owned(), |verified| verified.to_string());
        table::row("verifier-cost", &cost.program, &told);
        let verified = cost.verified.unwrap_or(0);
        assert!(verified <= VERIFIED_MAX, "{}: {verified} instructions", cost.program);
    }
}
