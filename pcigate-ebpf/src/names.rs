//! Egress rules by name: remembers the DNS questions of governed sockets, learns addresses from
//! the answers of servers their policy allows, and answers for an address by the names it has.
//!
//! An answer is learned before its packet reaches the socket, so no program can connect too early,
//! and no agent need be alive. Nothing here refuses a packet.
//!
//! `packets` and `packets_in` hand over the packets: from the network header on, with the socket
//! each belongs to. The current task may be any.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{
        bpf_get_smp_processor_id, bpf_ktime_get_boot_ns,
        generated::{bpf_get_socket_cookie, bpf_loop, bpf_skb_load_bytes},
    },
    maps::lpm_trie::Key,
};
use pcigate_common::{
    dns::{self, AnswerWalk, Header, Message, QuestionWalk, Step},
    limits,
    maps::Decision,
    names::{
        Count, Learned, LearnedKey, LearnedName, NameBlockKey, NameId, NameKey, Question,
        QuestionKey, lifetime_ns,
    },
};

use crate::{
    atomic,
    egress::{self, Destination},
    identity::Subject,
    maps::{LEARNED, NAME_BLOCKS, NAME_COUNTS, NAME_SCRATCH, NAMES, POLICIES, QUESTIONS, settings},
    packet::{Packet, Place, SOCK_WORDS},
    ring,
};

/// Room for a message and what is read out of it. A CPU has a few: a question may be looked at
/// while an answer arrives. Each is owned through an atomic flag.
#[repr(C)]
pub struct NameScratch {
    busy: u64,
    key: QuestionKey,
    learned: Learned,
    /// What the answers count for.
    known_as: NameId,
    now_ns: u64,
    sock: [u64; SOCK_WORDS],
    question: QuestionWalk,
    answers: AnswerWalk,
    step: u32,
    len: u32,
    message: [u8; limits::DNS_MESSAGE_BYTES_MAX],
}

/// Remembers a question about a name that a rule names. Whether the server may be asked is for
/// connect and sendmsg to say.
#[inline(always)]
pub fn asked(skb: *mut __sk_buff, packet: &Packet) -> Option<()> {
    let place = packet.message()?.ok()?;
    let (workload, policy) = packet.workload()?;
    with_message(skb, place, |scratch, message| {
        if message.header() != Header::Query {
            return None;
        }
        question(skb, scratch)?;
        let id = named(scratch, policy)?;
        // SAFETY: this run owns the buffer.
        let key = unsafe { &(*scratch).key };
        // SAFETY: helper without preconditions.
        let deadline_ns =
            unsafe { bpf_ktime_get_boot_ns() } + limits::QUESTION_SECONDS * 1_000_000_000;
        if QUESTIONS.insert(key, Question { deadline_ns, workload, id }, 0).is_err() {
            count(Count::NoRoom);
        }
        Some(())
    })
}

/// Learns what an answer says, if this socket asked, an allowed server answers, and the packet
/// cannot come from a process of the same network namespace. A function of its own for the sake of
/// the stack; what it gives back says nothing.
#[inline(never)]
pub fn answered(skb: *mut __sk_buff, packet: &Packet) -> u32 {
    u32::from(learn_from(skb, packet).is_some())
}

#[inline(always)]
fn learn_from(skb: *mut __sk_buff, packet: &Packet) -> Option<()> {
    if packet.is_loopback() && settings().loopback_teaches == 0 {
        return None;
    }
    let place = packet.message()?;
    let (workload, number) = packet.workload()?;
    // SAFETY: as in `Subject::policy`.
    let policy = unsafe { POLICIES.get(number) }?;
    // SAFETY: sixteen bytes are four words of any value.
    let address: [u32; 4] = unsafe { core::mem::transmute(packet.source()?) };
    let server = Destination { address, port: u32::from(dns::PORT), family: 0 };
    if !egress::decide(policy.egress_default, number, &server, packet.protocol).allows() {
        return None;
    }
    let Ok(place) = place else {
        count(Count::Split);
        return None;
    };
    with_message(skb, place, |scratch, message| {
        match message.header() {
            Header::Answer => {}
            Header::Truncated => {
                count(Count::Truncated);
                return None;
            }
            Header::Query | Header::Other => return None,
        }
        if question(skb, scratch).is_none() {
            count(Count::Malformed);
            return None;
        }
        let Some(id) = take_question(scratch, workload) else {
            if named(scratch, number).is_some() {
                count(Count::Unasked);
            }
            return None;
        };
        // SAFETY: this run owns the buffer; helper without preconditions.
        unsafe {
            (*scratch).learned.key.network = packet.network(&raw mut (*scratch).sock)?;
            (*scratch).known_as = id;
            (*scratch).now_ns = bpf_ktime_get_boot_ns();
            (*scratch).learned.key.workload = workload;
            (*scratch).answers = (*scratch).question.answers(message);
        }
        if walk(scratch, dns::ANSWER_STEPS_MAX, answer_step) != Step::Done {
            count(Count::Malformed);
        }
        Some(())
    })
}

