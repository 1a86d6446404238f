//! The interpreter: what members do, operation by operation. Scopes, batches and pipelines inside of members are
//! started here and run in `scopes` and `groups`.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::task::Poll;

use selvedge::time::{Instant, sleep};
use selvedge::{
    Cancelled, FutureCancelExt, OnCancel, block_on, cancel, scope, select, select_safe, timeout,
};

use crate::agents;
use crate::groups::{batch, pipe};
use crate::handles::{AnyHandle, Home, Payload, either, join};
use crate::members::{Ended, GivesUp, Late, Level, WithWaker, Yields};
use crate::plan::{
    End, Guarding, Inside, Limit, Nested, Op, Remote, ScopePlan, Size, TaskPlan, Then,
};
use crate::requests::{ask, look, remote_look};
use crate::scopes::{micros, run_scope};
use crate::values::{Bomb, Failure, burn, drop_payload, planned_panic, quietly};
use crate::world::{Counted, Kind, WORLD, lock};

/// Where a member is.
#[derive(Clone)]
pub(crate) struct Ctx<'env, 'l> {
    pub(crate) home: Home<'env>,
    /// What polls it: its scope, or the batch or pipeline that it is part of.
    pub(crate) level: &'l Level,
    pub(crate) me: u32,
    /// A cancellation of its scope is in force for what it does.
    pub(crate) exposed: bool,
    /// It may return an error.
    pub(crate) tries: bool,
}

impl<'env> Ctx<'env, 'env> {
    pub(crate) fn new(home: Home<'env>, me: u32) -> Self {
        let tries = matches!(home.scope, crate::handles::AnyScope::Try(_));
        Self {
            level: home.level,
            home,
            me,
            exposed: true,
            tries,
        }
    }
}

/// How an operation ended.
#[derive(Debug)]
pub(crate) enum Flow {
    Go,
    Cut(Cancelled),
    Raise(Payload),
}

impl From<Result<(), Cancelled>> for Flow {
    fn from(result: Result<(), Cancelled>) -> Self {
        result.map_or_else(Self::Cut, |()| Self::Go)
    }
}

impl From<Option<Payload>> for Flow {
    fn from(payload: Option<Payload>) -> Self {
        payload.map_or(Self::Go, Self::Raise)
    }
}

/// What a member holds until its end.
pub(crate) struct Holds<'env> {
    handles: Vec<AnyHandle<'env>>,
    pub(crate) callbacks: Vec<OnCancel>,
    guards: Vec<Guard<'env>>,
}

impl Holds<'_> {
    fn new() -> Self {
        Self {
            handles: Vec::new(),
            callbacks: Vec::new(),
            guards: Vec::new(),
        }
    }
}

/// The body of a scope: a member that cancels the scope last, if somebody waits for that.
pub(crate) fn body<'env>(
    cx: Ctx<'env, 'env>,
    plan: &'env ScopePlan,
    run: usize,
) -> impl Future<Output = Ended> + Send + 'env {
    async move {
        let home = cx.home.clone();
        let ended = member(cx, &plan.body, run).await;
        if plan.endless {
            either!(&home.scope, scope => scope.cancel());
        }
        ended
    }
}

/// The future of a member.
pub(crate) fn member<'env: 'l, 'l>(
    cx: Ctx<'env, 'l>,
    plan: &'env TaskPlan,
    run: usize,
) -> impl Future<Output = Ended> + Send + use<'env, 'l> {
    async move {
        let mut holds = Holds::new();
        let mut cut = None;
        for op in &plan.ops {
            match run_op(&cx, plan, op, &mut holds).await {
                Flow::Go => {}
                Flow::Cut(cancelled) if plan.heeds => {
                    cut = Some(cancelled);
                    break;
                }
                Flow::Cut(_) => {}
                Flow::Raise(payload) if plan.heeds => drop_payload(payload),
                Flow::Raise(payload) => resume_unwind(payload),
            }
        }
        if plan.endless {
            cancel::cancelled().await;
        }
        lock(&cx.home.slots.kept).append(&mut holds.handles);
        // Before the output is made: rustc leaks what a block returns if a drop after that panics.
        drop(holds);
        match (plan.end, cut) {
            (_, Some(cancelled)) if cx.tries => {
                Ended::Error(Failure::new(run, Some(cancelled), false))
            }
            (End::Error { nasty }, _) if cx.tries => Ended::Error(Failure::new(run, None, nasty)),
            (End::Panic { nasty }, None) => planned_panic(nasty),
            _ => Ended::Value,
        }
    }
}

