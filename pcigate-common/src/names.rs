//! Egress rules by name: keys and values of their maps, and how a name's answer joins an address's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    limits::{DNS_NAME_BYTES_MAX, LEARNED_NAMES_MAX, LEARNED_SECONDS_MAX, LEARNED_SECONDS_MIN},
    maps::{Decision, rule, verdict},
};

/// What identifies a name or wildcard of rules: the first half of the SHA-256 over it and over the
/// names below it that its policies tell apart. The same in every policy, agent and kernel, so that
/// what has been learned outlives a change of policies.
pub type NameId = [u8; 16];

/// Data part of a `NAMES` key (longest-prefix trie) → [`NameId`]. The trie's prefix length is
/// 32 + 8 for each byte of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NameKey {
    /// Policy number, big-endian.
    pub policy: [u8; 4],
    /// The name reversed: with its NUL (`moc.elpmaxe\0`) for itself, with a dot (`moc.elpmaxe.`)
    /// for all below it. See [`crate::dns::QuestionWalk`].
    pub name: [u8; DNS_NAME_BYTES_MAX],
}
const _: () = assert!(size_of::<NameKey>() == 256);

/// `NAME_BLOCKS`: what a policy says of a name → block of `PORTS`, whose decisions hold what rules
/// say and no defaults ([`Decision::with_name`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NameBlockKey {
    /// Policy number.
    pub policy: u32,
    /// The name or wildcard.
    pub id: NameId,
}
const _: () = assert!(size_of::<NameBlockKey>() == 20);

/// `QUESTIONS`: a question a socket has asked. Whole, so that no two questions are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuestionKey {
    /// Cookie of the socket.
    pub cookie: u64,
    /// Id of the message.
    pub id: u16,
    /// Record type.
    pub kind: u16,
    /// Prefix length of what follows as a key of `NAMES`.
    pub bits: u32,
    /// The name. Its policy is 0 in `QUESTIONS`: a question outlives a change of policies.
    pub name: NameKey,
}
const _: () = assert!(size_of::<QuestionKey>() == 272);

/// What `QUESTIONS` holds of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Question {
    /// Boot clock, ns: when an answer is no longer taken.
    pub deadline_ns: u64,
    /// cgroup id of the workload.
    pub workload: u64,
    /// The most specific name or wildcard that covers the name.
    pub id: NameId,
}
const _: () = assert!(size_of::<Question>() == 32);

/// `LEARNED`: what a workload has been told of an address, and in which network: a process can make
/// itself another network namespace and be any server there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LearnedKey {
    /// cgroup id of the workload.
    pub workload: u64,
    /// Cookie of the socket's network namespace, never used twice.
    pub network: u64,
    /// Network order, IPv4 as v4-mapped.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<LearnedKey>() == 32);

/// The names an address is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Learned {
    /// Its own key: an entry of a full map is used again at once, while a program may still read
    /// it, and then no longer names the address that was looked up.
    pub key: LearnedKey,
    /// By which names, until when.
    pub names: [LearnedName; LEARNED_NAMES_MAX],
}
const _: () = assert!(size_of::<Learned>() == 128);

/// One name of an address.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct LearnedName {
    /// Boot clock, ns; 0 = an empty place.
    pub deadline_ns: u64,
    /// Which.
    pub id: NameId,
}

impl Learned {
    /// Adds a name, or lengthens its time: in its own place, else in the one that ends first (an
    /// empty one ends before all).
    #[inline(always)]
    pub fn add(&mut self, id: &NameId, deadline_ns: u64) {
        let mut place = 0;
        let mut earliest = u64::MAX;
        for (index, name) in self.names.iter().enumerate() {
            if name.id == *id {
                place = index;
                break;
            }
            if name.deadline_ns < earliest {
                earliest = name.deadline_ns;
                place = index;
            }
        }
        for (index, name) in self.names.iter_mut().enumerate() {
            if index == place {
                let before = if name.id == *id { name.deadline_ns } else { 0 };
                name.deadline_ns = before.max(deadline_ns);
                name.id = *id;
            }
        }
    }
}

/// How long an answer counts, nanoseconds.
#[inline(always)]
#[must_use]
pub fn lifetime_ns(ttl_seconds: u32) -> u64 {
    u64::from(ttl_seconds.clamp(LEARNED_SECONDS_MIN, LEARNED_SECONDS_MAX)) * 1_000_000_000
}

