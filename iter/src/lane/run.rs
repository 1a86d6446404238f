//! What a lane does between the items of a batch: how its batch goes on, and how runs begin and end.

use std::pin::Pin;
use std::time::Duration;

use selvedge_cancel::quietly;

use super::Desk;
use crate::pace::Watch;
use crate::pipe::{Begun, Pipe};
use crate::shared::Shared;
use crate::sink::{Origin, Sink, Verdict};
use crate::source::{Pulled, Source};
use crate::stage::then::alone;

/// Of items that are taken one by one, the clock is read after 1, 2, 4, … in a batch, and then
/// once in so many: soon enough if the source is suddenly slow.
const LOOK: usize = 8;

/// How it is with a batch, of a source that gives items one by one, or with a run that is dear to end.
pub(super) enum Batch {
    Over,
    /// The lane asks for the next items.
    GoesOn,
    /// The same, but the slice is over.
    GoesOnLater,
}

#[inline]
pub(super) fn goes_on<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    watch: Option<&mut Watch>,
    moved: bool,
) -> Batch {
    if P::SUSPENDS || desk.ended {
        return Batch::Over;
    }
    let is_dear = desk.run && desk.pace.is_dear();
    if !P::Source::ONE_BY_ONE {
        let goes_on = is_dear && !P::Source::WAITS;
        return match watch.filter(|_| goes_on) {
            Some(watch) => run_goes_on(shared, desk, watch, moved),
            None => Batch::Over,
        };
    }
    // What is dear to end goes on over several slices, and is longer than a batch can be.
    let (len, most) = match is_dear {
        true => ((desk.end - desk.first) as usize, desk.pace.run()),
        false => (desk.count, desk.pace.size()),
    };
    if len == 0 || len >= most {
        return Batch::Over;
    }
    let look = len.is_power_of_two() || len % LOOK == 0;
    let Some(watch) = watch.filter(|_| look) else {
        return Batch::GoesOn;
    };
    if !watch.is_over() {
        return Batch::GoesOn;
    }
    if !is_dear {
        return Batch::Over;
    }
    let count = std::mem::take(&mut desk.count);
    learn_part(shared, desk, count, watch.lap());
    later(moved)
}

/// A batch is over. The run goes on with the next one, if that follows, until it has items enough.
#[cold]
fn run_goes_on<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    watch: &mut Watch,
    moved: bool,
) -> Batch {
    if (desk.end - desk.first) as usize >= desk.pace.run() {
        return Batch::Over;
    }
    let count = std::mem::take(&mut desk.count);
    learn_part(shared, desk, count, watch.lap());
    if watch.used_up() {
        later(moved)
    } else {
        Batch::GoesOn
    }
}

/// The slice is over. On a slow enough machine it was so before anything was done in this turn.
fn later(moved: bool) -> Batch {
    match moved {
        true => Batch::GoesOnLater,
        false => Batch::GoesOn,
    }
}

/// So many items of a run took this long. What stages needed to begin what they keep counts with the end of the run.
pub(super) fn learn_part<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    count: usize,
    took: Duration,
) {
    let began = note_begun(shared, desk);
    desk.pace.learn(count, took.saturating_sub(began));
}

/// The last items of a run took this long, and its end that.
pub(super) fn learn_end<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    took: Duration,
    end: Duration,
) {
    let began = note_begun(shared, desk);
    desk.pace.run_ended(end + std::mem::take(&mut desk.began));
    desk.pace.learn(desk.count, took.saturating_sub(began));
}

/// How long stages took to begin what they keep, since this was last noted for the run.
fn note_begun<P: Pipe, S: Sink<P::Item>>(shared: &Shared<P, S>, desk: &mut Desk<P, S>) -> Duration {
    let (state, _) = desk.work.as_mut().expect("a lane at rest has its work");
    let began = shared.pipe.began(state);
    desk.began += began;
    began
}

/// Makes what came the lane's batch, or the next part of it.
#[inline]
pub(super) fn take_in<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    pulled: Pulled,
) {
    let end = pulled.first + pulled.count as u64;
    let follows = desk.run && desk.end == pulled.first;
    if desk.run && !follows {
        // Another lane took what is between. A chain that may wait ends each run before it
        // asks, so this has nothing to wait for.
        let waits = alone(|flow| flush(shared, desk, flow));
        debug_assert!(!waits, "only what never waits keeps a run open");
        close_run(shared, desk);
    }
    desk.count += pulled.count;
    desk.next = pulled.first;
    desk.end = end;
    if follows {
        return;
    }
    desk.first = pulled.first;
    if shared.runs {
        desk.run = true;
        let (_, share) = desk.work.as_mut().expect("a lane at rest has its work");
        shared.sink.open(share, pulled.first);
    }
}

/// Ends the open run, if there is one.
pub(super) fn close_run<P: Pipe, S: Sink<P::Item>>(shared: &Shared<P, S>, desk: &mut Desk<P, S>) {
    if !std::mem::take(&mut desk.run) {
        return;
    }
    if !shared.admits(desk.first) {
        // It lies behind a failure, and what stages kept of it was not handed on. So the lane begins anew; what it has
        // gathered is no part of a result any more.
        let anew = (shared.pipe.state(), shared.sink.share());
        if let Some((state, share)) = desk.work.replace(anew) {
            // One by one: destructors of both may panic.
            quietly(|| drop(state));
            quietly(|| drop(share));
        }
        return;
    }
    let (_, share) = desk.work.as_mut().expect("a lane at rest has its work");
    if shared.sink.close(share, desk.end) == Verdict::Fail {
        shared.fail(desk.first);
    }
}

/// Hands the lane's share on, step by step. `false`: it is not done yet, and the slice is over.
pub(super) fn end<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    watch: &mut Option<Watch>,
) -> bool {
    let (_, share) = desk.work.as_mut().expect("a lane at rest has its work");
    // After a panic there is no result that it could be a part of, and after a failure only what may hold an earlier one.
    while let Some(limit) = shared.counts_before() {
        match shared.sink.end(share, limit) {
            None => break,
            Some((Verdict::Fail, at)) => shared.fail(at),
            Some((Verdict::More, _)) => {}
        }
        if watch.get_or_insert_with(Watch::start).is_over() {
            return false;
        }
    }
    true
}

/// Hands what the stages kept on to the sink, up to an item that has to wait (`true`).
pub(super) fn flush<P: Pipe, S: Sink<P::Item>>(
    shared: &Shared<P, S>,
    desk: &mut Desk<P, S>,
    mut flow: Pin<&mut Option<P::Flow>>,
) -> bool {
    let (state, share) = desk.work.as_mut().expect("a lane at rest has its work");
    // After a failure nobody will see what these items would add.
    while shared.admits(desk.first) {
        let from = Origin::now(desk.first, S::FAILS);
        match shared.pipe.flush(state, flow.as_mut()) {
            Begun::Done(out) => {
                if shared.sink.feed(share, from, out) == Verdict::Fail {
                    shared.fail(from.at);
                }
            }
            Begun::Dropped => break,
            Begun::Waits => {
                desk.waits = from.paused(shared.was_cut(from), S::FAILS);
                return true;
            }
        }
    }
    false
}
