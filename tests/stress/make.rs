//! Makes a tree from a seed. Everything that a tree waits for comes for sure: a member waits for members with a
//! larger number, for other threads, for time, and for a cancellation only where the body makes one.

mod groups;

use crate::plan::{
    End, Fate, Guarding, How, Inside, Kind, Knobs, Limit, Mode, Nested, Op, Plan, Request, Runner,
    ScopePlan, Size, Spawn, TaskPlan, Then,
};
use crate::rng::Rng;
use crate::values::Nasty;

/// What the seed may use, decided at the start.
struct Maker {
    rng: Rng,
    /// Members that may still be made.
    left: usize,
    next_id: u32,
    runner: Runner,
    /// How likely scopes are forgotten, in percent.
    forgets: usize,
    /// How likely members panic.
    panics: usize,
    /// How often things are cancelled.
    cancels: usize,
    /// How long busy polls are at most.
    busy: u32,
    yields: u32,
}

/// Where operations are made for.
#[derive(Clone, Copy)]
struct Spot {
    depth: u32,
    /// Members of the scope may fail.
    tries: bool,
    /// In the root scope of a runner with a thread beside it.
    remote: bool,
    /// Inside a call that blocks the thread, where the runner's own time stands still.
    blocked: bool,
    /// Whether the scope's body cancels it at the end.
    endless: bool,
    /// How often this is run, as a part of pipelines.
    copies: u32,
}

const RUNNERS: [Runner; 14] = [
    Runner::BlockOn,
    Runner::BlockOn,
    Runner::BlockOn,
    Runner::Virtual,
    Runner::Virtual,
    Runner::Futures,
    Runner::Smol,
    Runner::SmolTask,
    Runner::TokioCurrent,
    Runner::TokioMulti,
    Runner::TokioMultiTask,
    Runner::TokioMultiTask,
    Runner::ByHand,
    Runner::Threads,
];

/// The tree of a seed.
pub(crate) fn plan(seed: u64) -> Plan {
    let mut rng = Rng::new(seed);
    let runner = rng.pick(&RUNNERS);
    let lending = rng.pick(&[
        Mode::Never,
        Mode::Adaptive,
        Mode::Adaptive,
        Mode::Forced,
        Mode::Forced,
    ]);
    let rayon = rng.percent(30);
    let left = match rng.below(100) {
        0 => 400,
        1..=9 => 80,
        10..=29 => 40,
        30..=59 => 20,
        _ => 8,
    };
    let mut maker = Maker {
        left,
        next_id: 0,
        runner,
        forgets: rng.pick(&[0, 0, 0, 0, 12]),
        panics: rng.pick(&[0, 0, 0, 2, 10]),
        cancels: rng.pick(&[0, 2, 6, 6, 20]),
        busy: rng.pick(&[0, 1, 1, 50, 50, 300]),
        yields: rng.pick(&[3, 3, 20, 20, 20, 2000]),
        rng,
    };
    let root = maker.scope(0, runner == Runner::Threads, false, 1);
    let members = usize::try_from(maker.next_id).expect("a small number");
    Plan {
        seed,
        runner,
        lending,
        rayon,
        root,
        members,
    }
}

impl Maker {
    fn chance(&mut self, percent: usize) -> bool {
        self.rng.percent(percent)
    }

    fn micros(&mut self) -> u32 {
        let most = self.rng.pick(&[1, 10, 60, 150]);
        self.rng.number(most)
    }

    fn pool(&mut self) -> Option<u8> {
        let pool = self.rng.pick(&[0, 1, 1, 2, 2, 3, 4, 4, 4]);
        self.chance(60).then_some(pool)
    }

    fn nasty(&mut self) -> Nasty {
        let tame = [
            Nasty::Tame,
            Nasty::PanicsWhenWoken,
            Nasty::WakesOthers,
            Nasty::WakesWhenDropped,
            Nasty::TakesTheBagWhenDropped,
        ];
        match self.chance(40) {
            true => self
                .rng
                .pick(&[Nasty::PanicsWhenDropped, Nasty::LocksWhenDropped]),
            false => self.rng.pick(&tame),
        }
    }

    fn fate(&mut self) -> Fate {
        let polls = self.rng.number(6);
        match self.rng.below(100) {
            0..=11 => Fate::Drop(polls),
            n if n < 12 + self.forgets => Fate::Forget(polls),
            _ => Fate::Run,
        }
    }