impl Decision {
    /// What an address's answer (defaults included) and a name's become together: the strictest of
    /// all rules that match, and a default only where none does.
    ///
    /// In a name's decision, and in that of an address in a policy with names, the verdict `NONE`
    /// or a default as `rule` says that no enforced rule matches, and the audit half holds what all
    /// matching rules say together, also where that is not stricter. [`Self::shown`] ends it.
    #[inline(always)]
    #[must_use]
    pub fn with_name(self, name: Self) -> Self {
        let own =
            if is_default(self.rule) { (verdict::NONE, 0) } else { (self.verdict, self.rule) };
        let own_all = if self.audit_verdict == verdict::NONE {
            own
        } else if is_default(self.audit_rule) {
            (verdict::NONE, 0)
        } else {
            (self.audit_verdict, self.audit_rule)
        };
        let enforced = stricter(own, (name.verdict, name.rule));
        let all = stricter(own_all, (name.audit_verdict, name.audit_rule));
        if all.0 == verdict::NONE {
            return self;
        }
        let enforced =
            if enforced.0 == verdict::NONE { (self.verdict, self.rule) } else { enforced };
        Self { verdict: enforced.0, rule: enforced.1, audit_verdict: all.0, audit_rule: all.1 }
    }

    /// Without an audit half that is not stricter than what is enforced.
    #[inline(always)]
    #[must_use]
    pub fn shown(self) -> Self {
        if self.audit_verdict > self.verdict {
            self
        } else {
            Self::enforced(self.verdict, self.rule)
        }
    }
}

#[inline(always)]
fn is_default(number: u32) -> bool {
    number == rule::DEFAULT || number == rule::NO_POLICY
}

/// The stricter of two (verdict, rule); among equals the lower rule.
#[inline(always)]
fn stricter(a: (u32, u32), b: (u32, u32)) -> (u32, u32) {
    if b.0 > a.0 || b.0 == a.0 && b.1 < a.1 { b } else { a }
}

/// What became of DNS messages, per CPU: index into `NAME_COUNTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Count {
    /// Addresses learned.
    Learned = 0,
    /// Answers to what the socket did not ask: forged, too late, or the question was pushed out.
    Unasked = 1,
    /// Answers that break the rules of the format.
    Malformed = 2,
    /// Messages longer than [`crate::limits::DNS_MESSAGE_BYTES_MAX`].
    Oversized = 3,
    /// Answers cut short (TC).
    Truncated = 4,
    /// TCP segments that are not one whole message.
    Split = 5,
    /// No buffer was free, or a map refused.
    NoRoom = 6,
}

impl Count {
    /// All of them, with what a person calls them.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Learned, "addresses learned"),
        (Self::Unasked, "unasked"),
        (Self::Malformed, "malformed"),
        (Self::Oversized, "oversized"),
        (Self::Truncated, "truncated"),
        (Self::Split, "split over TCP segments"),
        (Self::NoRoom, "no room"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &[(u8, u64)]) -> Learned {
        let key = LearnedKey { workload: 1, network: 2, address: [0; 16] };
        let mut learned = Learned { key, names: Default::default() };
        for (id, deadline_ns) in names {
            learned.add(&[*id; 16], *deadline_ns);
        }
        learned
    }

    fn ids(learned: &Learned) -> [u8; LEARNED_NAMES_MAX] {
        learned.names.map(|name| name.id[0])
    }

    #[test]
    fn one_name_too_many_takes_the_place_of_the_first_to_expire() {
        assert_eq!(ids(&known(&[(1, 10), (2, 5), (3, 7), (4, 9)])), [1, 2, 3, 4]);
        assert_eq!(ids(&known(&[(1, 10), (2, 5), (3, 7), (4, 9), (5, 6)])), [1, 5, 3, 4]);
    }

    #[test]
    fn a_name_learned_again_keeps_its_place_and_its_time_never_shrinks() {
        let learned = known(&[(1, 10), (2, 5), (1, 12), (2, 3)]);
        assert_eq!(ids(&learned), [1, 2, 0, 0]);
        assert_eq!(learned.names.map(|name| name.deadline_ns), [12, 5, 0, 0]);
    }

    #[test]
    fn a_ttl_counts_within_limits() {
        let seconds = [0, 29, 31, 3600, 3601, u32::MAX].map(|ttl| lifetime_ns(ttl) / 1_000_000_000);
        assert_eq!(seconds, [30, 30, 31, 3600, 3600, 3600]);
    }
}
