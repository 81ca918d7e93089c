//! Filters of system calls, as plain data.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// System call → what its arguments must be to match; an empty list matches every call.
pub type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Bit of the x32 ABI, whose calls have the same architecture as ordinary ones.
const X32: i64 = 0x4000_0000;

/// A filter that answers calls which match with `errno`, and lets all others through.
///
/// # Errors
/// What the compiler of filters says, as text.
pub fn refusing(mut rules: Rules, errno: i32) -> Result<BpfProgram, String> {
    let x32: Vec<_> = rules.iter().map(|(call, rule)| (call | X32, rule.clone())).collect();
    rules.extend(x32);
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let errno = SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)
        .map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error| format!("{error:?}"))
}

/// A filter that lets calls which match through, and answers all others with `errno`: those of the
/// x32 ABI, too, whose numbers are others.
///
/// # Errors
/// What the compiler of filters says, as text.
pub fn allowing(rules: Rules, errno: i32) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let errno = SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
    let filter = SeccompFilter::new(rules, errno, SeccompAction::Allow, arch)
        .map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error| format!("{error:?}"))
}

/// Matches where the argument is none of `allowed`.
///
/// # Errors
/// There is no such argument.
pub fn none_of(argument: u8, allowed: &[u64]) -> Result<SeccompRule, BackendError> {
    let differs =
        |&value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);
    SeccompRule::new(allowed.iter().map(differs).collect::<Result<_, _>>()?)
}