    fn scope(&mut self, depth: u32, remote: bool, blocked: bool, copies: u32) -> ScopePlan {
        let kind = self
            .rng
            .pick(&[Kind::Plain, Kind::Plain, Kind::Try, Kind::TryAll]);
        let limited = self.chance(20);
        let limit =
            |maker: &mut Self, percent| (limited && maker.chance(percent)).then(|| maker.micros());
        let knobs = Knobs {
            inline: self.chance(15),
            pool: self.pool(),
            name: self.chance(20),
            grace: limit(self, 40),
            timeout: limit(self, 40),
            deadline: limit(self, 30),
            stop_within: limit(self, 30),
            token: self.chance(15),
        };
        let fate = match depth {
            // A scope whose handle is elsewhere runs to its end, or its thread would wait.
            0 if remote => Fate::Run,
            _ => self.fate(),
        };
        let endless = self.chance(15);
        let spot = Spot {
            depth,
            tries: kind != Kind::Plain,
            remote,
            blocked,
            endless,
            copies,
        };
        let id = self.id();
        let early = match self.chance(15) {
            true => (0..self.rng.below(3)).map(|_| self.spawn(spot)).collect(),
            false => Vec::new(),
        };
        let mut body = self.task(spot, 8);
        body.id = id;
        body.endless = false;
        ScopePlan {
            kind,
            knobs,
            fate,
            early,
            body,
            endless,
        }
    }

    fn id(&mut self) -> u32 {
        self.left = self.left.saturating_sub(1);
        self.next_id += 1;
        self.next_id - 1
    }

    fn task(&mut self, spot: Spot, most: usize) -> TaskPlan {
        let id = self.id();
        let count = self.rng.below(most + 1);
        let ops = (0..count).map(|_| self.op(spot)).collect();
        let nasty = self.chance(30);
        let end = match self.rng.below(100) {
            n if n < self.panics => End::Panic { nasty },
            n if spot.tries && n < self.panics + 6 => End::Error {
                nasty: nasty && self.panics > 0,
            },
            _ => End::Value,
        };
        TaskPlan {
            id,
            ops,
            end,
            heeds: self.chance(60),
            endless: false,
        }
    }

    fn then(&mut self) -> Then {
        let polls = self.rng.number(4).try_into().expect("a small number");
        let nasty = self.nasty();
        match self.rng.below(18) {
            0..=4 => Then::Join,
            5..=7 => Then::Drop,
            8 if self.forgets > 0 => Then::Forget,
            8 => Then::Drop,
            9 | 10 => Then::Share,
            11 | 12 => Then::Keep,
            13 => Then::CancelJoin,
            14 => Then::CancelDrop,
            15 => Then::CancelWait(nasty),
            16 => Then::CancelWaitGivenUp(polls, nasty),
            _ => Then::JoinGivenUp(polls, nasty),
        }
    }

    fn spawn(&mut self, spot: Spot) -> Spawn {
        let how = self.rng.pick(&[
            How::Spawn,
            How::Spawn,
            How::Spawn,
            How::With,
            How::Function,
            How::Try,
            How::SelectSafe,
        ]);
        let mut size = self.rng.pick(&[
            Size::Common,
            Size::Common,
            Size::Common,
            Size::Nothing,
            Size::ZeroOutput,
            Size::Byte,
            Size::Line,
            Size::Page,
        ]);
        if self.panics > 0 && self.chance(10) {
            size = Size::Explosive;
        }
        let mut then = self.then();
        let mut task = self.task(spot, 5);
        if spot.endless && how != How::Function && size != Size::Nothing && self.chance(30) {
            task.endless = true;
            let ends = matches!(
                then,
                Then::Drop | Then::Forget | Then::CancelJoin | Then::CancelDrop
            ) || matches!(then, Then::CancelWait(_) | Then::CancelWaitGivenUp(..));
            if !ends {
                then = Then::Drop;
            }
        }
        let name = self.chance(10);
        Spawn {
            how,
            size,
            then,
            name,
            task,
        }
    }

