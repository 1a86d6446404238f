//! The core: the shared heart of a scope, which outlives the scope future as long as wakers or handles do.
//!
//! It holds no value of a type that may borrow from `'env` (rule W10). What only the owner may touch is in
//! [`Owner`]; the rest is atomic or locked (rule W14).

use std::cell::Cell;
use std::panic::Location;
use std::ptr;
use std::sync::{Arc, OnceLock};

use selvedge_cancel::{CancelToken, TaskId};

use super::body::BODY;
use super::core_ref::CoreRef;
use super::count::Count;
use super::here::{self, Lending, Role};
use super::in_a_row::GaveWay;
use super::inbox::{Chain, Inbox, Pushed};
use super::monitor::{LazyMonitor, Size};
use super::notice::Notice;
use super::owned::Owner;
use super::panics::Panics;
use super::parent::Parent;
use super::settings::Settings;
use super::spare;
use super::{helper, hint, host, policy, stats, step};
use crate::pool_queue::Help;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::task::{
    Alone, Ended, Header, Kind, List, Task, TaskWord, free_owned, leave_seat, links_of,
};

#[derive(Debug)]
#[repr(C)]
pub(crate) struct Core {
    /// The body as a queue node; it has no cell of its own. First, so that its address is the core's.
    pub(crate) body: Header,
    refs: AtomicUsize,
    pub(crate) inbox: Inbox,
    pub(crate) parent: Parent,
    pub(crate) monitor: LazyMonitor,
    pub(crate) notice: Notice,
    pub(crate) token: CancelToken,
    /// What hangs below the body, and what failed in it, is counted here; made when somebody asks.
    pub(super) own: OnceLock<(CancelToken, TaskId)>,
    pub(super) panics: Panics,
    pub(super) count: Count,
    /// A big child is being polled, so that mail from outside is worth a helper.
    big: AtomicU32,
    /// The scope is being dropped: spawns are refused silently.
    dying: AtomicU32,
    pub(crate) owner: Owner,
    /// Where errors of children go: the scope future's [`Errors`], set at each poll (rule W10).
    pub(super) sink: Cell<*const ()>,
    pub(crate) settings: Settings,
    /// Where the scope was opened.
    pub(crate) place: &'static Location<'static>,
}

// SAFETY: what is not atomic or locked is touched by the owner only (`owner`), or set before a
// window opens and read inside it (`sink`), which the window's protocol orders.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

impl Core {
    /// A new core with one reference, the caller's.
    pub(crate) fn make(place: &'static Location<'static>) -> CoreRef {
        let mut core = spare::take().unwrap_or_else(|| {
            host::install();
            Self::fresh(place)
        });
        core.place = place;
        let core = Box::into_raw(core);
        // SAFETY: just made; nobody else has seen it.
        unsafe { (*core).body.core = core };
        // SAFETY: as above.
        unsafe { (*core).notice.header.core = core };
        // SAFETY: the one reference that the core was made with.
        unsafe { CoreRef::adopt(core) }
    }

    fn fresh(place: &'static Location<'static>) -> Box<Self> {
        Box::new(Self {
            body: Header::new(ptr::null(), &BODY, false),
            refs: AtomicUsize::new(1),
            inbox: Inbox::new(),
            parent: Parent::new(),
            monitor: LazyMonitor::new(),
            notice: Notice::new(ptr::null()),
            token: CancelToken::new(),
            own: OnceLock::new(),
            panics: Panics::new(),
            count: Count::new(),
            big: AtomicU32::new(0),
            dying: AtomicU32::new(0),
            owner: Owner::new(),
            sink: Cell::new(ptr::null()),
            settings: Settings::default(),
            place,
        })
    }

    /// Makes a core that nobody refers to any more as it was when it was made. `false`: it is not worth the while.
    pub(super) fn renew(&mut self) -> bool {
        // Each field is named, so that one that is added is not forgotten.
        let Self {
            body,
            refs,
            inbox,
            parent,
            monitor,
            notice,
            token,
            own,
            panics,
            count,
            big,
            dying,
            owner,
            sink,
            settings,
            place: _,
        } = self;
        if monitor.is_made() || own.get().is_some() || !panics.renew() || !token.renew() {
            return false;
        }
        *parent = Parent::new();
        settings.renew();
        owner.renew();
        notice.renew();
        body.renew(TaskWord::new());
        *refs = AtomicUsize::new(1);
        *inbox = Inbox::new();
        *count = Count::new();
        *big = AtomicU32::new(0);
        *dying = AtomicU32::new(0);
        *sink = Cell::new(ptr::null());
        true
    }

