//! What the loom models of this crate drive beneath the public surface: inbox, monitor and helper, each
//! behind safe functions. Compiled for the models only; it adds no behaviour.

use std::cell::Cell;
use std::ptr;

use selvedge_cancel::CancelToken;

use super::context::Carried;
use super::handle::Handle;
use super::helper::{self, Haul};
use super::here::Role;
pub(crate) use super::inbox::Pushed;
use super::inbox::{Chain, Inbox};
use super::monitor::{Monitor, Size};
pub(crate) use super::monitor::{Next, Visit};
use crate::sync::model::UnsafeCell;
use crate::task::{Header, Kind, List, Payload, Polled, VTable};

/// Something whose readers and writers loom watches: two of which one writes are ordered, or the model fails.
pub(crate) struct Mark(UnsafeCell<()>);

// SAFETY: there is nothing behind it, and loom reports every race.
unsafe impl Send for Mark {}
// SAFETY: as above.
unsafe impl Sync for Mark {}

impl Mark {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(()))
    }

    pub(crate) fn read(&self) {
        self.0.with(|_| ());
    }

    pub(crate) fn write(&self) {
        self.0.with_mut(|_| ());
    }
}

/// A pool job of this scope that starts now. `false`: help is not wanted, or no more of it.
pub(crate) fn help<K>(handle: &Handle<'_, K>) -> bool {
    let wanted = handle.core().monitor.ask(usize::MAX);
    if wanted {
        helper::help(handle.core(), false);
    }
    wanted
}

/// In a poll of the owner's: the budget of its window is spent.
pub(crate) fn spend<K>(handle: &Handle<'_, K>) {
    let core = handle.core();
    if matches!(core.role(), Role::Owner) {
        core.owner.ends_early.set(true);
    }
}

/// Whether helpers were sent away while one was inside.
pub(crate) fn drained<K>(handle: &Handle<'_, K>) -> bool {
    handle.core().monitor.has_sent_away()
}

/// References to the core: the scope future, handles, chunks, and clones of the body's waker.
pub(crate) fn references<K>(handle: &Handle<'_, K>) -> usize {
    handle.core().references()
}

static VTABLE: VTable = VTable {
    kind: Kind::Batch,
    poll: never_polled,
    drop_future: nothing,
    drop_output: no_output,
    output_needs_drop: false,
    free: nothing,
    output: 0,
    cut_short: None,
};

/// # Safety
/// None is needed, as for the two below: nothing is done.
unsafe fn never_polled(_: *const Header, _: &mut std::task::Context<'_>) -> Polled {
    Polled::Pending
}

/// # Safety
/// None is needed.
unsafe fn nothing(_: *const Header) {}

/// # Safety
/// None is needed.
unsafe fn no_output(_: *const Header) -> Option<Payload> {
    None
}

/// A queue node with a mark that loom watches: whoever owns the node may touch it.
struct Node {
    header: Header,
    mark: Mark,
}

/// Some nodes, which live as long as the queues that they go through.
struct Nodes(Vec<Node>);

// SAFETY: the models hand nodes from thread to thread by the queues under test only, and loom checks by
// `mark` that each handing over is ordered.
unsafe impl Send for Nodes {}
// SAFETY: as above.
unsafe impl Sync for Nodes {}

impl Nodes {
    fn new(count: usize) -> Self {
        let node = || Node {
            header: Header::new(ptr::null(), &VTABLE, false),
            mark: Mark::new(),
        };
        Self(std::iter::repeat_with(node).take(count).collect())
    }

    /// The node, which the caller owns.
    fn give(&self, index: usize) -> *const Header {
        self.0[index].mark.write();
        &raw const self.0[index].header
    }

    /// A node that has just become the caller's.
    fn got(&self, header: *const Header) -> usize {
        let is_it = |node: &Node| ptr::eq(&raw const node.header, header);
        let index = self.0.iter().position(is_it).expect("a node of these");
        self.0[index].mark.write();
        index
    }

    fn got_all(&self, mut next: impl FnMut() -> Option<*const Header>) -> Vec<usize> {
        std::iter::from_fn(|| next().map(|header| self.got(header))).collect()
    }
}

/// An inbox and nodes to push.
pub(crate) struct Mail {
    nodes: Nodes,
    pub(crate) inbox: Inbox,
}

impl Mail {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            nodes: Nodes::new(count),
            inbox: Inbox::new(),
        }
    }

    /// Pushes a node that the caller owns.
    pub(crate) fn push(&self, index: usize) -> Pushed {
        // SAFETY: nodes live as long as the inbox, and this one is the caller's.
        unsafe { self.inbox.push(self.nodes.give(index)) }
    }

    fn all(&self, mut chain: Chain) -> Vec<usize> {
        self.nodes.got_all(|| chain.pop())
    }

    pub(crate) fn open(&self) -> Vec<usize> {
        self.all(self.inbox.open())
    }

    pub(crate) fn take(&self) -> Vec<usize> {
        self.all(self.inbox.take())
    }

    pub(crate) fn die(&self) -> Vec<usize> {
        self.all(self.inbox.die())
    }
}

/// A monitor, an inbox beside it as in a core, and nodes to lend.
pub(crate) struct Shop {
    pub(crate) mail: Mail,
    pub(crate) monitor: Monitor,
    /// What polls touch: never from without a window.
    pub(crate) window: Mark,
}

// SAFETY: as for `Nodes`; the rest is locked or atomic, and loom watches `window`.
unsafe impl Send for Shop {}
// SAFETY: as above.
unsafe impl Sync for Shop {}

/// What the owner got from `collect`.
pub(crate) struct Collected {
    pub(crate) packet: Vec<usize>,
    pub(crate) done: Vec<usize>,
    pub(crate) inside: usize,
    pub(crate) body: bool,
}

impl Shop {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            mail: Mail::new(count),
            monitor: Monitor::new(),
            window: Mark::new(),
        }
    }

    fn list(&self, nodes: &[usize]) -> List {
        let list = List::new();
        for &index in nodes {
            // SAFETY: the node is the caller's, in no queue, and lives as long as the monitor.
            unsafe { list.push_back(self.mail.nodes.give(index)) };
        }
        list
    }

    pub(crate) fn lend(&self, nodes: &[usize]) {
        let size = Size { most: 1, least: 0 };
        self.monitor
            .lend(&self.list(nodes), &List::new(), size, || {
                Carried::capture(&CancelToken::new(), false, false)
            });
    }

    /// As the owner does it: what is ready is taken, up to `size`.
    pub(crate) fn collect(&self, size: usize) -> Collected {
        let (none, packet, done) = (List::new(), List::new(), List::new());
        let size = Size {
            most: size,
            least: 0,
        };
        let mail = List::new();
        let news = self.monitor.collect(&none, &mail, &packet, size, &done);
        Collected {
            packet: self.mail.nodes.got_all(|| packet.pop_front()),
            done: self.mail.nodes.got_all(|| done.pop_front()),
            inside: news.inside,
            body: news.body,
        }
    }

    /// As a helper does it.
    pub(crate) fn exchange(
        &self,
        visit: &Cell<Visit>,
        done: &[usize],
        body: bool,
    ) -> (Next, Vec<usize>) {
        let (haul, packet) = (Haul::new(), List::new());
        haul.done.append(&self.list(done));
        haul.body.set(body);
        let next = self.monitor.exchange(visit, &haul, &packet, 2);
        (next, self.mail.nodes.got_all(|| packet.pop_front()))
    }
}