    fn op(&mut self, spot: Spot) -> Op {
        let crowded = self.left == 0;
        match self.rng.below(100) {
            0..=9 => Op::Yield(1 + self.few()),
            10..=15 => Op::Checkpoint(1 + self.few()),
            16..=20 => Op::Busy(self.busy),
            21..=24 if !self.still(spot) => {
                Op::Sleep(self.micros(), self.chance(20).then(|| self.nasty()))
            }
            25 if self.on_tokio() && !spot.blocked => Op::TokioSleep(self.micros()),
            26..=29 => Op::Late(self.micros(), self.chance(30).then(|| self.nasty())),
            30..=33 => Op::Keep(1 + self.rng.number(3) as u8),
            34..=36 => Op::Stir {
                agent: self.chance(50),
                times: 1 + self.rng.number(4) as u8,
            },
            37..=57 if !crowded => Op::Spawn(Box::new(self.spawn(spot))),
            58 if !crowded => Op::Burst(
                self.few(),
                self.rng.pick(&[Size::Nothing, Size::Byte, Size::Common]),
            ),
            59 | 60 => Op::Shared(self.then()),
            61..=66 if !crowded && spot.depth < 5 => Op::Scope(Box::new(self.nested(spot))),
            67..=70 if !crowded && spot.depth < 5 => Op::Batch(Box::new(self.batch(spot))),
            71..=74 if !crowded && spot.depth < 5 => Op::Pipe(Box::new(self.pipe(spot))),
            75..=80 if self.cancels > 0 => self.request(spot),
            81..=84 => Op::Look,
            85..=87 => Op::Guard(self.guard()),
            88..=91 if spot.depth < 5 && !self.still(spot) => self.within(spot),
            92 | 93 if !self.still(spot) => Op::Select(self.micros()),
            94 if self.panics > 0 && self.chance(self.panics * 5) => Op::Panic {
                nasty: self.chance(30),
            },
            95..=99 if spot.remote => Op::Remote(Box::new(self.remote(spot))),
            _ => Op::Yield(1),
        }
    }

    fn few(&mut self) -> u32 {
        let many = self.yields == 2000 && self.chance(10);
        let most = if many { 2000 } else { self.yields.min(20) };
        self.rng.number(most as usize)
    }

    /// Where the clock of the runner does not move.
    fn still(&self, spot: Spot) -> bool {
        spot.blocked && self.runner == Runner::Virtual
    }

    fn on_tokio(&self) -> bool {
        matches!(
            self.runner,
            Runner::TokioCurrent | Runner::TokioMulti | Runner::TokioMultiTask
        )
    }

    fn request(&mut self, spot: Spot) -> Op {
        if !self.chance(self.cancels * 4) {
            return match self.chance(50) {
                true => Op::Ask(Request::OnCancel {
                    keep: self.chance(50),
                    panics: self.chance(10),
                }),
                false => Op::Ask(Request::Tokens),
            };
        }
        let still = self.still(spot);
        Op::Ask(match self.rng.below(10) {
            0 | 1 => Request::Cancel,
            2 | 3 => Request::Stop,
            4 => Request::Abort,
            5 => Request::DeadlinePast,
            6 if !still => Request::DeadlineIn(self.micros()),
            7 => Request::NoDeadline,
            8 => Request::CancelFollowed,
            _ => Request::CancelLate(self.micros()),
        })
    }

    fn guard(&mut self) -> Guarding {
        let all = [
            Guarding::Looks,
            Guarding::Looks,
            Guarding::Spawns,
            Guarding::Wakes,
            Guarding::Burns(self.busy),
            Guarding::RunsAScope,
        ];
        match self.rng.below(100) {
            n if n < self.panics => Guarding::Panics,
            n if n < self.panics + self.cancels => Guarding::Cancels,
            _ => self.rng.pick(&all),
        }
    }

    fn within(&mut self, spot: Spot) -> Op {
        let micros = self.micros();
        let limit = match self.rng.below(6) {
            0 | 1 => Limit::Timeout(micros),
            2 => Limit::Shield(micros),
            3 => Limit::Unbounded,
            4 => Limit::OrCancel,
            _ => Limit::GivenUp(self.rng.number(5)),
        };
        let spot = Spot {
            depth: spot.depth + 1,
            ..spot
        };
        let count = 1 + self.rng.below(4);
        Op::Within(limit, (0..count).map(|_| self.op(spot)).collect())
    }

    fn nested(&mut self, spot: Spot) -> Nested {
        let inside = match self.rng.below(10) {
            0 => Inside::BlockOn,
            1 => Inside::SmolBlockOn,
            _ => Inside::Await,
        };
        let blocked = spot.blocked || inside != Inside::Await;
        let mut scope = self.scope(spot.depth + 1, false, blocked, spot.copies);
        if blocked && self.runner == Runner::Virtual {
            let Knobs {
                inline,
                pool,
                name,
                token,
                ..
            } = scope.knobs;
            scope.knobs = Knobs {
                inline,
                pool,
                name,
                token,
                ..Knobs::default()
            };
        }
        Nested {
            scope,
            inside,
            raises: self.chance(50),
        }
    }
}