    /// The pointer that the core was made with: what is kept, counted and freed by.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *const Self {
        self.body.core
    }

    /// One more reference.
    pub(crate) fn acquire(&self) {
        // Relaxed: a reference is made from a reference.
        if self.refs.fetch_add(1, Ordering::Relaxed) > usize::MAX / 2 {
            std::process::abort();
        }
    }

    /// How many references there are.
    pub(crate) fn references(&self) -> usize {
        // Acquire: what those did who let go of theirs is over.
        self.refs.load(Ordering::Acquire)
    }

    /// Whether somebody may spawn who is no member of the scope: engine and body have a reference each.
    pub(super) fn may_get_more(&self) -> bool {
        self.references() > 2
    }

    /// One reference less; the last frees the core.
    ///
    /// # Safety
    /// The caller owns a reference and does not use it again.
    pub(crate) unsafe fn release(core: *const Self) {
        // SAFETY: the caller's reference keeps it alive until it is given up, and if it was the last, nobody
        // else frees it.
        let refs = unsafe { &(*core).refs };
        // Release: what this holder did comes before the core is freed.
        if refs.fetch_sub(1, Ordering::Release) == 1 {
            // Acquire: pairs with the Release of every other holder. A load and not a fence, because
            // ThreadSanitizer understands it: the count changes by read-modify-writes only.
            refs.load(Ordering::Acquire);
            // SAFETY: it came from a box in `make`, and nobody refers to it any more.
            unsafe { Box::from_raw(core.cast_mut()) }.free();
        }
    }

    pub(crate) fn is_dying(&self) -> bool {
        // Acquire: pairs with `begin_dying`.
        self.dying.load(Ordering::Acquire) != 0
    }

    pub(crate) fn begin_dying(&self) {
        // Release: comes before the mark in the inbox that refuses spawns.
        self.dying.store(1, Ordering::Release);
        if self.owner.gave_way.replace(GaveWay::Never) != GaveWay::Never {
            here::is_dropped_instead();
        }
        self.leaves_task();
    }

    pub(crate) fn describe(&self) -> String {
        match self.settings.name.get() {
            Some(name) => format!("scope `{name}` opened at {}", self.place),
            None => format!("the scope opened at {}", self.place),
        }
    }

    /// Whether the present window may lend at all. Owner only.
    pub(crate) fn may_lend(&self) -> bool {
        if let Some(known) = self.owner.may_lend.get() {
            return known;
        }
        let may = !self.settings.said.is_inline()
            && here::lending() != Lending::Never
            && self.has_pool()
            && self.is_sure_of_its_host();
        self.owner.may_lend.set(Some(may));
        may
    }

    /// Whether lending that many children of this cost pays, or may if nothing is known of them, and is allowed. Owner
    /// only.
    pub(crate) fn may_lend_now(&self, estimate: u64, left: usize) -> bool {
        let forced = here::lending() == Lending::Forced;
        let hint = self.settings.said.hinted().filter(|_| left > 1);
        let estimate = hint::hinted(estimate, hint);
        let unknown = estimate == 0 && left > 1;
        let pays = || policy::pays(estimate, left, || self.pool().is_hot());
        (forced || unknown || pays()) && self.may_lend()
    }

    /// Shares what is ready, of which each is taken to cost `least` at least, and asks for one helper. Owner only,
    /// in an open window that may lend.
    pub(crate) fn lend(&self, least: u64) {
        let owner = &self.owner;
        owner.set_ahead(owner.local.len() + owner.turns.mail.len());
        self.share(least);
        owner.lent.set(true);
        // This may be in a poll. What is woken from now on may have been spawned and polled on a helper, and is the
        // owner's only after an exchange has registered it (rule L4).
        owner.turns.interrupt();
        self.ask();
    }

    /// Opens the monitor and puts there what is ready.
    pub(super) fn share(&self, least: u64) {
        let forced = here::lending() == Lending::Forced;
        let most = if forced { 1 } else { policy::PACKET_MOST };
        let context = || {
            let shared = self.pool().is_shared();
            super::context::Carried::capture(&self.token, shared, self.is_polled_by_tokio())
        };
        let owner = &self.owner;
        let size = Size { most, least };
        self.monitor
            .lend(&owner.local, &owner.turns.mail, size, context);
    }

    /// Asks the pool for a helper. It cannot fail (rule W3): what goes wrong costs speed only.
    pub(crate) fn ask(&self) {
        if cfg!(selvedge_loom) {
            // No pool runs under loom: a model's thread asks in its own name, at any time.
            return;
        }
        let pool = self.pool();
        if !self.monitor.ask(pool.most_helpers()) {
            return;
        }
        stats::count(&stats::ASKS);
        let help = || -> Help {
            self.acquire();
            // SAFETY: the reference was counted just now.
            let core = unsafe { CoreRef::adopt(self.as_ptr()) };
            Arc::new(move |on_top| helper::help(&core, on_top))
        };
        if let Err(asked) = pool.ask(self.number(), help) {
            self.monitor.unask(asked);
        }
    }

    /// The scope is over: helpers that were asked for and have not come need not keep it.
    pub(super) fn unask(&self) {
        if self.monitor.is_made() && !cfg!(selvedge_loom) {
            let asked = self.pool().unask(self.number());
            self.monitor.unask(asked);
        }
    }

    /// What the pool knows it by, while it has a reference.
    fn number(&self) -> usize {
        self.as_ptr().addr()
    }

    /// Tells foreign wakers whether mail is worth a helper.
    pub(crate) fn set_big(&self, big: bool) {
        // Relaxed: a hint.
        self.big.store(u32::from(big), Ordering::Relaxed);
    }

    /// A big child, or the body, is about to be polled: mail is worth a helper, also what came before that was said.
    pub(crate) fn begins_big(&self) {
        // SeqCst: an exchange, after which the inbox is looked at; who pushes exchanges there and looks here after it. So one of
        // both sees the other. A hint only, should the system order it otherwise.
        self.big.swap(1, Ordering::SeqCst);
        if self.inbox.has_mail() {
            self.ask();
        }
    }

    /// Pushes from a thread that is not in this scope's window, and tells whom it concerns.
    ///
    /// # Safety
    /// As for [`Inbox::push`]; something of the caller's keeps the core alive.
    pub(crate) unsafe fn push(&self, node: *const Header) -> Pushed {
        // SAFETY: handed on from the caller.
        let pushed = unsafe { self.inbox.push(node) };
        match pushed {
            // Relaxed: a hint.
            Pushed::Quiet if self.big.load(Ordering::Relaxed) != 0 => self.ask(),
            Pushed::Quiet | Pushed::Dead => {}
            Pushed::Closed => self.parent.wake(),
            Pushed::Parked => self.monitor.ring(),
        }
        pushed
    }

    /// Registers a child, which is counted, in the list of all tasks (rule L4). Owner only.
    ///
    /// # Safety
    /// `task` is alive and not registered.
    #[inline]
    pub(crate) unsafe fn register(&self, task: *const Task) {
        // SAFETY: handed on from the caller.
        if unsafe { &*task }.solo {
            // SAFETY: it is alive and not registered, so in no list.
            unsafe { self.owner.all.link(task) };
        }
    }

    /// # Safety
    /// `task` is registered; the caller is the owner.
    #[inline]
    unsafe fn unlink(&self, task: *const Task) {
        // SAFETY: registered children are alive.
        if unsafe { &*task }.solo {
            // SAFETY: a registered single cell is in the list.
            unsafe { self.owner.all.unlink(task) };
        }
    }

    /// Takes in a chain from the inbox, oldest first; newborn children are registered. Owner only.
    pub(crate) fn sort(&self, mut chain: Chain) {
        let fresh = List::new();
        while let Some(node) = chain.pop() {
            self.owner.came_back.set(true);
            // SAFETY: nodes of a taken chain are alive.
            match unsafe { (*node).vtable.kind } {
                Kind::Body => {
                    self.owner.wake_body_by_mail();
                    continue;
                }
                Kind::Notice => {
                    self.owner.noticed.set(true);
                    continue;
                }
                Kind::Child | Kind::Batch => {}
            }
            // SAFETY: the node has left the chain, so its link is free.
            unsafe { fresh.push_front(node) };
            self.register_if_newborn(node);
        }
        self.owner.turns.mail.append(&fresh);
    }

    fn register_if_newborn(&self, node: *const Header) {
        // SAFETY: the node is alive.
        if unsafe { (*node).vtable.kind } != Kind::Child {
            return;
        }
        let task = node.cast::<Task>();
        // SAFETY: a child's header opens a task; whoever took it from the inbox owns this mark.
        if unsafe { (*task).newborn.replace(false) } {
            // SAFETY: newborn children are not registered.
            unsafe { self.register(task) };
            self.newborn_came();
        }
    }

    /// Registers children that were spawned on helpers. Owner only.
    pub(crate) fn register_newborns(&self, mut task: *const Task) {
        while !task.is_null() {
            // SAFETY: newborn children are alive, and single cells.
            let next = unsafe { links_of(task) }.next.get();
            // SAFETY: newborn children are not registered.
            unsafe { self.register(task) };
            self.newborn_came();
            if self.owner.carried.get() {
                // It may have come to rest on a helper before the others were told, and nobody found it.
                // SAFETY: it is alive, and a child.
                unsafe { self.tell(task.cast()) };
            }
            task = next;
        }
    }

    /// Publishes the end of a child that the owner polled, and lets go of it: `end` and `retire` in one.
    ///
    /// # Safety
    /// As for `end` and `retire`; a window is open and this thread is its owner.
    #[inline]
    pub(super) unsafe fn end_here(&self, header: *const Header, ended: Ended) {
        // SAFETY: the scope's reference keeps it alive.
        let head = unsafe { &*header };
        if head.vtable.kind != Kind::Child {
            head.word.finish(ended);
            // SAFETY: handed on from the caller.
            return unsafe { self.retire(header) };
        }
        head.word.finish(ended);
        // SAFETY: it is registered.
        unsafe { self.unlink(header.cast()) };
        self.set_live(self.live() - 1);
        match head.life.finish_alone() {
            Alone::Handed => {}
            Alone::Last => {
                if ended == Ended::Value {
                    // SAFETY: the output was written, and nobody else refers to the task.
                    if let Some(payload) = unsafe { Header::drop_output(header) } {
                        self.panicked(header, payload);
                    }
                }
                // SAFETY: nothing refers to the cell any more, and this thread is the owner.
                unsafe { free_owned(self, header) };
            }
            Alone::No => {
                // SAFETY: handed on from the caller.
                unsafe { step::settle(self, header, ended) };
                if head.life.release() {
                    // SAFETY: nothing refers to the cell any more, and this thread is the owner.
                    unsafe { free_owned(self, header) };
                }
            }
        }
    }

    /// Lets go of a child that has ended. Owner only. Freeing the cell, which may drop wakers of users, comes last.
    ///
    /// # Safety
    /// The child is registered, its future gone and its outcome published.
    #[inline]
    pub(crate) unsafe fn retire(&self, header: *const Header) {
        // SAFETY: the scope's reference keeps it alive.
        let kind = unsafe { (*header).vtable.kind };
        if kind == Kind::Child {
            self.came_back();
        } else {
            self.set_live(self.live() - 1);
        }
        if kind == Kind::Batch {
            // SAFETY: handed on from the caller.
            return unsafe { leave_seat(self, header) };
        }
        if kind == Kind::Child {
            // SAFETY: it is registered.
            unsafe { self.unlink(header.cast()) };
        }
        // SAFETY: the scope's reference ends here.
        let last = unsafe { (*header).life.release() };
        if last && here::owned_here(self) {
            // SAFETY: nothing refers to the cell any more, and this thread is the owner in its window.
            unsafe { free_owned(self, header) };
        } else if last {
            // SAFETY: nothing refers to the cell any more.
            unsafe { Header::free(header) };
        }
    }

    /// What this thread is to the scope.
    #[inline]
    pub(crate) fn role(&self) -> Role {
        here::role_in(self)
    }
}