/// Boxed where operations hold operations.
fn run_op<'a, 'env: 'l, 'l: 'a>(
    cx: &'a Ctx<'env, 'l>,
    task: &'a TaskPlan,
    op: &'env Op,
    holds: &'a mut Holds<'env>,
) -> impl Future<Output = Flow> + Send + use<'a, 'env, 'l> {
    async move {
        let seed = u64::from(cx.me) ^ WORLD.new_run() as u64;
        match op {
            Op::Yield(times) => Yields::new(cx.level, *times).await,
            Op::Checkpoint(times) => {
                for _ in 0..*times {
                    if let Err(cancelled) = cancel::checkpoint().await {
                        return Flow::Cut(cancelled);
                    }
                }
            }
            Op::Busy(time) => burn(*time),
            Op::Sleep(time, how) => {
                return WithWaker {
                    future: sleep(micros(*time)),
                    how: *how,
                    seed,
                }
                .await
                .into();
            }
            Op::TokioSleep(time) => tokio_sleep(*time).await,
            Op::Late(time, how) => {
                WithWaker {
                    future: Late::new(cx.level, *time),
                    how: *how,
                    seed,
                }
                .await;
            }
            Op::Keep(times) => {
                let keep = poll_fn(|cx| {
                    (0..*times).for_each(|_| WORLD.keep(cx.waker().clone()));
                    Poll::Ready(())
                });
                keep.await;
            }
            Op::Stir { agent: true, times } => {
                let times = *times;
                agents::send(move || agents::stir(seed, times));
            }
            Op::Stir {
                agent: false,
                times,
            } => agents::stir(seed, *times),
            Op::Spawn(plan) => {
                let Some(handle) = cx.home.spawn(plan) else {
                    return Flow::Go;
                };
                return Box::pin(handle_it(cx, handle, plan.then, seed, holds)).await;
            }
            Op::Burst(count, size) => {
                for _ in 0..*count {
                    let handle = cx.home.spawn_tiny();
                    if *size == Size::Common {
                        holds.handles.extend(handle);
                    }
                }
            }
            Op::Shared(then) => {
                let handle = {
                    let mut shared = lock(&cx.home.slots.shared);
                    let at = shared.iter().position(|handle| handle.id() > cx.me);
                    at.map(|at| shared.swap_remove(at))
                };
                if let Some(handle) = handle {
                    return Box::pin(handle_it(cx, handle, *then, seed, holds)).await;
                }
            }
            Op::Scope(plan) => return nested(cx, plan).await.into(),
            Op::Batch(plan) => return batch(cx, plan).await.into(),
            Op::Pipe(plan) => return pipe(cx, plan).await.into(),
            Op::Ask(request) => ask(cx, *request, seed, holds),
            Op::Look => look(cx),
            Op::Guard(kind) => holds.guards.push(Guard::new(&cx.home, *kind, seed)),
            Op::Within(limit, ops) => return within(cx, task, *limit, ops, holds).await,
            Op::Select(time) => return choose(cx, *time).await.into(),
            Op::Panic { nasty } => planned_panic(*nasty),
            Op::Remote(remote) => send_remote(cx, remote),
        }
        Flow::Go
    }
}

async fn tokio_sleep(time: u32) {
    if tokio::runtime::Handle::try_current().is_ok() {
        tokio::time::sleep(micros(time)).await;
    }
}

/// Does with a handle what the plan says.
async fn handle_it<'env>(
    cx: &Ctx<'env, '_>,
    mut handle: AnyHandle<'env>,
    then: Then,
    seed: u64,
    holds: &mut Holds<'env>,
) -> Flow {
    handle.look();
    match then {
        Then::Join => return join(&mut handle).await.into(),
        Then::Drop => {}
        Then::Forget => handle.forget(),
        Then::Share => lock(&cx.home.slots.shared).push(handle),
        Then::Keep => holds.handles.push(handle),
        Then::CancelJoin => {
            handle.cancel();
            return join(&mut handle).await.into();
        }
        Then::CancelDrop => handle.cancel(),
        Then::CancelWait(how) => {
            WithWaker {
                future: handle.cancel_and_wait(),
                how: Some(how),
                seed,
            }
            .await;
            handle.look();
        }
        Then::CancelWaitGivenUp(polls, how) => {
            let wait = handle.cancel_and_wait();
            let again = wait.clone();
            let with = |future, how| GivesUp::new(WithWaker { future, how, seed }, polls.into());
            with(wait, Some(how)).await;
            with(again, None).await;
        }
        Then::JoinGivenUp(polls, how) => {
            let future = Box::pin(join(&mut handle));
            let joined = GivesUp::new(
                WithWaker {
                    future,
                    how: Some(how),
                    seed,
                },
                polls.into(),
            )
            .await;
            joined.flatten().into_iter().for_each(drop_payload);
        }
    }
    Flow::Go
}

