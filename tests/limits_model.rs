//! Random nests of time-outs, shields, scopes and sleeps on the virtual clock, against a model of a few lines:
//! every step ends at the very moment, and in the very way, that the model says.
#![cfg(feature = "testing")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use selvedge::cancel::{shield, shield_unbounded};
use selvedge::testing::VirtualClock;
use selvedge::time::sleep;
use selvedge::{Cancelled, CauseKind, TimedOut, scope, timeout, try_scope};

#[derive(Clone, Debug)]
enum Op {
    Sleep(u64),
    Timeout(u64, Box<Op>),
    Shield(Option<u64>, Box<Op>),
    /// One after the other, up to the first error.
    Sequence(Vec<Op>),
    /// What comes out is forgotten.
    Ignore(Box<Op>),
    /// Whatever comes out, a shielded sleep follows.
    CleanUp(Box<Op>, u64),
    /// In a child of a scope with this deadline.
    Scope(u64, Box<Op>),
    /// The same, where an error is that of the scope, which absorbs its own cancellation.
    TryScope(u64, Box<Op>),
}

fn ops() -> impl Strategy<Value = Op> {
    let leaf = (0..9_u64).prop_map(Op::Sleep);
    leaf.prop_recursive(6, 40, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let bound = || prop_oneof![Just(None), (0..12_u64).prop_map(Some)];
        prop_oneof![
            3 => (0..12_u64, boxed()).prop_map(|(after, op)| Op::Timeout(after, op)),
            2 => (bound(), boxed()).prop_map(|(bound, op)| Op::Shield(bound, op)),
            3 => proptest::collection::vec(inner.clone(), 1..4).prop_map(Op::Sequence),
            1 => boxed().prop_map(Op::Ignore),
            1 => (boxed(), 0..6_u64).prop_map(|(op, after)| Op::CleanUp(op, after)),
            1 => (0..15_u64, boxed()).prop_map(|(after, op)| Op::Scope(after, op)),
            1 => (0..15_u64, boxed()).prop_map(|(after, op)| Op::TryScope(after, op)),
        ]
    })
}

/// When a step ended, in seconds, and how: with a value, cut short, or timed out.
type Log = Vec<(u64, &'static str)>;

// What the model says.

/// Something that is cancelled at a moment, because of the limit with this number.
#[derive(Clone, Copy)]
struct Node {
    at: u64,
    origin: usize,
}

/// The error of a step: cancelled because of this limit, or timed out.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Cancelled(usize),
    TimedOut,
}

const NEVER: u64 = u64::MAX;

#[derive(Default)]
struct Model {
    now: u64,
    limits: usize,
    log: Log,
}

impl Model {
    /// A node below another, with a limit of its own. The outer one is first if both are due.
    fn limited(&mut self, above: Node, after: u64) -> Node {
        self.limits += 1;
        match self.now + after {
            at if at < above.at => Node {
                at,
                origin: self.limits,
            },
            _ => above,
        }
    }

    fn sleep(&mut self, node: Node, duration: u64) -> Result<(), Fault> {
        if node.at <= self.now {
            return Err(Fault::Cancelled(node.origin));
        }
        let end = self.now + duration;
        self.now = end.min(node.at);
        if end <= node.at {
            Ok(())
        } else {
            Err(Fault::Cancelled(node.origin))
        }
    }

    fn run(&mut self, node: Node, op: &Op) -> Result<(), Fault> {
        let ended = match op {
            Op::Sleep(duration) => self.sleep(node, *duration),
            Op::Timeout(after, op) => {
                let limited = self.limited(node, *after);
                let own = self.limits;
                match self.run(limited, op) {
                    Err(Fault::Cancelled(origin)) if origin == own => Err(Fault::TimedOut),
                    ended => ended,
                }
            }
            Op::Shield(bound, op) => {
                let lowered = bound.map_or(NEVER, |bound| self.now + bound);
                let at = node.at.max(lowered);
                self.run(Node { at, ..node }, op)
            }
            Op::Sequence(ops) => ops.iter().try_for_each(|op| self.run(node, op)),
            Op::Ignore(op) => {
                let _ = self.run(node, op);
                Ok(())
            }
            Op::CleanUp(op, after) => {
                let ended = self.run(node, op);
                let _ = self.sleep(Node { at: NEVER, ..node }, *after);
                ended
            }
            Op::Scope(after, op) => {
                let limited = self.limited(node, *after);
                self.run(limited, op)
            }
            Op::TryScope(after, op) => {
                let limited = self.limited(node, *after);
                let own = self.limits;
                match self.run(limited, op) {
                    Err(Fault::Cancelled(origin)) if origin == own => Ok(()),
                    ended => ended,
                }
            }
        };
        let how = match ended {
            Ok(()) => "value",
            Err(Fault::Cancelled(_)) => "cancelled",
            Err(Fault::TimedOut) => "timed out",
        };
        self.log.push((self.now, how));
        ended
    }
}

// What the library does.

#[derive(Debug)]
enum Failure {
    Cancelled(Cancelled),
    TimedOut,
}

impl From<Cancelled> for Failure {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<TimedOut> for Failure {
    fn from(_: TimedOut) -> Self {
        Self::TimedOut
    }
}

struct Real {
    clock: VirtualClock,
    log: Mutex<Log>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Real {
    fn run<'a>(&'a self, op: &'a Op) -> Running<'a> {
        Box::pin(async move {
            let ended = self.step(op).await;
            let how = match &ended {
                Ok(()) => "value",
                Err(Failure::Cancelled(cancelled)) => {
                    assert_eq!(cancelled.cause().kind(), CauseKind::Deadline);
                    "cancelled"
                }
                Err(Failure::TimedOut) => "timed out",
            };
            let now = self.clock.elapsed().as_secs();
            self.log.lock().unwrap().push((now, how));
            ended
        })
    }

    async fn step(&self, op: &Op) -> Result<(), Failure> {
        match op {
            Op::Sleep(duration) => Ok(sleep(secs(*duration)).await?),
            Op::Timeout(after, op) => timeout(secs(*after), self.run(op)).await?,
            Op::Shield(Some(bound), op) => shield(secs(*bound), self.run(op)).await,
            Op::Shield(None, op) => shield_unbounded(self.run(op)).await,
            Op::Sequence(ops) => {
                for op in ops {
                    self.run(op).await?;
                }
                Ok(())
            }
            Op::Ignore(op) => {
                let _ = self.run(op).await;
                Ok(())
            }
            Op::CleanUp(op, after) => {
                let ended = self.run(op).await;
                let _ = shield_unbounded(sleep(secs(*after))).await;
                ended
            }
            Op::Scope(after, op) => {
                let child = scope(async |s| s.spawn(self.run(op)).await);
                child.timeout(secs(*after)).await
            }
            Op::TryScope(after, op) => {
                let child = try_scope(async |s| {
                    s.spawn(self.run(op));
                    Ok(())
                });
                child.timeout(secs(*after)).await
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_step_ends_when_and_how_the_model_says(op in ops()) {
        let mut model = Model::default();
        let _ = model.run(Node { at: NEVER, origin: 0 }, &op);
        let real = Real {
            clock: VirtualClock::new().panics_when_stuck(),
            log: Mutex::default(),
        };
        let _ = real.clock.block_on(real.run(&op));
        assert_eq!(real.clock.timers(), 0);
        assert_eq!(real.log.into_inner().unwrap(), model.log);
    }
}
