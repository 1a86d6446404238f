//! Batches and pipelines of the plan: built, driven to where the plan wants them, and judged. Not what their members
//! do, which is in `ops`.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};

use futures::stream::Stream;
use futures::{FutureExt, TryFutureExt};
use selvedge::{ParStream, Pipe, join, join_all, par_iter, prelude::*, try_join, try_join_all};

use crate::handles::{Payload, may_come, result, text};
use crate::members::{Checked, Ended, Level};
use crate::ops::{Ctx, member};
use crate::plan::{BatchPlan, Form, PipePlan, Sink, Source, TaskPlan};
use crate::scopes::{Driven, Way};
use crate::values::{Failure, Output, Plain, burn, drop_payload, planned_panic, quietly};
use crate::world::{Counted, Fate, Kind, WORLD};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Judges how a batch or pipeline ended, but not its value.
fn judge<T>(way: Way<T>, level: &Level, what: &str, raises: bool) -> Result<T, Option<Payload>> {
    let panicked = level.panicked.load(SeqCst);
    match way {
        Way::Done(value) => {
            if panicked > 0 {
                WORLD.fail(format!(
                    "{panicked} members of {what} panicked, and it did not"
                ));
            }
            Ok(value)
        }
        Way::Panicked(payload) => {
            if panicked == 0 && !may_come(&payload) {
                WORLD.fail(format!(
                    "{what} panicked, and no member did: {}",
                    text(&payload)
                ));
            }
            if raises {
                return Err(Some(payload));
            }
            drop_payload(payload);
            Err(None)
        }
        Way::Dropped | Way::Forgotten => Err(None),
    }
}

/// What is left of a context inside a batch or pipeline, whose members may do less.
fn inside<'env, 'l>(
    cx: &Ctx<'env, '_>,
    level: &'l Level,
    plan: &TaskPlan,
    tries: bool,
) -> Ctx<'env, 'l> {
    Ctx {
        home: cx.home.clone(),
        level,
        me: plan.id,
        exposed: cx.exposed,
        tries,
    }
}

pub(crate) fn batch<'a, 'env: 'l, 'l: 'a>(
    cx: &'a Ctx<'env, 'l>,
    plan: &'env BatchPlan,
) -> Pin<Box<dyn Future<Output = Option<Payload>> + Send + 'a>> {
    let settings = cx.home.settings;
    Box::pin(async move {
        let level = settings.level(plan.inline, plan.pool);
        let tries = matches!(plan.form, Form::TryJoin | Form::TryJoinAll);
        let runs: Vec<_> = plan.members.iter().map(|_| WORLD.new_run()).collect();
        let level = &level;
        let checked = |at: usize| {
            let (run, task) = (runs[at], &plan.members[at]);
            let cx = inside(cx, level, task, tries);
            Checked::<_, u8>::new(level, run, member(cx, task, run))
        };
        let plain = |at: usize| {
            let run = runs[at];
            checked(at).map(move |_| Plain::make(run))
        };
        let tried = |at: usize| {
            let run = runs[at];
            checked(at).map(move |ended| result::<Plain>(ended, run))
        };
        let all = 0..plan.members.len();
        let pool = plan.pool.map(|pool| &settings.pools[usize::from(pool)]);
        let batch: Boxed<'_, Result<Vec<Plain>, Failure>> = match plan.form {
            Form::Join => {
                let joined = join((plain(0), plain(1), plain(2)));
                Box::pin(joined.map(|(a, b, c)| Ok(vec![a, b, c])))
            }
            Form::TryJoin => {
                let joined = try_join((tried(0), tried(1), tried(2)));
                Box::pin(joined.map_ok(|(a, b, c)| vec![a, b, c]))
            }
            Form::JoinAll => {
                let mut joined = join_all(all.map(plain).collect::<Vec<_>>());
                if plan.inline {
                    joined = joined.inline();
                }
                if let Some(pool) = pool {
                    joined = joined.on(pool);
                }
                Box::pin(joined.map(Ok))
            }
            Form::TryJoinAll => Box::pin(try_join_all(all.map(tried).collect::<Vec<_>>())),
        };
        let way = Driven::new(batch, level, plan.fate, "a batch").await;
        let outcome = match judge(way, level, "a batch", plan.raises) {
            Ok(outcome) => outcome,
            Err(payload) => return payload,
        };
        match &outcome {
            Ok(outputs) => {
                let arrived = outputs.len() == runs.len()
                    && outputs
                        .iter()
                        .zip(&runs)
                        .all(|(output, run)| output.is_of(*run));
                if !arrived || level.failed.load(SeqCst) > 0 {
                    WORLD.fail(format!(
                        "a batch gave {} values of {}",
                        outputs.len(),
                        runs.len()
                    ));
                }
            }
            Err(failure) => {
                failure.look();
                if WORLD.fate(failure.run) != Fate::Error {
                    WORLD.fail("a batch failed with an error that no member returned");
                }
            }
        }
        quietly(|| drop(outcome));
        None
    })
}