fn nested<'a>(
    cx: &'a Ctx<'_, '_>,
    plan: &'a Nested,
) -> Pin<Box<dyn Future<Output = Option<Payload>> + Send + 'a>> {
    Box::pin(async move {
        let settings = cx.home.settings;
        let knobs = &plan.scope.knobs;
        let run = async {
            let level = settings.level(knobs.inline, knobs.pool);
            run_scope(&level, &plan.scope, settings, None).await
        };
        let payload = match plan.inside {
            Inside::Await => run.await,
            Inside::BlockOn => block_on(run),
            Inside::SmolBlockOn => smol::block_on(run),
        };
        match payload {
            Some(payload) if !plan.raises => {
                drop_payload(payload);
                None
            }
            payload => payload,
        }
    })
}

fn within<'a, 'env: 'l, 'l: 'a>(
    cx: &'a Ctx<'env, 'l>,
    task: &'a TaskPlan,
    limit: Limit,
    ops: &'env [Op],
    holds: &'a mut Holds<'env>,
) -> Pin<Box<dyn Future<Output = Flow> + Send + 'a>> {
    Box::pin(async move {
        let shields = matches!(limit, Limit::Shield(_) | Limit::Unbounded);
        let cx = Ctx {
            exposed: cx.exposed && !shields,
            ..cx.clone()
        };
        let inside = async {
            for op in ops {
                match run_op(&cx, task, op, holds).await {
                    Flow::Go => {}
                    Flow::Cut(_) if !task.heeds => {}
                    flow => return flow,
                }
            }
            Flow::Go
        };
        match limit {
            Limit::Timeout(time) => timeout(micros(time), inside).await.unwrap_or(Flow::Go),
            Limit::Shield(time) => cancel::shield(micros(time), inside).await,
            Limit::Unbounded => cancel::shield_unbounded(inside).await,
            Limit::OrCancel => inside.or_cancel().await.unwrap_or_else(Flow::Cut),
            Limit::GivenUp(polls) => GivesUp::new(inside, polls).await.unwrap_or(Flow::Go),
        }
    })
}

/// A `select!` over what a member waits for.
async fn choose(cx: &Ctx<'_, '_>, time: u32) -> Result<(), Cancelled> {
    let mut slept = pin!(sleep(micros(time)));
    let yields = select_safe(Yields::new(cx.level, time % 7));
    let late = select_safe(Late::new(cx.level, time % 50));
    select! {
        result = &mut slept => result,
        _ = cancel::cancelled() => Ok(()),
        () = cancel::stopping() => Ok(()),
        () = yields, if time % 2 == 0 => Ok(()),
        () = late, if time % 3 == 0 => Ok(()),
    }
}

/// Gives the thread beside the root scope something to do.
fn send_remote<'env>(cx: &Ctx<'env, '_>, remote: &'env Remote) {
    let Some(sender) = &cx.home.remote else {
        return;
    };
    let home = Home {
        remote: None,
        ..cx.home.clone()
    };
    let job = move || match remote {
        Remote::Spawn(plan) => match plan.then {
            Then::Keep | Then::Share => {
                let handle = home.spawn(plan);
                lock(&home.slots.kept).extend(handle);
            }
            Then::CancelDrop | Then::CancelJoin => {
                home.spawn(plan).inspect(|handle| handle.cancel());
            }
            _ => drop(home.spawn(plan)),
        },
        Remote::Cancel => {
            either!(&home.scope, scope => scope.cancel());
            remote_look(&home, true);
        }
        Remote::Stop => either!(&home.scope, scope => scope.stop()),
        Remote::Deadline(time) => {
            either!(&home.scope, scope => scope.set_deadline(Instant::now() + micros(*time)));
        }
        Remote::Look => remote_look(&home, false),
    };
    // It does not come any more once the root scope is over.
    let _ = sender.send(Some(Box::new(job)));
}

/// Something whose drop acts.
struct Guard<'env> {
    kind: Guarding,
    home: Home<'env>,
    seed: u64,
    counted: Counted,
    _bomb: Option<Bomb>,
}

impl<'env> Guard<'env> {
    fn new(home: &Home<'env>, kind: Guarding, seed: u64) -> Self {
        Self {
            kind,
            home: home.clone(),
            seed,
            counted: Counted::new(Kind::Guard),
            _bomb: (kind == Guarding::Panics).then(|| Bomb),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.home.level.look();
        self.counted.look();
        match self.kind {
            Guarding::Looks | Guarding::Panics => {}
            Guarding::Spawns => drop(self.home.spawn_tiny()),
            Guarding::Cancels => either!(&self.home.scope, scope => scope.cancel()),
            Guarding::Wakes => agents::stir(self.seed, 3),
            Guarding::Burns(time) => burn(time.min(50)),
            Guarding::RunsAScope => quietly(|| {
                let sum = block_on(scope(async |s| {
                    let one = s.spawn(async { 1 });
                    s.spawn(async {});
                    one.await + 1
                }));
                if sum != 2 {
                    WORLD.fail("a scope in a destructor gave something else");
                }
            }),
        }
    }
}
