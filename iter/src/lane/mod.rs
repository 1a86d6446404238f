//! A lane: one child of the pipeline's window. It takes a batch of items, sends each through
//! all stages into its own share of the result, and comes back for more; an item that has to
//! wait does so inside the lane. A lane holds no lock while a stage runs and owns no thread:
//! who polls it, and whether in parallel, is the window's affair.

mod run;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use selvedge_cancel::quietly;

use self::run::{Batch, close_run, end, flush, goes_on, learn_end, learn_part, take_in};
use crate::held::Held;
use crate::one_by_one::{OneByOne, Rest, drop_all};
use crate::pace::{Pace, Watch};
use crate::pipe::{Begun, Pipe, Shape};
use crate::shared::Shared;
use crate::sink::{Origin, Sink, SinkShape, Verdict};
use crate::source::{Ask, Source, Waiting};
use crate::sync::Arc;

/// Where items may have to wait the clock is read at most once in so many rounds: items are taken
/// one by one there, and a reading costs as much as the rest of a round. It begins with every
/// round, and again whenever a slice is used up, since nothing is known of the items then.
const ROUNDS: u32 = 16;

/// What a lane does in a poll. Behind a pointer so that a lane is a future without a bound on
/// closures (see `Shape`); one call a poll costs nothing against what happens in it.
type Turn<P, S> = for<'a, 'b, 'c> fn(
    &'a Shared<P, S>,
    &'a mut Desk<P, S>,
    Pin<&'a mut Option<<P as Shape>::Flow>>,
    &'b mut Context<'c>,
) -> Poll<<S as SinkShape>::Share>;

pin_project! {
    /// One lane of a running pipeline; its output is its share of the result.
    pub(crate) struct Lane<P: Shape, S: SinkShape> {
        shared: Arc<Shared<P, S>>,
        turn: Turn<P, S>,
        desk: Desk<P, S>,
        // Drops the items of the batch that were not begun.
        clear: fn(&mut P::Chunk),
        // The item that waits.
        #[pin]
        flow: Option<P::Flow>,
    }

    /// One after the other: two destructors that panic do not end the process.
    impl<P: Shape, S: SinkShape> PinnedDrop for Lane<P, S> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let mut all = OneByOne::default();
            all.run(|| this.flow.set(None));
            all.run(|| (this.clear)(&mut this.desk.chunk));
            if let Some((state, share)) = this.desk.work.take() {
                all.run(|| drop(state));
                all.run(|| drop(share));
            }
            all.end();
        }
    }
}

/// What a lane keeps between polls, besides the item that waits.
struct Desk<P: Shape, S: SinkShape> {
    lane: usize,
    pace: Pace,
    /// The stages' state and the share; out while a batch is worked through.
    work: Option<(P::State, S::Share)>,
    chunk: P::Chunk,
    /// The present batch: its size, the source positions it spans, and the next one.
    count: usize,
    first: u64,
    end: u64,
    next: u64,
    /// Where the item that waits stems from, and what its polls met.
    waits: Origin,
    /// Where items may have to wait: rounds from one look at the clock to the next, and since the last one, in whatever polls.
    look: u32,
    rounds: u32,
    /// Whether a run is open in the sink, and how long it took to begin what stages keep of it.
    run: bool,
    began: Duration,
    /// Whether this lane is up, and if not, where the roster has its waker.
    up: bool,
    listed: Option<usize>,
    /// Whether the last poll ended in an item that waits.
    suspended: bool,
    /// Whether the last poll ended at the source, for want of an item or of the turn.
    waiting: Waiting,
    /// Whether nothing is to be taken any more.
    ended: bool,
}

impl<P: Pipe, S: Sink<P::Item>> Lane<P, S> {
    pub(crate) fn new(shared: &Arc<Shared<P, S>>, lane: usize) -> Self {
        let desk = Desk {
            lane,
            pace: shared.plan.pace.clone(),
            work: Some((shared.pipe.state(), shared.sink.share())),
            chunk: Default::default(),
            count: 0,
            first: 0,
            end: 0,
            next: 0,
            waits: Origin::default(),
            look: 1,
            rounds: 0,
            run: false,
            began: Duration::ZERO,
            up: false,
            listed: None,
            suspended: false,
            waiting: Waiting::No,
            ended: false,
        };
        Self {
            shared: Arc::clone(shared),
            turn: poll::<P, S>,
            desk,
            clear: |chunk| drop_all(std::mem::take(chunk)),
            flow: None,
        }
    }
}

/// Ends the intake if a lane's turn is left by a panic.
struct Alarm<'a, P: Pipe, S> {
    shared: &'a Shared<P, S>,
    armed: bool,
}

impl<P: Pipe, S> Drop for Alarm<'_, P, S> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.abort();
        }
    }
}