/// The identity of the question in the buffer, if this workload's socket asked it and no answer
/// came so far.
#[inline(always)]
fn take_question(scratch: *mut NameScratch, workload: u64) -> Option<NameId> {
    // SAFETY: this run owns the buffer; the entry is copied at once, and one that is used again
    // meanwhile for another workload's question says so.
    let question = unsafe {
        (*scratch).key.name.policy = [0; 4];
        *QUESTIONS.get(&(*scratch).key)?
    };
    // SAFETY: as above.
    let (now, gone) = unsafe { (bpf_ktime_get_boot_ns(), QUESTIONS.remove(&(*scratch).key)) };
    let mine = question.workload == workload && now < question.deadline_ns;
    (mine && gone.is_ok()).then_some(question.id)
}

/// The most specific name or wildcard of the policy that covers the name in the buffer; leaves the
/// key as `QUESTIONS` wants it.
#[inline(always)]
fn named(scratch: *mut NameScratch, policy: u32) -> Option<NameId> {
    // SAFETY: this run owns the buffer; `bits` and what follows lie as a key of the trie does.
    unsafe {
        (*scratch).key.name.policy = policy.to_be_bytes();
        let key = &*(&raw const (*scratch).key.bits).cast::<Key<NameKey>>();
        let id = NAMES.get(key).copied();
        (*scratch).key.name.policy = [0; 4];
        id
    }
}

/// Reads the question into the buffer's key: A and AAAA of class IN only.
#[inline(always)]
fn question(skb: *mut __sk_buff, scratch: *mut NameScratch) -> Option<()> {
    // SAFETY: this run owns the buffer, all of which is plain bytes.
    unsafe {
        (*scratch).question = QuestionWalk::default();
        let key = &raw mut (*scratch).key;
        (*key).name = NameKey { policy: [0; 4], name: [0; limits::DNS_NAME_BYTES_MAX] };
        if walk(scratch, dns::QUESTION_STEPS_MAX, question_step) != Step::Done {
            return None;
        }
        let message = Message { bytes: &(*scratch).message, len: (*scratch).len };
        let kind = (*scratch).question.kind(&message);
        if kind != dns::A && kind != dns::AAAA {
            return None;
        }
        (*key).cookie = bpf_get_socket_cookie(skb.cast());
        (*key).id = message.id();
        (*key).kind = kind;
        (*key).bits = 32 + 8 * (*scratch).question.name_bytes();
    }
    Some(())
}

type StepFunction = unsafe extern "C" fn(u32, *mut *mut NameScratch) -> i64;

/// Takes steps until one is the last.
#[inline(always)]
fn walk(scratch: *mut NameScratch, steps: u32, step: StepFunction) -> Step {
    let mut context = scratch;
    // SAFETY: the callback has the signature the helper calls it with; this run owns the buffer.
    // All that steps change lies there and not on the stack (see `path::Climb`).
    let last = unsafe {
        (&raw mut (*scratch).step).write_volatile(RUNNING);
        bpf_loop(steps, step as *mut c_void, (&raw mut context).cast(), 0);
        (&raw const (*scratch).step).read_volatile()
    };
    if last == DONE { Step::Done } else { Step::Malformed }
}

const RUNNING: u32 = 0;
const DONE: u32 = 1;

/// # Safety
/// Only `bpf_loop` calls it, with the pointer `walk` gave it.
unsafe extern "C" fn question_step(_i: u32, context: *mut *mut NameScratch) -> i64 {
    // SAFETY: the caller's buffer; the borrowed fields are different ones.
    unsafe {
        let scratch = *context;
        let message = Message { bytes: &(*scratch).message, len: (*scratch).len };
        let name = &mut *(&raw mut (*scratch).key.name.name);
        let step = (*(&raw mut (*scratch).question)).step(&message, name);
        finish(scratch, step)
    }
}

/// # Safety
/// As `question_step`.
unsafe extern "C" fn answer_step(_i: u32, context: *mut *mut NameScratch) -> i64 {
    // SAFETY: as in `question_step`.
    unsafe {
        let scratch = *context;
        let message = Message { bytes: &(*scratch).message, len: (*scratch).len };
        let step = (*(&raw mut (*scratch).answers)).step(&message);
        if step == Step::Address {
            learn(scratch);
        }
        finish(scratch, step)
    }
}

