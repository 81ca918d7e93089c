//! Writes the exec rules of a policy: automata, answers, classes of digests.

use pcigate_common::{
    limits,
    maps::{Decision, DigestKey, ExecAnswer, PolicyEntry, verdict},
};
use pcigate_policy::entries::ExecEntries;

use super::{ANSWER, DIGEST, Installed, TableError, Tables, bytes, write};

impl Tables {
    /// Writes what exec rules compile to, and into `entry` where it lies.
    pub(super) fn write_exec(
        &mut self,
        exec: &ExecEntries,
        entry: &mut PolicyEntry,
        into: &mut Installed,
    ) -> Result<(), TableError> {
        for (digest, class) in &exec.digests {
            let key = DigestKey { policy: into.number, sha256: *digest };
            into.digests.push(key);
            self.digest_classes
                .insert(bytes::<_, DIGEST>(&key), class, 0)
                .map_err(write("DIGEST_CLASSES"))?;
        }
        let mut answers = exec.answers.clone();
        let offset = |answers: &Vec<_>| u32::try_from(answers.len()).unwrap_or(u32::MAX);
        let (masks, mut rules) = (offset(&answers), 0);
        if let Some(args) = &exec.args {
            let only = |decision, args| ExecAnswer { decision, args, matched: 0, reserved: 0 };
            answers.extend(args.masks.iter().map(|mask| only(Decision::enforced(0, 0), *mask)));
            rules = offset(&answers);
            let of = |rule: &u32| only(Decision::enforced(verdict::DENY, *rule), 0);
            answers.extend(args.rules.iter().map(of));
            entry.args_base = self.write_cells(&args.automaton.cells, into)?;
            entry.args_columns = u32::from(args.automaton.columns);
            entry.args_start = u32::from(args.automaton.start);
            entry.args_enforced = args.enforced;
            entry.args_classes = args.automaton.classes;
        }
        self.write_answers(&answers, into)?;
        entry.exec_decisions = into.decisions.start;
        entry.args_masks = into.decisions.start.saturating_add(masks);
        entry.args_rules = into.decisions.start.saturating_add(rules);
        entry.digest_classes = exec.digest_classes;
        entry.exec_base = self.write_cells(&exec.paths.cells, into)?;
        entry.exec_columns = u32::from(exec.paths.columns);
        entry.exec_start = u32::from(exec.paths.start);
        entry.exec_classes = exec.paths.classes;
        Ok(())
    }

    /// Writes an automaton; the number of its first cell.
    fn write_cells(&mut self, cells: &[u16], into: &mut Installed) -> Result<u32, TableError> {
        let slots = u32::try_from(cells.len().div_ceil(4)).unwrap_or(u32::MAX);
        let run = self
            .free_slots
            .take(slots)
            .ok_or(TableError::Full { table: "EXEC_CELLS", limit: limits::EXEC_CELLS_MAX })?;
        into.slots.push(run.clone());
        let base = run.start.saturating_mul(4);
        for (slot, four) in run.zip(cells.chunks(4)) {
            let packed =
                four.iter().rev().fold(0u64, |packed, &cell| packed << 16 | u64::from(cell));
            self.cells.set(slot, packed, 0).map_err(write("EXEC_CELLS"))?;
        }
        Ok(base)
    }

    fn write_answers(
        &mut self,
        answers: &[ExecAnswer],
        into: &mut Installed,
    ) -> Result<(), TableError> {
        let len = u32::try_from(answers.len()).unwrap_or(u32::MAX);
        into.decisions = self.free_decisions.take(len).ok_or(TableError::Full {
            table: "EXEC_DECISIONS",
            limit: limits::EXEC_DECISIONS_MAX,
        })?;
        for (index, answer) in into.decisions.clone().zip(answers) {
            self.decisions
                .set(index, bytes::<_, ANSWER>(answer), 0)
                .map_err(write("EXEC_DECISIONS"))?;
        }
        Ok(())
    }
}
