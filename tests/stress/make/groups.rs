//! Makes batches, pipelines and what the thread beside the root does. The rest of a tree is in `make`.

use super::{Maker, Spot};
use crate::plan::{BatchPlan, End, Form, PipePlan, Remote, Sink, Source, TaskPlan};

impl Maker {
    pub(super) fn batch(&mut self, spot: Spot) -> BatchPlan {
        let form = self.rng.pick(&[
            Form::Join,
            Form::JoinAll,
            Form::JoinAll,
            Form::TryJoin,
            Form::TryJoinAll,
        ]);
        let tries = matches!(form, Form::TryJoin | Form::TryJoinAll);
        let spot = Spot {
            depth: spot.depth + 1,
            tries,
            ..spot
        };
        let count = match form {
            Form::Join | Form::TryJoin => 3,
            _ => self.rng.below(9),
        };
        let members = (0..count).map(|_| self.task(spot, 4)).collect();
        let (inline, pool, fate) = (self.chance(15), self.pool(), self.fate());
        BatchPlan {
            form,
            inline,
            pool,
            fate,
            members,
            raises: self.chance(50),
        }
    }

    pub(super) fn pipe(&mut self, spot: Spot) -> PipePlan {
        let is_async = self.chance(50);
        let most: usize = if is_async { 12 } else { 300 };
        let items = self.rng.number(most).min(200 / spot.copies);
        let spot = Spot {
            depth: spot.depth + 1,
            tries: true,
            copies: spot.copies * items.max(1),
            ..spot
        };
        let mut stages: Vec<TaskPlan> = match is_async {
            true => (0..1 + self.rng.below(3))
                .map(|_| self.task(spot, 3))
                .collect(),
            false => Vec::new(),
        };
        for stage in &mut stages {
            // Closures that join results drop errors, and rustc leaks what a function returns if a drop after that
            // panics.
            if let End::Error { nasty } = &mut stage.end {
                *nasty = false;
            }
        }
        let panics = self.panics > 0 && self.chance(20);
        PipePlan {
            source: self.rng.pick(&[
                Source::Range,
                Source::Slice,
                Source::Vector,
                Source::Iterator,
                Source::Stream,
            ]),
            items,
            concurrency: self.chance(40).then(|| self.rng.number(9)),
            batch: self.chance(30).then(|| self.rng.number(9)),
            unordered: self.chance(40),
            pool: self.pool(),
            sink: self.rng.pick(&[
                Sink::Collect,
                Sink::Count,
                Sink::Reduce,
                Sink::Fold,
                Sink::TryForEach,
                Sink::TryCollect,
            ]),
            busy: self.rng.pick(&[0, 0, 1, 5]),
            panics_at: panics.then(|| self.rng.number(most)),
            stages,
            fate: self.fate(),
            raises: self.chance(50),
        }
    }

    pub(super) fn remote(&mut self, spot: Spot) -> Remote {
        match self.rng.below(8) {
            0 if self.cancels > 0 => Remote::Cancel,
            1 if self.cancels > 0 => Remote::Stop,
            2 if self.cancels > 0 => Remote::Deadline(self.micros()),
            3 => Remote::Look,
            _ => Remote::Spawn(self.spawn(spot)),
        }
    }
}