/// What goes through a pipeline.
#[derive(Debug)]
struct Item {
    index: u32,
    /// How many items this one stands for.
    count: u32,
    counted: Counted,
}

impl Item {
    fn new(index: u32) -> Self {
        Self {
            index,
            count: 1,
            counted: Counted::new(Kind::Item),
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.counted.look();
        other.counted.look();
        self.count += other.count;
        self
    }
}

/// A stream that rests before every third item.
struct Resting {
    items: VecDeque<Item>,
    turn: u32,
}

impl Stream for Resting {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.turn += 1;
        if self.turn % 3 == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.items.pop_front())
    }
}

/// What came out of a pipeline: how many items arrived, or an error; and whether they came in order.
struct Gathered {
    count: u32,
    in_order: bool,
    failure: Option<Failure>,
}

impl Gathered {
    fn count(count: u32) -> Self {
        Self {
            count,
            in_order: true,
            failure: None,
        }
    }

    fn items(items: &[Item]) -> Self {
        let in_order = items.windows(2).all(|pair| pair[0].index < pair[1].index);
        Self {
            in_order,
            ..Self::count(items.len().try_into().expect("few items"))
        }
    }

    fn failure(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::count(0)
        }
    }
}

pub(crate) fn pipe<'a, 'env: 'l, 'l: 'a>(
    cx: &'a Ctx<'env, 'l>,
    plan: &'env PipePlan,
) -> Pin<Box<dyn Future<Output = Option<Payload>> + Send + 'a>> {
    Box::pin(async move {
        let level = cx.home.settings.level(false, plan.pool);
        let level = &level;
        let all = 0..plan.items;
        let slice: Vec<u32> = all.clone().collect();
        let pipe = match plan.source {
            Source::Range => stages(cx, plan, level, all.into_par().map(Item::new)),
            Source::Slice => stages(cx, plan, level, slice.par().map(|index| Item::new(*index))),
            Source::Vector => stages(
                cx,
                plan,
                level,
                all.map(Item::new).collect::<Vec<_>>().into_par(),
            ),
            Source::Iterator => stages(cx, plan, level, par_iter(all.map(Item::new))),
            Source::Stream => {
                let stream = Resting {
                    items: all.map(Item::new).collect(),
                    turn: 0,
                };
                stages(cx, plan, level, stream.par())
            }
        };
        let way = Driven::new(pipe, level, plan.fate, "a pipeline").await;
        let gathered = match judge(way, level, "a pipeline", plan.raises) {
            Ok(gathered) => gathered,
            Err(payload) => return payload,
        };
        match gathered.failure {
            Some(failure) => {
                failure.look();
                if WORLD.fate(failure.run) != Fate::Error {
                    WORLD.fail("a pipeline failed with an error that no item returned");
                }
                quietly(|| drop(failure));
            }
            None => {
                let failed = level.failed.load(SeqCst) > 0 && !plan.stages.is_empty();
                let counts_errors = plan.sink == Sink::Count;
                if gathered.count != plan.items || (failed && !counts_errors) {
                    WORLD.fail(format!(
                        "{} of {} items came out of a pipeline",
                        gathered.count, plan.items
                    ));
                }
                if !gathered.in_order && !plan.unordered {
                    WORLD.fail("items came out of a pipeline in another order");
                }
            }
        }
        None
    })
}

