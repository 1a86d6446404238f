//! Makes a tree that shows a fault smaller, by leaving out operations as long as the fault is still found. Not for
//! faults that end the process: leave out by hand, with `SELVEDGE_STRESS_LESS`.

use std::collections::BTreeSet;
use std::env;

use crate::plan::{Op, Plan, ScopePlan, TaskPlan};

/// The operations, by number, that the environment wants left out.
pub(crate) fn asked() -> BTreeSet<usize> {
    let list = env::var("SELVEDGE_STRESS_LESS").unwrap_or_default();
    let numbers = list.split(',').filter(|number| !number.is_empty());
    numbers
        .map(|number| number.parse().expect("numbers of operations"))
        .collect()
}

/// Leaves these operations out, and says how many there are.
pub(crate) fn leave_out(plan: &mut Plan, less: &BTreeSet<usize>) -> usize {
    let mut walk = Walk { less, next: 0 };
    walk.scope(&mut plan.root);
    walk.next
}

struct Walk<'a> {
    less: &'a BTreeSet<usize>,
    next: usize,
}

impl Walk<'_> {
    fn scope(&mut self, plan: &mut ScopePlan) {
        plan.early
            .iter_mut()
            .for_each(|spawn| self.task(&mut spawn.task));
        self.task(&mut plan.body);
    }

    fn task(&mut self, plan: &mut TaskPlan) {
        self.ops(&mut plan.ops);
    }

    /// What is left out leaves an operation that does nothing, so that the numbers stay.
    fn ops(&mut self, ops: &mut [Op]) {
        for op in ops {
            let number = self.next;
            self.next += 1;
            match op {
                Op::Spawn(spawn) => self.task(&mut spawn.task),
                Op::Scope(nested) => self.scope(&mut nested.scope),
                Op::Batch(batch) => batch.members.iter_mut().for_each(|task| self.task(task)),
                Op::Pipe(pipe) => pipe.stages.iter_mut().for_each(|task| self.task(task)),
                Op::Within(_, ops) => self.ops(ops),
                _ => {}
            }
            if self.less.contains(&number) {
                *op = Op::Busy(0);
            }
        }
    }
}

/// Tries to leave out each operation in turn, the outermost first. `fails` says whether the fault is still there.
pub(crate) fn shrink(
    count: usize,
    mut fails: impl FnMut(&BTreeSet<usize>) -> bool,
) -> BTreeSet<usize> {
    let mut less = asked();
    for number in 0..count {
        if less.insert(number) && !fails(&less) {
            less.remove(&number);
        }
    }
    less
}