impl<P: Shape, S: SinkShape> Future for Lane<P, S> {
    type Output = S::Share;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S::Share> {
        let this = self.project();
        (this.turn)(this.shared, this.desk, this.flow, cx)
    }
}

/// One poll of a lane.
fn poll<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    flow: Pin<&mut Option<P::Flow>>,
    cx: &mut Context<'_>,
) -> Poll<S::Share> {
    if !desk.up {
        if !shared.roster.enter(desk.lane, &mut desk.listed, cx.waker()) {
            return Poll::Pending;
        }
        desk.up = true;
    }
    if desk.suspended {
        desk.suspended = false;
        shared.roster.resumed();
    }
    let mut alarm = Alarm {
        shared,
        armed: true,
    };
    let out = turn(shared, desk, flow, cx);
    alarm.armed = false;
    out
}

/// An item waits no more. Apart from where it is polled, whose frame would have room for each copy of a big one.
fn put_down<F>(mut flow: Pin<&mut Option<F>>) {
    flow.set(None);
}

/// Works until there is nothing to do, an item waits, or the slice is over.
fn turn<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    mut flow: Pin<&mut Option<P::Flow>>,
    cx: &mut Context<'_>,
) -> Poll<S::Share> {
    if P::WAITS_AT_ONCE && (2 * desk.rounds >= desk.look || shared.is_slow()) {
        // Polls may all have too few rounds for a look in their midst: one of several is watched from its beginning. Or each, where
        // another lane has found out that items take long.
        desk.look = 1;
        desk.rounds = 0;
    }
    // Where most polls are short, the clock is not even started before it is needed.
    let mut watch = (!P::WAITS_AT_ONCE || desk.look == 1).then(Watch::start);
    let mut worked = None;
    // On a slow enough machine a slice is over before anything was done in it: that alone never ends a turn.
    let mut moved = false;
    loop {
        let mut is_over = false;
        if let Some(waits) = flow.as_mut().as_pin_mut() {
            let (state, share) = desk.work.as_mut().expect("a lane at rest has its work");
            let from = desk.waits.again(S::FAILS);
            match shared.pipe.resume(state, waits, cx) {
                Poll::Pending => {
                    desk.waits = from.paused(shared.was_cut(from), S::FAILS);
                    desk.suspended = true;
                    shared.roster.suspended();
                    return Poll::Pending;
                }
                Poll::Ready(came) => {
                    // The future's destructor may panic, and so may the item's then.
                    let came = Held::new(came);
                    put_down(flow.as_mut());
                    moved = true;
                    if !P::WAITS_AT_ONCE {
                        // One of few, as a rule; but should each item wait, the loop over items comes to no look.
                        is_over = watch.as_mut().is_some_and(Watch::is_over);
                    }
                    if let Some(item) = came.give() {
                        if shared.sink.feed(share, from, item) == Verdict::Fail {
                            shared.fail(from.at);
                        }
                    }
                }
            }
        }
        moved |= desk.next < desk.end;
        if !is_over && work_through(shared, desk, watch.as_mut(), flow.as_mut()) {
            continue;
        }
        if let (true, Some(watch)) = (desk.next < desk.end, &mut watch) {
            // The slice is over, and the batch is not.
            let left = (desk.end - desk.next) as usize;
            let done = std::mem::replace(&mut desk.count, left) - left;
            learn_part(shared, desk, done, watch.lap());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let goes_on = match goes_on(shared, desk, watch.as_mut(), moved) {
            Batch::Over => false,
            Batch::GoesOn => true,
            Batch::GoesOnLater => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        if !goes_on && (desk.run || desk.ended) {
            if let (true, Some(watch)) = (desk.run && !P::SUSPENDS, &mut watch) {
                // Ending a run can be dear; how dear decides how long runs are.
                worked = Some(watch.lap());
                desk.pace.looked_early(watch.unread());
            } else if let (true, false, Some(watch)) =
                (desk.count > 0, P::WAITS_AT_ONCE, &mut watch)
            {
                // What was gathered may have to wait now.
                let worked = watch.lap();
                desk.pace.looked_early(watch.unread());
                learn_end(shared, desk, worked, Duration::ZERO);
                desk.count = 0;
            }
            if flush(shared, desk, flow.as_mut()) {
                continue;
            }
            close_run(shared, desk);
        }
        if desk.ended {
            if !end(shared, desk, &mut watch) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (state, share) = desk.work.take().expect("a lane ends once");
            let share = Held::new(share);
            if shared.takes() {
                drop(state);
            } else {
                // What stages keep is for nobody any more. The error arrives, whatever their destructors do.
                quietly(|| drop(state));
            }
            return Poll::Ready(share.give());
        }
        desk.rounds = desk.rounds.saturating_add(1);
        if goes_on {
            // No look at the clock.
        } else if P::WAITS_AT_ONCE {
            match &mut watch {
                None => {
                    let is_slow = shared.is_slow();
                    if is_slow || 2 * desk.rounds >= desk.look {
                        // It tells nothing of those before.
                        watch = Some(Watch::start());
                    }
                    if is_slow {
                        (desk.look, desk.rounds) = (1, 0);
                    }
                }
                Some(watch) if desk.rounds >= desk.look => {
                    desk.rounds = 0;
                    if !moved {
                        // It tells nothing yet.
                    } else if watch.over() {
                        shared.note_slow(true);
                        desk.look = 1;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    } else {
                        desk.look = (desk.look * 2).min(ROUNDS);
                        shared.note_slow(false);
                    }
                }
                Some(_) => {}
            }
        } else if let Some(watch) = &mut watch {
            let lap = watch.lap();
            if let Some(worked) = worked.take() {
                // This lap was the upkeep, and the one before it the work.
                learn_end(shared, desk, worked, lap);
            } else {
                desk.pace.looked_early(watch.unread());
                desk.pace.learn(desk.count, lap);
            }
            desk.count = 0;
            if moved && watch.used_up() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        if !shared.takes() {
            desk.ended = true;
            continue;
        }
        let mut ask = Ask {
            want: desk.pace.size(),
            share: shared.plan.share(),
            least: desk.pace.least(),
            waiting: &mut desk.waiting,
            waker: cx.waker(),
            now: watch.as_ref().map(Watch::last),
        };
        match shared.pipe.source().pull(&mut ask, &mut desk.chunk) {
            Poll::Pending => {
                // How long the rest takes says nothing about the items.
                desk.count = 0;
                return Poll::Pending;
            }
            Poll::Ready(None) => {
                desk.ended = true;
                shared.roster.close();
            }
            Poll::Ready(Some(pulled)) => take_in(shared, desk, pulled),
        }
    }
}

/// A look at the clock: how many items are worked on before the next one. `None`: the slice is over. Apart from the loop
/// over items, which has its values in registers.
#[inline(never)]
fn next_block(pace: &mut Pace, watch: &mut Watch) -> Option<u64> {
    pace.looked(watch.look());
    (!watch.used_up()).then(|| pace.block())
}

/// Begins the items of the batch, up to one that has to wait, in its place (`true`), or to the end of the slice.
#[inline]
fn work_through<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    mut watch: Option<&mut Watch>,
    mut flow: Pin<&mut Option<P::Flow>>,
) -> bool {
    if desk.next == desk.end {
        return false;
    }
    // All of it is moved out, so that it lives in registers and not behind a pointer. If a
    // stage panics it is dropped here, and the lane is never polled again.
    let (state, share) = desk.work.take().expect("a lane at rest has its work");
    let (mut held_state, mut held_share) = (Held::new(state), Held::new(share));
    let (state, share) = (held_state.get(), held_share.get());
    let mut chunk = Rest(std::mem::take(&mut desk.chunk));
    let mut next = desk.next;
    // Of items that may have to wait, and of those that come one by one, the clock is read between batches, which are short.
    let mut look = if P::WAITS_AT_ONCE || P::Source::ONE_BY_ONE {
        u64::MAX
    } else {
        next.saturating_add(desk.pace.block())
    };
    let mut waits = false;
    while let Some(item) = chunk.0.next() {
        let at = next;
        if (S::FAILS || P::SUSPENDS) && !shared.admits(at) {
            // Nor is anything behind it. A destructor that panics does not hide the failure.
            quietly(|| drop(item));
            quietly(|| drop_all(chunk.0.by_ref()));
            // The batch ends here, and so does the run: it has no part of what was not begun.
            desk.end = next;
            break;
        }
        next += 1;
        let from = Origin::now(at, S::FAILS);
        match shared.pipe.begin(state, item, flow.as_mut()) {
            Begun::Done(out) => {
                if shared.sink.feed(share, from, out) == Verdict::Fail {
                    shared.fail(at);
                }
            }
            Begun::Dropped => {}
            Begun::Waits => {
                desk.waits = from.paused(shared.was_cut(from), S::FAILS);
                waits = true;
                break;
            }
        }
        if next == look {
            if !(S::FAILS || shared.takes()) {
                // Somebody has panicked: nothing is begun any more.
                quietly(|| drop_all(chunk.0.by_ref()));
                desk.end = next;
                break;
            }
            match watch
                .as_deref_mut()
                .and_then(|watch| next_block(&mut desk.pace, watch))
            {
                Some(block) => look += block,
                None => break,
            }
        }
    }
    desk.next = next;
    desk.chunk = std::mem::take(&mut chunk.0);
    desk.work = Some((held_state.give(), held_share.give()));
    waits
}