/// 0 = go on, 1 = stop.
///
/// # Safety
/// This run owns the buffer.
#[inline(always)]
unsafe fn finish(scratch: *mut NameScratch, step: Step) -> i64 {
    match step {
        Step::Next | Step::Address => 0,
        Step::Malformed => 1,
        Step::Done => {
            // SAFETY: by the contract of this function.
            unsafe { (&raw mut (*scratch).step).write_volatile(DONE) };
            1
        }
    }
}

/// Adds the address just read to what the workload knows. Of two answers at the very same time on
/// two CPUs one may be forgotten: its name has to be resolved again.
#[inline(always)]
fn learn(scratch: *mut NameScratch) {
    // SAFETY: this run owns the buffer.
    let scratch = unsafe { &mut *scratch };
    if !dns::is_nameable(&scratch.answers.address) {
        return;
    }
    let learned = &mut scratch.learned;
    learned.key.address = scratch.answers.address;
    // SAFETY: the entry is copied at once, and then asked whether it is still the one.
    let known = unsafe { LEARNED.get(learned.key) };
    learned.names = match known {
        Some(known) => known.names,
        None => [LearnedName { deadline_ns: 0, id: [0; 16] }; limits::LEARNED_NAMES_MAX],
    };
    let deadline_ns = scratch.now_ns + lifetime_ns(scratch.answers.ttl);
    learned.add(&scratch.known_as, deadline_ns);
    let key = learned.key;
    match LEARNED.insert(key, &*learned, 0) {
        Ok(()) => count(Count::Learned),
        Err(_) => count(Count::NoRoom),
    }
}

/// Copies the message into a buffer of this CPU and lends it out.
#[inline(always)]
fn with_message(
    skb: *mut __sk_buff,
    place: Place,
    read: impl FnOnce(*mut NameScratch, &Message<'_>) -> Option<()>,
) -> Option<()> {
    let len = core::hint::black_box(place.len);
    if len > limits::DNS_MESSAGE_BYTES_MAX as u32 {
        count(Count::Oversized);
        return None;
    }
    if len < dns::HEADER_BYTES {
        return None;
    }
    let Some(scratch) = take() else {
        count(Count::NoRoom);
        return None;
    };
    // SAFETY: the buffer is owned until it is given back, and holds the longest message.
    unsafe {
        (*scratch).len = len;
        let to = (&raw mut (*scratch).message).cast();
        if bpf_skb_load_bytes(skb.cast(), place.at, to, len) == 0 {
            let message = Message { bytes: &(*scratch).message, len };
            read(scratch, &message);
        }
        atomic::exchange(&raw mut (*scratch).busy, 0);
    }
    Some(())
}

#[inline(always)]
fn take() -> Option<*mut NameScratch> {
    // SAFETY: helper without preconditions.
    let first = unsafe { bpf_get_smp_processor_id() } * limits::SCRATCHES_PER_CPU;
    for i in 0..limits::SCRATCHES_PER_CPU {
        let scratch = NAME_SCRATCH.get_ptr_mut(first + i)?;
        // SAFETY: `busy` is an aligned slot of the map value, only touched atomically.
        if unsafe { atomic::exchange(&raw mut (*scratch).busy, 1) } == 0 {
            return Some(scratch);
        }
    }
    None
}

#[inline(always)]
fn count(what: Count) {
    ring::increment(&NAME_COUNTS, what as u32);
}

/// Joins the answer for an address with those for the names it is known by in this workload and
/// network.
#[inline(always)]
pub fn join(
    decision: Decision,
    subject: &Subject,
    to: &Destination,
    protocol: u32,
    network: u64,
) -> Decision {
    let key = LearnedKey { workload: subject.workload, network, address: to.bytes() };
    // SAFETY: each field is copied once, and counts only if the entry is still that address's.
    let Some(learned) = (unsafe { LEARNED.get(key) }) else { return decision.shown() };
    // SAFETY: helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut joined = decision;
    for name in &learned.names {
        // SAFETY: plain fields of a map value that other CPUs may write.
        let (name, own) = unsafe {
            ((&raw const *name).read_volatile(), (&raw const learned.key).read_volatile())
        };
        if name.deadline_ns <= now || own != key {
            continue;
        }
        let block = NameBlockKey { policy: subject.policy, id: name.id };
        // SAFETY: as in `egress::decide`. A name the policy does not speak of says nothing.
        if let Some(&block) = unsafe { NAME_BLOCKS.get(block) } {
            joined = joined.with_name(egress::in_block(block, protocol, to.port));
        }
    }
    joined.shown()
}