fn stages<'a, 'env: 'a, P: Pipe<Item = Item> + Send + 'a>(
    cx: &'a Ctx<'env, 'a>,
    plan: &'env PipePlan,
    level: &'a Level,
    source: ParStream<P>,
) -> Boxed<'a, Gathered> {
    let mut source = match plan.unordered {
        true => source.unordered(),
        false => source.ordered(),
    };
    if let Some(width) = plan.concurrency {
        source = source.concurrency(width as usize);
    }
    if let Some(size) = plan.batch {
        source = source.batch(size as usize);
    }
    if let Some(pool) = plan.pool {
        source = source.on(&cx.home.settings.pools[usize::from(pool)]);
    }
    let busied = source.map(move |item| {
        level.look();
        burn(plan.busy);
        if plan.panics_at == Some(item.index) {
            level.panicked.fetch_add(1, SeqCst);
            planned_panic(item.index % 2 == 0);
        }
        item
    });
    if plan.stages.is_empty() {
        return sink(plan, busied.map(Ok));
    }
    sink(
        plan,
        busied.then(move |item| {
            let task = &plan.stages[item.index as usize % plan.stages.len()];
            let run = WORLD.new_run();
            let cx = inside(cx, level, task, true);
            let checked = Checked::<_, ()>::new(level, run, member(cx, task, run));
            checked.map(move |ended| match ended {
                Ended::Value => Ok(item),
                Ended::Error(failure) => Err(failure),
            })
        }),
    )
}

fn sink<'a, P>(plan: &'a PipePlan, stream: ParStream<P>) -> Boxed<'a, Gathered>
where
    P: Pipe<Item = Result<Item, Failure>> + Send + 'a,
{
    let join = |one: Result<Item, Failure>, two: Result<Item, Failure>| Ok(one?.join(two?));
    let counted = |joined: Option<Result<Item, Failure>>| match joined {
        None => Gathered::count(0),
        Some(Ok(item)) => Gathered::count(item.count),
        Some(Err(failure)) => Gathered::failure(failure),
    };
    match plan.sink {
        Sink::Collect => Box::pin(stream.collect::<Vec<_>>().map(|items| {
            let items: Result<Vec<_>, _> = items.into_iter().collect();
            items.map_or_else(Gathered::failure, |items| Gathered::items(&items))
        })),
        Sink::Count => Box::pin(
            stream
                .count()
                .map(|count| Gathered::count(count.try_into().expect("few items"))),
        ),
        Sink::Reduce => Box::pin(stream.reduce_with(join).map(counted)),
        Sink::Fold => {
            let add = move |sum: Option<Result<Item, Failure>>, item| match sum {
                None => Some(item),
                Some(sum) => Some(join(sum, item)),
            };
            let folded = stream.fold(|| None, add).filter_map(|sum| sum);
            Box::pin(folded.reduce_with(join).map(counted))
        }
        Sink::TryForEach => {
            let all = plan.items;
            let each = stream.try_for_each(|item| item.map(drop));
            Box::pin(
                each.map(move |end| end.map_or_else(Gathered::failure, |()| Gathered::count(all))),
            )
        }
        Sink::TryCollect => Box::pin(
            stream
                .try_collect::<_, _, Vec<_>>()
                .map(|items| items.map_or_else(Gathered::failure, |items| Gathered::items(&items))),
        ),
    }
}
