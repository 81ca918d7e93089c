//! What the verifier spent on each program of the object.

use aya::programs::ProgramError;

use super::Enforcer;

/// One program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Its name in the object.
    pub program: String,
    /// Instructions the verifier looked at (`bpf_prog_info.verified_insns`, Linux 5.16); `None`
    /// where the program is not loaded on this kernel.
    pub verified: Option<u32>,
}

impl Enforcer {
    /// The cost of every program, after [`Enforcer::attach`]; in the order of their names.
    #[must_use]
    pub fn costs(&self) -> Vec<Cost> {
        let cost = |(name, program): (&str, &aya::programs::Program)| {
            let info: Result<_, ProgramError> = program.info();
            let verified = info.ok().and_then(|info| info.verified_instruction_count());
            Cost { program: name.to_owned(), verified }
        };
        let mut costs: Vec<Cost> = self.ebpf.programs().map(cost).collect();
        costs.sort_by(|a, b| a.program.cmp(&b.program));
        costs
    }
}
