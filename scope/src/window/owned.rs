//! What of a core only the owner touches: its queues, its arena, and what it has noted.

use std::cell::{Cell, RefCell};

use super::around::FirstPutOff;
use super::budget::Budget;
use super::coop;
use super::here::Node;
use super::in_a_row::GaveWay;
use super::outer::PollId;
use super::put_off::{Lateness, PutOff};
use super::side_by_side::Round;
use super::turns::Turns;
use crate::task::{AllList, Arena, List};

/// What only the owner touches, in an open window or in the scope's `Drop`.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Ready children, outside lending; children that came up meanwhile, while lending.
    pub(crate) local: List,
    pub(crate) turns: Turns,
    /// While lending: how many were ready when the owner last looked.
    ahead: Cell<u32>,
    pub(crate) all: AllList,
    pub(crate) arena: Arena,
    pub(crate) body_done: Cell<bool>,
    /// Wakes the task around, should the wake of the last window that gave way come late.
    pub(super) alarm: RefCell<Option<coop::Alarm>>,
    /// The runtime that the window was opened in.
    pub(super) runtime: Cell<coop::RuntimeId>,
    /// Whether polls of the scope are polls of that runtime's; found out when somebody has to know, for each parent.
    pub(super) by_tokio: Cell<Option<bool>>,
    /// That is to be found out at the beginning of each window, before anybody is polled.
    pub(super) asks_early: Cell<bool>,
    /// The window is to end soon, so that the next one can do so.
    pub(super) ends_early: Cell<bool>,
    /// How many turns had been taken when the window was opened.
    pub(super) opened_at: Cell<u64>,
    /// The poll in the window around that the last window was a part of.
    pub(super) around: Cell<PollId>,
    /// So is this one: somebody in there drives the scope, in an executor of his own.
    pub(super) is_driven: Cell<bool>,
    /// How many windows in a row could not tell.
    pub(super) unsure: Cell<u8>,
    /// The wake that the last window to give way has put off.
    pub(super) put_off: RefCell<Option<PutOff>>,
    /// Whether wakes that are put off come.
    pub(super) lateness: Lateness,
    /// The kind of children of which the last window could not believe how long they took, or zero.
    pub(super) doubted: Cell<usize>,
    /// In debug builds: the body is at rest and known to wait for one end.
    pub(super) body_waits: Cell<bool>,
    /// In the last window somebody came to rest and was woken.
    pub(super) came_back: Cell<bool>,
    /// The time of that window, or of this one, if it has read the clock.
    pub(super) budget: Cell<Option<Budget>>,
    /// The last round of scopes in one task that it was polled in.
    pub(super) round: Cell<Round>,
    /// Among how many the time was divided then.
    pub(super) share: Cell<u32>,
    /// It gave way in its first poll, and was not polled again yet.
    pub(super) gave_way: Cell<GaveWay>,
    /// In which round of them.
    pub(super) gave_way_in: Cell<u32>,
    /// What became of the first wake that was put off.
    pub(super) first_put_off: Cell<FirstPutOff>,
    /// There is a notice to take.
    pub(crate) noticed: Cell<bool>,
    /// The grace is over: what is left is to be dropped.
    pub(crate) aborted: Cell<bool>,
    /// Every child has been told of the scope's cancellation.
    pub(crate) carried: Cell<bool>,
    /// The scope hangs below another token, and does not listen to it yet.
    pub(crate) attached: Cell<bool>,
    /// The monitor is open.
    pub(crate) lent: Cell<bool>,
    /// Whether this window may lend: asked once, when it first matters.
    pub(crate) may_lend: Cell<Option<bool>>,
    /// Children that were spawned, modulo; a batch has been.
    pub(crate) spawns: Cell<u32>,
    /// The owner's place in the chain of its thread, while a window is open.
    pub(super) node: Node,
    /// Children that ended on helpers and are still registered; empty but in `retire_done`, unless that unwound.
    pub(crate) done: List,
}

impl Owner {
    pub(super) fn new() -> Self {
        Self {
            local: List::new(),
            turns: Turns::new(),
            ahead: Cell::new(0),
            all: AllList::new(),
            arena: Arena::new(),
            body_done: Cell::new(false),
            alarm: RefCell::new(None),
            runtime: Cell::new(coop::RuntimeId::default()),
            by_tokio: Cell::new(None),
            asks_early: Cell::new(false),
            ends_early: Cell::new(false),
            opened_at: Cell::new(0),
            around: Cell::new(PollId::default()),
            is_driven: Cell::new(false),
            unsure: Cell::new(0),
            put_off: RefCell::new(None),
            lateness: Lateness::new(),
            doubted: Cell::new(0),
            body_waits: Cell::new(false),
            came_back: Cell::new(false),
            gave_way: Cell::new(GaveWay::Never),
            gave_way_in: Cell::new(0),
            first_put_off: Cell::new(FirstPutOff::NotYet),
            budget: Cell::new(None),
            round: Cell::new(Round::default()),
            share: Cell::new(1),
            noticed: Cell::new(false),
            aborted: Cell::new(false),
            carried: Cell::new(false),
            attached: Cell::new(false),
            lent: Cell::new(false),
            may_lend: Cell::new(None),
            spawns: Cell::new(0),
            node: Node::new(),
            done: List::new(),
        }
    }

    pub(super) fn ahead(&self) -> usize {
        self.ahead.get() as usize
    }

    pub(super) fn set_ahead(&self, ahead: usize) {
        self.ahead.set(u32::try_from(ahead).unwrap_or(u32::MAX));
    }

    /// As it was made, but for the count of its polls.
    pub(super) fn renew(&mut self) {
        let Self {
            local,
            turns,
            ahead,
            all,
            arena,
            body_done,
            alarm,
            runtime,
            by_tokio,
            asks_early,
            ends_early,
            opened_at,
            around,
            is_driven,
            unsure,
            put_off,
            lateness,
            doubted,
            body_waits,
            came_back,
            gave_way,
            gave_way_in: _,
            first_put_off,
            budget,
            round,
            share,
            noticed,
            aborted,
            carried,
            attached,
            lent,
            may_lend,
            spawns,
            node,
            done,
        } = self;
        arena.renew();
        *local = List::new();
        *turns = Turns::new();
        *ahead = Cell::new(0);
        *all = AllList::new();
        *body_done = Cell::new(false);
        *alarm = RefCell::new(None);
        *runtime = Cell::new(coop::RuntimeId::default());
        *by_tokio = Cell::new(None);
        *asks_early = Cell::new(false);
        *ends_early = Cell::new(false);
        *opened_at = Cell::new(0);
        *around = Cell::new(PollId::default());
        *is_driven = Cell::new(false);
        *unsure = Cell::new(0);
        *put_off = RefCell::new(None);
        *lateness = Lateness::new();
        *doubted = Cell::new(0);
        *body_waits = Cell::new(false);
        *came_back = Cell::new(false);
        *gave_way = Cell::new(GaveWay::Never);
        *first_put_off = Cell::new(FirstPutOff::NotYet);
        *budget = Cell::new(None);
        *round = Cell::new(Round::default());
        *share = Cell::new(1);
        *noticed = Cell::new(false);
        *aborted = Cell::new(false);
        *carried = Cell::new(false);
        *attached = Cell::new(false);
        *lent = Cell::new(false);
        *may_lend = Cell::new(None);
        *spawns = Cell::new(0);
        node.renew();
        *done = List::new();
    }
}
